//! How an error in the child reaches the parent.
//!
//! Between clone3 and exec the child runs our code, but its parent is the one who can tell the user and clean
//! up. A pipe joins them. Its end in the child is close-on-exec, so the parent learns all it needs from one
//! read: an error, or the end of file that says that the command runs now. Manual page: pipe(7).

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use crate::Interrupted;

// ANCHOR: report
/// The child's end: it can say one thing, or close.
#[derive(Debug)]
pub struct Report(Option<File>);

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Reports(File);
// ANCHOR_END: report

// ANCHOR: child_error
/// An error that happened in the child, as the child met it.
#[derive(Debug)]
pub struct ChildError {
    /// The status with which the program should end because of it: 125, 126 or 127.
    pub exit_code: u8,
    /// What the kernel said, where the kernel said something.
    pub errno: Option<Errno>,
    /// What was tried, from the outermost operation inwards; without the errno.
    pub messages: Vec<String>,
}
// ANCHOR_END: child_error

impl fmt::Display for ChildError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.messages.join(": "))
    }
}

impl std::error::Error for ChildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.errno.as_ref().map(|errno| errno as _)
    }
}

/// The errno at the end of an error's chain, if that is where the error began.
fn errno_of(error: &anyhow::Error) -> Option<Errno> {
    let cause = error.root_cause();
    let from_std = || cause.downcast_ref::<std::io::Error>()?.raw_os_error().map(Errno::from_raw);
    cause.downcast_ref::<Errno>().copied().or_else(from_std)
}

// ANCHOR: exit_code
/// The status with which a program of ours ends because of `error`, in the child or in the parent: 126 or 127
/// where a command could not be executed, 128 plus the signal where one ended the program, else 125.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(child) = error.downcast_ref::<ChildError>() {
        return child.exit_code;
    }
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => 128 + *signal as u8,
        None => ch00_chroot::exit_code(error),
    }
}
// ANCHOR_END: exit_code

// ANCHOR: pipe
/// Makes the pipe.
pub(crate) fn pipe() -> Result<(Reports, Report)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe2 for the child's report")?;
    Ok((Reports(read.into()), Report(Some(write.into()))))
}
// ANCHOR_END: pipe

impl Report {
    // ANCHOR: send
    /// Sends `error` to the parent, and closes.
    pub(crate) fn send(mut self, error: &anyhow::Error) {
        let errno = errno_of(error);
        let mut messages: Vec<String> = error.chain().map(ToString::to_string).collect();
        if errno.is_some() {
            messages.pop();
        }
        let mut message = vec![exit_code(error)];
        message.extend((errno.unwrap_or(Errno::UnknownErrno) as i32).to_ne_bytes());
        message.extend(messages.join("\0").bytes());
        if let Some(pipe) = &mut self.0 {
            // Where the parent is gone there is nobody left to tell.
            pipe.write_all(&message).unwrap_or_default();
        }
    }
    // ANCHOR_END: send

    /// Tells the parent that nothing will fail any more that it should wait for.
    pub fn close(&mut self) {
        self.0 = None;
    }

    // ANCHOR: is_awaited
    /// Whether the parent still holds the other end: poll(2) says POLLERR for a pipe that nobody can read.
    pub fn is_awaited(&self) -> Result<bool> {
        let Some(pipe) = &self.0 else { return Ok(false) };
        let mut pipe = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        poll(&mut pipe, PollTimeout::ZERO).context("poll of the report")?;
        Ok(!pipe[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)))
    }
    // ANCHOR_END: is_awaited

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}

// ANCHOR: receive
impl Reports {
    /// Waits until the child has closed its end: by an error, by exec, or by its death.
    pub(crate) fn receive(mut self) -> Result<Option<ChildError>> {
        let mut message = Vec::new();
        self.0.read_to_end(&mut message).context("read the child's report")?;
        let [exit_code, a, b, c, d, chain @ ..] = message.as_slice() else {
            return Ok(None);
        };
        let errno = i32::from_ne_bytes([*a, *b, *c, *d]);
        Ok(Some(ChildError {
            exit_code: *exit_code,
            errno: (errno != 0).then(|| Errno::from_raw(errno)),
            messages: String::from_utf8_lossy(chain).split('\0').map(String::from).collect(),
        }))
    }
}
// ANCHOR_END: receive

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
