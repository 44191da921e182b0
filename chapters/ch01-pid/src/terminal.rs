//! A terminal of its own.
//!
//! A pseudo-terminal is a pair: what is written to one end is read at the other. A shell holds the *slave*,
//! which behaves like a terminal (it edits lines, turns Ctrl-C into SIGINT, has a size); we hold the
//! *master*, and copy between it and the terminal of the user.
//!
//! Why not hand the user's terminal to the container? It does not belong there: its session and its process
//! groups are numbers of the host's PID namespace, so the shell has no job control; and whoever holds it can
//! read what the user types after the container has ended. Manual pages: pty(7), ioctl_tty(2), setsid(2),
//! termios(3).

use std::io::{IsTerminal, stdin};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use log::info;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd;

use crate::passing;

/// The ioctls of ioctl_tty(2), as functions.
mod ioctl {
    #![allow(missing_docs)]
    nix::ioctl_write_ptr_bad!(set_lock, libc::TIOCSPTLCK, libc::c_int);
    nix::ioctl_write_int_bad!(open_peer, libc::TIOCGPTPEER);
    nix::ioctl_write_int_bad!(set_controlling, libc::TIOCSCTTY);
    nix::ioctl_read_bad!(get_size, libc::TIOCGWINSZ, libc::winsize);
    nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
}

// ANCHOR: pty
/// The two ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// Our end.
    pub master: OwnedFd,
    /// The shell's end.
    pub slave: OwnedFd,
}

/// Makes a pseudo-terminal, from the multiplexer at `ptmx`: `/dev/ptmx`, or that of a container's own devpts.
///
/// # Errors
///
/// Names `ptmx`, with the errno of open(2) or of the ioctl that failed.
pub fn open_pty(ptmx: &Path) -> Result<Pty> {
    info!(target: "syscall", "open({ptmx:?})  a new pseudo-terminal: this is its master");
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open(ptmx, flags, Mode::empty()).with_context(|| format!("open {ptmx:?}"))?;
    Pty::of(master)
}

impl Pty {
    /// The pseudo-terminal of a multiplexer that has just been opened.
    ///
    /// # Errors
    ///
    /// The errno of the ioctl that failed: ENOTTY where `master` is no multiplexer.
    pub fn of(master: OwnedFd) -> Result<Pty> {
        // SAFETY: the ioctl reads one integer through the pointer, which is valid for the call.
        unsafe { ioctl::set_lock(master.as_raw_fd(), &0) }.context("ioctl(TIOCSPTLCK)")?;
        // By the descriptor, not by the name that ptsname(3) gives: /dev/pts/N may be another devpts's here.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // SAFETY: the ioctl takes flags by value, and touches no memory of ours.
        let slave =
            unsafe { ioctl::open_peer(master.as_raw_fd(), flags.bits()) }.context("ioctl(TIOCGPTPEER)")?;
        // SAFETY: the kernel has just made this descriptor for us.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        Ok(Pty { master, slave })
    }
}

/// Makes `slave` the standard input, output and error of this process.
///
/// # Errors
///
/// dup2(2)'s errno.
pub fn use_as_stdio(slave: &OwnedFd) -> Result<()> {
    unistd::dup2_stdin(slave).context("dup2 to standard input")?;
    unistd::dup2_stdout(slave).context("dup2 to standard output")?;
    unistd::dup2_stderr(slave).context("dup2 to standard error")
}

/// Makes standard input the controlling terminal of this process's session: its process group is in the
/// foreground, and Ctrl-C goes there. To be called by the process that began the session, as the child of
/// [`Spawn`](crate::Spawn) and the command of [`init`](crate::init()) have.
///
/// # Errors
///
/// The errno of the ioctl: EPERM in a process that leads no session.
pub fn take_control() -> Result<()> {
    info!(target: "syscall", "ioctl(0, TIOCSCTTY)  this terminal is the session's: job control works");
    // SAFETY: the ioctl takes a number by value, and touches no memory of ours.
    unsafe { ioctl::set_controlling(0, 0) }.context("ioctl(TIOCSCTTY)")?;
    Ok(())
}
// ANCHOR_END: pty

