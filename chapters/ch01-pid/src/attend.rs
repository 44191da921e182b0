//! The parent's half while the command runs: pass signals on, copy the terminal, wait for the end.
//!
//! One loop over poll(2), with no thread: the child's pidfd, the queue of signals, and, with a terminal, the
//! user's terminal and the master. No call in it may wait for the command: while we waited for it to read what
//! the user pasted, it might wait for us to read what it printed.

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

use crate::child::Child;
use crate::relay::Relay;
use crate::signals::Signals;
use crate::terminal::{RawMode, copy_size, is_in_foreground};

// ANCHOR: interactive
/// Whether the user sits at a terminal and this process is in its foreground group, so that a command should
/// get a terminal of its own. A job in the background must leave the terminal alone: the kernel stops one
/// that changes it (SIGTTOU).
pub fn is_interactive() -> bool {
    stdin().is_terminal() && stdout().is_terminal() && is_in_foreground()
}
// ANCHOR_END: interactive

// ANCHOR: attend
/// What the parent has to serve while the command runs.
#[derive(Debug)]
pub enum Console {
    /// Nothing: the command has our own standard input, output and error.
    None,
    /// The master of the command's own terminal.
    Terminal(OwnedFd),
    /// The pipe that is the command's standard input ([`Input`](crate::terminal::Input)).
    Input(OwnedFd),
}

/// Waits for the end of `child`; meanwhile passes `signals` on to it, and serves its `console`.
///
/// Returns the status that a shell would show.
///
/// # Errors
///
/// Those of poll(2) and of the terminal. The child is killed then, since [`Child`] is dropped.
pub fn attend(mut child: Child, signals: &Signals, console: Console) -> Result<u8> {
    let on_signal = |signal| pass_on(&child, signal);
    match console {
        Console::None => watch(&child, signals, &mut [], on_signal)?,
        Console::Terminal(master) => serve_terminal(&child, signals, master)?,
        Console::Input(pipe) => {
            set_nonblocking(&pipe)?;
            watch(&child, signals, &mut [Relay::new(stdin().as_fd(), pipe)], on_signal)?;
        }
    }
    child.wait()
}

fn serve_terminal(child: &Child, signals: &Signals, master: OwnedFd) -> Result<()> {
    let (stdin, stdout) = (stdin(), stdout());
    let _raw = RawMode::enter(stdin.as_fd())?;
    // It may have changed while the child got ready.
    copy_size(stdin.as_fd(), master.as_fd())?;
    set_nonblocking(&master)?;
    let keys = master.try_clone().context("duplicate the master")?;
    let screen = stdout.as_fd().try_clone_to_owned().context("duplicate standard output")?;
    let mut relays = [Relay::new(stdin.as_fd(), keys), Relay::new(master.as_fd(), screen)];
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

fn set_nonblocking(descriptor: &OwnedFd) -> Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl(F_SETFL, O_NONBLOCK)")?;
    Ok(())
}

fn pass_on(child: &Child, signal: i32) -> Result<()> {
    match child.signal(signal) {
        Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::ESRCH) => return Ok(()),
        result => result?,
    }
    if signal == libc::SIGTSTP {
        // Ctrl-Z: the command stops, and so do we, or the shell would not get its prompt back. SIGCONT comes
        // through the queue, and is passed on.
        raise(Signal::SIGSTOP).context("raise SIGSTOP")?;
    }
    Ok(())
}
// ANCHOR_END: helpers
