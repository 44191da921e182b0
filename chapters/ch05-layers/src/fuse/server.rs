//! The server: a process that answers for the mount, as long as it lives.
//!
//! A file system in a program ends with the program. What was written is in the branches, for each write was
//! made there before it was answered; but from then on, each access to the mount fails with ENOTCONN,
//! "Transport endpoint is not connected". Who has started the server can tell why.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ch01_pid::spawn::exit_now;
use ch01_pid::{Child, Report, Spawn};
use log::{LevelFilter, error, warn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Options, mount};
use crate::Union;
use crate::branch::Given;

// ANCHOR: server
/// How long the server of a detached mount may wait for its last user to leave, in milliseconds.
const LEAVE: u16 = 1000;

/// A process of ours that serves a mounted union. Dropped, it is stopped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    mountpoint: PathBuf,
    /// How it ended, once that was asked for and it had.
    death: Option<String>,
    is_stopped: bool,
}

impl Server {
    /// Mounts the union of `branches` at `mountpoint`, and returns when it is there. The server dies with
    /// this process, which must have a single thread. It logs nothing; see [`Server::start_with_log`].
    ///
    /// # Errors
    ///
    /// As for [`mount`](super::mount()), as the server met it.
    pub fn start(branches: Vec<Given>, mountpoint: &Path, options: &Options) -> Result<Server> {
        Server::start_with_log(branches, mountpoint, options, &[])
    }

    /// As [`Server::start`]. The logger needs the descriptors `log`, which the server keeps; all others it
    /// closes.
    ///
    /// # Errors
    ///
    /// As for [`Server::start`].
    pub fn start_with_log(
        branches: Vec<Given>,
        mountpoint: &Path,
        options: &Options,
        log: &[BorrowedFd],
    ) -> Result<Server> {
        let mountpoint =
            std::path::absolute(mountpoint).with_context(|| format!("the mount point {mountpoint:?}"))?;
        let serve = |report: &mut Report| -> Result<Infallible> {
            if log.is_empty() {
                // The logger's descriptors are closed, and their numbers soon those of other files.
                log::set_max_level(LevelFilter::Off);
            }
            let session = super::mount(Union::of(&branches)?, &mountpoint, options)?;
            report.close();
            // Nobody waits for an error any more, so it goes to the log.
            let result = session.serve();
            if let Err(error) = &result {
                error!("the server of {mountpoint:?}: {error:#}");
            }
            exit_now(u8::from(result.is_err()))
        };
        let child = Spawn::new().keep(log.iter().copied()).dies_with_parent().start(serve)?.release(None)?;
        Ok(Server { child, mountpoint, death: None, is_stopped: false })
    }

    /// The server's process.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.child.pid()
    }

    /// How the server ended, if it did: a sentence for an error. Its dead mount is taken away then.
    ///
    /// # Errors
    ///
    /// That of the call that asks the kernel, or unmounts.
    pub fn death(&mut self) -> Result<Option<String>> {
        if self.death.is_none() && self.has_ended()? {
            self.death = Some(self.bury()?);
        }
        Ok(self.death.clone())
    }

    fn has_ended(&self) -> Result<bool> {
        self.ends_within(PollTimeout::ZERO)
    }

    fn ends_within(&self, time: impl Into<PollTimeout>) -> Result<bool> {
        let mut pidfd = [PollFd::new(self.child.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut pidfd, time).context("poll of the server's pidfd")? > 0)
    }

    fn bury(&mut self) -> Result<String> {
        let status = self.child.wait()?;
        let place = &self.mountpoint;
        self.is_stopped = true;
        if status == 0 {
            return Ok(format!("{place:?} was unmounted by somebody else"));
        }
        mount::detach(place)?;
        let how = match status {
            129.. => format!("was killed by signal {}", status - 128),
            _ => format!("failed with status {status}"),
        };
        Ok(format!(
            "the process that served {place:?} {how}: each access to it failed with ENOTCONN; it is unmounted now"
        ))
    }

    /// Unmounts, and waits for the server's end.
    ///
    /// # Errors
    ///
    /// umount2(2)'s, or fusermount3's.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.is_stopped {
            return Ok(());
        }
        self.is_stopped = true;
        if !mount::unmount(&self.mountpoint)? && !self.ends_within(LEAVE)? {
            // It would serve on for those who are still in it.
            self.child.signal(libc::SIGKILL)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            warn!("stop the server of {:?}: {error:#}", self.mountpoint);
        }
    }
}
// ANCHOR_END: server
