//! Signals as events.
//!
//! A program that runs another one must pass on the signals that were meant for it. A handler can interrupt
//! the program anywhere; instead we block the signals and read them from a descriptor when we are ready.
//! Blocked signals are kept even for PID 1, which otherwise loses each one that it has no handler for. Manual
//! pages: signalfd(2), sigprocmask(2), signal(7).

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

// ANCHOR: not_forwarded
/// What is not passed on: the end of our own child; signals that tell of a fault in this very process; and
/// those by which a terminal stops a job in the background, which is this process.
const NOT_FORWARDED: [Signal; 11] = [
    Signal::SIGCHLD,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGPIPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

fn passed_on() -> SigSet {
    let mut set = SigSet::all();
    NOT_FORWARDED.into_iter().for_each(|signal| set.remove(signal));
    set
}
// ANCHOR_END: not_forwarded

// ANCHOR: signals
/// The blocked signals, as a queue. Dropped, it restores the mask.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
    mask_before: SigSet,
}

impl Signals {
    /// Blocks the signals that are passed on, and queues them: all that one process sends another on purpose,
    /// with the real-time signals.
    ///
    /// # Errors
    ///
    /// signalfd(2)'s errno.
    pub fn forwarded() -> Result<Signals> {
        Self::block(passed_on())
    }

    /// For PID 1: the same, and SIGCHLD.
    pub(crate) fn for_init() -> Result<Signals> {
        let mut set = passed_on();
        set.add(Signal::SIGCHLD);
        Self::block(set)
    }

    fn block(set: SigSet) -> Result<Signals> {
        let mut mask_before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut mask_before)).context("sigprocmask")?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
        Ok(Signals { queue, mask_before })
    }

    /// Takes the number of the next signal; waits for one if there is none.
    ///
    /// # Errors
    ///
    /// read(2)'s errno.
    pub fn next(&self) -> Result<i32> {
        loop {
            match self.queue.read_signal() {
                Ok(Some(event)) => return Ok(event.ssi_signo as i32),
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("read from the signalfd"),
            }
        }
    }
}
// ANCHOR_END: signals

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask_before), None)
            .expect("the mask was valid before");
    }
}

// ANCHOR: hear_of_children
/// Gives SIGCHLD its default action.
///
/// A parent may have left it ignored, and that is inherited through exec. The kernel then reaps children by
/// itself: their statuses are lost, and nobody is told of their end.
pub(crate) fn hear_of_children() -> Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_DFL installs no code of ours, so no handler can run in a bad state.
    unsafe { sigaction(Signal::SIGCHLD, &default) }.context("sigaction(SIGCHLD, SIG_DFL)")?;
    Ok(())
}
// ANCHOR_END: hear_of_children
