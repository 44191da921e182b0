// ANCHOR: ping
//! Who may ping?
//!
//! ping(8) needs a socket for ICMP. A *raw* socket takes packets of any content, so it takes CAP_NET_RAW.
//! Since Linux 3.0 there is a *datagram* socket for ICMP as well, for echo requests alone; it takes no
//! capability, but the process must have a group in the range of the sysctl `net.ipv4.ping_group_range`,
//! which belongs to the network namespace and is empty in a new one. Docker opens it for every group, so that
//! ping works with CAP_NET_RAW dropped. Manual page: icmp(7).

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Result;
use ch03_net::loopback;
use ch07_privileges::capabilities::{Capability, CapabilitySet};
use lesson::probe::Refusal;
use log::info;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::powers::own_network;
use super::{in_words, try_with};

const RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";
/// From group 1 to group 0: nobody. A new network namespace has this.
const EMPTY: &str = "1 0";

/// A ping of 127.0.0.1 in a network namespace of its own, by either kind of socket.
pub fn run() -> Result<()> {
    info!(target: "say", "Ping, by a raw socket and by the one that is made for it.");
    let (none, raw) = (CapabilitySet::EMPTY, CapabilitySet::of(&[Capability::NET_RAW]));
    for (socket, capabilities, range) in [
        (SockType::Raw, raw, EMPTY),
        (SockType::Raw, none, EMPTY),
        (SockType::Datagram, none, EMPTY),
        (SockType::Datagram, none, "0 0"),
    ] {
        let answer = try_with(capabilities, || prepare(range), || ping(socket));
        info!(
            target: "kernel",
            "{:<12} capabilities {capabilities}, ping_group_range \"{range}\": {}",
            format!("SOCK_{}", if socket == SockType::Raw { "RAW," } else { "DGRAM," }),
            in_words(&answer)
        );
    }
    Ok(())
}

fn prepare(range: &str) -> Result<(), Refusal> {
    own_network()?;
    let refused = |error: anyhow::Error| Refusal::new(lesson::describe(&error), Errno::EPERM);
    loopback::up().map_err(refused)?;
    if range == EMPTY {
        // It is so already; and to write it, group 1 would have to exist.
        return Ok(());
    }
    fs::write(RANGE, range).map_err(|error| refused(anyhow::Error::from(error).context(RANGE)))
}
// ANCHOR_END: ping

// ANCHOR: echo
/// Sends an echo request, and waits for the reply.
fn ping(kind: SockType) -> Result<String, Refusal> {
    let refused = |call: &str| {
        let call = call.to_string();
        move |errno| Refusal::new(call, errno)
    };
    let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp);
    let socket = socket.map_err(refused("socket"))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(2, 0)).map_err(refused("setsockopt"))?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).map_err(refused("connect"))?;
    let from_io = |error: std::io::Error| {
        let errno = if error.kind() == ErrorKind::WouldBlock { Errno::ETIMEDOUT } else { Errno::last() };
        Refusal::new("ping", errno)
    };
    let mut socket = fs::File::from(socket);
    // Echo request, code 0, the sum over all words, number 7, sequence 1; a datagram socket puts in its own
    // number and sum.
    let request = [8, 0, 0xf7, 0xf7, 0, 7, 0, 1];
    socket.write_all(&request).map_err(from_io)?;
    let start = std::time::Instant::now();
    let mut packet = [0; 128];
    while start.elapsed() < Duration::from_secs(2) {
        let length = socket.read(&mut packet).map_err(from_io)?;
        // A raw socket shows the header of IP too, and our own request, which passes by `lo`.
        let icmp = if kind == SockType::Raw { &packet[20..length] } else { &packet[..length] };
        if icmp.first() == Some(&0) {
            return Ok("answered".into());
        }
    }
    Err(Refusal::new("ping", Errno::ETIMEDOUT))
}
// ANCHOR_END: echo
