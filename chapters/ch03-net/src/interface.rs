//! The container's end of the cable: an address, a way to all others, and how much may leave.
//!
//! Nothing of this is a matter of the host's: it is done in the container's network namespace, by its child before
//! exec, or from outside through [`Namespace::run`](crate::Namespace::run). Manual page:
//! [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html).

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::Rate;
use crate::netlink::{Netlink, address, link, qdisc, route};

// ANCHOR: configure
/// What a container's interface is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its own address.
    pub address: Ipv4Addr,
    /// The number of bits that it shares with those that it reaches without a gateway.
    pub prefix: u8,
    /// Who passes on what goes elsewhere.
    pub gateway: Ipv4Addr,
}

/// Gives the interface `name` of the calling thread's namespace its address, brings it up, and sends what goes
/// elsewhere to the gateway.
///
/// # Errors
///
/// Names the interface: not there before [`Network::connect`](crate::Network::connect). EPERM without CAP_NET_ADMIN.
pub fn configure(name: &str, address: &Address) -> Result<()> {
    let mut netlink = Netlink::open()?;
    address::add(&mut netlink, name, address.address, address.prefix)?;
    link::set_up(&mut netlink, name)?;
    // Last: the kernel takes a gateway only where it has a route to it, which comes with an address on a link that
    // is up.
    route::add_default(&mut netlink, name, address.gateway)
}
// ANCHOR_END: configure

// ANCHOR: limit
/// Holds what leaves by the interface `name` of the calling thread's namespace at `rate`. Root inside could take the
/// limit off again, as long as it has CAP_NET_ADMIN there.
///
/// # Errors
///
/// Names the interface. ENOENT where the kernel has no tbf.
pub fn limit(name: &str, rate: Rate) -> Result<()> {
    qdisc::limit(&mut Netlink::open()?, name, rate)
}
// ANCHOR_END: limit
