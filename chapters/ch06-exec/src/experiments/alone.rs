//! What is it to join a PID namespace, and make no child?

use std::fs::read_link;

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch06_exec::{Join, Kind, Target};
use log::info;
use nix::unistd::getpid;

use super::Stage;

/// A process keeps its PID namespace for life: its number is known to others. setns(2) changes where its children
/// are born.
pub fn without_the_fork(stage: &mut Stage) -> Result<()> {
    info!(target: "say", "Join its PID namespace, and make no child.");
    let pid = stage.target.pid();
    let held = Spawn::new().keep(stage.lesson.descriptors()).dies_with_parent().start(|_| {
        tell("before")?;
        // The target's descriptors are closed in here.
        Join::of(&Target::open(pid)?, &[Kind::Pid])?.enter()?;
        tell("after")?;
        exit_now(0)
    })?;
    held.release_or(Some(stage.signals), || stage.container.clean_up())?.wait()?;
    stage.signals.stop_if_told()
}

fn tell(when: &str) -> Result<()> {
    let link = |name| {
        let path = format!("/proc/self/ns/{name}");
        read_link(&path).with_context(|| format!("readlink {path:?}"))
    };
    let (own, for_children) = (link("pid")?, link("pid_for_children")?);
    info!(
        target: "kernel",
        "{when}: getpid() is {}, /proc/self/ns/pid is {}, pid_for_children is {}",
        getpid(), own.display(), for_children.display()
    );
    Ok(())
}
