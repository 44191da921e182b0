//! Links: what `ip link` shows.
//!
//! A *bridge* is a switch in the kernel: what comes in at one of its ports leaves at the port behind which the
//! receiver was last seen; and it is an interface of the host itself, with an address. A *veth pair* is a cable: what
//! is sent into one end comes out of the other, and the ends may be in two network namespaces. When one end goes,
//! or its namespace does, so does the other. Manual pages: [veth(4)](https://man7.org/linux/man-pages/man4/veth.4.html),
//! bridge(8), ip-link(8).

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use log::info;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::{Netlink, is};
use crate::Namespace;

/// The hardware address of an Ethernet link.
pub type Mac = [u8; 6];

// ANCHOR: link
/// A link as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number by which other messages name it.
    pub index: u32,
    /// At most 15 bytes.
    pub name: String,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// Its hardware address, if it has one of Ethernet's size.
    pub mac: Option<Mac>,
    /// The index of the bridge of which it is a port.
    pub master: Option<u32>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Link {
        let index = message.header.index;
        let mut link = Link { index, name: String::new(), is_bridge: false, mac: None, master: None };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::LinkInfo(information) => {
                    link.is_bridge |= information.contains(&LinkInfo::Kind(InfoKind::Bridge));
                }
                _ => {}
            }
        }
        link
    }
}
// ANCHOR_END: link

// ANCHOR: find
/// The link with the name `name`, if there is one.
///
/// # Errors
///
/// Names the link.
pub fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>> {
    let message = with_attributes(vec![LinkAttribute::IfName(name.to_string())]);
    match netlink.get(RouteNetlinkMessage::GetLink(message)) {
        Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(message.into())),
        Ok(other) => anyhow::bail!("netlink: asked for the link {name:?}, and got {other:?}"),
        Err(error) if is(&error, Errno::ENODEV) => Ok(None),
        Err(error) => Err(error.context(format!("look for the link {name:?}"))),
    }
}

/// The links that are ports of the bridge with the index `bridge`.
///
/// # Errors
///
/// Those of netlink.
pub fn ports(netlink: &mut Netlink, bridge: u32) -> Result<Vec<Link>> {
    // The kernel leaves the others out; it would send each one's statistics too.
    let message = with_attributes(vec![LinkAttribute::Controller(bridge)]);
    let answers =
        netlink.dump(RouteNetlinkMessage::GetLink(message)).context("list the ports of a bridge")?;
    let links = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
        _ => None,
    });
    Ok(links.filter(|link| link.master == Some(bridge)).collect())
}
// ANCHOR_END: find

// ANCHOR: bridge
/// Makes a bridge, down and without a port.
///
/// # Errors
///
/// EEXIST where a link has that name. EOPNOTSUPP where the kernel has no bridges.
pub fn create_bridge(netlink: &mut Netlink, name: &str, mac: Mac) -> Result<()> {
    info!(target: "syscall", "RTM_NEWLINK {name:?} kind=\"bridge\"  a switch, and the host's own interface to it");
    let message = with_attributes(vec![
        LinkAttribute::IfName(name.to_string()),
        // Else the bridge has the lowest address of its ports, and changes it when they come and go: those who
        // know the old one would talk to nobody for a while.
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ]);
    netlink
        .change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        .with_context(|| format!("make the bridge {name:?}"))
}
// ANCHOR_END: bridge

// ANCHOR: pair
/// The far end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its name there.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// Where it appears.
    pub namespace: &'a Namespace,
}

