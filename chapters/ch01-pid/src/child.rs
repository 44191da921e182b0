//! A child that lives.
//!
//! A pid can be given to another process once the child is gone and reaped; a *pidfd*, a descriptor for the child, never
//! means anyone else. Manual pages: pidfd_open(2), pidfd_send_signal(2), waitid(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::wait::{Whom, wait};

// ANCHOR: child
/// A child that runs its command. Dropped before it was waited for, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Child {
        Child { pid, pidfd, reaped: false }
    }

    /// The child's pid, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends the signal with the number `signal` to the child, and to no other process that may get its pid
    /// later.
    ///
    /// # Errors
    ///
    /// pidfd_send_signal(2)'s errno; ESRCH when the child is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let (pidfd, none) = (self.pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: the descriptor is open, and a null siginfo means what kill(2) would send.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, none, 0) };
        Errno::result(result).with_context(|| format!("pidfd_send_signal({}, {signal})", self.pid))?;
        Ok(())
    }

    /// Lets the child live on when this process ends: nobody here will wait for it. Returns its pidfd.
    pub fn detach(mut self) -> Result<OwnedFd> {
        self.reaped = true;
        self.pidfd.try_clone().context("duplicate the pidfd")
    }

    /// Waits for the child's end; returns the status that a shell would show: its own, or 128 plus its
    /// signal.
    ///
    /// # Errors
    ///
    /// waitid(2)'s errno.
    pub fn wait(&mut self) -> Result<u8> {
        let ended = wait(Whom::One(self.pidfd.as_fd()));
        let ended = ended.with_context(|| format!("waitid for the child {}", self.pid))?;
        self.reaped = true;
        Ok(ended.context("waitid came back without the child's end")?.status)
    }
}

impl AsFd for Child {
    /// The pidfd: readable (poll(2)) once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // Both fail only where the child is gone already, which is what we want.
            self.signal(libc::SIGKILL).unwrap_or_default();
            self.wait().unwrap_or_default();
        }
    }
}
// ANCHOR_END: child
