// ANCHOR: network
//! With `--net-rate`, the network of chapter 3: a cable to a bridge, slow in both directions.
//!
//! Cgroups have no limit of what is sent and received: packets are counted at a link, so the command needs one of
//! its own. Without `--net-rate` it has the host's network.

use anyhow::Result;
use ch03_net::{Connection, Lease, Namespace, Network, Options, Rate, Subnet, interface, loopback, resolv};
use log::warn;
use nix::unistd::Pid;

/// A network namespace's way to the host, and through it to others.
#[derive(Debug)]
pub struct Cable {
    network: Network,
    rate: Rate,
    connection: Option<Connection>,
    lease: Lease,
    /// The text of /etc/resolv.conf.
    resolver: String,
}

impl Cable {
    /// Takes an address for the command.
    pub fn new(rate: Rate) -> Result<Cable> {
        let network = Network::new("hull0", Subnet::DEFAULT)?;
        let resolver = resolv::for_container()?.text;
        let lease = network.lease()?;
        Ok(Cable { network, rate, connection: None, lease, resolver })
    }

    /// The host's half, while the child waits at the gate: what comes in is limited at the host's end.
    pub fn connect(&mut self, child: Pid) -> Result<()> {
        let options = Options { rate_in: Some(self.rate), ..Default::default() };
        let connection = self.network.connect(&self.lease, &Namespace::of(child)?, &options)?;
        for blocked in &connection.blocked {
            warn!("{blocked}");
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// The child's half, in its new root: what goes out is limited at the child's end.
    pub fn configure(&self) -> Result<()> {
        loopback::up()?;
        interface::configure("eth0", &self.lease.address())?;
        interface::limit("eth0", self.rate)?;
        resolv::give(&self.resolver)
    }

    /// Takes all of it down.
    pub fn remove(self) -> Result<()> {
        drop(self.connection);
        self.lease.leave()
    }
}
// ANCHOR_END: network
