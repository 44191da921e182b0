//! Rules about devices as properties of a unit.

use log::debug;

use super::properties::{Property, Value};
use crate::devices::list::List;
use crate::devices::{Access, Devices, Kind, Rule};

// ANCHOR: properties
/// `DevicePolicy` and `DeviceAllow`.
///
/// systemd enforces what it is told by the same means as we: the lists of v1, a program on v2. It can be told a list
/// of what is allowed. Where the rules amount to something else, it is told to allow all, and our own list or program
/// is alone with them; on v2 each program must allow, so systemd's takes nothing away from that.
pub fn properties(rules: &[Rule]) -> Vec<Property> {
    let allowed = allowed(rules);
    if allowed.is_none() {
        debug!(target: "syscall", "systemd has no properties for these rules about devices");
    }
    let policy = if allowed.is_some() { "strict" } else { "auto" };
    vec![
        Property::new("DevicePolicy", Value::String(policy.to_string())),
        // To set this property adds to it; to set it to nothing empties it.
        Property::new("DeviceAllow", Value::StringPairs(Vec::new())),
        Property::new("DeviceAllow", Value::StringPairs(allowed.unwrap_or_default())),
    ]
}
// ANCHOR_END: properties

/// The devices and accesses that are allowed, if the rules amount to such a list.
fn allowed(rules: &[Rule]) -> Option<Vec<(String, String)>> {
    let list = List::amounts_to(rules).ok().filter(|list| !list.allows)?;
    list.exceptions
        .into_iter()
        .map(|(devices, access): (Devices, Access)| {
            let kind = if devices.kind == Kind::Block { "block" } else { "char" };
            // By number, in forms that do not need a node or a driver to be there: systemd 240.
            let specifier = match (devices.major, devices.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, None) => format!("{kind}-*"),
                (None, Some(_)) => return None,
            };
            Some((specifier, access.to_string()))
        })
        .collect()
}
