//! A policy whose lines hang on what the process may do, and on the machine.
//!
//! A filter can't ask which capabilities a process has. But a process that has `CAP_SYS_ADMIN` is given it to
//! mount, and a policy that forbids `mount` would take it back. So Docker's policy has lines for
//! capabilities, and makes of them a policy for each container. The text's grammar is in `parse.rs`.

use std::fmt;

use super::architecture::Architecture;
use super::policy::{Action, Condition, Flag, Policy, Rule};
use crate::capabilities::CapabilitySet;

// ANCHOR: template
/// A policy's text, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(super) default: Action,
    pub(super) architectures: Vec<Listed>,
    pub(super) flags: Vec<Flag>,
    pub(super) lines: Vec<Line>,
}

/// A rule, and when it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) rule: Rule,
    pub(super) needs: Needs,
}

/// What a line hangs on. All of it must be so; what is empty asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The process has all of these.
    pub(super) with: CapabilitySet,
    /// It has none of these.
    pub(super) unless: CapabilitySet,
    /// The machine is one of these.
    pub(super) on: Vec<Architecture>,
    /// It is none of these.
    pub(super) except: Vec<Architecture>,
    /// The kernel is this or a later one.
    pub(super) since: Option<(u32, u32)>,
}

/// A word of the line `architectures`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// The machine's own, and the others whose programs its kernel runs.
    Native,
    One(Architecture),
}
// ANCHOR_END: template

// ANCHOR: machine
/// Where the policy is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its own architecture; none where the kernel has no filters for it.
    pub architecture: Option<Architecture>,
    /// The kernel's version: 6 and 12 for `6.12.3`.
    pub kernel: (u32, u32),
}

impl Machine {
    /// This one. Of a kernel that does not tell its version nothing is expected.
    pub fn this() -> Machine {
        let name = nix::sys::utsname::uname().ok();
        let release = name.as_ref().and_then(|name| name.release().to_str()).unwrap_or_default();
        let mut numbers =
            release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten().unwrap_or(0);
        Machine { architecture: Architecture::native(), kernel: (next(), next()) }
    }
}
// ANCHOR_END: machine

// ANCHOR: instantiate
impl Template {
    /// Docker's default, as its engine has it since 2026: `default.policy`, beside this file.
    pub fn default_policy() -> Template {
        include_str!("default.policy").parse().expect("the policy that is built in can be read")
    }

    /// The policy for a process whose bounding set this is, on this machine.
    pub fn policy(&self, capabilities: CapabilitySet) -> Policy {
        self.policy_on(Machine::this(), capabilities)
    }

    /// The policy for a process on another machine.
    pub fn policy_on(&self, machine: Machine, capabilities: CapabilitySet) -> Policy {
        let mut architectures = Vec::new();
        for listed in &self.architectures {
            match (listed, machine.architecture) {
                (Listed::One(architecture), _) => architectures.push(*architecture),
                (Listed::Native, Some(native)) => {
                    architectures.push(native);
                    architectures.extend(native.others());
                }
                (Listed::Native, None) => {}
            }
        }
        let lines = self.lines.iter().filter(|line| line.needs.are_met(machine, capabilities));
        Policy {
            default: self.default,
            architectures,
            flags: self.flags.clone(),
            rules: lines.map(|line| line.rule.clone()).collect(),
        }
    }
}

impl Needs {
    fn are_met(&self, machine: Machine, capabilities: CapabilitySet) -> bool {
        let is_one_of = |list: &[Architecture]| machine.architecture.is_some_and(|own| list.contains(&own));
        self.with.iter().all(|capability| capabilities.contains(capability))
            && !self.unless.iter().any(|capability| capabilities.contains(capability))
            && (self.on.is_empty() || is_one_of(&self.on))
            && !is_one_of(&self.except)
            && self.since.is_none_or(|version| machine.kernel >= version)
    }
}
// ANCHOR_END: instantiate

impl From<Policy> for Template {
    /// With lines that hang on nothing. A rule that compares an argument twice becomes several lines, since a
    /// line's conditions must all hold.
    fn from(policy: Policy) -> Template {
        let line = |rule| Line { rule, needs: Needs::default() };
        let split = |rule: &Rule| {
            let alternatives = rule.alternatives().into_iter();
            alternatives.map(|conditions| line(Rule { conditions, ..rule.clone() })).collect::<Vec<_>>()
        };
        Template {
            default: policy.default,
            architectures: policy.architectures.into_iter().map(Listed::One).collect(),
            flags: policy.flags,
            lines: policy.rules.iter().flat_map(split).collect(),
        }
    }
}

impl fmt::Display for Policy {
    /// As a policy's text.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        Template::from(self.clone()).fmt(formatter)
    }
}

impl fmt::Display for Template {
    /// As a text that is read back to the same.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "default {}", action(self.default))?;
        let architectures = self.architectures.iter().map(|listed| match listed {
            Listed::Native => "native".to_owned(),
            Listed::One(architecture) => architecture.name(),
        });
        writeln!(formatter, "architectures{}", words(architectures))?;
        if !self.flags.is_empty() {
            writeln!(formatter, "flags{}", words(self.flags.iter().map(|flag| flag.name())))?;
        }
        self.lines.iter().try_for_each(|line| writeln!(formatter, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Line { rule, needs } = self;
        write!(formatter, "{}{}", action(rule.action), words(&rule.names))?;
        for (index, condition) in rule.conditions.iter().enumerate() {
            write!(formatter, " {} {condition}", if index == 0 { "when" } else { "and" })?;
        }
        for (word, set) in [("with", needs.with), ("unless", needs.unless)] {
            if !set.is_empty() {
                write!(formatter, " {word}{}", words(set.iter()))?;
            }
        }
        for (word, list) in [("on", &needs.on), ("except", &needs.except)] {
            if !list.is_empty() {
                write!(formatter, " {word}{}", words(list.iter().map(|architecture| architecture.name())))?;
            }
        }
        match needs.since {
            Some((version, patchlevel)) => write!(formatter, " since {version}.{patchlevel}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Condition {
    /// As in a policy's text: `arg0 == 0x8`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Condition { argument, operator, value, value_two } = self;
        match operator.sign() {
            Some(sign) => write!(formatter, "arg{argument} {sign} {value:#x}"),
            None => write!(formatter, "arg{argument} & {value:#x} == {value_two:#x}"),
        }
    }
}

/// `errno EPERM`.
fn action(action: Action) -> String {
    match action {
        Action::Errno(number) => format!("{} {}", action.name(), super::parse::errno_name(number)),
        Action::Trace(number) => format!("{} {number}", action.name()),
        _ => action.name(),
    }
}

/// Each with a space before it.
fn words<T: fmt::Display>(list: impl IntoIterator<Item = T>) -> String {
    list.into_iter().map(|word| format!(" {word}")).collect()
}
