//! The world in which a page's sessions run: a reader's laptop, made of namespaces, the same on every
//! machine.
//!
//! `world.sh` makes it and holds it, as PID 1 of its PID namespace. When that process ends, for whatever
//! reason, the kernel kills every process in the namespace and takes the mounts down: nothing can be left
//! behind. pid_namespaces(7), mount_namespaces(7), unshare(1)

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cgroups::Cgroups;

const PREPARE: &str = include_str!("world.sh");

/// Makes the world's cgroup namespace, which begins at the cgroup of the process that makes it, and goes on to
/// `world.sh`. Arguments: the directory of that cgroup (nothing: the one that it is in), then those of
/// `unshare`.
const ENTER: &str = r#"
set -eu
top=$1
shift
if [ -n "$top" ]; then
    echo $$ > "$top/cgroup.procs"
    # In that namespace, before it makes way for the controllers by leaving the top.
    exec unshare --cgroup bash -c 'echo $$ > "$0/init.scope/cgroup.procs"; exec unshare "$@"' "$top" "$@"
fi
exec unshare --cgroup "$@"
"#;

/// Who types a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// `learner`, with user ID 1000.
    Learner,
    /// `root`.
    Root,
}

/// A world; it ends when this value is dropped.
pub struct World {
    /// The `unshare` whose only child is the world's PID 1.
    unshare: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// PID 1 of the world, as this process sees it.
    init: i32,
    /// Where the world was mounted while it was prepared; an empty directory outside.
    _directory: tempfile::TempDir,
    /// The world's /var/tmp where it has cgroups: on a real disk, whose traffic can be limited.
    _disk: Option<tempfile::TempDir>,
    /// Dropped last: they can be removed when the processes are gone.
    cgroups: Option<Cgroups>,
}

impl World {
    /// Makes a world that holds the `repository` with its built `programs` (a directory such as
    /// `target/debug`), and with the cgroups of a laptop where the page needs them. Needs root.
    pub fn new(repository: &Path, programs: &Path, cgroup2: bool) -> Result<World> {
        let directory = tempfile::tempdir().context("make a directory for the world")?;
        let cgroups = cgroup2.then(Cgroups::new).transpose().context("make the world's cgroups")?;
        let disk = cgroup2.then(|| tempfile::tempdir_in("/var/tmp")).transpose();
        let disk = disk.context("make a directory in /var/tmp")?;
        let top = cgroups.as_ref().map_or(Path::new(""), Cgroups::top);
        let mut unshare = Command::new("bash")
            .args(["-c", ENTER, "world"])
            .arg(top)
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork"])
            .args(["--kill-child", "bash", "-c", PREPARE, "world"])
            .args([directory.path(), repository, programs])
            .args(disk.as_ref().map(tempfile::TempDir::path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("execute `bash`")?;
        let orders = unshare.stdin.take();
        let answers = BufReader::new(unshare.stdout.take().context("a pipe from the world")?);
        let mut world =
            World { unshare, orders, answers, init: 0, _directory: directory, _disk: disk, cgroups };
        world.expect("ready").context("prepare the world")?;
        world.init = world.only_child()?;
        if let Some(cgroups) = &world.cgroups {
            cgroups.enable_controllers()?;
        }
        Ok(world)
    }

    /// Lets the next process of the world have the ID after `pid`.
    pub fn set_last_pid(&mut self, pid: u32) -> Result<()> {
        let orders = self.orders.as_mut().context("the world has ended")?;
        writeln!(orders, "{pid}").context("write to the world's PID 1")?;
        self.expect("set")
    }

    /// The terminal multiplexer of the world: opening it makes a terminal there. pts(4)
    pub fn ptmx(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/dev/pts/ptmx", self.init))
    }

    /// A command that becomes a shell of the world, a session leader with standard input as its terminal.
    pub fn shell(&self, user: User) -> Result<Command> {
        let mut command = Command::new("nsenter");
        if let Some(cgroups) = &self.cgroups {
            let session = cgroups.session()?;
            // SAFETY: write(2) is all that happens between fork and exec; 0 means the process that writes.
            unsafe { command.pre_exec(move || (&session).write_all(b"0")) };
        }
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid"])
            .args(["setsid", "--ctty", "setpriv", "--clear-groups"]);
        let (id, name, home) = match user {
            User::Learner => ("1000", "learner", "/home/learner"),
            User::Root => ("0", "root", "/root"),
        };
        command
            .args(["--reuid", id, "--regid", id])
            .args(["env", "--chdir=/home/learner/hull"])
            .args(["bash", "--noprofile", "--rcfile", "/run/session.bashrc"])
            .args(["--noediting", "-i"])
            .env_clear()
            .env("HOME", home)
            .env("USER", name)
            .env("LOGNAME", name)
            .env("SHELL", "/bin/bash")
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("TERM", "xterm")
            // Escape sequences for colour are no part of a page.
            .env("NO_COLOR", "1");
        Ok(command)
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("read from the world's PID 1")?;
        ensure!(line.trim() == word, "the world's PID 1 ended; its message is above");
        Ok(())
    }

    fn only_child(&self) -> Result<i32> {
        let id = self.unshare.id();
        let path = format!("/proc/{id}/task/{id}/children");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
        let child = text.split_whitespace().next().context("`unshare` has no child")?;
        child.parse().with_context(|| format!("not a pid in {path:?}: {child:?}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The end of its input ends PID 1, and the kernel ends the rest.
        self.orders = None;
        if let Err(error) = self.unshare.wait() {
            eprintln!("wait for the end of the world of a page: {error}");
        }
    }
}
