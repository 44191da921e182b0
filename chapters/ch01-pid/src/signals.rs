//! Signals as events.
//!
//! A program that runs another one must pass on the signals that were meant for it. A handler can interrupt the program
//! anywhere; instead we block the signals and read them from a descriptor when we are ready. Blocked signals are
//! kept even for PID 1, which otherwise loses each one that it has no handler for. Manual pages: signalfd(2),
//! sigprocmask(2).

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

// ANCHOR: forwarded
/// What a user or a service manager sends to a program that it wants to reach: passed on to the command.
const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];
// ANCHOR_END: forwarded

// ANCHOR: signals
/// The blocked signals, as a queue. Dropped, it restores the mask.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
    mask_before: SigSet,
}

/// One signal from the queue.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Which one.
    pub signal: Signal,
    /// Sent by the kernel, not by a process: Ctrl-C on a terminal. The kernel sends it to every process of the
    /// terminal's foreground group, so the command has it already and must not get it twice.
    pub from_terminal: bool,
}

impl Signals {
    /// Blocks the signals that are passed on, and queues them. A child inherits the mask; exec clears it.
    ///
    /// # Errors
    ///
    /// signalfd(2)'s errno.
    pub fn forwarded() -> Result<Signals> {
        Self::block(FORWARDED.into_iter().collect())
    }

    /// For PID 1: the same, and SIGCHLD.
    pub(crate) fn for_init() -> Result<Signals> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGCHLD);
        Self::block(set)
    }

    fn block(set: SigSet) -> Result<Signals> {
        let mut mask_before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut mask_before)).context("sigprocmask")?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
        Ok(Signals { queue, mask_before })
    }

    /// Takes the next signal; waits for one if there is none.
    ///
    /// # Errors
    ///
    /// read(2)'s errno.
    pub fn next(&self) -> Result<Received> {
        loop {
            match self.queue.read_signal() {
                Ok(Some(event)) => {
                    let signal = Signal::try_from(event.ssi_signo as i32).context("read a signal")?;
                    return Ok(Received { signal, from_terminal: event.ssi_code == libc::SI_KERNEL });
                }
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
