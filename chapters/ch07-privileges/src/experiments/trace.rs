// ANCHOR: trace
//! Who may look into a neighbour?
//!
//! ptrace(2) stops a process, reads and writes its memory, and makes calls in its name: a debugger's tool,
//! and a thief's. The kernel allows it to who has the same uid and no less capabilities, in the same user
//! namespace or one above; to others with CAP_SYS_PTRACE over the neighbour's user namespace. The security
//! module Yama restricts that further (`kernel.yama.ptrace_scope`). Many files of `/proc/PID` ask the same
//! question. Manual page: ptrace(2), "Ptrace access mode checking".

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch07_privileges::capabilities::{Capability, Sets};
use lesson::probe::Refusal;
use lesson::untold;
use log::info;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_dumpable;
use nix::unistd::Pid;

use super::{answer, in_words, show, try_with, with_and_without};

/// A neighbour with more capabilities than the tracer: they alone make it somebody else. It needs no second
/// uid, which not every user namespace has.
pub fn run() -> Result<()> {
    info!(target: "say", "Look into a neighbour: a process that the lesson starts for it.");
    let neighbour = untold(|| {
        let held = Spawn::new().dies_with_parent().start(|report| {
            report.close();
            // In a user namespace of ours nobody could trace it: its memory is older than that.
            set_dumpable(true).context("prctl(PR_SET_DUMPABLE, 1)")?;
            // Longer than the experiment takes; it is killed at its end.
            sleep(Duration::from_secs(60));
            exit_now(0)
        })?;
        held.release(None)
    })?;
    let (pid, trace) = (neighbour.pid(), || seize(neighbour.pid()));
    let answers = with_and_without(Capability::SYS_PTRACE, || Ok(()), trace)?;
    show(&format!("ptrace(PTRACE_SEIZE, {pid})"), "CAP_SYS_PTRACE", &answers);
    let all = Sets::own()?.permitted;
    let from_inside = try_with(
        all,
        || Ok(()),
        || {
            unshare(CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| Refusal::new("unshare(CLONE_NEWUSER)", errno))?;
            trace()
        },
    );
    info!(target: "kernel", "from a new user namespace, with all capabilities there: {}",
         in_words(&from_inside));
    if let Ok(scope) = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
        info!(target: "kernel", "/proc/sys/kernel/yama/ptrace_scope is {}", scope.trim());
    }
    drop(neighbour);
    Ok(())
}

/// Becomes the tracer of `pid`, which goes on as before, until the tracer's end.
pub fn seize(pid: Pid) -> Result<String, Refusal> {
    // SAFETY: PTRACE_SEIZE takes the process and options by value; no memory of ours is touched.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.as_raw(), 0, 0) };
    answer("ptrace(PTRACE_SEIZE)", result).map(|_| "traced".into())
}
// ANCHOR_END: trace
