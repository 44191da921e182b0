// ANCHOR: imports
//! The escapes of the chapters before this one, against the finished container.
//!
//! For each there is a list of mechanisms that stop it. The list is no claim: the escape is tried against the
//! finished container; then against one that has one of these mechanisms and lacks the others; and in the end
//! against one that lacks all of them. If it did not work there, what stopped it in the other rows would be
//! something else, and the table would prove nothing.

mod cgroups;
mod descriptors;
mod layers;
mod mechanism;
mod mounts;
mod network;
mod processes;
mod program;
mod root;
mod stage;
mod terminal;

use anyhow::Result;
use lesson::privileges::Powers;
use lesson::{Lesson, untold};
use log::info;

use crate::container::Container;
use crate::inside::Answer;
use mechanism::{Mechanism, Mechanism::*};
use stage::Stage;
// ANCHOR_END: imports

// ANCHOR: escapes
/// One way out.
struct Escape {
    /// The chapter that found it.
    chapter: u8,
    what: &'static str,
    /// What stops it, each alone.
    stopped_by: &'static [Mechanism],
    /// What has to be out of the way as well, so that it can be tried at all.
    besides: &'static [Mechanism],
    attempt: fn(&Stage, &Container) -> Result<Answer>,
}

const fn escape(
    chapter: u8,
    what: &'static str,
    stopped_by: &'static [Mechanism],
    attempt: fn(&Stage, &Container) -> Result<Answer>,
) -> Escape {
    Escape { chapter, what, stopped_by, besides: &[], attempt }
}

const ESCAPES: [Escape; 20] = [
    Escape {
        chapter: 0,
        what: "walk out of the root directory",
        stopped_by: &[OwnRoot],
        // Its root could not even walk to the root file system, where that is below a directory of mode 700.
        besides: &[UserNamespace],
        attempt: root::walk_out,
    },
    escape(0, "kill a process of the host", &[PidNamespace, UserNamespace], processes::kill),
    escape(1, "type into the user's terminal", &[Session], terminal::type_a_command),
    escape(
        1,
        "read a process's environment",
        &[OwnProc, UserNamespace, Capabilities],
        processes::read_environment,
    ),
    escape(1, "have a process killed first", &[OwnProc, UserNamespace], processes::choose_victim),
    escape(1, "trace a process of the host", &[PidNamespace, UserNamespace, Capabilities], processes::trace),
    escape(2, "take a mask off /proc", &[Capabilities, Seccomp], mounts::unmask),
    escape(2, "make /proc/sys writable", &[Capabilities, Seccomp], mounts::remount),
    escape(2, "rename the host", &[UtsNamespace, UserNamespace, Capabilities, Seccomp], mounts::rename_host),
    escape(2, "open the host's disk", &[UserNamespace], mounts::open_disk),
    escape(2, "connect to a service on loopback", &[NetworkNamespace], network::connect),
    escape(
        3,
        "switch the network off",
        &[NetworkNamespace, UserNamespace, Capabilities],
        network::switch_off,
    ),
    escape(3, "listen to others' packets", &[NetworkNamespace, UserNamespace], network::listen),
    escape(3, "change its own queue and rate", &[Capabilities], network::change_queue),
    escape(
        4,
        "mount the cgroups, raise a limit",
        &[UserNamespace, Capabilities, Seccomp],
        cgroups::raise_limit,
    ),
    Escape {
        chapter: 4,
        what: "have the kernel run release_agent",
        stopped_by: &[UserNamespace, Capabilities, Seccomp],
        besides: &[CgroupNamespace],
        attempt: cgroups::release_agent,
    },
    escape(5, "leave a set-user-id program", &[UserNamespace], layers::set_user_id),
    escape(5, "plant a whiteout in the image", &[Layer], layers::whiteout),
    escape(6, "use a directory left open", &[ClosedDescriptors], descriptors::use_leaked),
    escape(
        6,
        "overwrite the runtime's program",
        &[ProtectedProgram, UserNamespace, Capabilities],
        program::overwrite,
    ),
];
// ANCHOR_END: escapes

// ANCHOR: all
/// The whole table, on standard output. The status is 1 where something gets out of the finished container.
pub fn all(lesson: &Lesson, container: &Container, powers: Powers) -> Result<u8> {
    info!(
        target: "say",
        "The escapes, tried. A process of the lesson plays the host, with namespaces that are nobody else's."
    );
    if powers == Powers::UserNamespace {
        info!(
            target: "say",
            "You are not root: the host of this play is in a user namespace itself, which stops some escapes \
             whatever else is taken away. `sudo` makes the proof complete."
        );
    }
    Stage::play(lesson, |stage| {
        println!("{:<3} {:<33} {:<22} ANSWER", "CH.", "ESCAPE", "WITH");
        let mut escaped = false;
        for escape in &ESCAPES {
            escaped |= show(stage, container, escape)?;
        }
        Ok(u8::from(escaped))
    })
}

/// The rows of one escape; returns whether it works against the finished container.
fn show(stage: &Stage, container: &Container, escape: &Escape) -> Result<bool> {
    let Escape { chapter, what, stopped_by, besides, attempt } = escape;
    let attempt = |container: &Container| untold(|| attempt(stage, container));
    let without = |removed: &[&Mechanism]| {
        removed.iter().fold(container.clone(), |container, mechanism| mechanism.remove(container))
    };
    let finished = attempt(container)?;
    println!("{:<3} {what:<33} {:<22} {}", format!("{chapter:02}"), "all of it", in_words(&finished));
    for kept in *stopped_by {
        let others: Vec<&Mechanism> = stopped_by.iter().filter(|other| *other != kept).collect();
        // What has to be out of the way goes too, or it would stop what this mechanism is to stop.
        let others: Vec<&Mechanism> = others.into_iter().chain(*besides).collect();
        if stopped_by.len() > 1 {
            let answer = attempt(&without(&others))?;
            println!("{:37} {:<22} {}", "", kept.to_string(), in_words(&answer));
        }
    }
    let all: Vec<&Mechanism> = stopped_by.iter().chain(*besides).collect();
    let none = if let [one] = stopped_by { format!("no {}", one.name()) } else { "none of these".into() };
    println!("{:37} {none:<22} {}", "", in_words(&attempt(&without(&all))?));
    Ok(finished.is_ok())
}

fn in_words(answer: &Answer) -> String {
    match answer {
        Ok(achieved) => format!("ESCAPED: {achieved}"),
        Err(refusal) => refusal.clone(),
    }
}
// ANCHOR_END: all
