//! Addresses of links: what `ip address` shows. Manual pages:
//! [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html), ip-address(8).

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use log::info;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, link};

// ANCHOR: add
/// Gives the link `name` the address `address`. As long as the link is up, there is also a route through it to all
/// who have the same first `prefix` bits. One that it has already stays.
///
/// # Errors
///
/// Names the link and the address.
pub fn add(netlink: &mut Netlink, name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
    info!(target: "syscall", "RTM_NEWADDR {address}/{prefix} on {name:?}");
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = link::index(netlink, name)?;
    // Two, because a point-to-point link has one at each end; elsewhere they are the same.
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    netlink
        .change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
        .with_context(|| format!("give {name:?} the address {address}/{prefix}"))
}
// ANCHOR_END: add

// ANCHOR: list
/// The IPv4 addresses of the link `name`, each with its prefix.
///
/// # Errors
///
/// Names the link.
pub fn list(netlink: &mut Netlink, name: &str) -> Result<Vec<(Ipv4Addr, u8)>> {
    let index = link::index(netlink, name)?;
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = netlink
        .dump(RouteNetlinkMessage::GetAddress(message))
        .with_context(|| format!("list the addresses of {name:?}"))?;
    // The kernel sends those of all links.
    let addresses = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            Some((local?, message.header.prefix_len))
        }
        _ => None,
    });
    Ok(addresses.collect())
}
// ANCHOR_END: list
