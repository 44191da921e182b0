//! The routes of a process's network namespace: `/proc/PID/net/route` for IPv4, `/proc/PID/net/ipv6_route` for
//! IPv6. proc_pid_net(5), route(8).
//!
//! The first shows the table `main` alone. The second shows all tables, with what the kernel makes for itself:
//! each own address, each multicast and anycast address, and a route that refuses all. These are left out here, as
//! `ip -6 route` leaves them out.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Field;
use super::network::{number, optional};
use super::process::Process;

/// Flags of a route that the kernel made for itself: `RTF_REJECT`, `RTF_ANYCAST`, `RTF_CACHE`, `RTF_LOCAL` of
/// linux/route.h and linux/ipv6_route.h.
const KERNELS_OWN: u32 = 0x0200 | 0x0010_0000 | 0x0100_0000 | 0x8000_0000;

/// A route: where packets for some addresses go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// For which addresses: `192.0.2.0/24`, or `default` for all that no other route has.
    pub destination: String,
    /// The machine that passes them on; none where the addresses are on the link itself.
    pub gateway: Option<String>,
    /// The link through which they leave.
    pub link: String,
}

/// The routes in the kernel's order, those of IPv4 first.
pub fn routes(process: &Process) -> Field<Vec<Route>> {
    let v4 = optional(process, "net/route")?;
    let v6 = optional(process, "net/ipv6_route")?;
    Ok(v4.lines().skip(1).filter_map(ipv4).chain(v6.lines().filter_map(ipv6)).collect())
}

/// `eth0 00000000 0100000A 0003 0 0 0 00000000 ...`: link, destination, gateway, flags, two counters, metric, mask.
fn ipv4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |field: usize| Some(Ipv4Addr::from(number(fields.get(field)?)?));
    let (destination, gateway, mask) = (address(1)?, address(2)?, u32::from(address(7)?));
    let destination = match mask {
        0 => "default".to_owned(),
        mask => format!("{destination}/{}", mask.count_ones()),
    };
    let gateway = (!gateway.is_unspecified()).then(|| gateway.to_string());
    Some(Route { destination, gateway, link: (*fields.first()?).to_owned() })
}

/// `fd00...00 40 00...00 00 fe80...01 00000400 00000001 00000000 00000003 eth0`: destination and its length in bits,
/// source and its length, gateway, metric, two counters, flags, link.
fn ipv6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |field: usize| Some(Ipv6Addr::from(u128::from_str_radix(fields.get(field)?, 16).ok()?));
    let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
    let (destination, gateway) = (address(0)?, address(4)?);
    if flags & KERNELS_OWN != 0 || destination.is_multicast() {
        return None;
    }
    let destination = match u8::from_str_radix(fields.get(1)?, 16).ok()? {
        0 => "default".to_owned(),
        length => format!("{destination}/{length}"),
    };
    let gateway = (!gateway.is_unspecified()).then(|| gateway.to_string());
    Some(Route { destination, gateway, link: (*fields.get(9)?).to_owned() })
}
