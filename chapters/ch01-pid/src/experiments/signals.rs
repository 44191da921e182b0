// ANCHOR: imports
//! Who can end PID 1?

use std::time::Duration;

use anyhow::{Context, Result};
use ch00_chroot::exec;
use ch00_chroot::exec::own_environment;
use ch01_pid::spawn::exit_now;
use ch01_pid::{Child, Spawn, init};
use lesson::Lesson;
use log::info;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};

use super::{children, status_line, wait_for};
// ANCHOR_END: imports

// ANCHOR: without_init
/// PID 1 is `sleep`, which has no handler for SIGTERM.
pub fn without_init(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "Signals. PID 1 is sleep, which has no handler for SIGTERM.");
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).keep(lesson.descriptors()).dies_with_parent();
    let held = held.start(|_| {
        send_from_inside(Signal::SIGTERM)?;
        Ok(exec(&["sleep".into(), "60".into()], &own_environment())?)
    })?;
    let mut child = held.release(None)?;

    // The sender is a child of PID 1, which does not wait for it: it is a zombie once it has sent.
    let sent = || Ok(children(child.pid())?.iter().find(|pid| is_zombie(**pid)).copied());
    wait_for("the signal from inside", sent)?;
    info!(target: "kernel", "after SIGTERM from inside: State: {}", state_at_rest(child.pid())?);
    child.signal(libc::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(100));
    info!(target: "kernel", "after SIGTERM from outside: State: {}", state_at_rest(child.pid())?);
    end(&mut child, Signal::SIGKILL)
}

/// A child of PID 1 that waits until PID 1 is `sleep`, sends it `signal`, and ends.
fn send_from_inside(signal: Signal) -> Result<()> {
    // SAFETY: this process has a single thread.
    if let ForkResult::Child = unsafe { fork() }.context("fork the sender")? {
        std::thread::sleep(Duration::from_millis(50));
        exit_now(kill(Pid::from_raw(1), signal).is_err().into());
    }
    Ok(())
}

fn is_zombie(pid: Pid) -> bool {
    status_line(pid, "State").is_ok_and(|state| state.starts_with('Z'))
}

/// The state once the process neither runs (R) nor waits for a disk (D), as while it is still being loaded.
fn state_at_rest(pid: Pid) -> Result<String> {
    let state = || Ok(Some(status_line(pid, "State")?).filter(|state| !state.starts_with(['R', 'D'])));
    wait_for("PID 1 to be at rest", state)
}
// ANCHOR_END: without_init

// ANCHOR: with_init
/// PID 1 is our init, which passes the signal on; `sleep` has no number with a shield.
pub fn with_init(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "Signals. PID 1 is an init, which passes them on to sleep.");
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).keep(lesson.descriptors()).dies_with_parent();
    let command = || Ok(exec(&["sleep".into(), "60".into()], &own_environment())?);
    let mut child = held.start(|report| init(report, command))?.release(None)?;
    end(&mut child, Signal::SIGTERM)
}
// ANCHOR_END: with_init

// ANCHOR: end
/// Sends `signal` from outside, and shows how the process ended.
fn end(child: &mut Child, signal: Signal) -> Result<()> {
    child.signal(signal as i32)?;
    let status = child.wait()?;
    info!(
        target: "kernel",
        "after {signal} from outside: gone, with status {status} (128 + {})",
        signal as i32
    );
    Ok(())
}
// ANCHOR_END: end
