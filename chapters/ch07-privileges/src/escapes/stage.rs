// ANCHOR: stage
//! The host of the play.
//!
//! An escape that works does harm. So the host that it harms is a process of the lesson, in namespaces that
//! were made for it: a host's name, a network, a mount table. They go with it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use ch00_chroot::Identity;
use ch01_pid::spawn::exit_now;
use ch01_pid::{Child, Spawn};
use ch02_mount::{Propagation, propagation};
use ch03_net::loopback;
use lesson::{Lesson, untold};
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_dumpable;
use nix::unistd::pipe2;

use crate::container::Container;
use crate::inside::{Answer, ask};

/// This process, as the host.
pub struct Stage<'a> {
    pub lesson: &'a Lesson,
    /// Its root directory.
    pub root: Identity,
}

impl Stage<'_> {
    /// Runs the play in a process of its own, and returns its status.
    pub fn play(lesson: &Lesson, play: impl FnOnce(&Stage) -> Result<u8>) -> Result<u8> {
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC;
        let spawn = Spawn::new().namespaces(namespaces).keep(lesson.descriptors()).dies_with_parent();
        let held = untold(|| {
            spawn.start(|report| {
                untold(|| -> Result<()> {
                    propagation::set(Path::new("/"), Propagation::Private, true)?;
                    loopback::up()
                })?;
                let status = play(&Stage { lesson, root: Identity::of("/")? })?;
                report.close();
                exit_now(status)
            })
        })?;
        untold(|| held.release(None))?.wait()
    }

    /// Asks in the container.
    pub fn ask(
        &self,
        container: &Container,
        keep: &[BorrowedFd],
        attempt: impl FnOnce() -> Answer,
    ) -> Result<Answer> {
        ask(self.lesson, container, keep, attempt)
    }

    /// A process of the host's, with a secret in its environment, that does nothing for a while.
    pub fn neighbour(&self) -> Result<Child> {
        let (ready, tell) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
        let tell = File::from(tell);
        let held = Spawn::new().keep([tell.as_fd()]).dies_with_parent().start(|report| {
            report.close();
            // In a user namespace of ours nobody could look into it: its memory is older than that.
            set_dumpable(true).context("prctl(PR_SET_DUMPABLE, 1)")?;
            (&tell).write_all(b"!").context("tell the parent")?;
            sleep(Duration::from_secs(60));
            exit_now(0)
        })?;
        let child = held.release(None)?;
        File::from(ready).read(&mut [0]).context("wait for the neighbour")?;
        Ok(child)
    }
}
// ANCHOR_END: stage

// ANCHOR: refused
/// What the kernel said to a call that it refused.
pub fn refused(call: &str, errno: nix::errno::Errno) -> String {
    format!("{call}: {errno:?}")
}

/// The same from the standard library.
pub fn refused_io(call: &str, error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => refused(call, nix::errno::Errno::from_raw(errno)),
        None => format!("{call}: {error}"),
    }
}
// ANCHOR_END: refused
