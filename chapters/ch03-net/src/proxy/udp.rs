//! The proxy's UDP flows. Manual page: udp(7).
//!
//! A datagram says who sent it, and nothing says which was the last one. So each client gets a socket of its own
//! towards the container, by whose port the answers find back, and loses it after a time in which nothing came.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::watch;

/// Clients of one port at a time; one more takes the place of the one that has been silent for longest.
const FLOWS: usize = 500;
/// Datagrams that are taken at once, so that no client keeps the others waiting.
const BATCH: usize = 64;
/// The largest datagram that there is.
const DATAGRAM: usize = 65535;

// ANCHOR: relay
/// A port, and its clients.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    socket: &'a UdpSocket,
    target: SocketAddrV4,
    idle: Duration,
    flows: HashMap<SocketAddr, Flow>,
}

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    last: Instant,
}

impl<'a> Relay<'a> {
    /// `socket` must be non-blocking. A flow ends when nothing came for `idle`.
    pub(super) fn new(socket: &'a UdpSocket, target: SocketAddrV4, idle: Duration) -> Relay<'a> {
        Relay { socket, target, idle, flows: HashMap::new() }
    }

    /// Adds what is waited for, in the order in which `advance` takes the answers.
    pub(super) fn watch<'b>(&'b self, sources: &mut Vec<PollFd<'b>>) {
        watch(sources, self.socket.as_fd(), PollFlags::POLLIN);
        self.flows.values().for_each(|flow| watch(sources, flow.socket.as_fd(), PollFlags::POLLIN));
    }

    /// How long it is until the first flow ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.flows.values().map(|flow| self.idle.saturating_sub(flow.last.elapsed())).min()
    }

    /// Goes on with all that is ready.
    pub(super) fn advance(&mut self, ready: &mut impl Iterator<Item = bool>) {
        let mut next = || ready.next().unwrap_or(false);
        let has_requests = next();
        for (client, flow) in &mut self.flows {
            if next() {
                flow.pass_answers(self.socket, *client);
            }
        }
        if has_requests {
            self.pass_requests();
        }
        self.flows.retain(|_, flow| flow.last.elapsed() < self.idle);
    }
}
// ANCHOR_END: relay

// ANCHOR: pass
// A datagram that can't be sent is lost, as it may be anywhere on its way: who speaks UDP is prepared for it. An error
// of recv may belong to a datagram that was sent before: "nobody listens there" (ECONNREFUSED).
impl Relay<'_> {
    fn pass_requests(&mut self) {
        let mut datagram = [0; DATAGRAM];
        for _ in 0..BATCH {
            let Ok((length, client)) = self.socket.recv_from(&mut datagram) else { return };
            if let Ok(flow) = self.flow(client) {
                flow.last = Instant::now();
                flow.socket.send(&datagram[..length]).unwrap_or_default();
            }
        }
    }

    /// The client's flow; a new one where it has none.
    fn flow(&mut self, client: SocketAddr) -> io::Result<&mut Flow> {
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&client) {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last).map(|(client, _)| *client);
            oldest.and_then(|client| self.flows.remove(&client));
        }
        match self.flows.entry(client) {
            Entry::Occupied(flow) => Ok(flow.into_mut()),
            Entry::Vacant(place) => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(self.target)?;
                socket.set_nonblocking(true)?;
                Ok(place.insert(Flow { socket, last: Instant::now() }))
            }
        }
    }
}

impl Flow {
    fn pass_answers(&mut self, socket: &UdpSocket, client: SocketAddr) {
        let mut datagram = [0; DATAGRAM];
        for _ in 0..BATCH {
            let Ok(length) = self.socket.recv(&mut datagram) else { return };
            self.last = Instant::now();
            socket.send_to(&datagram[..length], client).unwrap_or_default();
        }
    }
}
// ANCHOR_END: pass

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::thread::sleep;
    use std::time::Duration;

    use super::{FLOWS, Relay};

    #[test]
    fn a_flow_ends_when_it_was_silent_and_there_are_never_too_many() {
        let (socket, server) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let SocketAddr::V4(target) = server.local_addr().unwrap() else { unreachable!("it is of IPv4") };
        let idle = Duration::from_millis(50);
        let mut relay = Relay::new(&socket, target, idle);
        assert_eq!(relay.next_end(), None);
        for port in 1..=FLOWS as u16 + 1 {
            relay.flow(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        }
        assert_eq!(relay.flows.len(), FLOWS);
        assert!(relay.next_end().unwrap() <= idle);
        sleep(idle);
        relay.advance(&mut std::iter::empty());
        assert!(relay.flows.is_empty());
    }
}
