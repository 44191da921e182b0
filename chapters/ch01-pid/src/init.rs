//! The init of a PID namespace.
//!
//! The kernel gives the first process of a PID namespace three duties, and most commands know of none:
//!
//! - A process whose parent died gets PID 1 as its parent. When it ends it stays a *zombie* until PID 1 waits
//!   for it.
//! - A signal for which PID 1 has no handler is dropped, where it comes from inside; from outside only
//!   SIGKILL and SIGSTOP get through. So `docker stop` of a plain command waits ten seconds, and then kills.
//! - When PID 1 ends, the kernel kills all others in the namespace.
//!
//! So a small init takes the place of PID 1, and the command is its child. `docker run --init` does the same
//! with a program called tini. Manual pages: pid_namespaces(7), wait(2).

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, pipe2, setsid};

use crate::descriptors::close_others;
use crate::report::Report;
use crate::signals::Signals;
use crate::spawn::exit_now;
use crate::wait::{Whom, wait};

// ANCHOR: init
/// Stays behind as init, and runs `command` (which ends in exec) in a child. To be called in PID 1 of a new
/// PID namespace, by the closure of [`Spawn::start`](crate::Spawn::start).
///
/// When the command ends, so does init, with the same status (128 plus the signal where one killed it).
///
/// # Errors
///
/// Those of `command`, in the child; in init, fork(2)'s.
pub fn init(report: &mut Report, command: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
    // Blocked before the fork: the end of a command that lives for an instant only must not be missed.
    let signals = Signals::for_init()?;
    let (go, let_go) = pipe2(OFlag::O_CLOEXEC).context("pipe2 between init and the command")?;
    info!(target: "syscall", "fork()  PID 1 stays behind as init; its child becomes the command");
    // SAFETY: this process has a single thread; `Spawn` makes none other.
    match unsafe { fork() }.context("fork the command from init")? {
        ForkResult::Child => {
            drop(let_go);
            // The end of file: init has cleaned up after itself.
            File::from(go).read(&mut [0]).context("wait for init")?;
            info!(target: "syscall", "setsid()  the command begins a session too: Ctrl-C reaches all that it starts");
            setsid().context("setsid of the command")?;
            command()
        }
        ForkResult::Parent { child } => {
            drop(go);
            let status = be_init(report, let_go, child, &signals).unwrap_or_else(|error| {
                // The report is closed; what is left is standard error.
                eprintln!("error: init: {error:#}");
                ch00_chroot::exec::FAILED
            });
            exit_now(status)
        }
    }
}

fn be_init(report: &mut Report, let_go: OwnedFd, command: Pid, signals: &Signals) -> Result<u8> {
    // The command can look at this process through /proc/1: the host's descriptors and environment go first.
    let mut keep = vec![signals.as_fd().as_raw_fd(), let_go.as_raw_fd()];
    keep.extend(report.descriptor().map(|descriptor| descriptor.as_raw_fd()));
    close_others(&keep)?;
    forget_environment();
    drop(let_go);
    // While it is open, the parent waits for the end of file.
    report.close();
    look_after(command, signals)
}

/// Reaps orphans and passes signals on, until the command has ended; returns its status.
fn look_after(command: Pid, signals: &Signals) -> Result<u8> {
    loop {
        let signal = signals.next()?;
        if signal != Signal::SIGCHLD as i32 {
            pass_on(command, signal)?;
        } else if let Some(status) = reap_all(command)? {
            return Ok(status);
        }
    }
}

/// Waits for each child that has ended; returns the command's status if it is among them. One SIGCHLD may
/// stand for many children: signals of the same kind do not queue up.
fn reap_all(command: Pid) -> Result<Option<u8>> {
    let mut status_of_command = None;
    loop {
        match wait(Whom::AnyNow) {
            Ok(Some(ended)) if ended.pid == command => status_of_command = Some(ended.status),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(status_of_command),
            Err(errno) => return Err(errno).context("waitid in init"),
        }
    }
}
// ANCHOR_END: init

// ANCHOR: init_helpers
/// What the keys of a terminal send goes to the command's process group, the rest to the command alone.
fn pass_on(command: Pid, signal: i32) -> Result<()> {
    let (whom, signal) = match signal {
        libc::SIGINT | libc::SIGQUIT | libc::SIGCONT => (-command.as_raw(), signal),
        // The group has no shell beside it that could continue it, so the kernel would drop SIGTSTP.
        libc::SIGTSTP => (-command.as_raw(), libc::SIGSTOP),
        _ => (command.as_raw(), signal),
    };
    // SAFETY: kill(2) takes two numbers. The real-time signals among them have no name in `Signal`.
    match Errno::result(unsafe { libc::kill(whom, signal) }) {
        // It has just ended, and SIGCHLD is on its way.
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("pass signal {signal} on to the command")),
    }
}

/// Overwrites the variables that this process began with. `/proc/1/environ` shows that memory, and there may
/// be secrets of the host's user in it.
fn forget_environment() {
    // SAFETY: `environ` is an array of C strings that ends with null. This process has a single thread, which
    // from here on reads no variable; each string stays a valid, empty one.
    unsafe {
        unsafe extern "C" {
            static environ: *const *mut libc::c_char;
        }
        let mut variable = environ;
        while !variable.is_null() && !(*variable).is_null() {
            std::ptr::write_bytes(*variable, 0, libc::strlen(*variable));
            variable = variable.add(1);
        }
    }
}
// ANCHOR_END: init_helpers
