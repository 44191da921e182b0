//! What the dead have left, removed.
//!
//! Nothing of it is written down: the kernel's objects are found by names that follow from the address, so it does
//! not matter at which point its owner was killed. Each call is one that does nothing where there is nothing.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use log::info;

use crate::firewall::Firewall;
use crate::members::Bridge;
use crate::netlink::link::Link;
use crate::netlink::{Netlink, link};
use crate::network::mac_of;
use crate::state::State;
use crate::sysctl;

// ANCHOR: sweep
/// Removes what dead members have left, then each bridge without a member, and with the last one what the host was
/// changed for.
pub(crate) fn sweep(state: &State) -> Result<()> {
    for bridge in state.bridges()? {
        for address in bridge.members()? {
            if bridge.is_dead(address)? {
                info!(target: "syscall", "flock({:?}, LOCK_EX | LOCK_NB)  nobody holds it: remove what is left", bridge.path(address));
                bury(&bridge, address).with_context(|| format!("remove what {address} has left"))?;
            }
        }
        if bridge.members()?.is_empty() {
            take_down(&bridge).with_context(|| format!("take down the bridge {:?}", bridge.name))?;
        }
    }
    if state.bridges()?.is_empty() {
        sysctl::restore(&state.sysctls())?;
    }
    Ok(())
}
// ANCHOR_END: sweep

// ANCHOR: bury
/// Removes a member: its ports, its cable, its file. The file goes last, or the rest would not be found again.
pub(crate) fn bury(bridge: &Bridge, address: Ipv4Addr) -> Result<()> {
    Firewall::new(&bridge.name, bridge.subnet).withdraw(address)?;
    link::delete(&mut Netlink::open()?, &link_of(address))?;
    bridge.free(address)
}

/// Removes a bridge, unless links are plugged into it that aren't ours, or whose members' files were deleted.
fn take_down(bridge: &Bridge) -> Result<()> {
    let mut netlink = Netlink::open()?;
    let is_ours = |link: &Link| link.mac == Some(mac_of(bridge.subnet.gateway()));
    if let Some(found) = link::find(&mut netlink, &bridge.name)?.filter(is_ours) {
        if !link::ports(&mut netlink, found.index)?.is_empty() {
            return Ok(());
        }
        link::delete(&mut netlink, &bridge.name)?;
    }
    Firewall::new(&bridge.name, bridge.subnet).tear_down()?;
    bridge.remove()
}

/// The host's end of a member's cable: a name of 12 bytes, where 15 are the most.
pub(crate) fn link_of(address: Ipv4Addr) -> String {
    format!("hull{:08x}", address.to_bits())
}
// ANCHOR_END: bury
