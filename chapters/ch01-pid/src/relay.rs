//! One direction between two terminals, through a buffer of our own.
//!
//! We read only while the buffer has room, and write only when poll(2) says that the other side takes it.
//! Manual pages: poll(2), pipe(7) for PIPE_BUF.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

// ANCHOR: chunk
/// How much is written at once. The user's terminal can't be made non-blocking: the shell that it is shared
/// with would be hit too. A write of this much waits, at worst, for the program that draws the terminal, which
/// does not wait for the command.
const CHUNK: usize = libc::PIPE_BUF;
// ANCHOR_END: chunk

// ANCHOR: relay
/// Copies from one descriptor to another.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    buffer: Vec<u8>,
    /// The source is at its end. Such a descriptor is always ready, and would make the loop spin.
    ended: bool,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> Relay<'a> {
        Relay { from, to, buffer: Vec::new(), ended: false }
    }

    /// What to wait for: something to read while nothing waits to be written, else room to write.
    pub(crate) fn sources(&self) -> Option<PollFd<'a>> {
        if !self.buffer.is_empty() {
            Some(PollFd::new(self.to, PollFlags::POLLOUT))
        } else if !self.ended {
            Some(PollFd::new(self.from, PollFlags::POLLIN))
        } else {
            None
        }
    }

    /// Does what can be done without waiting.
    pub(crate) fn copy(&mut self) -> Result<()> {
        if self.buffer.is_empty() && !self.ended && is_ready(self.from, PollFlags::POLLIN)? {
            self.read()?;
        }
        if !self.buffer.is_empty() && is_ready(self.to, PollFlags::POLLOUT)? {
            self.write()?;
        }
        Ok(())
    }

    /// Copies what is left, until the source has no more for now, or the other side takes no more.
    pub(crate) fn drain(&mut self) -> Result<()> {
        loop {
            let before = (self.buffer.len(), self.ended);
            self.copy()?;
            let is_idle = self.buffer.is_empty() && (self.ended || !is_ready(self.from, PollFlags::POLLIN)?);
            if is_idle || (!self.buffer.is_empty() && before == (self.buffer.len(), self.ended)) {
                return Ok(());
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; CHUNK];
        match unistd::read(self.from, &mut chunk) {
            // A master says EIO once no process holds the slave.
            Ok(0) | Err(Errno::EIO) => self.ended = true,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            result => self.buffer.extend(&chunk[..result.context("read from the terminal")?]),
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        match unistd::write(self.to, &self.buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // The shell has gone: nobody will read what is left.
            Err(Errno::EIO) => {
                self.buffer.clear();
                self.ended = true;
            }
            result => drop(self.buffer.drain(..result.context("write to the terminal")?)),
        }
        Ok(())
    }
}
// ANCHOR_END: relay

// ANCHOR: is_ready
/// Asks without waiting.
fn is_ready(descriptor: BorrowedFd, events: PollFlags) -> Result<bool> {
    let mut source = [PollFd::new(descriptor, events)];
    match poll(&mut source, PollTimeout::ZERO) {
        Err(Errno::EINTR) => Ok(false),
        result => Ok(result.context("poll")? > 0),
    }
}
// ANCHOR_END: is_ready
