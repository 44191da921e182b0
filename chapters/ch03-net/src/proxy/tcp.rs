//! The proxy's TCP connections. Manual page: tcp(7).
//!
//! A connection is two directions, each with a buffer of its own. A direction reads only while there is room in its
//! buffer: where the receiver is slow the kernel's own buffers fill up, and then the sender waits, as it would without
//! us. One that has come to its end of file passes that on (`shutdown`), while the other may go on for long.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket};

use super::watch;

/// How many bytes a direction holds back.
const CAPACITY: usize = 64 * 1024;
/// Connections of one port. More wait in the kernel's queue until one ends.
const CONNECTIONS: usize = 1000;

// ANCHOR: listener
/// A port, and the connections that came by it.
#[derive(Debug)]
pub(super) struct Listener<'a> {
    socket: &'a TcpListener,
    target: SocketAddrV4,
    connections: Vec<Connection>,
}

impl<'a> Listener<'a> {
    /// `socket` must be non-blocking.
    pub(super) fn new(socket: &'a TcpListener, target: SocketAddrV4) -> Listener<'a> {
        Listener { socket, target, connections: Vec::new() }
    }

    /// Adds what is waited for, in the order in which `advance` takes the answers.
    pub(super) fn watch<'b>(&'b self, sources: &mut Vec<PollFd<'b>>) {
        watch(sources, self.socket.as_fd(), self.interest());
        for connection in &self.connections {
            let [client, server] = connection.interest();
            watch(sources, connection.client.as_fd(), client);
            watch(sources, connection.server.as_fd(), server);
        }
    }

    fn interest(&self) -> PollFlags {
        if self.connections.len() < CONNECTIONS { PollFlags::POLLIN } else { PollFlags::empty() }
    }

    /// Goes on with all that is ready.
    pub(super) fn advance(&mut self, ready: &mut impl Iterator<Item = bool>) {
        let mut next = |events: PollFlags| !events.is_empty() && ready.next().unwrap_or(false);
        let has_client = next(self.interest());
        self.connections.retain_mut(|connection| {
            let [client, server] = connection.interest().map(&mut next);
            if !client && !server {
                return true;
            }
            match connection.advance() {
                Ok(()) => !connection.is_over(),
                Err(_) => {
                    connection.reset();
                    false
                }
            }
        });
        if has_client {
            self.accept();
        }
    }

    fn accept(&mut self) {
        match self.socket.accept() {
            // A client that can't be served is dropped, which closes its connection.
            Ok((client, _)) => self.connections.extend(Connection::new(client, self.target).ok()),
            // It has given up meanwhile.
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::ConnectionAborted].contains(&error.kind()) => {}
            // No descriptor or no memory: the client stays in the queue, and poll would report it at once again.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
// ANCHOR_END: listener

// ANCHOR: connection
/// A client at ::1, and the server in the container.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    is_connected: bool,
    up: Direction,
    down: Direction,
}

impl Connection {
    fn new(client: TcpStream, target: SocketAddrV4) -> io::Result<Connection> {
        client.set_nonblocking(true)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let server = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        // Its success or failure is told later, by POLLOUT.
        match connect(server.as_raw_fd(), &SockaddrIn::from(target)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What was written in small parts arrives in small parts.
        let server = TcpStream::from(server);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (up, down) = (Direction::default(), Direction::default());
        Ok(Connection { client, server, is_connected: false, up, down })
    }

    /// What each of the two sockets is waited for.
    fn interest(&self) -> [PollFlags; 2] {
        if !self.is_connected {
            return [PollFlags::empty(), PollFlags::POLLOUT];
        }
        let events = |read: &Direction, written: &Direction| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, read.wants_to_read());
            events.set(PollFlags::POLLOUT, written.wants_to_write());
            events
        };
        [events(&self.up, &self.down), events(&self.down, &self.up)]
    }

    fn advance(&mut self) -> io::Result<()> {
        if !self.is_connected {
            self.server.take_error()?.map_or(Ok(()), Err)?;
            self.is_connected = true;
        }
        self.up.advance(&self.client, &self.server)?;
        self.down.advance(&self.server, &self.client)
    }

    fn is_over(&self) -> bool {
        self.up.is_shut && self.down.is_shut
    }

    /// Closes both sides by a reset (RST), so that what has been cut off does not look complete.
    fn reset(&self) {
        for side in [&self.client, &self.server] {
            // Fails only for a wrong argument.
            setsockopt(side, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap_or_default();
        }
    }
}
// ANCHOR_END: connection

// ANCHOR: direction
/// What one side has sent and the other has not taken yet.
#[derive(Debug, Default)]
struct Direction {
    buffer: VecDeque<u8>,
    /// The sender has said that this is all.
    is_ended: bool,
    /// The receiver has been told so.
    is_shut: bool,
}

impl Direction {
    fn wants_to_read(&self) -> bool {
        !self.is_ended && self.buffer.len() < CAPACITY
    }

    fn wants_to_write(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// One read and one write, so that a fast connection does not keep the others waiting.
    fn advance(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        if self.wants_to_read() {
            let mut chunk = [0; CAPACITY];
            match unless_blocked(from.read(&mut chunk[..CAPACITY - self.buffer.len()]))? {
                Some(0) => self.is_ended = true,
                count => self.buffer.extend(&chunk[..count.unwrap_or(0)]),
            }
        }
        if self.wants_to_write() {
            let written = unless_blocked(to.write(self.buffer.as_slices().0))?;
            self.buffer.drain(..written.unwrap_or(0));
        }
        if self.is_ended && self.buffer.is_empty() && !self.is_shut {
            to.shutdown(Shutdown::Write)?;
            self.is_shut = true;
        }
        Ok(())
    }
}

/// None: nothing can be read or written at this moment.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => Ok(None),
        result => result.map(Some),
    }
}
// ANCHOR_END: direction
