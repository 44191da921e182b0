//! The ranges that the administrator has set aside for a user: `/etc/subuid` and `/etc/subgid`.
//!
//! A line reads `USER:FIRST:COUNT`, where USER is a name or a number. Manual pages: subuid(5), newuidmap(1).

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Uid, User};

use crate::{IdMap, Ids};

/// The subordinate ranges of one user, each as (first number, count).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Of users, from `/etc/subuid`.
    pub users: Vec<(u32, u32)>,
    /// Of groups, from `/etc/subgid`.
    pub groups: Vec<(u32, u32)>,
}

impl Ranges {
    /// The ranges of `user`.
    ///
    /// # Errors
    ///
    /// Says which of the two files can't be read or has no line for the user.
    pub fn of_user(user: u32) -> Result<Ranges> {
        Ok(Ranges { users: Ranges::of(Ids::Users, user)?, groups: Ranges::of(Ids::Groups, user)? })
    }

    /// The ranges of one kind of `user`.
    pub(crate) fn of(ids: Ids, user: u32) -> Result<Vec<(u32, u32)>> {
        let (file, name) = (ids.subordinate_file(), name_of(user));
        let text = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
        let ranges = parse(&text, name.as_deref(), user);
        ensure!(!ranges.is_empty(), "{file:?} has no range for this user");
        Ok(ranges)
    }
}

/// The user's name, where the number has one.
pub(crate) fn name_of(user: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(user)).ok().flatten().map(|user| user.name)
}

/// Whether `ranges` together have all that `map` names outside; newuidmap(1) too takes ranges that adjoin for
/// one.
pub(crate) fn cover(ranges: &[(u32, u32)], map: IdMap) -> bool {
    let (mut next, end) = (u64::from(map.outside), u64::from(map.outside) + u64::from(map.count));
    while next < end {
        let mut all =
            ranges.iter().map(|&(first, count)| u64::from(first)..u64::from(first) + u64::from(count));
        let Some(range) = all.find(|range| range.contains(&next)) else { return false };
        next = range.end;
    }
    true
}

/// The ranges in `text` that belong to the user of this name or number. Lines that are no ranges are passed
/// over, as newuidmap(1) passes over them.
fn parse(text: &str, name: Option<&str>, number: u32) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let [owner, first, count] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
        let is_ours = Some(owner) == name || owner == number.to_string();
        Some((is_ours, first.trim().parse().ok()?, count.trim().parse().ok()?))
    };
    let lines = text.lines().filter_map(range);
    lines.filter_map(|(is_ours, first, count)| (is_ours && count > 0).then_some((first, count))).collect()
}

#[cfg(test)]
mod tests {
    use super::{cover, parse};
    use crate::IdMap;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\nlearner:100000:65536\n1000:300000:10\nlearner:broken:1\nlearner:5:0\n";
        assert_eq!(parse(text, Some("learner"), 1000), [(100000, 65536), (300000, 10)]);
        assert_eq!(parse(text, None, 7), []);
    }

    #[test]
    fn ranges_that_adjoin_cover_together() {
        let covers = |ranges, outside, count| cover(ranges, IdMap { inside: 0, outside, count });
        let ranges = [(20, 10), (10, 10), (40, 5)];
        assert!(covers(&ranges, 10, 20) && covers(&ranges, 15, 10) && covers(&ranges, 40, 5));
        assert!(!covers(&ranges, 9, 2) && !covers(&ranges, 10, 21) && !covers(&ranges, 44, 2));
        assert!(covers(&[(0, u32::MAX)], 0, u32::MAX));
    }
}
