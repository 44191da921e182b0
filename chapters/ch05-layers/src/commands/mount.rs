// ANCHOR: imports
//! `mount`: a union at a place of the user's choice.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ch01_pid::Signals;
use ch01_pid::interrupted::asks_for_end;
use ch02_mount::{Propagation, propagation};
use ch05_layers::fuse::{Options, remove_dead};
use lesson::{Lesson, privileges};
use log::info;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::command;
use super::mount_table::Changes;
use super::mounted::{Backend, LOOK, Mounted};
use super::stack::{Stack, Telling};
// ANCHOR_END: imports

// ANCHOR: arguments
/// Mount a stack of branches as one tree
///
/// With a command, the mount is in a mount namespace of the command's own, which nobody else sees, and goes with it. The
/// command has the working directory, the environment and the standard streams of this program.
///
/// Without one, the mount is in the namespace of the caller, and stays until it is unmounted or this program is told to
/// end (Ctrl-C). The line "ready: ..." on standard error says that it is there.
#[derive(clap::Args)]
pub struct Mount {
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    stack: Stack,
    /// Who makes one tree of the branches
    #[arg(long, value_enum, default_value = "aufs")]
    backend: Backend,
    /// Other users may use it, as permissions allow; a user who is not root needs `user_allow_other` in /etc/fuse.conf
    #[arg(long)]
    allow_other: bool,
    /// How many threads of the FUSE server work at once
    #[arg(long, value_name = "NUMBER", default_value_t = Options::default().threads)]
    threads: usize,
    /// All data of files passes through the FUSE server, where the kernel could read and write the branch by itself
    #[arg(long)]
    no_passthrough: bool,
    /// An existing directory
    mountpoint: PathBuf,
    /// The command and its arguments
    #[arg(last = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: run
impl Mount {
    /// Mounts, waits, unmounts; returns the command's status.
    pub fn run(mut self) -> Result<u8> {
        let lesson = self.telling.start()?;
        // Where a server was killed together with this program, each access fails, also the one below.
        remove_dead(&self.mountpoint)?;
        let absolute =
            |path: &Path, what| path.canonicalize().with_context(|| format!("the {what} {path:?}"));
        self.mountpoint = absolute(&self.mountpoint, "mount point")?;
        for branch in &mut self.stack.branches {
            branch.path = absolute(&branch.path, "branch")?;
        }
        if self.command.is_empty() {
            return self.hold(&lesson);
        }
        privileges::acquire()?;
        own_mount_table()?;
        // From here on a signal does not end this process: the command decides, and the union is unmounted after it.
        let signals = Signals::forwarded()?;
        let mut union = self.mount(&lesson)?;
        let status = command::run(&lesson, &self.command, &signals, &mut union)?;
        union.stop()?;
        Ok(status)
    }

    fn mount(&self, lesson: &Lesson) -> Result<Mounted> {
        let options = Options {
            allow_other: self.allow_other,
            threads: self.threads,
            passthrough: !self.no_passthrough,
        };
        Mounted::start(lesson, self.backend, &self.stack.branches, &self.mountpoint, &options)
    }
}

/// A mount namespace of our own: what is mounted from here on is seen by our children alone, and goes with the last of
/// us, however we end.
pub fn own_mount_table() -> Result<()> {
    info!(target: "syscall", "unshare(CLONE_NEWNS)  a mount table of our own: our mounts go when we do");
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    propagation::set(Path::new("/"), Propagation::Private, true)
}
// ANCHOR_END: run

// ANCHOR: hold
impl Mount {
    /// Without a command: stays until the union is unmounted, a signal asks for the end, or the server dies.
    fn hold(&self, lesson: &Lesson) -> Result<u8> {
        ensure!(
            self.backend == Backend::Aufs || geteuid().is_root(),
            "only root may mount an overlayfs here; with a command (-- sh) it works in a mount namespace of your own"
        );
        let signals = Signals::forwarded()?;
        let mut union = self.mount(lesson)?;
        let table = Changes::watch()?;
        eprintln!("ready: {:?} is the union of {} branches", self.mountpoint, self.stack.branches.len());
        while union.is_mounted()? {
            let mut sources = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(table.as_fd(), PollFlags::POLLPRI),
            ];
            match poll(&mut sources, LOOK) {
                Err(errno) => ensure!(errno == Errno::EINTR, "poll: {errno}"),
                Ok(_) if sources[0].any() == Some(true) && asks_for_end(signals.next()?) => break,
                Ok(_) => (),
            }
            if let Some(death) = union.death()? {
                union.stop()?;
                anyhow::bail!(death);
            }
        }
        union.stop()?;
        Ok(0)
    }
}
// ANCHOR_END: hold
