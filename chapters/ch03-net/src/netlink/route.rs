//! Routes: who is reached through which link. Of all routes to an address, the one with the longest prefix counts.
//! Manual pages: [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html), ip-route(8).

use std::fmt;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use log::info;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, link};

// ANCHOR: default
/// Sends all that has no route of its own to `gateway`, through the link `name`.
///
/// # Errors
///
/// ENETUNREACH where the gateway is not reached through the link: it is down, or has no address beside it.
pub fn add_default(netlink: &mut Netlink, name: &str, gateway: Ipv4Addr) -> Result<()> {
    info!(target: "syscall", "RTM_NEWROUTE default via {gateway} on {name:?}  for all that is not on this bridge");
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    // Who made it; a routing daemon leaves alone what is not its own.
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
        RouteAttribute::Oif(link::index(netlink, name)?),
    ];
    netlink
        .change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
        .with_context(|| format!("route to the gateway {gateway} through {name:?}"))
}
// ANCHOR_END: default

// ANCHOR: list
/// A route as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first address that it leads to.
    pub destination: Ipv4Addr,
    /// How many bits of it count: 0 for a default route.
    pub prefix: u8,
    /// The index of the link; none where it has several, or leads nowhere.
    pub link: Option<u32>,
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}/{}", self.destination, self.prefix)
    }
}

/// The IPv4 routes of all tables: a VPN often has one of its own.
///
/// # Errors
///
/// Those of netlink.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Route>> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let answers = netlink.dump(RouteNetlinkMessage::GetRoute(message)).context("list the routes")?;
    let routes = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(message) => Some(Route::from(message)),
        _ => None,
    });
    Ok(routes.collect())
}

impl From<RouteMessage> for Route {
    fn from(message: RouteMessage) -> Route {
        let prefix = message.header.destination_prefix_length;
        // A default route has no destination.
        let mut route = Route { destination: Ipv4Addr::UNSPECIFIED, prefix, link: None };
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => route.destination = address,
                RouteAttribute::Oif(index) => route.link = Some(index),
                _ => {}
            }
        }
        route
    }
}
// ANCHOR_END: list
