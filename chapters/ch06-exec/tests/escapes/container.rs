//! A container whose root is not to be trusted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ch01_pid::{Child, Spawn};
use ch02_mount::build_root;
use nix::sched::CloneFlags;
use nix::unistd::pipe;
use rootfs_builder::Source;
use tempfile::TempDir;

/// A root file system that the attacker has made, and a file of the host's that nobody in it may read.
pub struct Hostile {
    directory: TempDir,
    pub root: PathBuf,
}

/// What stands in the host's file.
pub const SECRET: &str = "the host's secret";

impl Hostile {
    /// A shell stands at `/real/sh`, so that the attacker can do with /bin/sh what he wants.
    pub fn new() -> Hostile {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        rootfs_builder::build(Source::Auto, &root).expect("build a root file system");
        fs::create_dir(root.join("real")).unwrap();
        fs::copy(root.join("bin/sh"), root.join("real/sh")).unwrap();
        fs::write(directory.path().join("secret"), SECRET).unwrap();
        Hostile { directory, root }
    }

    /// A path outside of the root.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes `path` an executable with this text, in the place of whatever was there.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).unwrap();
        }
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes `/bin/look` a program that reads the secret by each directory that it holds.
    pub fn write_look(&self) {
        let secret = self.outside("secret");
        let up = "/..".repeat(8);
        let script = format!(
            "#!/real/sh\nfor place in /proc/self/fd/* .; do cat \"$place{up}{}\" 2>/dev/null; done\nls /proc/self/fd\n",
            secret.display()
        );
        self.write("bin/look", &script);
    }

    /// A copy of a program, which may be spoilt.
    pub fn copy_of(&self, program: impl AsRef<Path>, name: &str) -> PathBuf {
        let copy = self.outside(name);
        fs::copy(program, &copy).unwrap();
        copy
    }

    /// Starts a container in this root, with all of root's capabilities. Its PID 1 does `life`, and what it prints is
    /// read by [`Container::line`].
    pub fn start(&self, life: impl FnOnce(&mut File) -> Result<()>) -> Container {
        self.start_in(CloneFlags::empty(), life)
    }

    /// As [`Hostile::start`], with more namespaces.
    pub fn start_in(&self, more: CloneFlags, life: impl FnOnce(&mut File) -> Result<()>) -> Container {
        let (read, write) = pipe().unwrap();
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        let spawn = Spawn::new().namespaces(namespaces | more).keep([write.as_fd()]).dies_with_parent();
        let held = spawn.start(|report| {
            build_root(&self.root, &[], false)?;
            report.close();
            let mut output = File::from(write.try_clone()?);
            if let Err(error) = life(&mut output) {
                writeln!(output, "{error:#}").unwrap_or_default();
            }
            ch01_pid::spawn::exit_now(0)
        });
        let child = held.unwrap().release(None).unwrap();
        Container { child, lines: BufReader::new(File::from(read)) }
    }
}

/// A container that runs. Killed when it is dropped.
pub struct Container {
    child: Child,
    lines: BufReader<File>,
}

impl Container {
    /// The pid of its PID 1, as an argument.
    pub fn pid(&self) -> String {
        self.child.pid().to_string()
    }

    /// The next line that its PID 1 says; it is waited for.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    /// Whether it has said something that was not read yet.
    pub fn has_spoken(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut source = [PollFd::new(self.lines.get_ref().as_fd(), PollFlags::POLLIN)];
        !self.lines.buffer().is_empty() || poll(&mut source, PollTimeout::ZERO).unwrap() == 1
    }
}

/// What a container's PID 1 does that has nothing to do.
pub fn idle(_: &mut File) -> Result<()> {
    loop {
        nix::unistd::pause();
    }
}
