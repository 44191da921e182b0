// ANCHOR: interrupted
//! Ctrl-C, and what else asks the lesson to end.
//!
//! A signal whose action is the default ends a process at once, and its cgroup would stay. So they are blocked
//! and queued while there is a cgroup, and one that means the end comes out as an error, on whose way the
//! cgroup is removed. signal(7), signalfd(2).

use std::fmt;

use anyhow::{Context, Result};
use ch01_pid::Signals;
use nix::sys::signal::{Signal, raise};

/// A signal ended the lesson.
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

/// The status with which the lesson ends because of `error`: 128 plus the signal's number, as a shell shows it.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => 128 + *signal as u8,
        None => ch01_pid::exit_code(error),
    }
}

/// Takes the next signal; an error where it means the end.
pub fn stop_if_told(signals: &Signals) -> Result<()> {
    match signals.next()? {
        signal @ (libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT) => {
            Err(Interrupted(signal).into())
        }
        libc::SIGTSTP => raise(Signal::SIGSTOP).context("raise SIGSTOP"),
        _ => Ok(()),
    }
}
// ANCHOR_END: interrupted
