//! Another machine on the sandbox's network: a second network namespace, joined to it by a veth pair.

use std::net::Ipv4Addr;

use crate::network::Network;

/// The sandbox's link to its neighbour, and the neighbour's to the sandbox.
pub const UPLINK: &str = "uplink";

/// What plays the internet, and the machines of the local network, for a sandbox that plays the host. Their
/// addresses are from the block for documentation, 192.0.2.0/24: RFC 5737. The sandbox's default route leads
/// to the neighbour, which knows no way to the networks behind the sandbox.
#[derive(Debug)]
pub struct Neighbour {
    /// The neighbour's network namespace.
    pub network: Network,
    /// The neighbour's address on [`UPLINK`].
    pub address: Ipv4Addr,
    /// The sandbox's address on [`UPLINK`].
    pub sandbox_address: Ipv4Addr,
}

impl Neighbour {
    #[track_caller]
    pub(crate) fn new(sandbox: &Network) -> Neighbour {
        let network = Network::new();
        let [sandbox_address, address] = [1, 2].map(|host| Ipv4Addr::new(192, 0, 2, host));
        // `ip` names another namespace by a process that is in it.
        network.run(|| {
            // SAFETY: gettid only returns a number.
            let thread = unsafe { libc::gettid() };
            sandbox.shell(&format!("ip link add {UPLINK} type veth peer name {UPLINK} netns {thread}"));
        });
        // The neighbour's end first: a route through a link without a carrier would be there, but not used.
        network.shell(&format!("ip address add {address}/24 dev {UPLINK}; ip link set {UPLINK} up"));
        sandbox.shell(&format!(
            "ip address add {sandbox_address}/24 dev {UPLINK}; ip link set {UPLINK} up; \
             ip route add default via {address}"
        ));
        Neighbour { network, address, sandbox_address }
    }
}
