//! What the tests of the lesson share: who runs it, its processes, and a small stack of branches.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use testing::process::{children, descendants, mount_points, runs};
use testing::{PlainUser, Program, Running, Sandbox, plain_user_directory, poll};

pub const LESSON: &str = env!("CARGO_BIN_EXE_ch05-layers");
pub const LIMIT: Duration = Duration::from_secs(60);

/// Who runs the lesson, and a directory of theirs.
pub struct World {
    /// Root runs in a sandbox.
    pub sandbox: Option<Sandbox>,
    pub directory: TempDir,
    /// What is put before the arguments.
    backend: Option<&'static str>,
}

impl World {
    /// Root, in a sandbox.
    pub fn root(backend: Option<&'static str>) -> World {
        let directory = tempfile::Builder::new().prefix("hull-test-").tempdir().expect("mkdtemp");
        World { sandbox: Some(Sandbox::new()), directory, backend }
    }

    /// A plain user, on the host.
    pub fn plain_user(backend: Option<&'static str>) -> World {
        World { sandbox: None, directory: plain_user_directory(), backend }
    }

    /// The program, whose temporary files go to a directory in which nothing else is.
    pub fn program(&self) -> Program {
        let program = Program::new(LESSON).env("TMPDIR", self.temporary()).timeout(2 * LIMIT);
        match &self.sandbox {
            Some(sandbox) => program.in_sandbox(sandbox),
            None => program.as_plain_user(),
        }
    }

    /// The lesson without narration.
    pub fn lesson(&self) -> Program {
        self.program().arg("--quiet").args(self.backend_arguments())
    }

    /// The lesson with its narration.
    pub fn told(&self) -> Program {
        self.program().args(self.backend_arguments())
    }

    /// The subcommand `mount` without narration.
    pub fn mount(&self, stack: &Stack) -> Program {
        self.program().args(["mount", "--quiet"]).args(self.backend_arguments()).args(stack.arguments())
    }

    /// A shell in root's sandbox that runs `script`, in which `$0` is the program.
    pub fn shell(&self, script: &str) -> Program {
        let sandbox = self.sandbox.as_ref().expect("root's world");
        let program = Program::new("sh").args(["-c", script, LESSON]).in_sandbox(sandbox);
        program.env("TMPDIR", self.temporary())
    }

    fn backend_arguments(&self) -> Vec<&'static str> {
        self.backend.map_or(Vec::new(), |backend| vec!["--backend", backend])
    }

    /// The TMPDIR of the program.
    pub fn temporary(&self) -> PathBuf {
        let directory = self.directory.path().join("temporary");
        self.make(&directory);
        directory
    }

    /// A new directory of whoever runs the program.
    pub fn make(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("mkdir");
        self.give(directory);
    }

    /// Gives a file to whoever runs the program.
    pub fn give(&self, path: &Path) {
        if self.sandbox.is_none() {
            let user = PlainUser::get();
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
        }
    }

    /// A stack of three branches in the world's directory.
    pub fn stack(&self) -> Stack {
        let root = self.directory.path().join("stack");
        self.make(&root);
        for (path, content) in [
            ("mnt/", ""),
            ("top/", ""),
            ("middle/etc/motd", "middle\n"),
            ("bottom/etc/motd", "bottom\n"),
            ("bottom/lib/big", "0123456789"),
        ] {
            let file = root.join(path);
            let mut directory = root.clone();
            for name in Path::new(path.rsplit_once('/').unwrap().0) {
                directory.push(name);
                self.make(&directory);
            }
            if !path.ends_with('/') {
                fs::write(&file, content).expect("write");
                self.give(&file);
            }
        }
        Stack { root }
    }

    /// Panics where something is left of programs that have ended.
    pub fn check(&self) {
        let left = || fs::read_dir(self.temporary()).expect("read_dir").next().is_none().then_some(());
        poll(LIMIT, left);
        let point = self.directory.path().to_string_lossy().into_owned();
        let is_unmounted = || !mount_points(1).iter().any(|other| other.starts_with(&point));
        poll(LIMIT, || is_unmounted().then_some(()));
        if let Some(sandbox) = &self.sandbox {
            sandbox.check();
        }
    }
}

/// Three branches and a mount point.
pub struct Stack {
    pub root: PathBuf,
}

impl Stack {
    /// What `--branch` is given.
    pub fn arguments(&self) -> Vec<String> {
        let branches = [("top", "rw"), ("middle", "ro"), ("bottom", "ro")];
        let argument = |(name, mode)| format!("--branch={}={mode}", self.at(name));
        branches.into_iter().map(argument).collect()
    }

    /// The path of a file in it.
    pub fn at(&self, path: &str) -> String {
        self.root.join(path).to_string_lossy().into_owned()
    }

    /// Whether there is a file, by lstat(2).
    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root.join(path)).is_ok()
    }
}

/// The descendant of the program that runs a program called `name`, once there is one.
pub fn command(program: &Running, name: &str) -> i32 {
    poll(LIMIT, || descendants(program.pid()).into_iter().find(|pid| runs(*pid, name)))
}

/// The child of the program that serves a FUSE mount: the one that has /dev/fuse open.
pub fn server(program: &Running) -> i32 {
    let serves = |pid: &i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        let mut files = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        files.any(|file| file == Path::new("/dev/fuse"))
    };
    poll(LIMIT, || children(program.pid()).into_iter().find(serves))
}

/// A claim that must hold with each backend, as root and as a plain user: four tests, each with its own needs.
#[macro_export]
macro_rules! with_each_backend {
    (fn $claim:ident($world:ident: &World) $body:block) => {
        mod $claim {
            use super::*;

            fn claim($world: &World) $body

            #[test]
            fn aufs_as_root() {
                testing::needs!(Root, Fuse);
                let world = World::root(Some("aufs"));
                claim(&world);
                world.check();
            }

            #[test]
            fn aufs_as_a_plain_user() {
                testing::needs!(UserNamespaces, FuseAsPlainUser);
                let world = World::plain_user(Some("aufs"));
                claim(&world);
                world.check();
            }

            #[test]
            fn overlay_as_root() {
                testing::needs!(Root);
                let world = World::root(Some("overlay"));
                claim(&world);
                world.check();
            }

            #[test]
            fn overlay_as_a_plain_user() {
                testing::needs!(UserNamespaces);
                let world = World::plain_user(Some("overlay"));
                claim(&world);
                world.check();
            }
        }
    };
}
