//! The maps of a user namespace: `/proc/PID/uid_map`, `gid_map` and `setgroups`.
//!
//! A line reads `INSIDE OUTSIDE COUNT`. Each file can be written once. Without CAP_SETUID in the parent
//! namespace the only line allowed maps the writer's own number; for groups `setgroups` must say `deny`
//! first, for a process could else drop a group, and with it a prohibition that hangs on the group's
//! membership (CVE-2014-8989).

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use log::info;

/// A range of numbers: one line of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The first number in the new namespace.
    pub inside: u32,
    /// The number that it has in the parent namespace.
    pub outside: u32,
    /// How many numbers follow one another.
    pub count: u32,
}

impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// Root is `owner`; the numbers from 1 on are those of `ranges` (first, count), one range after the other.
pub fn with_ranges(owner: u32, ranges: &[(u32, u32)]) -> Vec<IdMap> {
    let mut maps = vec![IdMap { inside: 0, outside: owner, count: 1 }];
    let mut inside = 1;
    for &(outside, count) in ranges {
        // The numbers end at 2^32 - 2; what does not fit is left out.
        let Some(next) = u32::checked_add(inside, count) else { break };
        maps.push(IdMap { inside, outside, count });
        inside = next;
    }
    maps
}

/// The maps as newuidmap(1) takes them.
pub(crate) fn arguments(maps: &[IdMap]) -> String {
    maps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

// ANCHOR: write_single
/// Maps root to `user` and `group`, this process's own numbers outside, and nothing else. A map that is there
/// already stays: newuidmap(1) may have written it before newgidmap(1) failed.
pub fn write_single(user: u32, group: u32) -> Result<()> {
    info!(
        target: "syscall",
        "write(uid_map, \"0 {user} 1\")  root inside is this user outside, and nobody else exists"
    );
    if is_empty("/proc/self/uid_map")? {
        write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    }
    if is_empty("/proc/self/gid_map")? {
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/gid_map", &format!("0 {group} 1"))?;
    }
    Ok(())
}

fn is_empty(map: &str) -> Result<bool> {
    Ok(fs::read_to_string(map).with_context(|| format!("read {map:?}"))?.trim().is_empty())
}
// ANCHOR_END: write_single

fn write(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {text:?} to {file:?}"))
}
