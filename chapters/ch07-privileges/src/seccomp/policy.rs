//! What a filter is to do: the model, as the OCI runtime specification has it.
//!
//! A policy is a default and a list of rules. A rule names calls, may compare their arguments (numbers only:
//! a filter can't follow a pointer), and says what happens. A rule without conditions decides its calls; else
//! the first whose conditions hold; else the default ([`mod@super::compile`] says it exactly). The names of
//! actions, operators and flags are those of the specification, which took them from libseccomp. Linux:
//! seccomp(2), seccomp_rule_add(3).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use super::architecture::Architecture;
use super::syscalls;
pub use super::template::{Machine, Template};

// ANCHOR: action
/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The whole process dies of SIGSYS, which it can't catch.
    KillProcess,
    /// The calling thread dies, the others go on: the first design, seldom what one wants.
    KillThread,
    /// The thread gets a SIGSYS, which it can catch.
    Trap,
    /// The call is not made and returns this errno.
    Errno(u16),
    /// A supervisor is asked: [`super::Listener`].
    Notify,
    /// A tracer is asked, which reads this number by PTRACE_GETEVENTMSG; with no tracer the call returns
    /// ENOSYS.
    Trace(u16),
    /// The call is made, and written to the kernel's log.
    Log,
    /// The call is made.
    Allow,
}
// ANCHOR_END: action

impl Action {
    /// Without its number.
    const NAMES: [(Action, &str); 8] = [
        (Action::KillProcess, "SCMP_ACT_KILL_PROCESS"),
        (Action::KillThread, "SCMP_ACT_KILL_THREAD"),
        (Action::Trap, "SCMP_ACT_TRAP"),
        (Action::Errno(libc::EPERM as u16), "SCMP_ACT_ERRNO"),
        (Action::Notify, "SCMP_ACT_NOTIFY"),
        (Action::Trace(libc::EPERM as u16), "SCMP_ACT_TRACE"),
        (Action::Log, "SCMP_ACT_LOG"),
        (Action::Allow, "SCMP_ACT_ALLOW"),
    ];

    /// The largest errno: the kernel would turn a larger one into this.
    pub const MAX_ERRNO: u16 = 4095;

    /// With the number that it returns: what the specification has beside the action, as `errnoRet`. Without
    /// one, as the specification wants it, EPERM.
    ///
    /// # Errors
    ///
    /// When the action has none, or it is too large.
    pub fn with_number(self, number: Option<u32>) -> Result<Action> {
        let Some(number) = number else { return Ok(self) };
        let small = u16::try_from(number).ok();
        match self {
            Action::Errno(_) => small.filter(|errno| *errno <= Action::MAX_ERRNO).map(Action::Errno),
            Action::Trace(_) => small.map(Action::Trace),
            _ => bail!("{self} returns no number, and {number} is given"),
        }
        .with_context(|| format!("{self}: {number} is too large"))
    }

    /// As a policy's text has it: `errno`.
    pub fn name(self) -> String {
        self.to_string()["SCMP_ACT_".len()..].to_lowercase()
    }

    /// The one that a policy's text names so; with EPERM as its number.
    pub fn named(name: &str) -> Option<Action> {
        Action::NAMES.iter().map(|(action, _)| *action).find(|action| action.name() == name)
    }

    /// The number that it returns, if it has one.
    pub fn number(self) -> Option<u16> {
        match self {
            Action::Errno(number) | Action::Trace(number) => Some(number),
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    /// The OCI's name: `SCMP_ACT_ERRNO`, without its number.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let same = |known: &Action| std::mem::discriminant(known) == std::mem::discriminant(self);
        let name = Action::NAMES.iter().find(|(known, _)| same(known)).map_or("", |(_, name)| name);
        formatter.pad(name)
    }
}

impl FromStr for Action {
    type Err = Error;

    /// From the OCI's name; with EPERM as its number.
    fn from_str(name: &str) -> Result<Action> {
        // The first name of the action, from when there was one way to kill.
        let name = if name == "SCMP_ACT_KILL" { "SCMP_ACT_KILL_THREAD" } else { name };
        find(&Action::NAMES, name).with_context(|| format!("seccomp knows no action {name:?}"))
    }
}

// ANCHOR: condition
/// How an argument is compared, as an unsigned number of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & value == value_two & value`.
    MaskedEqual,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub operator: Operator,
    /// With what; for [`Operator::MaskedEqual`] the mask.
    pub value: u64,
    /// For [`Operator::MaskedEqual`]: what the masked argument must be.
    pub value_two: u64,
}
// ANCHOR_END: condition

impl Operator {
    const NAMES: [(Operator, &str); 7] = [
        (Operator::NotEqual, "SCMP_CMP_NE"),
        (Operator::Less, "SCMP_CMP_LT"),
        (Operator::LessOrEqual, "SCMP_CMP_LE"),
        (Operator::Equal, "SCMP_CMP_EQ"),
        (Operator::GreaterOrEqual, "SCMP_CMP_GE"),
        (Operator::Greater, "SCMP_CMP_GT"),
        (Operator::MaskedEqual, "SCMP_CMP_MASKED_EQ"),
    ];

