// ANCHOR: interrupted
//! Ctrl-C, and what else asks the program to end.
//!
//! A signal whose action is the default ends a process at once, and its directories would stay. So signals are blocked
//! and queued, and one that means the end comes out as an error, on whose way all is removed. signal(7), signalfd(2).

use std::fmt;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use ch01_pid::Signals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

/// A signal ended the program.
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

/// The status with which the program ends because of `error`: 128 plus the signal's number, as a shell shows it.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => 128 + *signal as u8,
        None => ch01_pid::exit_code(error),
    }
}

/// Whether the signal asks for the end.
pub fn asks_for_end(signal: i32) -> bool {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&signal)
}

/// Takes the signals that have come; an error where one means the end.
pub fn stop_if_told(signals: &Signals) -> Result<()> {
    while poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1) {
        match signals.next()? {
            libc::SIGTSTP => raise(Signal::SIGSTOP).context("raise SIGSTOP")?,
            signal if asks_for_end(signal) => return Err(Interrupted(signal).into()),
            _ => (),
        }
    }
    Ok(())
}
// ANCHOR_END: interrupted
