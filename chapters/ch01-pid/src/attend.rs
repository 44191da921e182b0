//! The parent's half while the command runs: pass signals on, copy the terminal, wait for the end.
//!
//! One loop over poll(2), with no thread: the child's pidfd, the queue of signals, and, with a terminal, the
//! user's terminal and the master. No call in it may block: while we waited for the command to read what the
//! user pasted, it might wait for us to read what it printed.

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

use crate::child::Child;
use crate::relay::Relay;
use crate::signals::Signals;
use crate::terminal::{RawMode, copy_size};

// ANCHOR: interactive
/// Whether the user sits at a terminal and this process is in its foreground group, so that a command should
/// get a terminal of its own. A job in the background must leave the terminal alone: the kernel stops one
/// that changes it (SIGTTOU).
pub fn is_interactive() -> bool {
    let is_foreground = || unistd::tcgetpgrp(stdin()).is_ok_and(|group| group == unistd::getpgrp());
    stdin().is_terminal() && stdout().is_terminal() && is_foreground()
}
// ANCHOR_END: interactive

// ANCHOR: attend
/// Waits for the end of `child`; meanwhile passes `signals` on to it, and serves its terminal through
/// `master`.
///
/// Returns the status that a shell would show.
///
/// # Errors
///
/// Those of poll(2) and of the terminal. The child is killed then, since [`Child`] is dropped.
pub fn attend(mut child: Child, signals: &Signals, master: Option<OwnedFd>) -> Result<u8> {
    match master {
        None => watch(&child, signals, &mut [], |signal| pass_on(&child, signal))?,
        Some(master) => serve_terminal(&child, signals, &master)?,
    }
    child.wait()
}

fn serve_terminal(child: &Child, signals: &Signals, master: &OwnedFd) -> Result<()> {
    let (stdin, stdout) = (stdin(), stdout());
    let _raw = RawMode::enter(stdin.as_fd())?;
    // It may have changed while the child got ready.
    copy_size(stdin.as_fd(), master.as_fd())?;
    fcntl(master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .context("fcntl(F_SETFL, O_NONBLOCK) of the master")?;
    let mut relays = [Relay::new(stdin.as_fd(), master.as_fd()), Relay::new(master.as_fd(), stdout.as_fd())];
    watch(child, signals, &mut relays, |signal| match signal {
        libc::SIGWINCH => copy_size(stdin.as_fd(), master.as_fd()),
        _ => pass_on(child, signal),
    })?;
    // What the command wrote last may still be on its way.
    relays[1].drain()
}

/// The loop: until the child has ended.
fn watch(
    child: &Child,
    signals: &Signals,
    relays: &mut [Relay],
    on_signal: impl Fn(i32) -> Result<()>,
) -> Result<()> {
    loop {
        let mut sources = vec![wait_to_read(child.as_fd()), wait_to_read(signals.as_fd())];
        sources.extend(relays.iter().flat_map(Relay::sources));
        match poll(&mut sources, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.context("poll")?,
        };
        let is_ready = |source: &PollFd| source.any().unwrap_or(true);
        let (child_ended, signal_came) = (is_ready(&sources[0]), is_ready(&sources[1]));
        relays.iter_mut().try_for_each(Relay::copy)?;
        if signal_came {
            on_signal(signals.next()?)?;
        }
        if child_ended {
            return Ok(());
        }
    }
}
// ANCHOR_END: attend

// ANCHOR: helpers
fn wait_to_read(descriptor: BorrowedFd) -> PollFd {
    PollFd::new(descriptor, PollFlags::POLLIN)
}

fn pass_on(child: &Child, signal: i32) -> Result<()> {
    match child.signal(signal) {
        Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::ESRCH) => Ok(()),
        result => result,
    }
}
// ANCHOR_END: helpers
