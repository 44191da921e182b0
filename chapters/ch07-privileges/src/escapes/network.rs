// ANCHOR: network
//! Chapters 2 and 3: the host's network, and its own rate.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use super::stage::{Stage, refused, refused_io};
use crate::container::Container;
use crate::inside::Answer;

/// The host has a service for itself alone.
pub fn connect(stage: &Stage, container: &Container) -> Result<Answer> {
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen at 127.0.0.1")?;
    let address = service.local_addr().context("getsockname")?;
    stage.ask(container, &[], || match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(_) => Ok("connected".into()),
        Err(error) => Err(refused_io("connect", &error)),
    })
}

/// The host looks whether its link is still up, and mends it.
pub fn switch_off(stage: &Stage, container: &Container) -> Result<Answer> {
    let answer = stage.ask(container, &[], || loopback(libc::SIOCSIFFLAGS as _, 0).map(|_| String::new()))?;
    let flags = loopback(libc::SIOCGIFFLAGS as _, 0).map_err(anyhow::Error::msg)?;
    ch03_net::loopback::up()?;
    Ok(match answer {
        Ok(_) if flags & libc::IFF_UP == 0 => Ok("the host's lo is down".into()),
        Ok(_) => Err("its own lo is down".into()),
        refusal => refusal,
    })
}

/// One of the ioctls for the flags of `lo`, with these flags; returns those that are in the structure
/// afterwards.
fn loopback(request: libc::Ioctl, flags: i32) -> Result<i32, String> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| refused("socket", errno))?;
    // SAFETY: the structure is plain data, of which zero is a value.
    let mut argument: libc::ifreq = unsafe { std::mem::zeroed() };
    argument.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    argument.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the ioctl reads or writes an ifreq, which lives through it; its union holds the flags.
    unsafe {
        let result = libc::ioctl(socket.as_raw_fd(), request, &raw mut argument);
        Errno::result(result).map_err(|errno| refused("ioctl(SIOCSIFFLAGS)", errno))?;
        Ok(argument.ifr_ifru.ifru_flags.into())
    }
}

/// Replaces the queue of its own link, in which chapter 3 holds its rate: a netlink message RTM_NEWQDISC
/// (tc(8) sends it).
pub fn change_queue(stage: &Stage, container: &Container) -> Result<Answer> {
    stage.ask(container, &[], || {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        let socket = socket(AddressFamily::Netlink, kind.0, kind.1, kind.2);
        let mut socket = File::from(socket.map_err(|errno| refused("socket(AF_NETLINK)", errno))?);
        let mut reply = [0; 256];
        socket.write_all(&new_queue()).map_err(|error| refused_io("sendto", &error))?;
        let length = socket.read(&mut reply).map_err(|error| refused_io("recv", &error))?;
        // After the header of 16 bytes: 0, or the errno with a minus sign.
        match reply[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes) {
            Some(0) => Ok("the queue is another one".into()),
            Some(errno) => Err(refused("RTM_NEWQDISC", Errno::from_raw(-errno))),
            None => Err("RTM_NEWQDISC: no answer".into()),
        }
    })
}

/// `struct nlmsghdr`, `struct tcmsg`, and the attribute TCA_KIND: "pfifo" at the root of link 1, which is
/// `lo`.
fn new_queue() -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let mut body = vec![0; 4];
    body.extend(1_i32.to_ne_bytes());
    body.extend(0_u32.to_ne_bytes());
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(0_u32.to_ne_bytes());
    body.extend(10_u16.to_ne_bytes());
    body.extend(libc::TCA_KIND.to_ne_bytes());
    body.extend(b"pfifo\0\0\0");
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWQDISC.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message
}
// ANCHOR_END: network

// ANCHOR: listen
const SECRET: &[u8] = b"a secret of the host";

/// The host sends itself a packet; a packet socket in the container's network listens.
pub fn listen(stage: &Stage, container: &Container) -> Result<Answer> {
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
    let target: SocketAddr = sender.local_addr().context("getsockname")?;
    stage.ask(container, &[sender.as_fd()], || {
        let socket = packet_socket()?;
        // A socket stays in the network in which it was made: this one is the host's.
        sender.send_to(SECRET, target).map_err(|error| refused_io("sendto", &error))?;
        hear(socket)
    })
}

/// A socket that gets every frame of the network namespace.
fn packet_socket() -> Result<OwnedFd, String> {
    // ETH_P_ALL, in the network's order.
    let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: the call takes numbers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    let raw = Errno::result(raw).map_err(|errno| refused("socket(AF_PACKET)", errno))?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 300_000))
        .map_err(|errno| refused("setsockopt", errno))?;
    Ok(socket)
}

fn hear(socket: OwnedFd) -> Answer {
    let mut socket = File::from(socket);
    let mut frame = [0; 2048];
    loop {
        match socket.read(&mut frame) {
            Ok(length) if frame[..length].windows(SECRET.len()).any(|window| window == SECRET) => {
                return Ok("heard the host's packet".into());
            }
            Ok(_) => {}
            Err(error) => return Err(format!("nothing to hear: {}", refused_io("recv", &error))),
        }
    }
}
// ANCHOR_END: listen
