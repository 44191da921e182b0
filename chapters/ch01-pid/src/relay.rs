//! One direction between two terminals, or from a terminal into a pipe, through a buffer of our own.
//!
//! We read only while the buffer has room, and write only when poll(2) says that the other side takes it. Manual
//! pages: poll(2), pipe(7) for PIPE_BUF.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

// ANCHOR: chunk
/// How much is written at once. The user's terminal can't be made non-blocking: the shell that it is shared
/// with would be hit too. A write of this much waits, at worst, for the program that draws the terminal, which
/// does not wait for the command.
const CHUNK: usize = libc::PIPE_BUF;

/// How long the end of the output may wait for a terminal that takes nothing, in milliseconds.
const PATIENCE: u16 = 5000;
// ANCHOR_END: chunk

// ANCHOR: relay
/// Copies from one descriptor to another.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    from: BorrowedFd<'a>,
    /// Closed at the end of what there is to copy: the reader of a pipe waits for that.
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// The source is at its end. Such a descriptor is always ready, and would make the loop spin.
    ended: bool,
}

impl<'a> Relay<'a> {
    /// `to` is best non-blocking.
    pub(crate) fn new(from: BorrowedFd<'a>, to: OwnedFd) -> Relay<'a> {
        Relay { from, to: Some(to), buffer: Vec::new(), ended: false }
    }

    /// What to wait for: something to read while nothing waits to be written, else room to write.
    pub(crate) fn sources(&self) -> Option<PollFd<'_>> {
        match &self.to {
            Some(to) if !self.buffer.is_empty() => Some(PollFd::new(to.as_fd(), PollFlags::POLLOUT)),
            Some(_) => Some(PollFd::new(self.from, PollFlags::POLLIN)),
            None => None,
        }
    }

    /// Does what can be done without waiting for the command.
    pub(crate) fn copy(&mut self) -> Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        if self.buffer.is_empty() && is_ready(self.from, PollFlags::POLLIN, PollTimeout::ZERO)? {
            let mut chunk = [0; CHUNK];
            match unistd::read(self.from, &mut chunk) {
                // A master says EIO once no process holds the slave.
                Ok(0) | Err(Errno::EIO) => self.ended = true,
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                result => self.buffer.extend(&chunk[..result.context("read from the terminal")?]),
            }
        }
        if !self.buffer.is_empty() && is_ready(to.as_fd(), PollFlags::POLLOUT, PollTimeout::ZERO)? {
            match unistd::write(to, &self.buffer) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // Nobody will read what is left.
                Err(Errno::EIO | Errno::EPIPE) => {
                    self.buffer.clear();
                    self.ended = true;
                }
                result => drop(self.buffer.drain(..result.context("write to the terminal")?)),
            }
        }
        if self.ended && self.buffer.is_empty() {
            self.to = None;
        }
        Ok(())
    }

    /// Copies what is left, at the speed of the other side, until the source has no more for now.
    pub(crate) fn drain(&mut self) -> Result<()> {
        loop {
            match &self.to {
                None => return Ok(()),
                Some(to) if !self.buffer.is_empty() => {
                    if !is_ready(to.as_fd(), PollFlags::POLLOUT, PATIENCE.into())? {
                        return Ok(());
                    }
                }
                Some(_) if !is_ready(self.from, PollFlags::POLLIN, PollTimeout::ZERO)? => return Ok(()),
                Some(_) => {}
            }
            self.copy()?;
        }
    }
}
// ANCHOR_END: relay

// ANCHOR: is_ready
/// Whether `descriptor` becomes ready for `events` in time. An end counts as ready: the next call tells it.
fn is_ready(descriptor: BorrowedFd, events: PollFlags, time: PollTimeout) -> Result<bool> {
    let mut source = [PollFd::new(descriptor, events)];
    loop {
        match poll(&mut source, time) {
            Err(Errno::EINTR) => continue,
            result => return Ok(result.context("poll")? > 0),
        }
    }
}
// ANCHOR_END: is_ready
