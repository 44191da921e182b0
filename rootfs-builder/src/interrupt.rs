//! A signal stops the build, not the process: what had been made must be removed first.
//!
//! A handler may do little more than set a flag (signal-safety(7)). Everything that makes a file looks at
//! this flag before, so the build ends within milliseconds, cleans up, and returns [`Interrupted`]. The
//! handlers are there only while something is built (sigaction(2)); the program that called the library has
//! its own back afterwards.

use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals that ask a process to end.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The number of the signal that came, or 0.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// Handlers belong to the whole process, so one build at a time may own them.
static OWNER: Mutex<()> = Mutex::new(());

/// A signal stopped the build. By custom the program then exits with 128 plus its number.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted(
    /// The signal's number.
    pub i32,
);

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => write!(formatter, "interrupted by {signal}"),
            Err(_) => write!(formatter, "interrupted by signal {}", self.0),
        }
    }
}

impl std::error::Error for Interrupted {}

extern "C" fn remember(signal: i32) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

/// Fails if one of the signals came since [`Guard::install`].
pub(crate) fn check() -> Result<(), Interrupted> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(Interrupted(signal)),
    }
}

/// While it lives the three signals only set the flag; when it is dropped they do what they did before.
pub(crate) struct Guard {
    previous: Vec<(Signal, SigAction)>,
    _owner: MutexGuard<'static, ()>,
}

impl Guard {
    pub(crate) fn install() -> Result<Guard> {
        let owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        RECEIVED.store(0, Ordering::Relaxed);
        let mut guard = Guard { previous: Vec::new(), _owner: owner };
        // SA_RESTART: a slow read or write goes on after the signal; the flag is looked at before the next
        // one.
        let action = SigAction::new(SigHandler::Handler(remember), SaFlags::SA_RESTART, SigSet::empty());
        for signal in SIGNALS {
            let previous = set(signal, &action)?;
            guard.previous.push((signal, previous));
            // What the caller ignores, as nohup(1) does with SIGHUP, stays ignored.
            if matches!(previous.handler(), SigHandler::SigIgn) {
                set(signal, &previous)?;
            }
        }
        Ok(guard)
    }

    /// Restores the handlers, and then fails if a signal came: once they are back nobody would look at the
    /// flag.
    pub(crate) fn finish(self) -> Result<()> {
        drop(self);
        Ok(check()?)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (signal, previous) in &self.previous {
            // It fails only for a bad signal number or a bad address, and the same call has just worked
            // with both.
            set(*signal, previous).expect("restore a signal's handler");
        }
    }
}

fn set(signal: Signal, action: &SigAction) -> Result<SigAction> {
    // SAFETY: `remember` does nothing but store into an atomic, which is safe at any point of any thread; a
    // previous action is put back as the kernel gave it.
    unsafe { sigaction(signal, action) }.with_context(|| format!("sigaction {signal}"))
}
