//! Cgroups that a program has left which was killed.
//!
//! It had no chance to clean up, and a name tells nothing of whether its owner lives. The lock does: see
//! [`cgroup`](crate::cgroup).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::delegation::is_writable;
use crate::file::Directory;
use crate::{Cgroup, Hierarchies, Place, lock};

// ANCHOR: sweep
/// Kills and removes the cgroups whose name begins with `prefix` and whose owner is dead, in each hierarchy:
/// those beside `place`, and those below our own cgroup and below each above it, since [`Place::near`] goes as
/// far up as the controllers need. While it looks, none can be made there.
///
/// # Errors
///
/// Names the one that can't be removed.
pub fn sweep(place: &Place, prefix: &str) -> Result<()> {
    // One name is a directory in each hierarchy: its processes are killed as one.
    let mut dead: BTreeMap<OsString, Vec<Directory>> = BTreeMap::new();
    let mut locks = Vec::new();
    for parent in parents(place)? {
        locks.push(lock::children_of(&parent)?);
        for child in parent.children()? {
            let Some(name) = child.path.file_name() else { continue };
            // Another user's, if it can't be written.
            if !name.as_encoded_bytes().starts_with(prefix.as_bytes()) || !is_writable(&child.path) {
                continue;
            }
            match lock::own(&child) {
                Ok(()) => dead.entry(name.to_owned()).or_default().push(child),
                Err(Errno::EWOULDBLOCK) => (),
                Err(errno) => return Err(errno).with_context(|| format!("flock {:?}", child.path)),
            }
        }
    }
    for (name, directories) in dead {
        let cgroup = Cgroup::from_directories(directories);
        // A shell may have moved itself into one: then it is in use, by ourselves.
        if cgroup.processes()?.contains(&Pid::this()) {
            continue;
        }
        info!(target: "syscall", "flock({name:?}, LOCK_EX)  its owner is dead: it is swept");
        cgroup.kill_all()?;
        cgroup.remove()?;
    }
    Ok(())
}

fn parents(place: &Place) -> Result<Vec<Directory>> {
    let hierarchies = Hierarchies::find()?;
    let mut parents = Vec::new();
    for (_, hierarchy, path) in place.on_disk()? {
        let own = hierarchy.directory(&hierarchies.path_of(Pid::this(), hierarchy)?)?;
        let above = own.ancestors().chain(path.ancestors().skip(1));
        let above = above.filter(|path| path.starts_with(&hierarchy.mount_point));
        // Sorted: were they locked in different orders, two sweeps could wait for each other.
        for path in above.collect::<BTreeSet<_>>() {
            match Directory::open(hierarchy, path) {
                // Nothing was made there; or nothing by us.
                Err(Errno::ENOENT | Errno::EACCES) => (),
                parent => parents.push(parent.with_context(|| format!("open {path:?}"))?),
            }
        }
    }
    Ok(parents)
}
// ANCHOR_END: sweep