/// Makes a veth pair: one end here, the other one in the peer's namespace. Both are down.
///
/// # Errors
///
/// EEXIST where a link has one of the names. EPERM without CAP_NET_ADMIN over both namespaces.
pub fn create_pair(netlink: &mut Netlink, name: &str, peer: &Peer) -> Result<()> {
    info!(
        target: "syscall",
        "RTM_NEWLINK {name:?} kind=\"veth\", VETH_INFO_PEER {:?} IFLA_NET_NS_FD  a cable, its far end in the container",
        peer.name
    );
    // Made where it belongs, and under the name that it has there: moved later, it would first be a link of the
    // host's, which udev and NetworkManager would see and configure.
    let far_end = with_attributes(vec![
        LinkAttribute::IfName(peer.name.to_string()),
        LinkAttribute::Address(peer.mac.to_vec()),
        LinkAttribute::NetNsFd(peer.namespace.as_fd().as_raw_fd()),
    ]);
    let message = with_attributes(vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far_end))),
        ]),
    ]);
    netlink
        .change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        .with_context(|| format!("make the veth pair {name:?} and {:?}", peer.name))
}
// ANCHOR_END: pair

// ANCHOR: change
/// Makes the link `name` a port of the bridge with the index `bridge`.
///
/// # Errors
///
/// Names the link.
pub fn set_master(netlink: &mut Netlink, name: &str, bridge: &Link) -> Result<()> {
    info!(target: "syscall", "RTM_SETLINK {name:?} IFLA_MASTER={:?}  plug the cable into the switch", bridge.name);
    let attributes = vec![LinkAttribute::IfName(name.to_string()), LinkAttribute::Controller(bridge.index)];
    netlink
        .change(RouteNetlinkMessage::SetLink(with_attributes(attributes)), 0)
        .with_context(|| format!("make {name:?} a port of the bridge {:?}", bridge.name))?;

    // A switch sends no frame back to where it came from. But where the module br_netfilter is loaded, as on many
    // machines with Docker, a published port's address is replaced inside the bridge already: the container's own
    // packets to it must turn around there.
    info!(target: "syscall", "RTM_NEWLINK {name:?} IFLA_BRPORT_MODE=1  frames may go back to the port they came from");
    let attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]),
    ];
    netlink
        .change(RouteNetlinkMessage::NewLink(with_attributes(attributes)), 0)
        .with_context(|| format!("set the hairpin mode of {name:?}"))
}

/// Brings the link `name` up.
///
/// # Errors
///
/// Names the link.
pub fn set_up(netlink: &mut Netlink, name: &str) -> Result<()> {
    info!(target: "syscall", "RTM_SETLINK {name:?} IFF_UP  packets pass");
    let mut message = with_attributes(vec![LinkAttribute::IfName(name.to_string())]);
    message.header.flags = LinkFlags::Up;
    // Which of the flags are meant.
    message.header.change_mask = LinkFlags::Up;
    netlink
        .change(RouteNetlinkMessage::SetLink(message), 0)
        .with_context(|| format!("bring up the link {name:?}"))
}

/// Deletes the link `name`; one end of a veth pair takes the other one with it. Nothing happens where there is none.
///
/// # Errors
///
/// Names the link.
pub fn delete(netlink: &mut Netlink, name: &str) -> Result<()> {
    info!(target: "syscall", "RTM_DELLINK {name:?}  if it is still there");
    let message = with_attributes(vec![LinkAttribute::IfName(name.to_string())]);
    match netlink.change(RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if !is(&error, Errno::ENODEV) => Err(error.context(format!("delete the link {name:?}"))),
        _ => Ok(()),
    }
}
// ANCHOR_END: change

/// The index of the link `name`, which must be there.
pub(super) fn index(netlink: &mut Netlink, name: &str) -> Result<u32> {
    let link = find(netlink, name)?;
    Ok(link.with_context(|| format!("there is no link {name:?} in this network namespace"))?.index)
}

/// A link has a name of 1 to 15 bytes that is no path and has no space (dev_valid_name() in the kernel).
///
/// # Errors
///
/// Names the name.
pub fn check_name(name: &str) -> Result<()> {
    let is_valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace());
    ensure!(is_valid, "{name:?} can't be a link's name: it has 1 to 15 bytes without /, : and spaces");
    Ok(())
}

fn with_attributes(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn a_name_is_what_the_kernel_takes() {
        for name in ["hull0", "a", "exactly15bytes0"] {
            check_name(name).unwrap();
        }
        for name in ["", ".", "..", "a/b", "a:1", "a b", "sixteen-bytes-00"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
