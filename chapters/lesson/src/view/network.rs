//! The network links of a process and their addresses: `/proc/PID/net`, which shows the network namespace of
//! that process and not the reader's. No namespace has to be joined for it, and no privilege is needed.
//! proc_pid_net(5).
//!
//! The files are older than most of what they show. IPv6 addresses stand in `if_inet6` beside their link;
//! IPv4 addresses only in `fib_trie`, the routing table's tree, without one. A link is found for them in
//! `route`: an address belongs to the link whose directly connected network it lies in.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;

use super::process::Process;
use super::{Field, Unreadable};

/// A network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name, for example `eth0`; `?` for addresses whose link no route tells.
    pub name: String,
    /// Its addresses, `192.0.2.2/24`, `fe80::1/64`; the length is left out where no route tells it.
    pub addresses: Vec<String>,
}

/// The links of the process's network namespace, in the kernel's order, with their addresses.
pub fn links(process: &Process) -> Field<Vec<Link>> {
    let mut links: Vec<Link> = process.text("net/dev")?.lines().filter_map(link_name).collect();
    let (addresses, loopback) = local_addresses(&optional(process, "net/fib_trie")?);
    let mut routes = connected_routes(&optional(process, "net/route")?);
    routes.extend(loopback);
    for address in addresses {
        let (name, text) = with_link(address, &routes);
        add(&mut links, &name, text);
    }
    for (name, text) in optional(process, "net/if_inet6")?.lines().filter_map(ipv6_address) {
        add(&mut links, &name, text);
    }
    Ok(links)
}

/// A file that a kernel without IPv6, or without IPv4, does not have.
pub fn optional(process: &Process, file: &str) -> Field<String> {
    match process.text(file) {
        Err(Unreadable::Refused { errno: Errno::ENOENT, .. }) => Ok(String::new()),
        result => result,
    }
}

fn add(links: &mut Vec<Link>, name: &str, address: String) {
    match links.iter_mut().find(|link| link.name == name) {
        Some(link) => link.addresses.push(address),
        None => links.push(Link { name: name.to_owned(), addresses: vec![address] }),
    }
}

/// `  eth0: 1296 ...`; the two lines of headings have no colon, and no link's name may have one.
fn link_name(line: &str) -> Option<Link> {
    let (name, _) = line.split_once(':')?;
    Some(Link { name: name.trim().to_owned(), addresses: Vec::new() })
}

/// The addresses of a link.
struct Connected {
    link: String,
    destination: u32,
    mask: u32,
}

/// `000200C0` for 192.0.2.0: an IPv4 address is printed as if its four bytes were a number in the machine's
/// own byte order, so it has to be turned on a little-endian one.
pub fn number(hexadecimal: &str) -> Option<u32> {
    u32::from_str_radix(hexadecimal, 16).ok().map(u32::from_be)
}

/// The routes without a gateway: `eth0  000200C0 00000000 0001 ...`.
fn connected_routes(text: &str) -> Vec<Connected> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (&link, gateway) = (fields.first()?, number(fields.get(2)?)?);
            let route = Connected {
                link: link.to_owned(),
                destination: number(fields.get(1)?)?,
                mask: number(fields.get(7)?)?,
            };
            (gateway == 0 && route.mask != 0).then_some(route)
        })
        .collect()
}

/// The machine's own addresses, leaves of the tree with a line `/32 host LOCAL`; and the networks of the
/// loopback link, which have a shorter prefix there: for that link the kernel makes the whole network local,
/// in a table that `route` does not show.
fn local_addresses(fib_trie: &str) -> (Vec<Ipv4Addr>, Vec<Connected>) {
    let (mut addresses, mut networks, mut leaf) = (Vec::new(), Vec::new(), None);
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
            continue;
        }
        let length = line.strip_prefix('/').and_then(|line| line.strip_suffix(" host LOCAL")?.parse().ok());
        match (leaf, length) {
            // The tables `Main` and `Local` show the same tree where they have been merged into one.
            (Some(address), Some(32)) if !addresses.contains(&address) => addresses.push(address),
            (Some(address), Some(length @ 1..=31)) => networks.push(Connected {
                link: "lo".to_owned(),
                destination: u32::from(address),
                mask: u32::MAX << (32 - length),
            }),
            _ => {}
        }
    }
    (addresses, networks)
}

fn with_link(address: Ipv4Addr, routes: &[Connected]) -> (String, String) {
    let route = routes
        .iter()
        .filter(|route| u32::from(address) & route.mask == route.destination)
        .max_by_key(|route| route.mask);
    match route {
        Some(route) => (route.link.clone(), format!("{address}/{}", route.mask.count_ones())),
        None => ("?".to_owned(), address.to_string()),
    }
}

/// `fe800000000000000000000000000001 02 40 20 80 eth0`: address, link number, prefix length, scope, flags,
/// link.
fn ipv6_address(line: &str) -> Option<(String, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
    let length = u8::from_str_radix(fields.get(2)?, 16).ok()?;
    Some(((*fields.get(5)?).to_owned(), format!("{address}/{length}")))
}
