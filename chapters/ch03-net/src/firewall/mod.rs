//! nftables: who may send what to whom, and under which address.
//!
//! Each packet that the kernel receives, forwards or sends passes its *hooks*. A *chain* of rules is attached to a
//! hook, in a *table*, which belongs to a network namespace; any number of programs may have tables, and a packet goes
//! on only if all their chains let it. conntrack remembers the connection of each packet, so that an address that was
//! replaced in the first one is replaced in all, and put back in the answers. Manual page: nft(8).
//!
//! All of ours is in one table, `inet hull` (`table.nft`). It never changes: bridges and ports are elements of its
//! sets and maps. So what is there can be read back from it, and nothing else needs to be remembered.

mod conntrack;
mod foreign;
mod legacy;
mod nft;
mod publish;

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::publication::Publication;
use crate::subnet::Subnet;

pub use foreign::Blocked;

const TABLE: &str = include_str!("table.nft");

// ANCHOR: firewall
/// The firewall's share of one bridge. Calls that change it may be repeated, and come one at a time: the caller holds
/// a lock against others who would change the same table.
#[derive(Clone, Debug)]
pub struct Firewall {
    bridge: String,
    subnet: Subnet,
}

impl Firewall {
    /// Of the bridge with this name, whose containers have addresses of `subnet`. Changes nothing yet.
    pub fn new(bridge: &str, subnet: Subnet) -> Firewall {
        Firewall { bridge: bridge.to_string(), subnet }
    }
    // ANCHOR_END: firewall

    // ANCHOR: set_up
    /// Makes the table, or adds the bridge to the one that is there.
    ///
    /// # Errors
    ///
    /// What nft said. A missing nft. A name that nft's language has no quotes for.
    pub fn set_up(&self) -> Result<()> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        ensure!(
            self.bridge.chars().all(is_plain),
            "the name of the bridge {:?} has odd characters",
            self.bridge
        );
        // To declare a set or a chain that exists changes nothing, but rules would be there twice: `flush table`
        // removes rules, and rules alone.
        let script = format!("add table inet hull\nflush table inet hull\n{TABLE}{}", self.elements("add"));
        nft::apply(&script, "the table inet hull: NAT for the containers, and who may reach them")
    }
    // ANCHOR_END: set_up

    // ANCHOR: close
    /// Keeps it so that no IPv4 packet passes from one of the links `closed` to another, as it was before forwarding
    /// was turned on. A link that is made later, as by a VPN or by Docker, is open.
    ///
    /// # Errors
    ///
    /// What nft said; a table that is not set up.
    pub fn close(&self, closed: &[String]) -> Result<()> {
        // A name may be anything without a slash and a space; nft has no way to write these.
        let can_be_written = |link: &&String| !link.contains('"') && !link.ends_with('*');
        // A bridge's packets to its own ports may come here too (br_netfilter), and need no forwarding.
        let addition = |link: &String| {
            format!(
                "add element inet hull within {{ \"{link}\" . \"{link}\" }}\n\
                 add element inet hull closed {{ \"{link}\" }}\n"
            )
        };
        let script: String = closed.iter().filter(can_be_written).map(addition).collect();
        if script.is_empty() { Ok(()) } else { nft::apply(&script, "the host's other links stay apart") }
    }
    // ANCHOR_END: close

    // ANCHOR: admit
    /// Lets the forward chains of others pass what comes from the bridge and what goes to it; our own chain still
    /// decides. Returns those that can't be changed.
    ///
    /// A packet goes on only if all chains accept it, so nothing in our table can overrule a drop of Docker's, ufw's
    /// or firewalld's. Where one of them is started or reloaded later, its new chain lacks our rules until the next
    /// call.
    ///
    /// # Errors
    ///
    /// What nft said.
    pub fn admit(&self) -> Result<Vec<Blocked>> {
        let mut blocked = foreign::admit(&self.bridge)?;
        blocked.extend(legacy::blocks(&self.bridge)?);
        Ok(blocked)
    }
    // ANCHOR_END: admit

    // ANCHOR: tear_down
    /// Takes the bridge out of the table, and our rules out of the chains of others. The last bridge takes the table
    /// with it. Nothing happens where none of it is there.
    ///
    /// # Errors
    ///
    /// What nft said.
    pub fn tear_down(&self) -> Result<()> {
        if !nft::is_installed() {
            return Ok(());
        }
        let mut script = foreign::removal(&self.bridge)?;
        if nft::has_table()? {
            let bridges = elements("set", "bridges")?;
            let is_ours = |name: &Value| name.as_str() == Some(&self.bridge);
            if !bridges.iter().any(|name| !is_ours(name)) {
                script += "delete table inet hull\n";
            } else if bridges.iter().any(is_ours) {
                script += &self.elements("delete");
            }
        }
        if script.is_empty() { Ok(()) } else { nft::apply(&script, "the bridge has no member left") }
    }
    // ANCHOR_END: tear_down

    // ANCHOR: ports
    /// Opens the ports that lead to the container with this address.
    ///
    /// # Errors
    ///
    /// What nft said: a port that leads to another container, a table that is not set up.
    pub fn publish(&self, container: Ipv4Addr, publications: &[Publication]) -> Result<()> {
        publish::publish(container, publications)
    }

    /// Closes all ports that lead to the container. Nothing happens where there are none.
    ///
    /// # Errors
    ///
    /// What nft said.
    pub fn withdraw(&self, container: Ipv4Addr) -> Result<()> {
        publish::withdraw(container)
    }
    // ANCHOR_END: ports

    /// The bridge's elements of the sets, to be added or deleted.
    fn elements(&self, verb: &str) -> String {
        let Firewall { bridge, subnet } = self;
        format!(
            "{verb} element inet hull bridges {{ \"{bridge}\" }}\n\
             {verb} element inet hull sources {{ \"{bridge}\" . {subnet} }}\n\
             {verb} element inet hull within {{ \"{bridge}\" . \"{bridge}\" }}\n"
        )
    }
}

// ANCHOR: elements
/// The elements of a set or map of our table; none where it, or the whole table, is not there.
fn elements(kind: &str, name: &str) -> Result<Vec<Value>> {
    let objects = match nft::list(&[kind, "inet", "hull", name]) {
        Err(error) if format!("{error}").contains("No such file or directory") => return Ok(Vec::new()),
        objects => objects?,
    };
    let elements = objects.into_iter().find_map(|mut object| match object[kind]["elem"].take() {
        Value::Array(elements) => Some(elements),
        _ => None,
    });
    Ok(elements.unwrap_or_default())
}
// ANCHOR_END: elements
