// ANCHOR: imports
//! Who waits for a process whose parent has died?

use std::convert::Infallible;
use std::path::Path;

use anyhow::{Context, Result};
use ch00_chroot::exec;
use ch00_chroot::exec::own_environment;
use ch01_pid::spawn::exit_now;
use ch01_pid::{Spawn, init};
use lesson::Lesson;
use log::{LevelFilter, info};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};

use super::{children, status_line, wait_for};
// ANCHOR_END: imports

// ANCHOR: orphan
/// Makes a child that makes a child, and ends at once: the grandchild is an orphan, and lives for `seconds`.
fn make_orphan(seconds: &str) -> Result<()> {
    // SAFETY: this process has a single thread.
    if let ForkResult::Child = unsafe { fork() }.context("fork a parent")? {
        // The two would narrate at the same time as PID 1.
        log::set_max_level(LevelFilter::Off);
        // SAFETY: as above.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => sleep(seconds).map_or_else(|_| exit_now(1), |never| match never {}),
            Ok(ForkResult::Parent { .. }) => exit_now(0),
            Err(_) => exit_now(1),
        }
    }
    Ok(())
}

/// Becomes the program sleep.
fn sleep(seconds: &str) -> Result<Infallible> {
    Ok(exec(&["sleep".into(), seconds.into()], &own_environment())?)
}
// ANCHOR_END: orphan

// ANCHOR: without_init
/// PID 1 is `sleep`, which never waits for anybody.
pub fn without_init(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "Orphans. PID 1 is the program sleep, which knows nothing of them.");
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).keep(lesson.descriptors()).dies_with_parent();
    let held = held.start(|_| {
        make_orphan("0.1")?;
        sleep("60")
    })?;
    let mut child = held.release(None)?;
    let zombies = || {
        let states = states(&children(child.pid())?);
        Ok((states.len() == 2 && states.iter().all(|state| state.starts_with('Z'))).then_some(states))
    };
    let states = wait_for("two zombies", zombies)?;
    info!(target: "kernel", "children of PID 1, after they have ended: State: {}", states.join(", State: "));
    child.signal(libc::SIGKILL)?;
    child.wait()?;
    Ok(())
}
// ANCHOR_END: without_init

// ANCHOR: with_init
/// PID 1 is our init; `sleep` is its child, and so are the orphans.
pub fn with_init(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "Orphans. PID 1 is an init, and sleep is its child.");
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).keep(lesson.descriptors()).dies_with_parent();
    let held = held.start(|report| {
        init(report, || {
            make_orphan("60")?;
            sleep("60")
        })
    })?;
    let mut child = held.release(None)?;
    // The command is process 2 of the namespace, so the other child of init is the orphan.
    let is_orphan = |pid: &Pid| pid_inside(*pid).is_ok_and(|pid| pid != "2");
    let orphan = wait_for("the orphan", || Ok(children(child.pid())?.into_iter().find(is_orphan)))?;
    info!(target: "kernel", "the orphan's parent is now PID {} of its namespace", pid_inside(child.pid())?);
    kill(orphan, Signal::SIGKILL).context("kill the orphan")?;
    let file = format!("/proc/{orphan}");
    let exists = || Path::new(&file).exists();
    wait_for("init to reap the orphan", || Ok((!exists()).then_some(())))?;
    info!(target: "kernel", "after its end: {file} exists: {}", exists());
    child.signal(libc::SIGKILL)?;
    child.wait()?;
    Ok(())
}
// ANCHOR_END: with_init

// ANCHOR: look
fn states(pids: &[Pid]) -> Vec<String> {
    pids.iter().filter_map(|pid| status_line(*pid, "State").ok()).collect()
}

/// A process's number in its own namespace: the last one of the line NSpid.
fn pid_inside(pid: Pid) -> Result<String> {
    let pids = status_line(pid, "NSpid")?;
    Ok(pids.split(' ').next_back().unwrap_or_default().into())
}
// ANCHOR_END: look
