// ANCHOR: imports
//! The experiments of chapter 7: who root is, what it loses one by one, and what no container can do.

mod clocks;
mod keyrings;
mod keys;
mod nobody;
mod ping;
mod policy;
mod powers;
mod set_user_id;
mod supervisor;
mod sysctls;
mod trace;

use anyhow::Result;
use ch07_privileges::capabilities::{Capability, CapabilitySet, Sets};
use lesson::privileges::Powers;
use lesson::probe::{Refusal, in_child};
use lesson::{Lesson, untold};
use log::info;
use nix::errno::Errno;

use crate::container::Container;
// ANCHOR_END: imports

// ANCHOR: all
/// All of them, in the order in which the book tells them.
pub fn all(lesson: &Lesson, container: &Container, powers: Powers) -> Result<u8> {
    nobody::run(lesson, container)?;
    if powers == Powers::UserNamespace {
        info!(
            target: "say",
            "You are not root: in a user namespace some calls fail whatever capabilities a process has, \
             so for those what follows is no proof. `sudo` makes it one."
        );
    }
    powers::run()?;
    ping::run()?;
    trace::run()?;
    keys::run()?;
    set_user_id::run()?;
    policy::run()?;
    supervisor::run(lesson)?;
    clocks::run(lesson, container)?;
    keyrings::run()?;
    sysctls::run(lesson, container)?;
    Ok(0)
}
// ANCHOR_END: all

// ANCHOR: try_with
/// What the kernel answers to `call` in a process of root's that has these capabilities and no others. All
/// else is as it is here. `prepare` comes first, with all of them.
fn try_with(
    capabilities: CapabilitySet,
    prepare: impl FnOnce() -> Result<(), Refusal>,
    call: impl FnOnce() -> Result<String, Refusal>,
) -> Result<String, Refusal> {
    in_child(|| {
        untold(|| {
            prepare()?;
            // Both halves: without the bounding set's, exec would give root all of them back.
            let sets = Sets::bounded_by(capabilities);
            let dropped = sets.before_user_change().and_then(|()| sets.apply());
            dropped.map_err(|error| Refusal::new(lesson::describe(&error), Errno::EPERM))?;
            call()
        })
    })
}

/// The answer with all capabilities, and with all but this one.
fn with_and_without(
    capability: Capability,
    prepare: fn() -> Result<(), Refusal>,
    call: impl Fn() -> Result<String, Refusal>,
) -> Result<[Result<String, Refusal>; 2]> {
    let all = Sets::own()?.permitted;
    Ok([all, all.without(capability)].map(|set| try_with(set, prepare, &call)))
}

/// The two answers side by side.
fn show(what: &str, capability: &str, [with, without]: &[Result<String, Refusal>; 2]) {
    info!(
        target: "kernel",
        "{what:<34} with {capability}: {}; without: {}",
        in_words(with),
        in_words(without)
    );
}

/// The kernel's own answer: a result, or the errno's name.
fn in_words(answer: &Result<String, Refusal>) -> String {
    match answer {
        Ok(text) => text.clone(),
        Err(refusal) => format!("{:?}", refusal.errno),
    }
}
// ANCHOR_END: try_with

// ANCHOR: answer
/// A number that the kernel gave back, or its errno, as the answer to `call`.
fn answer(call: &str, result: libc::c_long) -> Result<libc::c_long, Refusal> {
    Errno::result(result).map_err(|errno| Refusal::new(call, errno))
}
// ANCHOR_END: answer
