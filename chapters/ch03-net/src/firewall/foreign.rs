//! The forward chains of others: Docker's, ufw's, firewalld's.
//!
//! One that can drop gets two rules of ours at its top, marked by a comment. They are plain enough for iptables-nft to
//! list, since its own tables are among those that get them.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use log::debug;
use serde_json::Value;

use super::nft;

// ANCHOR: blocked
/// A forward chain of others that can drop what a container sends or gets, and that we can't change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What is in the way, such as `the chain f of the table inet firewalld`.
    pub what: String,
    /// The command that mends it, to be typed by root.
    pub command: String,
}

impl fmt::Display for Blocked {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(
            formatter,
            "{} may drop what containers send and get; to let it pass: {}",
            self.what, self.command
        )
    }
}
// ANCHOR_END: blocked

/// A chain by its full name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

// ANCHOR: admit
/// Mends the chains that are in the way of `bridge`, and returns those where the kernel refuses.
pub(super) fn admit(bridge: &str) -> Result<Vec<Blocked>> {
    let mut blocked = Vec::new();
    for (chain, policy) in forward_chains(&nft::list(&["chains"])?) {
        if policy != "drop" && !can_drop(&chain, list)? {
            continue;
        }
        let own = list("chain", &chain, &chain.name)?;
        let Chain { family, table, name } = &chain;
        let script: String = rules(bridge)
            .into_iter()
            .filter(|(_, comment)| !rules_of(&own).any(|rule| rule["comment"] == *comment))
            .map(|(rule, comment)| {
                format!("insert rule {family} {table} {name} {rule} comment \"{comment}\"\n")
            })
            .collect();
        if script.is_empty() {
            continue;
        }
        let reason = format!("the chain {name} of the table {family} {table} can drop: let our bridge pass");
        match nft::apply(&script, &reason) {
            // `flags owner`: the table belongs to the socket that made it.
            Err(error) if format!("{error}").contains("Operation not permitted") => {
                debug!(target: "syscall", "{error}");
                blocked.push(owned(&chain, bridge));
            }
            result => result?,
        }
    }
    Ok(blocked)
}

/// The two rules, and the comments by which they are found again.
fn rules(bridge: &str) -> [(String, String); 2] {
    [("iifname", "from"), ("oifname", "to")]
        .map(|(key, way)| (format!("{key} \"{bridge}\" accept"), format!("hull: {way} {bridge}")))
}

fn owned(chain: &Chain, bridge: &str) -> Blocked {
    let Chain { family, table, name } = chain;
    let command = match table.as_str() {
        "firewalld" => format!("firewall-cmd --zone=trusted --add-interface={bridge}"),
        _ => format!(
            "the program that owns the table must add `iifname {bridge} accept` and `oifname {bridge} accept`"
        ),
    };
    Blocked { what: format!("the chain {name} of the table {family} {table}"), command }
}
// ANCHOR_END: admit

// ANCHOR: removal
/// The commands that delete our rules from the chains of others.
pub(super) fn removal(bridge: &str) -> Result<String> {
    let mut script = String::new();
    for (chain, _) in forward_chains(&nft::list(&["chains"])?) {
        script += &deletions(&list("chain", &chain, &chain.name)?, bridge);
    }
    Ok(script)
}

fn deletions(objects: &[Value], bridge: &str) -> String {
    let comments = rules(bridge).map(|(_, comment)| comment);
    let ours = rules_of(objects).filter(|rule| {
        rule["comment"].as_str().is_some_and(|comment| comments.iter().any(|ours| ours == comment))
    });
    ours.filter_map(|rule| {
        let (family, table) = (rule["family"].as_str()?, rule["table"].as_str()?);
        let (chain, handle) = (rule["chain"].as_str()?, rule["handle"].as_u64()?);
        Some(format!("delete rule {family} {table} {chain} handle {handle}\n"))
    })
    .collect()
}
// ANCHOR_END: removal

// ANCHOR: in_the_way
/// The base chains of others at the hook `forward` that IPv4 packets pass, each with its policy.
fn forward_chains(objects: &[Value]) -> Vec<(Chain, String)> {
    let chains = objects.iter().map(|object| &object["chain"]);
    let at_hook = chains.filter(|chain| chain["hook"] == "forward" && chain["table"] != "hull");
    let of_family = at_hook.filter(|chain| chain["family"] == "ip" || chain["family"] == "inet");
    of_family
        .filter_map(|base| {
            let text = |key: &str| base[key].as_str().map(String::from);
            let chain = Chain { family: text("family")?, table: text("table")?, name: text("name")? };
            Some((chain, text("policy").unwrap_or_default()))
        })
        .collect()
}

/// A `chain` or a `map` beside a chain: what nft lists of it.
///
/// One object at a time, and never the whole ruleset: nft before 1.0.7 prints flags of tables that may be no text at
/// all, and then nothing else either.
fn list(kind: &str, beside: &Chain, name: &str) -> Result<Vec<Value>> {
    nft::list(&[kind, &beside.family, &beside.table, name])
}

