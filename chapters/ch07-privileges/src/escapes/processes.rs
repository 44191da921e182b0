// ANCHOR: processes
//! Chapters 0 and 1: harm to a process of the host's, by its number or by its directory in /proc.

use std::fs;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use super::stage::{Stage, refused, refused_io};
use crate::container::Container;
use crate::inside::Answer;

/// Tries something on a neighbour.
fn on_neighbour(stage: &Stage, container: &Container, attempt: impl FnOnce(Pid) -> Answer) -> Result<Answer> {
    let neighbour = stage.neighbour()?;
    let pid = neighbour.pid();
    stage.ask(container, &[], || attempt(pid))
}

/// By number.
pub fn kill(stage: &Stage, container: &Container) -> Result<Answer> {
    on_neighbour(stage, container, |pid| match send(pid, Signal::SIGKILL) {
        Ok(()) => Ok("killed".into()),
        Err(errno) => Err(refused("kill", errno)),
    })
}

/// By number.
pub fn trace(stage: &Stage, container: &Container) -> Result<Answer> {
    on_neighbour(stage, container, |pid| {
        // SAFETY: PTRACE_SEIZE takes the process and options by value; no memory of ours is touched.
        let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.as_raw(), 0, 0) };
        Errno::result(result).map(|_| "traced".into()).map_err(|errno| refused("ptrace", errno))
    })
}

/// By path.
pub fn read_environment(stage: &Stage, container: &Container) -> Result<Answer> {
    on_neighbour(stage, container, |pid| match fs::read(format!("/proc/{pid}/environ")) {
        Ok(_) => Ok("read".into()),
        Err(error) => Err(refused_io("open", &error)),
    })
}

/// By path: when memory runs out, the kernel kills the one with the highest score first.
pub fn choose_victim(stage: &Stage, container: &Container) -> Result<Answer> {
    on_neighbour(stage, container, |pid| match fs::write(format!("/proc/{pid}/oom_score_adj"), "1000") {
        Ok(()) => Ok("oom_score_adj is 1000".into()),
        Err(error) => Err(refused_io("open", &error)),
    })
}
// ANCHOR_END: processes
