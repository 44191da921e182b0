//! A store of layers in a temporary directory, changed and looked at from outside by `std::fs`.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ch05_layers::layers::Layers;
use ch05_layers::overlay::Form;
use ch05_layers::union::{Make, Owner, xattr};
use ch05_layers::{Directory, Union};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// A store with container `one` on a sample image.
pub struct Sample {
    pub layers: Layers,
    pub store: PathBuf,
    _temporary: TempDir,
}

impl Sample {
    /// An image of two layers: the upper one deletes `gone` and changes `both`.
    pub fn new(form: Form) -> Sample {
        let temporary = tempfile::tempdir().unwrap();
        let store = temporary.path().join("store");
        let layers = Layers::open(&store).unwrap();
        layers
            .add_with("base", None, |layer| {
                fill(layer);
                Ok(())
            })
            .unwrap();
        let top = ["both=upper", ".wh.gone=", "top/file=1"];
        layers.add_with("top", Some("base"), filled(&top)).unwrap();
        layers.container("one", "top", form).unwrap();
        Sample { layers, store, _temporary: temporary }
    }

    /// A file of the layer itself.
    pub fn path(&self, layer: &str, path: &str) -> PathBuf {
        self.store.join("diff").join(layer).join(path)
    }

    /// Mounts a container by overlayfs; returns where.
    pub fn mount(&self, container: &str) -> PathBuf {
        let place = self.layers.mountpoint(container).unwrap();
        self.layers.overlay(container).unwrap().overlay().mount(&place).unwrap();
        place
    }

    /// As `docker diff` prints them.
    pub fn diff(&self) -> Vec<String> {
        self.layers.diff("one").unwrap().iter().map(ToString::to_string).collect()
    }

    /// The container, to be changed by the union's own rules.
    pub fn change(&self) -> Changer {
        Changer { union: self.layers.union("one").unwrap(), top: self.path("one", "") }
    }

    /// All names in a layer, sorted.
    pub fn names(&self, layer: &str) -> Vec<String> {
        names(&self.path(layer, ""))
    }
}

/// The lowest layer.
fn fill(layer: &Path) {
    let files = [
        "both=lower",
        "gone=",
        "etc/passwd=root",
        "etc/hosts=the image's",
        "etc/motd=hello",
        "dir1/file1=1",
        "dir1/file2=2",
        "dir1/sub/",
        "dir2/file1=1",
        "dir2/file2=2",
        "file1=1",
        "file2=2",
        "file3=3",
        "file4=4",
        "file5=5",
        "file6=6",
    ];
    make(layer, &files);
    symlink("target1", layer.join("link1")).unwrap();
    symlink("target2", layer.join("link2")).unwrap();
    fs::set_permissions(layer.join("etc"), fs::Permissions::from_mode(0o750)).unwrap();
}

/// A path that ends with `/` is a directory, `=` stands between a file and its content.
pub fn make(directory: &Path, files: &[&str]) {
    for file in files {
        let (name, content) = file.split_once('=').unwrap_or((file, ""));
        let path = directory.join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with('/') {
            fs::write(&path, content).unwrap();
        }
    }
}

/// For `Layers::add_with`: writes these files.
pub fn filled(files: &[&str]) -> impl FnOnce(&Path) -> anyhow::Result<()> {
    move |layer| {
        make(layer, files);
        Ok(())
    }
}

/// All names in a tree, sorted; those of directories end with `/`.
pub fn names(tree: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = vec![tree.to_path_buf()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(tree).unwrap().to_str().unwrap().to_string();
            if path.symlink_metadata().unwrap().is_dir() {
                names.push(name + "/");
                rest.push(path);
            } else {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

/// What `du` says of a tree, in bytes.
pub fn du(tree: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "-B1"]).arg(tree).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

pub fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    xattr::set(File::open(path).unwrap(), &CString::new(name).unwrap(), value, 0).unwrap();
}

pub fn attribute(path: &Path, name: &str) -> Vec<u8> {
    xattr::get(File::open(path).unwrap(), &CString::new(name).unwrap()).unwrap()
}

/// The names of a file's attributes, each with a zero byte behind it.
pub fn attributes(path: &Path) -> String {
    String::from_utf8(xattr::list(File::open(path).unwrap()).unwrap()).unwrap()
}

/// Runs `test` in a mount namespace of its own, which belongs to a thread: with it goes all that was mounted.
pub fn in_mount_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Changes by path.
pub struct Changer {
    union: Union,
    top: PathBuf,
}

impl Changer {
    fn parent<'a>(&self, path: &'a str) -> (Directory, &'a OsStr) {
        let path = Path::new(path);
        (self.union.raise(path.parent().unwrap()).unwrap(), path.file_name().unwrap())
    }

    fn owner() -> Owner {
        Owner { user: nix::unistd::geteuid().as_raw(), group: nix::unistd::getegid().as_raw() }
    }

    /// Copies a file up, or makes it, and writes it.
    pub fn write(&self, path: &str, content: &str) {
        let (parent, name) = self.parent(path);
        match self.union.copy_up(&parent, name) {
            Ok(()) => (),
            Err(nix::errno::Errno::ENOENT) => {
                drop(
                    self.union
                        .make(&parent, name, &Make::File(OFlag::O_WRONLY), 0o644, Changer::owner())
                        .unwrap(),
                );
            }
            Err(errno) => panic!("copy-up of {path}: {errno}"),
        }
        fs::write(self.top.join(path), content).unwrap();
    }

    /// Copies an object up, and does no more.
    pub fn copy_up(&self, path: &str) -> PathBuf {
        let (parent, name) = self.parent(path);
        self.union.copy_up(&parent, name).unwrap();
        self.top.join(path)
    }

    pub fn remove(&self, path: &str) {
        let (parent, name) = self.parent(path);
        self.union.remove(&parent, name).unwrap();
    }

    pub fn make_directory(&self, path: &str) {
        let (parent, name) = self.parent(path);
        drop(self.union.make(&parent, name, &Make::Directory, 0o755, Changer::owner()).unwrap());
    }

    pub fn symlink(&self, path: &str, target: &str) {
        let (parent, name) = self.parent(path);
        drop(self.union.make(&parent, name, &Make::Symlink(target.into()), 0o777, Changer::owner()).unwrap());
    }

    /// As `rm -r`.
    pub fn remove_all(&self, path: &str) {
        let directory = self.union.walk(Path::new(path)).unwrap();
        for listed in self.union.list(&directory).unwrap() {
            let child = format!("{path}/{}", listed.name.to_str().unwrap());
            match self.union.lookup(&directory, &listed.name).unwrap().is_directory() {
                true => self.remove_all(&child),
                false => self.remove(&child),
            }
        }
        let (parent, name) = self.parent(path);
        self.union.remove_directory(&parent, name).unwrap();
    }
}
