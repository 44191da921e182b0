//! The ranges that the administrator has set aside for a user: `/etc/subuid` and `/etc/subgid`.
//!
//! A line reads `USER:FIRST:COUNT`, where USER is a name or a number. Manual pages: subuid(5), newuidmap(1).

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Uid, User};

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
        let name =
            User::from_uid(Uid::from_raw(user)).context("look up the user's name")?.map(|user| user.name);
        let read = |file: &str| -> Result<Vec<(u32, u32)>> {
            let text = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
            let ranges = parse(&text, name.as_deref(), user);
            ensure!(!ranges.is_empty(), "{file:?} has no range for this user");
            Ok(ranges)
        };
        Ok(Ranges { users: read("/etc/subuid")?, groups: read("/etc/subgid")? })
    }
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
    use super::parse;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\nlearner:100000:65536\n1000:300000:10\nlearner:broken:1\nlearner:5:0\n";
        assert_eq!(parse(text, Some("learner"), 1000), [(100000, 65536), (300000, 10)]);
        assert_eq!(parse(text, None, 7), []);
    }
}
