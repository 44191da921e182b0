//! The rules as one answer for all devices, and exceptions to it.
//!
//! That is how cgroup version 1 keeps them, and systemd. Not each list of rules can be told so: to an exception
//! there is no exception.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::{Access, Devices, Kind, Rule};

// ANCHOR: list
/// One answer and the exceptions to it.
#[derive(Debug, PartialEq)]
pub(crate) struct List {
    /// The answer for what is no exception.
    pub(crate) allows: bool,
    /// Never of [`Kind::All`].
    pub(crate) exceptions: BTreeMap<Devices, Access>,
}
// ANCHOR_END: list

impl List {
    pub(crate) fn all(allows: bool) -> List {
        List { allows, exceptions: BTreeMap::new() }
    }

    // ANCHOR: amounts_to
    /// The list that answers as `rules` do; an error where none does.
    pub(crate) fn amounts_to(rules: &[Rule]) -> Result<List> {
        let mut list = List::all(false);
        for rule in rules {
            if (rule.devices, rule.access) == (Devices::ALL, Access::ALL) {
                list = List::all(rule.allow);
                continue;
            }
            for kind in [Kind::Block, Kind::Character] {
                let of_kind = Devices { kind, major: None, minor: None };
                match rule.devices.intersection(of_kind) {
                    None => {}
                    Some(devices) if rule.allow == list.allows => list.remove(devices, rule.access)?,
                    Some(devices) => *list.exceptions.entry(devices).or_default() |= rule.access,
                }
            }
        }
        list.exceptions.retain(|_, access| !access.is_empty());
        if !list.allows {
            list.join();
        }
        Ok(list)
    }

    fn remove(&mut self, devices: Devices, access: Access) -> Result<()> {
        for (exception, exempt) in &mut self.exceptions {
            let both = exception.intersection(devices);
            if both == Some(*exception) {
                *exempt = *exempt - access;
            } else if both.is_some() && !(*exempt & access).is_empty() {
                let (verb, reverse) = if self.allows { ("allow", "deny") } else { ("deny", "allow") };
                bail!(
                    "cgroup v1 can't {verb} {devices} {access} once a rule has {reverse}ed {exception} {exempt}: \
                     a line can undo the same line alone. Put the numbers of the devices into that rule"
                );
            }
        }
        Ok(())
    }
    // ANCHOR_END: amounts_to

    // ANCHOR: join
    /// All accesses of an open must be found in one exception. Where reading is allowed by one and writing by
    /// another, what is in both gets an exception of its own.
    fn join(&mut self) {
        let single: Vec<(Devices, Access)> = self.exceptions.clone().into_iter().collect();
        for (one, access_of_one) in &single {
            for (other, access_of_other) in &single {
                let access = (*access_of_one | *access_of_other) & (Access::READ | Access::WRITE);
                if let Some(both) = one.intersection(*other).filter(|_| !access.is_empty()) {
                    *self.exceptions.entry(both).or_default() |= access;
                }
            }
        }
    }
    // ANCHOR_END: join
}
