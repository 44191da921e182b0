//! What happens to the others when PID 1 dies?

use anyhow::Result;
use ch00_chroot::exec;
use ch00_chroot::exec::own_environment;
use ch01_pid::{Spawn, init};
use lesson::Lesson;
use log::info;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::{children, status_line, wait_for};

/// The kernel sends SIGKILL to every process of the namespace.
pub fn of_init(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "Death. PID 1 is an init, with sleep as its child; we kill PID 1 alone.");
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).keep(lesson.descriptors()).dies_with_parent();
    let command = || Ok(exec(&["sleep".into(), "60".into()], &own_environment())?);
    let mut child = held.start(|report| init(report, command))?.release(None)?;
    let sleep = wait_for("sleep", || Ok(children(child.pid())?.into_iter().find(|pid| is_asleep(*pid))))?;
    info!(target: "kernel", "before: /proc/{sleep}/status says State: {}", status_line(sleep, "State")?);
    child.signal(libc::SIGKILL)?;
    child.wait()?;
    let exists = std::path::Path::new(&format!("/proc/{sleep}")).exists();
    info!(target: "kernel", "after: /proc/{sleep} exists: {exists}");
    Ok(())
}

fn is_asleep(pid: Pid) -> bool {
    status_line(pid, "State").is_ok_and(|state| state.starts_with('S'))
}
