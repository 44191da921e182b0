//! A mounted union for a test.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use testing::{Program, Running};

/// A union of `top` (rw), `middle` (ro) and `lower` (ro), mounted for this thread and the programs that it starts.
pub struct Mounted {
    directory: TempDir,
    options: Vec<OsString>,
    server: Option<Running>,
}

impl Mounted {
    /// Mounts what `build` has made; it is given the directory that has the branches.
    pub fn new(options: &[&str], build: impl FnOnce(&Path)) -> Mounted {
        // This thread, and those it starts, get a mount table of their own.
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("make / private");
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["top", "middle", "lower", "mnt"] {
            fs::create_dir(directory.path().join(name)).expect("mkdir");
        }
        build(directory.path());
        let options = options.iter().map(OsString::from).collect();
        let mut mounted = Mounted { directory, options, server: None };
        mounted.mount();
        mounted
    }

    pub fn mount(&mut self) {
        let branch = |name: &str, mode: &str| {
            let mut branch = self.directory.path().join(name).into_os_string();
            branch.push(mode);
            branch
        };
        let mut server = Program::new(env!("CARGO_BIN_EXE_ch05-layers"))
            .args(["mount", "--quiet", "--backend", "aufs"])
            .args([
                OsString::from("--branch"),
                branch("top", "=rw"),
                "--branch".into(),
                branch("middle", "=ro"),
            ])
            .args([OsString::from("--branch"), branch("lower", "=ro")])
            .args(&self.options)
            .arg(self.root())
            .timeout(Duration::from_secs(300))
            .spawn();
        while !server.stderr_line().starts_with("ready") {}
        assert_ne!(device(&self.root()), device(self.directory.path()), "nothing is mounted");
        self.server = Some(server);
    }

    /// Ends the server as Ctrl-C does.
    pub fn unmount(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(libc::SIGTERM);
            let output = server.wait();
            assert_eq!(device(&self.root()), device(self.directory.path()), "still mounted: {output}");
        }
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A path in the top branch.
    pub fn top(&self, name: &str) -> PathBuf {
        self.directory.path().join("top").join(name)
    }

    /// A path in the lowest branch.
    pub fn lower(&self, name: &str) -> PathBuf {
        self.directory.path().join("lower").join(name)
    }

    /// The program that holds the mount; its child serves.
    pub fn holder(&self) -> &Running {
        self.server.as_ref().expect("mounted")
    }

    /// Takes it over.
    pub fn take_holder(&mut self) -> Running {
        self.server.take().expect("mounted")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.unmount();
        }
    }
}

fn device(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("stat").dev()
}

/// Has the kernel forget all nodes that nobody uses.
pub fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").expect("write to drop_caches");
}

/// Runs `test` on a union with passthrough, and on one without.
pub fn in_both_ways(build: impl Fn(&Path), test: impl Fn(&Mounted)) {
    for options in [&[][..], &["--no-passthrough"]] {
        eprintln!("with the options {options:?}:");
        test(&Mounted::new(options, &build));
    }
}

/// What a file has in it.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path:?}: {error}"))
}

/// Makes a file with its directories.
pub fn write(path: impl AsRef<Path>, content: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a parent"))
        .unwrap_or_else(|error| panic!("mkdir for {path:?}: {error}"));
    fs::write(path, content).unwrap_or_else(|error| panic!("write {path:?}: {error}"));
}

/// The names in a directory, sorted.
pub fn names(path: impl AsRef<Path>) -> Vec<String> {
    let path = path.as_ref();
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("opendir {path:?}: {error}"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readdir").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The errno that `result` failed with.
#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.expect_err("it should fail").raw_os_error().expect("an errno")
}
