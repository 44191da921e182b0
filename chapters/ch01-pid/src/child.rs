//! A child that lives.
//!
//! A pid can be given to another process once the child is gone and reaped; a *pidfd*, a descriptor for the child, never
//! means anyone else. Manual pages: pidfd_open(2), pidfd_send_signal(2), waitid(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::Pid;

use crate::wait::{Whom, wait};

// ANCHOR: pidfd_open
/// A pidfd for the process that has this pid now; it is close-on-exec.
///
/// # Errors
///
/// pidfd_open(2)'s errno: ESRCH where there is no such process, EINVAL where it is a thread of one.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two numbers.
    let pidfd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) })
}
// ANCHOR_END: pidfd_open

/// In milliseconds, for poll(2).
pub(crate) const SECOND: u16 = 1000;

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

    /// Kills the child, and does not wait for long. One that version 1 of cgroups has frozen ends only when it is
    /// thawed: then it is left to whoever adopts it.
    pub(crate) fn abandon(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        let mut end = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let has_ended = poll(&mut end, SECOND).context("poll for the end of a child that was killed")? == 1;
        // Where it has, the destructor waits for it.
        self.reaped = !has_ended;
        Ok(())
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