// ANCHOR: pass_master
/// Sends a master through a Unix socket: the child makes the terminal inside, the parent serves it
/// (SCM_RIGHTS in unix(7)). `runc --console-socket` is this.
///
/// # Errors
///
/// sendmsg(2)'s errno.
pub fn send_master(socket: BorrowedFd, master: &OwnedFd) -> Result<()> {
    passing::send(socket, master.as_fd(), b"/dev/ptmx").context("send the terminal")
}

/// Receives what [`send_master`] sends.
///
/// # Errors
///
/// recvmsg(2)'s errno, or that no descriptor came: the sender is gone.
pub fn receive_master(socket: BorrowedFd) -> Result<OwnedFd> {
    passing::receive(socket).context("receive the terminal")
}
// ANCHOR_END: pass_master

// ANCHOR: size
/// Gives the terminal `to` the size of the terminal `from`. The kernel tells the foreground group by
/// SIGWINCH.
///
/// # Errors
///
/// The ioctl's errno: ENOTTY where one is no terminal.
pub fn copy_size(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: each ioctl reads or writes one `winsize` through the pointer, which is valid for the call.
    unsafe { ioctl::get_size(from.as_raw_fd(), &mut size) }.context("ioctl(TIOCGWINSZ)")?;
    // SAFETY: as above.
    unsafe { ioctl::set_size(to.as_raw_fd(), &size) }.context("ioctl(TIOCSWINSZ)")?;
    Ok(())
}
// ANCHOR_END: size

// ANCHOR: raw
/// The user's terminal in raw mode: each key goes to the container's terminal, which alone gives it a
/// meaning. Dropped, it is as before.
#[derive(Debug)]
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Turns raw mode on.
    ///
    /// # Errors
    ///
    /// tcsetattr(3)'s errno: ENOTTY where this is no terminal.
    pub fn enter(terminal: BorrowedFd<'a>) -> Result<Self> {
        let before = tcgetattr(terminal).context("tcgetattr of the terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal, SetArg::TCSANOW, &raw).context("tcsetattr of the terminal")?;
        Ok(RawMode { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to restore.
        tcsetattr(self.terminal.as_fd(), SetArg::TCSANOW, &self.before).unwrap_or_default();
    }
}
// ANCHOR_END: raw

// ANCHOR: input
/// Standard input for a command that gets no terminal of its own, where ours is a terminal: a pipe.
///
/// The child is in a session of its own, and the rules by which a terminal shares its keys among jobs hold only
/// within a session: with the terminal itself as its input, the child would take keys that are meant for the
/// shell. So this process reads them, as a job of the shell, and passes them on.
#[derive(Debug)]
pub struct Input {
    /// The child's end.
    pub read: OwnedFd,
    /// The parent's end, for [`Console::Input`](crate::attend::Console); none where this process is a job in the
    /// background, whose command has nothing to read.
    pub write: Option<OwnedFd>,
}

impl Input {
    /// A pipe; or none where standard input is no terminal, and can be shared as it is.
    ///
    /// # Errors
    ///
    /// pipe2(2)'s errno.
    pub fn for_command() -> Result<Option<Input>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let (read, write) = unistd::pipe2(OFlag::O_CLOEXEC).context("pipe2 for standard input")?;
        Ok(Some(Input { read, write: is_in_foreground().then_some(write) }))
    }

    /// In the child: makes the pipe its standard input.
    ///
    /// # Errors
    ///
    /// dup2(2)'s errno.
    pub fn use_as_stdin(&self) -> Result<()> {
        unistd::dup2_stdin(&self.read).context("dup2 to standard input")
    }
}

/// Whether this process is in the foreground group of the terminal that is its standard input.
pub(crate) fn is_in_foreground() -> bool {
    unistd::tcgetpgrp(stdin()).is_ok_and(|group| group == unistd::getpgrp())
}
// ANCHOR_END: input
