//! The maps of a user namespace: `/proc/PID/uid_map`, `gid_map` and `setgroups`.
//!
//! A line reads `INSIDE OUTSIDE COUNT`. Each file can be written once. Without CAP_SETUID in the parent
//! namespace the only line allowed maps the writer's own number; for groups `setgroups` must say `deny`
//! first, for a process could else drop a group, and with it a prohibition that hangs on the group's
//! membership (CVE-2014-8989).

use std::fmt;
use std::fs;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use log::info;
use nix::unistd::Pid;

pub use crate::check::{check, check_root};
pub use crate::write::{write, write_for};

// ANCHOR: ids
/// Which of the two maps: users and groups have numbers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// User ids.
    Users,
    /// Group ids.
    Groups,
}

impl Ids {
    /// The file in `/proc/PID`.
    pub fn file(self) -> &'static str {
        match self {
            Ids::Users => "uid_map",
            Ids::Groups => "gid_map",
        }
    }

    /// Where the administrator sets ranges aside.
    pub fn subordinate_file(self) -> &'static str {
        match self {
            Ids::Users => "/etc/subuid",
            Ids::Groups => "/etc/subgid",
        }
    }
}
// ANCHOR_END: ids

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

impl FromStr for IdMap {
    type Err = Error;

    /// Reads `INSIDE OUTSIDE COUNT`, with a colon or any blanks between the numbers.
    fn from_str(text: &str) -> Result<IdMap> {
        let words = text.split(|character: char| character == ':' || character.is_whitespace());
        let numbers = words.filter(|word| !word.is_empty()).map(str::parse::<u32>);
        let numbers: Result<Vec<u32>, _> = numbers.collect();
        match numbers.as_deref() {
            Ok([inside, outside, count]) => Ok(IdMap { inside: *inside, outside: *outside, count: *count }),
            _ => Err(Error::msg(format!(
                "{text:?} is no range of ids: it is INSIDE:OUTSIDE:COUNT, each below 2^32"
            ))),
        }
    }
}

// ANCHOR: translate
impl IdMap {
    /// The number outside that `inside` has by this range, if it is in it.
    pub fn to_outside(self, inside: u32) -> Option<u32> {
        let distance = inside.checked_sub(self.inside)?;
        (distance < self.count).then(|| self.outside.checked_add(distance))?
    }

    /// The number inside that `outside` has by this range, if it is in it.
    pub fn to_inside(self, outside: u32) -> Option<u32> {
        IdMap { inside: self.outside, outside: self.inside, count: self.count }.to_outside(outside)
    }
}

/// The number outside of an `inside` one; none where no range has it: such a number does not exist inside.
pub fn to_outside(maps: &[IdMap], inside: u32) -> Option<u32> {
    maps.iter().find_map(|map| map.to_outside(inside))
}

/// The number inside of an `outside` one; where there is none, the kernel shows 65534, `nobody`.
pub fn to_inside(maps: &[IdMap], outside: u32) -> Option<u32> {
    maps.iter().find_map(|map| map.to_inside(outside))
}
// ANCHOR_END: translate

// ANCHOR: map_of
/// The map of the user namespace in which `pid` is. The numbers outside are as this process sees them; those
/// of a process in our own namespace are shown as our parent namespace has them.
///
/// # Errors
///
/// Names the file: ENOENT where there is no such process.
pub fn of(pid: Pid, ids: Ids) -> Result<Vec<IdMap>> {
    read(&format!("/proc/{pid}/{}", ids.file()))
}

/// The map of our own user namespace.
///
/// # Errors
///
/// Names the file.
pub fn own(ids: Ids) -> Result<Vec<IdMap>> {
    read(&format!("/proc/self/{}", ids.file()))
}

fn read(file: &str) -> Result<Vec<IdMap>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
    text.lines().map(str::parse).collect::<Result<_>>().with_context(|| format!("read {file:?}"))
}
// ANCHOR_END: map_of

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
        write_file("/proc/self/uid_map", &format!("0 {user} 1"))?;
    }
    if is_empty("/proc/self/gid_map")? {
        write_file("/proc/self/setgroups", "deny")?;
        write_file("/proc/self/gid_map", &format!("0 {group} 1"))?;
    }
    Ok(())
}

fn is_empty(map: &str) -> Result<bool> {
    Ok(fs::read_to_string(map).with_context(|| format!("read {map:?}"))?.trim().is_empty())
}
// ANCHOR_END: write_single

pub(crate) fn write_file(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {text:?} to {file:?}"))
}

#[cfg(test)]
mod tests {
    use super::{IdMap, to_inside, to_outside};

    #[test]
    fn a_number_is_translated_both_ways_and_only_within_a_range() {
        let maps = [
            IdMap { inside: 0, outside: 1000, count: 1 },
            IdMap { inside: 1, outside: 100_000, count: 10 },
            IdMap { inside: u32::MAX - 2, outside: 7, count: 2 },
        ];
        for (inside, outside) in [(0, 1000), (1, 100_000), (10, 100_009), (u32::MAX - 1, 8)] {
            assert_eq!(to_outside(&maps, inside), Some(outside));
            assert_eq!(to_inside(&maps, outside), Some(inside));
        }
        for missing in [11, u32::MAX, u32::MAX - 3] {
            assert_eq!(to_outside(&maps, missing), None, "{missing}");
        }
        for missing in [0, 999, 1001, 99_999, 100_010, 9] {
            assert_eq!(to_inside(&maps, missing), None, "{missing}");
        }
    }

    #[test]
    fn a_range_is_read_as_the_kernel_prints_it_and_as_a_flag_has_it() {
        let map = IdMap { inside: 0, outside: 100_000, count: 65536 };
        for text in ["         0     100000      65536\n", "0:100000:65536", "0 100000 65536"] {
            assert_eq!(text.parse::<IdMap>().unwrap(), map);
        }
        for text in ["", "0 1", "0 1 2 3", "-1 0 1", "0 0 4294967296", "a:b:c"] {
            assert!(text.parse::<IdMap>().is_err(), "{text}");
        }
    }
}
