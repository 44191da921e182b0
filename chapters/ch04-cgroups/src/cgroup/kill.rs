//! All processes of a cgroup are killed as one.
//!
//! Killing a list of pids loses the race against a fork bomb: each that is killed has children by then that
//! are not on the list. Version 2 kills a cgroup in the kernel (`cgroup.kill`, Linux 5.14). Elsewhere they
//! are frozen first, so that none can fork: a signal waits for a process that is frozen, and ends it when it
//! is thawed.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use log::{debug, info};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cgroup, DEADLINE, add_processes};

// ANCHOR: kill_all
impl Cgroup {
    /// Kills all processes in it and in the cgroups below, and returns when none is left.
    ///
    /// # Errors
    ///
    /// When a process does not die in time: it waits for a device, in the state `D`.
    pub fn kill_all(&self) -> Result<()> {
        let by_kernel = self.unified().filter(|directory| directory.has("cgroup.kill"));
        if let Some(directory) = by_kernel {
            directory.write("cgroup.kill", "1", "the kernel kills all of them, and none can fork away")?;
            // It ends those that version 2 has frozen, but not those that version 1 has.
            if self.is_frozen_by_v1()? {
                self.thaw()?;
            }
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut killed = BTreeSet::new();
            by_kernel.map_or(Ok(()), |directory| add_processes(directory, &mut killed))?;
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            // In a hybrid a process may stand in the hierarchies of version 1 alone.
            let is_beyond = |pid: &Pid| !killed.contains(&pid.as_raw());
            if by_kernel.is_none() || (!self.is_entered_by_clone() && left.iter().any(is_beyond)) {
                self.kill_each()?;
            }
            ensure!(
                Instant::now() < deadline,
                "processes that do not die within {DEADLINE:?} of a SIGKILL: {left:?}"
            );
            sleep(Duration::from_millis(1));
        }
    }
    // ANCHOR_END: kill_all

    // ANCHOR: kill_each
    fn kill_each(&self) -> Result<()> {
        let has_freezer = self.freezer().is_some();
        if has_freezer {
            self.freeze().context("freeze the processes, to kill them all")?;
        }
        let pids = self.processes();
        let killed = pids.and_then(|pids| {
            info!(target: "syscall", "kill(pid, SIGKILL) ...  each of {} processes", pids.len());
            for pid in pids {
                debug!(target: "syscall", "kill({pid}, SIGKILL)");
                match kill(pid, Signal::SIGKILL) {
                    // ESRCH: it has died in between.
                    Ok(()) | Err(Errno::ESRCH) => (),
                    Err(errno) => return Err(errno).with_context(|| format!("kill {pid}")),
                }
            }
            Ok(())
        });
        // Whatever happened, they must not stay frozen.
        if has_freezer { self.thaw().and(killed) } else { killed }
    }
    // ANCHOR_END: kill_each
}
