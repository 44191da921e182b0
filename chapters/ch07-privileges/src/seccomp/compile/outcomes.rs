//! What a policy means for each number of an architecture's calls.

use std::collections::BTreeMap;

use super::super::architecture::Architecture;
use super::super::policy::{Action, Condition, Policy, Rule};
use super::super::syscalls::number;
use super::multiplex::Multiplexers;

// ANCHOR: outcome
/// What happens to the calls of one number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// Whatever the arguments are.
    Always(Action),
    /// The first alternative that matches, else the default.
    Depends(Vec<Alternative>),
}

/// An action, for calls of which all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Alternative {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

impl Outcome {
    /// Of alternatives in the policy's order: one without conditions comes before all that have some.
    fn of(alternatives: Vec<Alternative>) -> Outcome {
        match alternatives.iter().find(|alternative| alternative.conditions.is_empty()) {
            Some(alternative) => Outcome::Always(alternative.action),
            None => Outcome::Depends(alternatives),
        }
    }
}
// ANCHOR_END: outcome

// ANCHOR: outcomes
/// What the policy says of an architecture's calls.
pub(super) struct Calls {
    /// By their numbers.
    pub(super) outcomes: BTreeMap<u32, Outcome>,
    /// The largest number of a call that the policy names, whatever it says of it: what lies above, its
    /// author did not know.
    pub(super) newest: Option<u32>,
}

impl Calls {
    pub(super) fn of(policy: &Policy, architecture: Architecture) -> Calls {
        let multiplexers = Multiplexers::of(architecture);
        let mut newest = None;
        let mut direct: BTreeMap<u32, Vec<Alternative>> = BTreeMap::new();
        let mut multiplexed: BTreeMap<(u32, &str), (Condition, Vec<Alternative>)> = BTreeMap::new();
        for rule in &policy.rules {
            let alternatives = if rule.action == policy.default { Vec::new() } else { alternatives(rule) };
            for name in &rule.names {
                let (number, behind) = (number(architecture, name), multiplexers.behind(name));
                let numbers = number.into_iter().chain(behind.map(|(number, _)| number));
                newest = newest.max(numbers.filter(|number| !is_private(architecture, *number)).max());
                if let Some(number) = number.filter(|_| !alternatives.is_empty()) {
                    direct.entry(number).or_default().extend_from_slice(&alternatives);
                }
                if let Some((number, condition)) = behind.filter(|_| !alternatives.is_empty()) {
                    let entry = multiplexed.entry((number, name)).or_insert((condition, Vec::new()));
                    entry.1.extend_from_slice(&alternatives);
                }
            }
        }
        for ((number, _), (condition, alternatives)) in multiplexed {
            if let Some(action) = without_sight(Outcome::of(alternatives), policy.default) {
                let alternative = Alternative { conditions: vec![condition], action };
                direct.entry(number).or_default().push(alternative);
            }
        }
        let outcomes = direct.into_iter().map(|(number, alternatives)| (number, Outcome::of(alternatives)));
        Calls { outcomes: outcomes.collect(), newest }
    }
}

/// ARM's private calls have numbers far above all others, and say nothing of how new the others are.
fn is_private(architecture: Architecture, number: u32) -> bool {
    architecture == Architecture::Arm && number >= 0xf_0000
}

/// What a rule says of each of its calls.
fn alternatives(rule: &Rule) -> Vec<Alternative> {
    let alternative = |conditions| Alternative { conditions, action: rule.action };
    rule.alternatives().into_iter().map(alternative).collect()
}
// ANCHOR_END: outcomes

// ANCHOR: without_sight
/// The action for a call whose arguments can't be seen: the strictest that a rule has for some of them, if it
/// is stricter than the default. What is allowed for some arguments only is not allowed.
fn without_sight(outcome: Outcome, default: Action) -> Option<Action> {
    match outcome {
        Outcome::Always(action) => Some(action),
        Outcome::Depends(alternatives) => {
            let actions = alternatives.into_iter().map(|alternative| alternative.action);
            let strictest = actions.max_by_key(|action| strictness(*action))?;
            (strictness(strictest) > strictness(default)).then_some(strictest)
        }
    }
}

/// The order in which the kernel prefers the actions of several filters.
fn strictness(action: Action) -> u8 {
    match action {
        Action::Allow => 0,
        Action::Log => 1,
        Action::Trace(_) => 2,
        Action::Notify => 3,
        Action::Errno(_) => 4,
        Action::Trap => 5,
        Action::KillThread => 6,
        Action::KillProcess => 7,
    }
}
// ANCHOR_END: without_sight
