//! The older iptables, beside nftables.
//!
//! Before nftables, iptables had tables of its own in the kernel, and a kernel may have both. `nft` does not show them,
//! and they are not ours to change: they are read, and reported. Manual page: iptables(8).

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result};

use super::Blocked;

// ANCHOR: legacy
/// A report, where the older iptables can drop what containers send and get.
pub(super) fn blocks(bridge: &str) -> Result<Option<Blocked>> {
    // The tables that have ever been used in this network namespace. /proc/net would be that of the main thread.
    let path = "/proc/thread-self/net/ip_tables_names";
    let tables = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        tables => tables.with_context(|| format!("read {path:?}"))?,
    };
    if !tables.lines().any(|table| table == "filter") {
        return Ok(None);
    }
    let rules = match Command::new("iptables-legacy").args(["-w", "-S"]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        // Who can't ask must assume the worst.
        _ => String::from("-P FORWARD DROP"),
    };
    let accepts = format!("-A FORWARD -i {bridge} -j ACCEPT");
    let is_mended = rules.lines().any(|rule| rule == accepts);
    Ok((can_drop(&rules) && !is_mended).then(|| Blocked {
        what: "the chain FORWARD of the older iptables".to_string(),
        command: format!(
            "iptables-legacy -I FORWARD -i {bridge} -j ACCEPT; iptables-legacy -I FORWARD -o {bridge} -j ACCEPT"
        ),
    }))
}

/// Whether FORWARD, or any chain that it may lead to, drops, in the words of `iptables -S`.
fn can_drop(rules: &str) -> bool {
    rules.lines().any(|rule| {
        let is_elsewhere = ["-A INPUT ", "-A OUTPUT "].iter().any(|chain| rule.starts_with(chain));
        let drops = ["-j DROP", "-j REJECT", "-j NFQUEUE"].iter().any(|verdict| rule.contains(verdict));
        rule == "-P FORWARD DROP" || (!is_elsewhere && drops)
    })
}
// ANCHOR_END: legacy

#[cfg(test)]
mod tests {
    use super::can_drop;

    #[test]
    fn a_drop_counts_by_its_policy_or_in_a_chain_that_forward_may_lead_to() {
        assert!(can_drop("-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"));
        assert!(!can_drop("-P INPUT DROP\n-P FORWARD ACCEPT\n-A INPUT -s 192.0.2.1/32 -j DROP\n"));
        assert!(can_drop(
            "-P FORWARD ACCEPT\n-N ours\n-A FORWARD -j ours\n-A ours -j REJECT --reject-with x\n"
        ));
    }
}