    /// As a policy's text has it; a mask is written in another way.
    const SIGNS: [(Operator, &str); 6] = [
        (Operator::NotEqual, "!="),
        (Operator::Less, "<"),
        (Operator::LessOrEqual, "<="),
        (Operator::Equal, "=="),
        (Operator::GreaterOrEqual, ">="),
        (Operator::Greater, ">"),
    ];

    /// As a policy's text has it: `==`. None for [`Operator::MaskedEqual`], which is written `& MASK ==`.
    pub fn sign(self) -> Option<&'static str> {
        Operator::SIGNS.iter().find(|(operator, _)| *operator == self).map(|(_, sign)| *sign)
    }

    /// The one that a policy's text writes so.
    pub fn signed(sign: &str) -> Option<Operator> {
        find(&Operator::SIGNS, sign)
    }
}

impl fmt::Display for Operator {
    /// The OCI's name: `SCMP_CMP_EQ`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(Operator::NAMES[*self as usize].1)
    }
}

impl FromStr for Operator {
    type Err = Error;

    /// From the OCI's name.
    fn from_str(name: &str) -> Result<Operator> {
        find(&Operator::NAMES, name).with_context(|| format!("seccomp knows no operator {name:?}"))
    }
}

impl Condition {
    /// Whether an argument's value meets it.
    pub fn holds(&self, argument: u64) -> bool {
        match self.operator {
            Operator::NotEqual => argument != self.value,
            Operator::Less => argument < self.value,
            Operator::LessOrEqual => argument <= self.value,
            Operator::Equal => argument == self.value,
            Operator::GreaterOrEqual => argument >= self.value,
            Operator::Greater => argument > self.value,
            Operator::MaskedEqual => argument & self.value == self.value_two & self.value,
        }
    }
}

// ANCHOR: policy
/// System calls and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The calls' names.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// All must hold; but where two of them compare the same argument, one of all of them is enough: what runc
    /// has always done.
    pub conditions: Vec<Condition>,
}

impl Rule {
    /// What it says of each of its calls: the action, where all conditions of one of these lists hold.
    pub fn alternatives(&self) -> Vec<Vec<Condition>> {
        let is_repeated = |condition: &Condition| {
            self.conditions.iter().filter(|other| other.argument == condition.argument).count() > 1
        };
        match self.conditions.iter().any(is_repeated) {
            true => self.conditions.iter().map(|condition| vec![*condition]).collect(),
            false => vec![self.conditions.clone()],
        }
    }
}

/// A whole policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to a call that no rule names.
    pub default: Action,
    /// Whose calls are looked at.
    pub architectures: Vec<Architecture>,
    /// Flags of the installation.
    pub flags: Vec<Flag>,
    /// What happens to the calls that are named.
    pub rules: Vec<Rule>,
}
// ANCHOR_END: policy

impl Policy {
    /// The names that no architecture has: misspelt, or of a kernel newer than [`super::syscalls`]. A filter
    /// passes them over, as runc does; who reads a policy warns of them.
    pub fn unknown_names(&self) -> Vec<&str> {
        let names = self.rules.iter().flat_map(|rule| &rule.names).map(String::as_str);
        let unknown: BTreeSet<&str> = names.filter(|name| !syscalls::is_known(name)).collect();
        unknown.into_iter().collect()
    }
}

/// A flag of seccomp(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// All threads of the process get the filter, not the caller alone.
    ThreadSync,
    /// All that is not allowed is written to the kernel's log, except for what only returns an errno by the
    /// administrator's choice (/proc/sys/kernel/seccomp/actions_logged).
    Log,
    /// No protection against speculation (Spectre) for the sake of the filter.
    SpecAllow,
    /// A call that a supervisor has begun to answer is interrupted by a deadly signal only.
    WaitKillable,
}

impl Flag {
    const NAMES: [(Flag, &str); 4] = [
        (Flag::ThreadSync, "SECCOMP_FILTER_FLAG_TSYNC"),
        (Flag::Log, "SECCOMP_FILTER_FLAG_LOG"),
        (Flag::SpecAllow, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        (Flag::WaitKillable, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
    ];

    /// As a policy's text has it: `tsync`.
    pub fn name(self) -> String {
        self.to_string()["SECCOMP_FILTER_FLAG_".len()..].to_lowercase()
    }

    /// The one that a policy's text names so.
    pub fn named(name: &str) -> Option<Flag> {
        Flag::NAMES.iter().map(|(flag, _)| *flag).find(|flag| flag.name() == name)
    }
}

impl fmt::Display for Flag {
    /// The OCI's name: `SECCOMP_FILTER_FLAG_LOG`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(Flag::NAMES[*self as usize].1)
    }
}

impl FromStr for Flag {
    type Err = Error;

    /// From the OCI's name.
    fn from_str(name: &str) -> Result<Flag> {
        find(&Flag::NAMES, name).with_context(|| format!("seccomp knows no flag {name:?}"))
    }
}

/// What has this name.
fn find<T: Copy>(names: &[(T, &str)], name: &str) -> Option<T> {
    names.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}
