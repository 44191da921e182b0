// ANCHOR: set_user_id
//! What is a set-user-id program to a process without new privileges?
//!
//! Whoever executes it becomes its owner: so passwd(1) may write a file of root's. It is the way by which a
//! process that has lost everything gets it back, if it finds such a program, and images are full of them.
//! With `no_new_privs` exec ignores the bit. Manual pages: execve(2), prctl(2).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use ch02_mount::{Attributes, Propagation, Root, Setting, Tree, propagation};
use ch07_privileges::no_new_privs;
use lesson::probe::{Refusal, in_child};
use lesson::untold;
use log::info;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use userns::map::{self, Ids};

use super::in_words;

/// A user that is not root, and exists in a plain user's ranges too.
const USER: u32 = 1;

/// A set-user-id copy of cat(1), which prints the user ids of its own process, run by another user.
pub fn run() -> Result<()> {
    info!(target: "say", "A set-user-id program of root's, run by the user {USER}.");
    if map::to_outside(&map::own(Ids::Users)?, USER).is_none() {
        info!(
            target: "say",
            "This needs a second user, and only one exists here: newuidmap(1) is missing, or a range in \
             /etc/subuid."
        );
        return Ok(());
    }
    for guarded in [false, true] {
        let how = if guarded { "with   " } else { "without" };
        let ids =
            in_child(|| untold(|| stage().and_then(|program| user_ids(&program, guarded))).map_err(refusal));
        info!(target: "kernel", "{how} no_new_privs, real, effective and saved uid: {}", in_words(&ids));
    }
    Ok(())
}

/// The program, in a mount that nobody else sees.
fn stage() -> Result<std::path::PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    propagation::set(Path::new("/"), Propagation::Private, true)?;
    let place = Path::new("/tmp");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cat = std::env::split_paths(&path).map(|directory| directory.join("cat")).find(|file| file.exists());
    let program = fs::read(cat.context("no cat in PATH")?).context("read cat")?;
    Tree::new("tmpfs", &[Setting::Text("mode", "755")], Attributes::NONE)?
        .attach(Root::open(place)?, place)?;
    let copy = place.join("cat");
    fs::write(&copy, program).with_context(|| format!("write {copy:?}"))?;
    fs::set_permissions(&copy, Permissions::from_mode(0o4755)).with_context(|| format!("chmod {copy:?}"))?;
    Ok(copy)
}

/// The ids of the program's own process, as the kernel tells them to it.
fn user_ids(program: &Path, guarded: bool) -> Result<String> {
    let mut command = Command::new(program);
    command.arg("/proc/self/status").uid(USER).gid(USER);
    if guarded {
        // Stays over exec: that is its point.
        no_new_privs::set()?;
    }
    let output = command.output().with_context(|| format!("execute {program:?}"))?;
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("no line Uid")?;
    Ok(line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

fn refusal(error: anyhow::Error) -> Refusal {
    let errno = error.root_cause().downcast_ref().copied();
    Refusal::new(lesson::describe(&error), errno.unwrap_or(Errno::EINVAL))
}
// ANCHOR_END: set_user_id
