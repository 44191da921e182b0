//! A cgroup is removed: rmdir(2), in each hierarchy, those below it first.
//!
//! Its files need not be removed: they are not on any disk. A cgroup with a process in it is busy (EBUSY),
//! and a process that was killed is in it until the kernel has taken it down.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use log::{debug, info};
use nix::errno::Errno;

use super::{Cgroup, DEADLINE};
use crate::file::Directory;

// ANCHOR: remove
impl Cgroup {
    /// Removes it and the cgroups below it, and waits for processes that are dying. One that is gone already
    /// is no error. Those above it stay.
    ///
    /// # Errors
    ///
    /// EBUSY when it still has processes after a while: kill them first.
    pub fn remove(self) -> Result<()> {
        let (Some(first), count) = (self.directories.first(), self.directories.len()) else { return Ok(()) };
        info!(
            target: "syscall",
            "rmdir({:?})  the cgroup{}",
            first.path,
            if count == 1 { "".into() } else { format!(", in each of {count} hierarchies") }
        );
        let deadline = Instant::now() + DEADLINE;
        // All are tried, even if one fails: each that stays is one more left behind.
        let results: Vec<_> = self.directories.iter().map(|directory| remove(directory, deadline)).collect();
        results.into_iter().collect()
    }
}

pub(super) fn remove(directory: &Directory, deadline: Instant) -> Result<()> {
    loop {
        for child in directory.children()? {
            remove(&child, deadline)?;
        }
        debug!(target: "syscall", "rmdir({:?})", directory.path);
        match rmdir(&directory.path) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // Processes that are dying; or a cgroup made below it since we looked.
            Err(Errno::EBUSY | Errno::ENOTEMPTY) if Instant::now() < deadline => {
                sleep(Duration::from_millis(2))
            }
            Err(errno) => {
                let pids = directory.try_read("cgroup.procs").unwrap_or_default();
                let pids = pids.split_whitespace().collect::<Vec<_>>().join(", ");
                return Err(
                    anyhow!(errno).context(format!("rmdir {:?} (processes in it: {pids})", directory.path))
                );
            }
        }
    }
}
// ANCHOR_END: remove

/// rmdir(2), which nix does not have.
fn rmdir(path: &Path) -> Result<(), Errno> {
    std::fs::remove_dir(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}
