//! `[::1]:8080` leads inside too.
//!
//! `localhost` is ::1 before it is 127.0.0.1, and our containers have no IPv6 address that the firewall could replace
//! it by. So a process listens at ::1, and speaks to the container by IPv4: what comes in on one side is written to
//! the other. It is a single thread that waits for all sockets at once, in poll(2). Manual pages: poll(2), ipv6(7).

mod tcp;
mod udp;

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use ch01_pid::{Child, Spawn};
use log::{debug, info};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::publication::{Protocol, Publication};

/// As long as conntrack keeps a UDP flow with answers: nf_conntrack_udp_timeout_stream of the kernel's documents.
const UDP_IDLE: Duration = Duration::from_secs(120);

// ANCHOR: start
/// Starts the proxy to `container` in a process of its own, for the publications at all of the host's addresses. It
/// ends when the child is dropped, and with this process. None: there is nothing to do, or the host has no ::1.
///
/// # Errors
///
/// EADDRINUSE where another program has the port at ::1. Those of [`Spawn::start`]: this process must have a single
/// thread.
pub fn start(publications: &[Publication], container: Ipv4Addr) -> Result<Option<Child>> {
    let Some(proxy) = Proxy::bind(publications, container)? else { return Ok(None) };
    let held = Spawn::new().keep(proxy.descriptors()).dies_with_parent().start(|report| {
        raise_descriptor_limit()?;
        report.close();
        proxy.serve()
    })?;
    held.release(None).map(Some)
}
// ANCHOR_END: start

// ANCHOR: proxy
/// The sockets at ::1, each with the container's address and port.
#[derive(Debug)]
pub struct Proxy {
    tcp: Vec<(TcpListener, SocketAddrV4)>,
    udp: Vec<(UdpSocket, SocketAddrV4)>,
}

impl Proxy {
    /// Listens at ::1, for the publications at all of the host's addresses. None as in [`start`].
    ///
    /// # Errors
    ///
    /// EADDRINUSE where another program has the port at ::1.
    pub fn bind(publications: &[Publication], container: Ipv4Addr) -> Result<Option<Proxy>> {
        let mut proxy = Proxy { tcp: Vec::new(), udp: Vec::new() };
        for publication in publications.iter().filter(|publication| publication.address.is_unspecified()) {
            let Publication { host_port, container_port, protocol, .. } = *publication;
            let place = SocketAddrV6::new(Ipv6Addr::LOCALHOST, host_port, 0, 0);
            let target = SocketAddrV4::new(container, container_port);
            info!(target: "syscall", "bind({place})  a proxy to {target}: port {host_port}/{protocol} at ::1");
            let bound = match protocol {
                Protocol::Tcp => bind_tcp(place).map(|socket| proxy.tcp.push((socket, target))),
                Protocol::Udp => bind_udp(place).map(|socket| proxy.udp.push((socket, target))),
            };
            match bound {
                Err(error) if lacks_ipv6(&error) => {
                    debug!(target: "syscall", "there is no ::1 on this host: {error}");
                    return Ok(None);
                }
                bound => {
                    bound.with_context(|| format!("take port {host_port}/{protocol} of the host at ::1"))?
                }
            }
        }
        Ok((!proxy.tcp.is_empty() || !proxy.udp.is_empty()).then_some(proxy))
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let tcp = self.tcp.iter().map(|(socket, _)| socket.as_fd());
        tcp.chain(self.udp.iter().map(|(socket, _)| socket.as_fd()))
    }
}

fn bind_tcp(place: SocketAddrV6) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(place)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_udp(place: SocketAddrV6) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(place)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The kernel has no IPv6, or it is off on `lo`.
fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}
// ANCHOR_END: proxy

// ANCHOR: serve
impl Proxy {
    /// Serves for ever.
    ///
    /// # Errors
    ///
    /// poll(2)'s errno. What fails for a client ends that client's connection alone.
    pub fn serve(&self) -> Result<Infallible> {
        let listeners = self.tcp.iter().map(|(socket, target)| tcp::Listener::new(socket, *target));
        let mut listeners: Vec<_> = listeners.collect();
        let relays = self.udp.iter().map(|(socket, target)| udp::Relay::new(socket, *target, UDP_IDLE));
        let mut relays: Vec<_> = relays.collect();
        loop {
            let mut sources = Vec::new();
            listeners.iter().for_each(|listener| listener.watch(&mut sources));
            relays.iter().for_each(|relay| relay.watch(&mut sources));
            match poll(&mut sources, timeout(&relays)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("poll for the proxy's sockets"),
            }
            let ready: Vec<bool> = sources.iter().map(|source| source.any().unwrap_or(true)).collect();
            // Each takes as many as it gave.
            let mut ready = ready.into_iter();
            listeners.iter_mut().for_each(|listener| listener.advance(&mut ready));
            relays.iter_mut().for_each(|relay| relay.advance(&mut ready));
        }
    }
}

/// Until the next UDP flow is forgotten.
fn timeout(relays: &[udp::Relay]) -> PollTimeout {
    let next = relays.iter().filter_map(udp::Relay::next_end).min();
    // A millisecond more than it takes, or the loop would spin until then.
    next.map_or(PollTimeout::NONE, |wait| {
        PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    })
}

/// Adds `source` to what poll waits for, if there is an event to wait for. Where there is none it must be left out:
/// poll reports a hangup that nobody asked for, again and again.
fn watch<'a>(sources: &mut Vec<PollFd<'a>>, source: BorrowedFd<'a>, events: PollFlags) {
    if !events.is_empty() {
        sources.push(PollFd::new(source, events));
    }
}
// ANCHOR_END: serve

/// A connection takes two descriptors, and the soft limit is often 1024, for programs that use select(2).
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit(RLIMIT_NOFILE)")
}
