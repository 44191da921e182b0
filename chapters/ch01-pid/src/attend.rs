//! The parent's half while the command runs: pass signals on, copy the terminal, wait for the end.
//!
//! One loop over poll(2), with no thread: the child's pidfd, the queue of signals, and, with a terminal, the user's
//! terminal and the master.

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd;

use crate::signals::Signals;
use crate::spawn::Child;
use crate::terminal::{RawMode, copy_size};

// ANCHOR: interactive
/// Whether the user sits at a terminal and this process is in its foreground group, so that a command should get a terminal
/// of its own. A job in the background must leave the terminal alone: the kernel stops one that changes it (SIGTTOU).
pub fn is_interactive() -> bool {
    let is_foreground = || unistd::tcgetpgrp(stdin()).is_ok_and(|group| group == unistd::getpgrp());
    stdin().is_terminal() && stdout().is_terminal() && is_foreground()
}
// ANCHOR_END: interactive

// ANCHOR: attend
/// Waits for the end of `child`; meanwhile passes `signals` on to it, and serves its terminal through `master`.
///
/// Returns the status that a shell would show.
///
/// # Errors
///
/// Those of poll(2) and of the terminal. The child is killed then, since [`Child`] is dropped.
pub fn attend(mut child: Child, signals: &Signals, master: Option<OwnedFd>) -> Result<u8> {
    let (stdin, stdout) = (stdin(), stdout());
    let raw = match &master {
        Some(_) => Some(RawMode::enter(stdin.as_fd())?),
        None => None,
    };
    // A source at its end is always ready: it must leave the list, or the loop spins.
    let (mut shell_is_there, mut user_is_there) = (true, true);
    loop {
        let mut sources = vec![poll_in(child.as_fd()), poll_in(signals.as_fd())];
        if let (Some(master), true) = (&master, shell_is_there) {
            sources.push(poll_in(master.as_fd()));
            sources.extend(user_is_there.then(|| poll_in(stdin.as_fd())));
        }
        match poll(&mut sources, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.context("poll")?,
        };
        let ready: Vec<bool> = sources.iter().map(|source| source.any().unwrap_or(true)).collect();

        if let (Some(master), Some(true)) = (&master, ready.get(2)) {
            shell_is_there = copy(master.as_fd(), stdout.as_fd())?;
        }
        if let (Some(master), Some(true)) = (&master, ready.get(3)) {
            user_is_there = copy(stdin.as_fd(), master.as_fd())?;
        }
        if ready[1] {
            let received = signals.next()?;
            match (received.signal, &master) {
                (Signal::SIGWINCH, Some(master)) => copy_size(stdin.as_fd(), master.as_fd())?,
                // With a terminal of its own the command is not in the foreground group of ours.
                _ if !received.from_terminal || master.is_some() => pass_on(&child, received.signal)?,
                _ => {}
            }
        }
        if ready[0] {
            break;
        }
    }
    // What the command wrote last may still be on its way.
    while let Some(master) = &master {
        let mut rest = [poll_in(master.as_fd())];
        if poll(&mut rest, PollTimeout::ZERO).context("poll")? == 0 || !copy(master.as_fd(), stdout.as_fd())?
        {
            break;
        }
    }
    drop(raw);
    child.wait()
}
// ANCHOR_END: attend

// ANCHOR: copy
fn poll_in(descriptor: BorrowedFd) -> PollFd {
    PollFd::new(descriptor, PollFlags::POLLIN)
}

fn pass_on(child: &Child, signal: Signal) -> Result<()> {
    match child.signal(signal) {
        Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::ESRCH) => Ok(()),
        result => result,
    }
}

/// Copies what is there now; false at the end of the file.
fn copy(from: BorrowedFd, to: BorrowedFd) -> Result<bool> {
    let mut buffer = [0; 4096];
    let length = match unistd::read(from, &mut buffer) {
        // A master says EIO once no process holds the slave.
        Ok(0) | Err(Errno::EIO) => return Ok(false),
        Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
        result => result.context("read from the terminal")?,
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match unistd::write(to, rest) {
            Err(Errno::EINTR) => continue,
            result => rest = &rest[result.context("write to the terminal")?..],
        }
    }
    Ok(true)
}
// ANCHOR_END: copy
