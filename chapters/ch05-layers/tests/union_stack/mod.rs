//! A stack of branches in a temporary directory, changed and looked at from outside of the union by
//! `std::fs`.

#![allow(dead_code)] // Each test file uses a part of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ch05_layers::union::{Make, Owner, Result};
use ch05_layers::{Branch, Directory, Mode, Union};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use tempfile::TempDir;

/// Branch 0 is `rw`, those below are `ro`.
pub struct Stack {
    pub union: Union,
    /// It holds the branches `0`, `1`... and a directory `outside`.
    pub directory: PathBuf,
    _temporary: Option<TempDir>,
}

impl Stack {
    pub fn new(branches: usize) -> Stack {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        for branch in 0..branches {
            fs::create_dir(directory.join(branch.to_string())).unwrap();
        }
        fs::create_dir(directory.join("outside")).unwrap();
        fs::write(directory.join("outside/secret"), "the host's\n").unwrap();
        let stack = Stack::of(directory, branches);
        Stack { _temporary: Some(temporary), ..stack }
    }

    /// A stack that somebody else has made, and removes.
    pub fn of(directory: &Path, branches: usize) -> Stack {
        let union = open(directory, branches).unwrap();
        Stack { union, directory: directory.into(), _temporary: None }
    }

    /// The same branches, as the next process finds them.
    pub fn reopen(&mut self) {
        self.union = open(&self.directory, self.union.branches().len()).unwrap();
    }

    /// Waits until the union can be the top branch's writer: a child that another test has just forked holds copies
    /// of all our descriptors, that with the last union's lock too.
    pub fn claim(&self) {
        testing::poll(Duration::from_secs(10), || (self.union.claim() != Err(Errno::EBUSY)).then_some(()));
    }

    pub fn path(&self, branch: usize, path: &str) -> PathBuf {
        self.directory.join(branch.to_string()).join(path)
    }

    pub fn outside(&self) -> PathBuf {
        self.directory.join("outside")
    }

    /// Writes a file into a branch, with the directories above it.
    pub fn put(&self, branch: usize, path: &str, content: &str) {
        let path = self.path(branch, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn put_directory(&self, branch: usize, path: &str) {
        fs::create_dir_all(self.path(branch, path)).unwrap();
    }

    pub fn has(&self, branch: usize, path: &str) -> bool {
        self.path(branch, path).symlink_metadata().is_ok()
    }

    /// All names in the top branch, sorted; without the work directory.
    pub fn top(&self) -> Vec<String> {
        let tree = tree(&self.path(0, ""));
        tree.into_keys().filter(|name| !name.starts_with(".wh..wh.work")).collect()
    }

    /// What is in the lower branches and outside.
    pub fn untouchable(&self) -> BTreeMap<String, String> {
        let mut all = tree(&self.directory);
        all.retain(|path, _| path != "0" && !path.starts_with("0/"));
        all
    }

    pub fn read(&self, path: &str) -> Result<String> {
        let (parent, name) = split(path);
        let parent = self.union.walk(parent)?;
        let entry = self.union.lookup(&parent, name)?;
        let file = self.union.open(entry.branch, &parent.child(name), OFlag::O_RDONLY)?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        let listed = self.union.list(&self.union.walk(Path::new(path))?)?;
        let mut names: Vec<_> = listed.into_iter().map(|listed| listed.name.into_string().unwrap()).collect();
        names.sort();
        Ok(names)
    }

    /// The directory of `path`, in the top branch too, and its name.
    pub fn place<'a>(&self, path: &'a str) -> Result<(Directory, &'a OsStr)> {
        let (parent, name) = split(path);
        Ok((self.union.raise(parent)?, name))
    }

    pub fn make(&self, path: &str, what: &Make, mode: u32) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.union.make(&parent, name, what, mode, myself()).map(drop)
    }

    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.make(path, &Make::Directory, 0o755)
    }

    pub fn create(&self, path: &str) -> Result<()> {
        self.make(path, &Make::File(OFlag::O_WRONLY), 0o644)
    }

    pub fn copy_up(&self, path: &str) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.union.copy_up(&parent, name)
    }

    pub fn remove(&self, path: &str) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.union.remove(&parent, name)
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.union.remove_directory(&parent, name)
    }

    pub fn link(&self, from: &str, to: &str) -> Result<()> {
        let ((from, name), (to, new_name)) = (self.place(from)?, self.place(to)?);
        self.union.link(&from, name, &to, new_name)
    }

    pub fn rename(&self, from: &str, to: &str, flags: u32) -> Result<()> {
        let ((from, name), (to, new_name)) = (self.place(from)?, self.place(to)?);
        self.union.rename(&from, name, &to, new_name, flags)
    }
}

pub fn myself() -> Owner {
    Owner { user: nix::unistd::geteuid().as_raw(), group: nix::unistd::getegid().as_raw() }
}

fn open(directory: &Path, branches: usize) -> anyhow::Result<Union> {
    let mode = |branch| if branch == 0 { Mode::ReadWrite } else { Mode::ReadOnly };
    let open = |branch: usize| Branch::open(&directory.join(branch.to_string()), mode(branch));
    Union::new((0..branches).map(open).collect::<anyhow::Result<_>>()?)
}

fn split(path: &str) -> (&Path, &OsStr) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (Path::new(parent), OsStr::new(name))
}

/// Each path below `root`, with all that a change would show in.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(root, root, &mut found);
    found
}

fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let status = path.symlink_metadata().unwrap();
        let content = match status.file_type() {
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            kind if kind.is_file() => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        let text = format!(
            "{:o} {}:{} {} links {}.{} {:?}",
            status.mode(),
            status.uid(),
            status.gid(),
            status.nlink(),
            status.mtime(),
            status.mtime_nsec(),
            String::from_utf8_lossy(&content)
        );
        found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), text);
        if status.is_dir() {
            collect(root, &path, found);
        }
    }
}
