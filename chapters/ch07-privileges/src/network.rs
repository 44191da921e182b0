// ANCHOR: network
//! Chapter 3 in short: a network of its own, with the loopback link alone. And two of its numbers.

use std::fs;

use anyhow::Result;
use ch03_net::loopback;
use lesson::untold;
use log::info;
use userns::map::{self, Ids};

/// Called in the new network namespace, by a process that has all capabilities over it.
pub fn configure() -> Result<()> {
    untold(loopback::up)?;
    // Who has no capability may listen at port 80, and ping: in a network of one's own that harms nobody.
    // Docker sets both. Only groups that this user namespace has are taken (EINVAL).
    let last = map::own(Ids::Groups)?.iter().map(|map| map.inside.saturating_add(map.count - 1)).max();
    let last = last.unwrap_or(0).min(i32::MAX as u32);
    set("ip_unprivileged_port_start", "0");
    set("ping_group_range", &format!("0 {last}"));
    Ok(())
}

/// A sysctl that does not exist, or is read-only (inside of another container), is left as it is.
fn set(name: &str, value: &str) {
    let file = format!("/proc/sys/net/ipv4/{name}");
    info!(target: "syscall", "write({file}, {value:?})  of its own network namespace");
    if let Err(error) = fs::write(&file, value) {
        info!(target: "say", "Warning: {file} stays as it is: {error}.");
    }
}
// ANCHOR_END: network
