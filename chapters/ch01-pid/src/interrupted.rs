//! Ctrl-C, and what else asks a program to end that has no command to pass it on to.
//!
//! A signal whose action is the default ends a process at once, and what it has made stays: a cgroup, a mount,
//! a directory. With [`Signals`] they are blocked and queued, and one that means the end comes out as an
//! error, on whose way all is removed. Manual pages: signal(7), signalfd(2).

use std::fmt;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

use crate::Signals;

// ANCHOR: interrupted
/// A signal, by its number, ended the program. [`exit_code`](crate::exit_code) makes 128 plus the number of it, as
/// a shell shows it.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted(pub i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => write!(formatter, "interrupted by {signal}"),
            Err(_) => write!(formatter, "interrupted by signal {}", self.0),
        }
    }
}

impl std::error::Error for Interrupted {}

/// Whether the signal asks for the end.
pub fn asks_for_end(signal: i32) -> bool {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&signal)
}

impl Signals {
    /// Takes the signals that have come, and waits for none.
    ///
    /// # Errors
    ///
    /// [`Interrupted`], where one of them asks for the end.
    pub fn stop_if_told(&self) -> Result<()> {
        while poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1) {
            match self.next()? {
                // Blocked, it would not stop us.
                libc::SIGTSTP => raise(Signal::SIGSTOP).context("raise SIGSTOP")?,
                signal if asks_for_end(signal) => return Err(Interrupted(signal).into()),
                _ => (),
            }
        }
        Ok(())
    }
}
// ANCHOR_END: interrupted
