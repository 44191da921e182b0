//! Who owns a cgroup, and whether it is still alive: flock(2).
//!
//! The lock belongs to the open directory, not to a path or a pid. The kernel lets go of it when the last
//! descriptor is closed, so it can't outlive its owner, and a number can't be taken for a new process of the
//! same number.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ch01_pid::flock;
use nix::errno::Errno;

use crate::file::Directory;

// ANCHOR: lock
/// Marks a cgroup as in use, until its directory is closed: by us, or by the kernel when we die.
///
/// # Errors
///
/// EWOULDBLOCK when it is another's.
pub(crate) fn own(directory: &Directory) -> Result<(), Errno> {
    flock(directory, libc::LOCK_EX | libc::LOCK_NB)
}

/// Keeps others from making or sweeping cgroups below `parent`, as long as the value lives; waits for them.
///
/// The lock is on a file in the directory, since one on the directory itself says that `parent` is in use. Who
/// may read a file may lock it, so any user can: we do not wait for ever.
pub(crate) fn children_of(parent: &Directory) -> Result<File> {
    let path = parent.path.join("cgroup.procs");
    let file = File::open(&path).with_context(|| format!("open {path:?}"))?;
    let deadline = Instant::now() + LONGEST_SWEEP;
    loop {
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => return Ok(file),
            Err(Errno::EWOULDBLOCK) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
            Err(errno) => {
                let text = format!("flock {path:?} (`lslocks` tells which program holds it)");
                return Err(errno).context(text);
            }
        }
    }
}

const LONGEST_SWEEP: Duration = Duration::from_secs(60);
// ANCHOR_END: lock
