//! The init of a PID namespace.
//!
//! The kernel gives the first process of a PID namespace three duties, and most commands know of none:
//!
//! - A process whose parent died gets PID 1 as its parent. When it ends it stays a *zombie* until PID 1 waits for it.
//! - A signal for which PID 1 has no handler is dropped, where it comes from inside; from outside only SIGKILL and
//!   SIGSTOP get through. So `docker stop` of a plain command waits ten seconds, and then kills.
//! - When PID 1 ends, the kernel kills all others in the namespace.
//!
//! So a small init takes the place of PID 1, and the command is its child. `docker run --init` does the same with a
//! program called tini. Manual pages: pid_namespaces(7), wait(2).

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::descriptors::close_others;
use crate::report::Report;
use crate::signals::Signals;
use crate::spawn::{exit_now, shell_status};

// ANCHOR: init
/// Stays behind as init, and runs `command` (which ends in exec) in a child. To be called in PID 1 of a new PID namespace,
/// by the closure of [`Spawn::start`](crate::Spawn::start).
///
/// When the command ends, so does init, with the same status (128 plus the signal where one killed it).
///
/// # Errors
///
/// Those of `command`, in the child; in init, fork(2)'s.
pub fn init(report: &mut Report, command: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
    // Blocked before the fork: the end of a command that lives for an instant only must not be missed.
    let signals = Signals::for_init()?;
    info!(target: "syscall", "fork()  PID 1 stays behind as init; its child becomes the command");
    // SAFETY: this process has a single thread; `Spawn` makes none other.
    match unsafe { fork() }.context("fork the command from init")? {
        ForkResult::Child => command(),
        ForkResult::Parent { child } => {
            // The descriptors are the host's, and the command could reach them through /proc/1/fd.
            let mut keep = vec![signals.as_fd().as_raw_fd()];
            keep.extend(report.descriptor().map(|descriptor| descriptor.as_raw_fd()));
            close_others(&keep)?;
            // The last one: while it is open, the parent waits for the end of file.
            report.close();
            exit_now(look_after(child, &signals)?)
        }
    }
}

/// Reaps orphans and passes signals on, until the command has ended; returns its status.
fn look_after(command: Pid, signals: &Signals) -> Result<u8> {
    loop {
        let received = signals.next()?;
        if received.signal == Signal::SIGCHLD {
            // One SIGCHLD may stand for many children: signals of the same kind do not queue up.
            if let Some(status) = reap_all(command)? {
                return Ok(status);
            }
        } else if !received.from_terminal {
            // ESRCH: it has just ended, and SIGCHLD is on its way.
            kill(command, received.signal).or_else(unless_gone).context("pass a signal on to the command")?;
        }
    }
}

/// Waits for each child that has ended; returns the command's status if it is among them.
fn reap_all(command: Pid) -> Result<Option<u8>> {
    let mut status_of_command = None;
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => status,
            Err(Errno::ECHILD) => return Ok(status_of_command),
            Err(errno) => return Err(errno).context("waitpid in init"),
        };
        match status.pid() {
            None => return Ok(status_of_command),
            Some(pid) if pid == command => status_of_command = shell_status(status),
            Some(_) => {}
        }
    }
}
// ANCHOR_END: init

fn unless_gone(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::ESRCH { Ok(()) } else { Err(errno) }
}
