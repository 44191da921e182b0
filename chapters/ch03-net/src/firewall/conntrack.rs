//! conntrack's table of connections, by netlink.
//!
//! An entry, a *flow*, is made by the first packet of a connection, and says under which addresses both directions
//! go: the *original* one as the client sent it, and the *reply*, which names the one that really answers. UDP knows
//! no end: a flow ends when nothing came for half a minute, or two where there were answers. The messages are those of
//! `linux/netfilter/nfnetlink_conntrack.h`: netlink(7), and the family NETLINK_NETFILTER, which no crate of ours knows.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use log::info;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;

// Of nfnetlink.h and nfnetlink_conntrack.h: the subsystem's number is the high byte of a message's type.
const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;
// The same numbers name an address and a port of a tuple: IP with SRC and DST, PROTO with NUM, SRC_PORT and DST_PORT.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;

/// struct nlmsghdr, and struct nfgenmsg after it.
const HEADER: usize = 16;
const FAMILY: usize = 4;

// ANCHOR: flow
/// An IPv4 flow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// IPPROTO_TCP, IPPROTO_UDP...
    pub(super) protocol: u8,
    /// The address that the client speaks to.
    pub(super) destination: Ipv4Addr,
    /// The port that the client speaks to; 0 where the protocol has none.
    pub(super) destination_port: u16,
    /// The address that answers: another one than the destination where the firewall replaced it.
    pub(super) answerer: Ipv4Addr,
}
// ANCHOR_END: flow

// ANCHOR: forget
/// Deletes the flows for which `which` says so: their next packet is a first one again.
pub(super) fn forget(which: impl Fn(&Flow) -> bool) -> Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER).context("socket(AF_NETLINK, NETLINK_NETFILTER)")?;
    socket.bind_auto().context("bind the netlink socket")?;
    socket.connect(&SocketAddr::new(0, 0)).context("connect the netlink socket to the kernel")?;

    send(&socket, GET, libc::NLM_F_DUMP, &[])?;
    let mut doomed = Vec::new();
    receive(&socket, |message| {
        let attributes = message.get(FAMILY..).context("a flow without attributes")?;
        if parse(attributes).is_some_and(|flow| which(&flow)) {
            // What names a flow to the kernel: its original direction, and its zone where it has one.
            let names =
                attributes_of(attributes).filter(|(kind, _)| [CTA_TUPLE_ORIG, CTA_ZONE].contains(kind));
            doomed.push(names.flat_map(|(_, whole)| padded(whole)).collect::<Vec<u8>>());
        }
        Ok(())
    })
    .context("read conntrack's flows")?;

    for name in &doomed {
        info!(target: "syscall", "sendto(netlink, IPCTNL_MSG_CT_DELETE)  conntrack forgets an old flow");
        send(&socket, DELETE, libc::NLM_F_ACK, name)?;
        match receive(&socket, |_| Ok(())) {
            // It has ended meanwhile.
            Err(error) if error.root_cause().downcast_ref() == Some(&Errno::ENOENT) => {}
            result => result.context("delete a flow of conntrack's")?,
        }
    }
    Ok(())
}
// ANCHOR_END: forget

// ANCHOR: message
fn send(socket: &Socket, kind: u16, flags: i32, attributes: &[u8]) -> Result<()> {
    let mut message = Vec::with_capacity(HEADER + FAMILY + attributes.len());
    message.extend(((HEADER + FAMILY + attributes.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    // The sequence number, and the sender's port, which the kernel fills in.
    message.extend([0; 8]);
    // Of IPv4, version NFNETLINK_V0, and a resource number that is not used.
    message.extend([libc::AF_INET as u8, 0, 0, 0]);
    message.extend(attributes);
    socket.send(&message, 0).context("send to conntrack")?;
    Ok(())
}

/// Calls `each` with the flows of the answer, up to its end.
fn receive(socket: &Socket, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        let (datagram, _) = socket.recv_from_full().context("receive from conntrack")?;
        let mut rest = &datagram[..];
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes(rest[..4].try_into()?) as usize;
            ensure!((HEADER..=rest.len()).contains(&length), "a netlink message of {length} bytes");
            let (message, kind) = (&rest[HEADER..length], u16::from_ne_bytes(rest[4..6].try_into()?));
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let errno = message.get(..4).context("an error without a number")?;
                    return match -i32::from_ne_bytes(errno.try_into()?) {
                        0 => Ok(()),
                        errno => Err(anyhow!(Errno::from_raw(errno))),
                    };
                }
                _ if kind == NEW => each(message)?,
                _ => bail!("a netlink message of the unknown type {kind:#x}"),
            }
            rest = rest.get(aligned(length)..).unwrap_or(&[]);
        }
    }
}
// ANCHOR_END: message

// ANCHOR: attributes
/// The attributes (struct nlattr) in `bytes`: number, and the whole with its header.
fn attributes_of(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let whole = bytes.get(..length).filter(|whole| whole.len() >= 4)?;
        bytes = bytes.get(aligned(length)..).unwrap_or(&[]);
        // The two highest bits say how the value is written, which we know: NLA_F_NESTED, NLA_F_NET_BYTEORDER.
        Some((kind & 0x3fff, whole))
    })
}

/// The value of the attribute that the numbers lead to, each one nested in the one before.
fn value<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, number| {
        attributes_of(bytes).find(|(kind, _)| kind == number).map(|(_, whole)| &whole[4..])
    })
}

/// None: it is no IPv4 flow.
fn parse(attributes: &[u8]) -> Option<Flow> {
    let address = |tuple, end| {
        let bytes: [u8; 4] = value(attributes, &[tuple, CTA_TUPLE_IP, end])?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let port = value(attributes, &[CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, 3]);
    Some(Flow {
        protocol: *value(attributes, &[CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, 1])?.first()?,
        destination: address(CTA_TUPLE_ORIG, 2)?,
        destination_port: port.and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes),
        answerer: address(CTA_TUPLE_REPLY, 1)?,
    })
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn padded(whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes.resize(aligned(whole.len()), 0);
    bytes
}
// ANCHOR_END: attributes
