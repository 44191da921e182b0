//! The end of a child.
//!
//! A process that has ended stays as a *zombie* until its parent has asked how: waitid(2). It answers for any
//! child, or for the one of a pidfd (P_PIDFD, Linux 5.4). The call is made here without nix, which knows no
//! real-time signals: a child that was killed by one would be an error.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// Whom to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whom<'a> {
    /// Any child that has ended; none is an answer too.
    AnyNow,
    /// This one, until it ends.
    One(BorrowedFd<'a>),
}

// ANCHOR: wait
/// A child that has ended, and is reaped now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) pid: Pid,
    /// What `$?` shows in a shell: its own status, or 128 plus the number of the signal that killed it.
    pub(crate) status: u8,
}

/// Reaps a child. None: no child has ended.
pub(crate) fn wait(whom: Whom) -> Result<Option<Ended>, Errno> {
    let (kind, id, flags) = match whom {
        Whom::AnyNow => (libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG),
        Whom::One(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, libc::WEXITED),
    };
    // SAFETY: the structure is plain data, of which zero is a value.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the call writes the structure, which outlives it.
        match Errno::result(unsafe { libc::waitid(kind, id, &mut information, flags) }) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        // SAFETY: waitid has filled in the part of the structure that tells of a child, or left it zero.
        let (pid, status) = unsafe { (information.si_pid(), information.si_status()) };
        let status = if information.si_code == libc::CLD_EXITED { status } else { 128 + status };
        return Ok((pid != 0).then_some(Ended { pid: Pid::from_raw(pid), status: status as u8 }));
    }
}
// ANCHOR_END: wait
