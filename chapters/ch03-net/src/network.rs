//! A bridge, and a cable from it to each container.
//!
//! The host's half of a container's network. Its own half is [`interface::configure`](crate::interface::configure),
//! which needs the cable that [`Network::connect`] makes.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};

use crate::firewall::{Blocked, Firewall};
use crate::netlink::link::{Link, Mac, Peer};
use crate::netlink::{Netlink, address, link, qdisc, route};
use crate::publication::{Publication, check_distinct, reserve};
use crate::state::{State, transaction};
use crate::sweep::{link_of, sweep};
use crate::{Lease, Namespace, Rate, Subnet, sysctl};

// ANCHOR: network
/// A network of containers: a bridge in the network namespace of the thread that calls its functions, and a subnet.
#[derive(Clone, Debug)]
pub struct Network {
    bridge: String,
    subnet: Subnet,
}

/// What a container may ask of its connection.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The host's ports that lead inside.
    pub publications: Vec<Publication>,
    /// How much may come in.
    pub rate_in: Option<Rate>,
}

/// What a container's connection is. Its reservations must be kept for as long as the container lives.
#[derive(Debug)]
pub struct Connection {
    /// Sockets bound to the host's published ports, so that nobody else takes them.
    pub reservations: Vec<OwnedFd>,
    /// Chains of others that drop what we forward, and that we could not mend: to be shown to the user.
    pub blocked: Vec<Blocked>,
}
// ANCHOR_END: network

// ANCHOR: lease
impl Network {
    /// The network of the bridge with the name `bridge`. Makes nothing yet.
    ///
    /// # Errors
    ///
    /// The name can't be a link's.
    pub fn new(bridge: &str, subnet: Subnet) -> Result<Network> {
        link::check_name(bridge)?;
        ensure!(
            !["lock", "sysctls"].contains(&bridge),
            "{bridge:?} can't be a bridge's name: it is a file's"
        );
        Ok(Network { bridge: bridge.to_string(), subnet })
    }

    /// Takes an address, having removed what the dead have left.
    ///
    /// # Errors
    ///
    /// No address is free; the bridge has another subnet; or the host already has a route to a part of the subnet,
    /// which the error names.
    pub fn lease(&self) -> Result<Lease> {
        transaction(|state| {
            sweep(state)?;
            let mut netlink = Netlink::open()?;
            self.check_overlap(state, &mut netlink)?;
            let bridge = state.add_bridge(&self.bridge, self.subnet)?;
            for address in self.subnet.addresses() {
                let Some(member) = bridge.take(address)? else { continue };
                // A cable without a file, which somebody deleted: the container may live on.
                if link::find(&mut netlink, &link_of(address))?.is_some() {
                    bridge.free(address)?;
                    continue;
                }
                return Ok(Lease::new(bridge, address, member));
            }
            anyhow::bail!("all addresses of the subnet {} are taken: use a larger one", self.subnet)
        })
    }

    /// With two routes to one address, packets for a machine of the host's network would go to a container, or the
    /// other way round.
    fn check_overlap(&self, state: &State, netlink: &mut Netlink) -> Result<()> {
        let own = link::find(netlink, &self.bridge)?.map(|link| link.index);
        for route in route::list(netlink)? {
            // A VPN may split the default route in two, and is no more specific for that.
            let is_default = route.prefix <= 1;
            let is_own = own.is_some() && route.link == own;
            ensure!(
                is_default || is_own || !self.subnet.overlaps(route.destination, route.prefix),
                "the subnet {} overlaps with the host's route to {route}: choose another one with --subnet",
                self.subnet
            );
        }
        for other in state.bridges()?.iter().filter(|other| other.name != self.bridge) {
            ensure!(
                !self.subnet.overlaps(other.subnet.first(), other.subnet.prefix()),
                "the subnet {} overlaps with that of the bridge {:?}, {}: choose another one with --subnet",
                self.subnet,
                other.name,
                other.subnet
            );
        }
        Ok(())
    }
}
// ANCHOR_END: lease

// ANCHOR: connect
impl Network {
    /// Plugs the namespace `container` into the bridge, which is made by the first one. There the cable ends as
    /// `eth0`, down and without an address.
    ///
    /// # Errors
    ///
    /// A published port is taken on the host; nft is not installed; EPERM without CAP_NET_ADMIN; EEXIST where the
    /// container has an `eth0`. What was made until then goes with the lease.
    pub fn connect(&self, lease: &Lease, container: &Namespace, options: &Options) -> Result<Connection> {
        check_distinct(&options.publications)?;
        let reservations = reserve(&options.publications)?;
        let address = lease.address().address;
        let blocked = transaction(|state| {
            lease.check(state)?;
            let mut netlink = Netlink::open()?;
            // Before there is a link of ours among the host's.
            let closed = sysctl::closed(&state.sysctls())?;
            let bridge = self.make_bridge(&mut netlink)?;
            // Who may pass is settled before anything can.
            let firewall = Firewall::new(&self.bridge, self.subnet);
            firewall.set_up()?;
            firewall.close(&closed)?;
            let blocked = firewall.admit()?;
            sysctl::forwarding_on(&state.sysctls())?;

            let peer = Peer { name: "eth0", mac: mac_of(address), namespace: container };
            link::create_pair(&mut netlink, &lease.link(), &peer)?;
            if let Some(rate) = options.rate_in {
                qdisc::limit(&mut netlink, &lease.link(), rate)?;
            }
            sysctl::write_port(&lease.link())?;
            link::set_master(&mut netlink, &lease.link(), &bridge)?;
            link::set_up(&mut netlink, &lease.link())?;
            firewall.publish(address, &options.publications)?;
            Ok(blocked)
        })?;
        Ok(Connection { reservations, blocked })
    }

    /// Makes the bridge, or goes on where another one was killed.
    fn make_bridge(&self, netlink: &mut Netlink) -> Result<Link> {
        let gateway = self.subnet.gateway();
        if link::find(netlink, &self.bridge)?.is_none() {
            link::create_bridge(netlink, &self.bridge, mac_of(gateway))?;
        }
        let bridge = link::find(netlink, &self.bridge)?.context("the bridge is gone again")?;
        // It is ours to delete in the end, so it must be one that we have made.
        ensure!(
            bridge.is_bridge && bridge.mac == Some(mac_of(gateway)),
            "there is a link {0:?} that is not ours: remove it (ip link delete {0:?}), or choose another name",
            self.bridge
        );
        // The address comes last: a bridge that has it is ready.
        if !address::list(netlink, &self.bridge)?.contains(&(gateway, self.subnet.prefix())) {
            sysctl::write_bridge(&self.bridge)?;
            link::set_up(netlink, &self.bridge)?;
            address::add(netlink, &self.bridge, gateway, self.subnet.prefix())?;
        }
        Ok(bridge)
    }

    /// Removes what the dead have left, with the bridge if they were its last members.
    ///
    /// # Errors
    ///
    /// Says what could not be removed.
    pub fn sweep(&self) -> Result<()> {
        transaction(sweep)
    }
}

/// A hardware address that follows from the IPv4 address: who still remembers the one of the address's last owner
/// (the ARP cache) remembers the right one. The 2 says that it was not bought from the IEEE.
pub(crate) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, b'h', a, b, c, d]
}
// ANCHOR_END: connect
