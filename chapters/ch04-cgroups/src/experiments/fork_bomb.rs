// ANCHOR: fork_bomb
//! What happens to a process that forks without end?
//!
//! A fork bomb can't be killed one by one: while one dies, another forks. The cgroup is where all of them can
//! be found, and killed at once.

use std::convert::Infallible;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use ch01_pid::spawn::exit_now;
use ch04_cgroups::{Bound, Limits};
use log::info;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::fork;

use super::{Measurement, Stage, Watch};
use crate::plot::{Sample, Unit};
use crate::report::counted;

const LIMIT: u64 = 20;

/// Processes up to the limit, and then all are killed as one.
pub fn run(stage: &mut Stage) -> Result<()> {
    info!(target: "say", "Fork bomb. Each process forks every 200 ms; there may be 20 of them.");
    let Some(cgroup) = stage.cgroup(&Limits { pids: Some(Bound::At(LIMIT)), ..Default::default() })? else {
        return Ok(());
    };
    info!(target: "syscall", "prctl(PR_SET_CHILD_SUBREAPER, 1)  orphans become ours, not those of the host's init");
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let mut child = stage.start(&cgroup, None, bomb)?;
    let measurement = Measurement {
        name: "fork_bomb",
        unit: Unit::Processes,
        limit: LIMIT as f64,
        interval: Duration::from_millis(50),
        expected: Duration::from_millis(2600),
        at_most: Duration::from_millis(2500),
    };
    let mut watch = Watch::new(stage, measurement);
    watch.until_end(&cgroup, &child, |_, usage| usage.pids.current.map(|number| number as f64))?;
    let before = (cgroup.processes()?.len(), cgroup.usage()?.pids);

    cgroup.kill_all()?;
    child.wait()?;
    // All are orphans now, and ours. One that is dead counts until its parent has waited for it.
    while waitpid(None, None) != Err(Errno::ECHILD) {}
    let seconds = watch.start.elapsed().as_secs_f64();
    if let Some(number) = cgroup.usage()?.pids.current {
        watch.add(Sample { seconds, usage: number as f64 }, true)?;
    }
    set_child_subreaper(false).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let (processes, pids) = before;
    info!(target: "kernel", "processes: {processes}; forks that were refused: {}", counted(pids.max_events));
    info!(target: "kernel", "after the kill, processes: {}", cgroup.processes()?.len());
    cgroup.remove()
}

/// Forks, and so do its children: their number doubles, up to 128 where nothing stops them. Those that live on end
/// by themselves after ten seconds, should nobody kill them.
fn bomb() -> Infallible {
    for _ in 0..7 {
        sleep(Duration::from_millis(200));
        // A refusal (EAGAIN) is what the experiment is about; the parent sees it in pids.events.
        // SAFETY: this process has a single thread, as has each of its children.
        let _ = unsafe { fork() };
    }
    sleep(Duration::from_secs(10));
    exit_now(0)
}
// ANCHOR_END: fork_bomb