/// Whether a rule of `base`, or of a chain that one leads to, drops. On which condition is not asked: that our packets
/// never meet it can't be proven in general.
fn can_drop(base: &Chain, list: impl Fn(&str, &Chain, &str) -> Result<Vec<Value>>) -> Result<bool> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![base.name.clone()];
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        // The names that iptables allows are more than nft can be asked for.
        let Ok(objects) = list("chain", base, &name) else { return Ok(true) };
        for rule in rules_of(&objects) {
            if look_for_verdicts(&rule["expr"], &mut waiting) {
                return Ok(true);
            }
            // The verdicts of a map with a name are not in the rule.
            for map in verdict_maps(&rule["expr"]) {
                let objects = list("map", base, map)?;
                if objects.iter().any(|object| look_for_verdicts(&object["map"]["elem"], &mut waiting)) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn rules_of(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().map(|object| &object["rule"]).filter(|rule| !rule.is_null())
}
// ANCHOR_END: in_the_way

// ANCHOR: verdicts
/// Whether there is a verdict in `value`, however deep, that can drop. The chains that are jumped to join `targets`.
fn look_for_verdicts(value: &Value, targets: &mut Vec<String>) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| look_for_verdicts(value, targets)),
        Value::Object(entries) => entries.iter().any(|(key, value)| match key.as_str() {
            // What is queued is decided by a program.
            "drop" | "reject" | "queue" => true,
            // An extension of iptables that nft can't show as a rule of its own; older ones don't even name it.
            "xt" => value["type"] != "match" && (value.is_null() || value["name"] == "REJECT"),
            "jump" | "goto" => {
                targets.extend(value["target"].as_str().map(String::from));
                false
            }
            _ => look_for_verdicts(value, targets),
        }),
        _ => false,
    }
}

/// The maps with a name, `@name`, in which a rule looks its verdict up.
fn verdict_maps(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().flat_map(verdict_maps).collect(),
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| match key.as_str() {
                "vmap" => {
                    value["data"].as_str().and_then(|data| data.strip_prefix('@')).into_iter().collect()
                }
                _ => verdict_maps(value),
            })
            .collect(),
        _ => Vec::new(),
    }
}
// ANCHOR_END: verdicts

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use serde_json::{Value, json};

    use super::{can_drop, deletions, forward_chains};

    fn base(policy: &str) -> Value {
        json!({"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": policy}})
    }

    fn rule(chain: &str, expression: Value) -> Value {
        json!({"rule": {"family": "ip", "table": "filter", "chain": chain, "handle": 7, "expr": [expression]}})
    }

    /// What nft lists of one object, among all.
    fn list(objects: &[Value], kind: &str, name: &str) -> Result<Vec<Value>> {
        let (of, key) = if kind == "chain" { ("rule", "chain") } else { ("map", "name") };
        Ok(objects.iter().filter(|object| object[of][key] == name).cloned().collect())
    }

    fn blocks(objects: &[Value]) -> bool {
        forward_chains(objects).iter().any(|(chain, policy)| {
            policy == "drop" || can_drop(chain, |kind, _, name| list(objects, kind, name)).unwrap()
        })
    }

    #[test]
    fn a_chain_is_in_the_way_by_its_policy_or_by_a_rule_that_it_leads_to() {
        assert!(blocks(&[base("drop")]));
        assert!(!blocks(&[base("accept"), rule("FORWARD", json!({"accept": null}))]));
        assert!(blocks(&[base("accept"), rule("FORWARD", json!({"reject": {"type": "tcp reset"}}))]));
        let jump = |to: &str| json!({"jump": {"target": to}});
        let far = [
            base("accept"),
            rule("FORWARD", jump("A")),
            rule("A", jump("B")),
            rule("B", json!({"drop": null})),
        ];
        assert!(blocks(&far));
        assert!(!blocks(&far[..3]));
        // A drop in a chain that nothing leads to.
        assert!(!blocks(&[base("accept"), rule("B", json!({"drop": null}))]));
    }

    #[test]
    fn a_verdict_map_can_drop_too() {
        let anonymous = json!({"vmap": {"key": {"meta": {"key": "iifname"}},
            "data": {"set": [["a", {"accept": null}], ["b", {"goto": {"target": "B"}}]]}}});
        let drop = rule("B", json!({"drop": null}));
        assert!(blocks(&[base("accept"), rule("FORWARD", anonymous.clone()), drop]));
        assert!(!blocks(&[base("accept"), rule("FORWARD", anonymous)]));
        let named =
            rule("FORWARD", json!({"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@verdicts"}}));
        let map = |verdict: &str| {
            json!({"map": {"family": "ip", "table": "filter", "name": "verdicts", "map": "verdict",
                "elem": [["eth0", {verdict: null}]]}})
        };
        assert!(blocks(&[base("accept"), named.clone(), map("drop")]));
        assert!(!blocks(&[base("accept"), named, map("accept")]));
    }

    #[test]
    fn an_extension_of_iptables_is_known_by_its_name() {
        let xt = |of_type: &str, name: &str| json!({"xt": {"type": of_type, "name": name}});
        assert!(blocks(&[base("accept"), rule("FORWARD", xt("target", "REJECT"))]));
        assert!(!blocks(&[base("accept"), rule("FORWARD", xt("match", "conntrack"))]));
        assert!(!blocks(&[base("accept"), rule("FORWARD", xt("target", "MARK"))]));
        assert!(blocks(&[base("accept"), rule("FORWARD", json!({"xt": null}))]));
    }

    #[test]
    fn only_our_own_rules_are_removed() {
        let mut ours = rule("FORWARD", json!({"accept": null}));
        ours["rule"]["comment"] = "hull: from hull0".into();
        let mut of_another_bridge = ours.clone();
        of_another_bridge["rule"]["comment"] = "hull: from hull00".into();
        let objects = [ours, of_another_bridge, rule("FORWARD", json!({"drop": null}))];
        assert_eq!(deletions(&objects, "hull0"), "delete rule ip filter FORWARD handle 7\n");
        assert_eq!(deletions(&objects, "hull1"), "");
    }
}
