//! From a policy to a program.
//!
//! The program looks at the architecture first, then searches for the number in a balanced tree, and where
//! the outcome hangs on arguments, it compares these.
//!
//! # What a policy means
//!
//! As runc and libseccomp have it, so that one policy does the same under all of them:
//!
//! - The machine's own architecture is always looked at, whether the policy lists it or not. A call through
//!   an architecture that it doesn't list kills the process. (libseccomp kills the thread, which leaves a
//!   program of several threads without one of them.) x32 is one more architecture, told by a bit in the
//!   number.
//! - A rule whose action is the default is as if it were not there.
//! - A rule without conditions decides its calls, even where one with conditions stands before it; of
//!   several, the first.
//! - Of rules with conditions, the first that matches. (libseccomp sorts them by an order of its own.)
//! - The conditions of a rule must all hold; but where two of them look at the same argument, one is enough,
//!   of *all* of them. This is what runc has done since 2016, and policies rely on it.
//! - A name that an architecture doesn't have is passed over: policies name calls of all architectures and
//!   kernels.
//! - A number above the largest that the policy names (with any action, the default too) returns ENOSYS: the
//!   policy's author did not know it, and a C library that gets ENOSYS falls back to an older call, with
//!   EPERM it gives up. Not so where the default is ALLOW, LOG or TRACE. So does number 0 on s390: what the
//!   kernel shows for a number that it doesn't know.
//! - The number -1, which a tracer writes to have a call skipped, is such a number too, and never x32's.
//! - Behind `socketcall` and `ipc` no argument can be seen. So there a rule with conditions counts in full
//!   where it is stricter than the default, and not at all where it is milder: what may be done for some
//!   arguments can't be done that way. A rule for `socketcall` itself comes before what is said of the calls
//!   behind it. (libseccomp drops the condition on the first argument, and so allows more than the rule
//!   says.)

mod assembler;
mod conditions;
mod multiplex;
mod outcomes;
mod tree;

use anyhow::{Context, Result, ensure};

use self::assembler::{Assembler, Label};
use self::outcomes::{Calls, Outcome};
use self::tree::{Ranges, Tree};
use super::Program;
use super::architecture::{Architecture, X32_BIT};
use super::policy::{Action, Policy};
use super::program::{ARCHITECTURE, MOST_INSTRUCTIONS, NUMBER, code};

// ANCHOR: compile
/// Compiles the policy for this machine.
///
/// # Errors
///
/// A condition on an argument that no call has; more instructions than the kernel takes.
pub fn compile(policy: &Policy) -> Result<Program> {
    let native = Architecture::native().context("the kernel has no seccomp filters on this architecture")?;
    compile_for(policy, native)
}

/// Compiles the policy for a machine whose own architecture is `native`.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_for(policy: &Policy, native: Architecture) -> Result<Program> {
    check(policy)?;
    // x86_64 and x32 come through the same door.
    let mut doors: Vec<(u32, Vec<Architecture>)> = Vec::new();
    for architecture in [native].iter().chain(&policy.architectures) {
        match doors.iter_mut().find(|(audit, _)| *audit == architecture.audit()) {
            Some((_, behind)) => behind.push(*architecture),
            None => doors.push((architecture.audit(), vec![*architecture])),
        }
    }
    let mut assembler = Assembler::default();
    // Backwards: the machine's own architecture comes first in the program, and is asked for first.
    let mut written: Vec<(u32, Label)> = Vec::new();
    for (audit, behind) in doors.iter().rev() {
        written.push((*audit, door(&mut assembler, policy, behind)));
    }
    let mut label = assembler.action(Action::KillProcess);
    for (audit, door) in written {
        label = assembler.compare(code::EQUAL, audit, door, label);
    }
    assembler.load(ARCHITECTURE, label);
    let program = assembler.finish();
    let length = program.0.len();
    ensure!(
        length <= MOST_INSTRUCTIONS,
        "the filter has {length} instructions, and the kernel takes {MOST_INSTRUCTIONS} (BPF_MAXINSNS): \
         the policy has too many conditions"
    );
    Ok(program)
}

fn check(policy: &Policy) -> Result<()> {
    for rule in &policy.rules {
        for argument in rule.conditions.iter().map(|condition| condition.argument) {
            ensure!(
                argument < 6,
                "a rule for {:?}: there is no argument {argument}, only 0 to 5",
                rule.names
            );
        }
    }
    Ok(())
}
// ANCHOR_END: compile

// ANCHOR: door
/// Writes what is done with the calls of architectures that have one number in `seccomp_data.arch`.
fn door(assembler: &mut Assembler, policy: &Policy, behind: &[Architecture]) -> Label {
    let mut ranges = Ranges::all(Action::KillProcess);
    // x86_64 before x32, as their numbers are.
    for architecture in Architecture::all().filter(|architecture| behind.contains(architecture)) {
        let Calls { mut outcomes, newest } = Calls::of(policy, architecture);
        let unknown = if newest.is_some() { unknown(policy.default) } else { policy.default };
        ranges.from(if architecture == Architecture::X32 { X32_BIT } else { 0 }, policy.default);
        if matches!(architecture, Architecture::S390 | Architecture::S390x) {
            ranges.from(0, unknown);
            ranges.from(1, policy.default);
        }
        if let Some(newest) = newest {
            outcomes.entry(newest).or_insert(Outcome::Always(policy.default));
        }
        for (number, outcome) in outcomes {
            ranges.one(number, outcome);
            let is_beyond = newest.is_some_and(|newest| newest <= number);
            ranges.from(number + 1, if is_beyond { unknown } else { policy.default });
        }
        if architecture == Architecture::X86_64 {
            ranges.from(X32_BIT, Action::KillProcess);
            ranges.from(u32::MAX, unknown);
        }
    }
    let mut tree = Tree::new(assembler, behind[0], policy.default);
    let first = tree.search(&ranges);
    assembler.load(NUMBER, first)
}

/// What happens to calls that the policy's author did not know of.
fn unknown(default: Action) -> Action {
    match default {
        // ENOSYS would take away what the kernel has and the default lets pass. A tracer answers for itself.
        Action::Allow | Action::Log | Action::Trace(_) => default,
        _ => Action::Errno(libc::ENOSYS as u16),
    }
}
// ANCHOR_END: door
