//! The making of a cgroup: mkdir(2) in each hierarchy.
//!
//! A directory of version 2 has the files of those controllers that its parent hands down: names written to
//! the parent's `cgroup.subtree_control`, with a `+`. The parent must have got them from its own parent, so
//! they are enabled from the top down. A new cpuset of version 1 has neither processors nor memory, and takes
//! no process until it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use log::{debug, info};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::remove::remove;
use super::{Cgroup, DEADLINE, Missing, add_processes};
use crate::file::{Directory, words};
use crate::{Hierarchy, Place, Version, lock};

// ANCHOR: create
impl Cgroup {
    /// Makes a cgroup, with the cgroups above it where they are missing. It is ours, as the lock on it tells,
    /// while the value lives. One that exists is made anew if it has no process and no living owner: else it
    /// would keep its counters and limits, and might be frozen.
    ///
    /// A hierarchy that is closed to us is passed over; a limit or an [`enter`](Cgroup::enter) that needs it
    /// fails then. A controller that is not handed down to it (version 2) likewise.
    ///
    /// # Errors
    ///
    /// When it is in use, or can be made in no hierarchy. Nothing is left then.
    pub fn create(place: &Place) -> Result<Cgroup> {
        let spots = place.on_disk()?;
        let first = spots.first().map_or(Path::new(""), |(_, _, path)| path);
        info!(
            target: "syscall",
            "mkdir({first:?})  a cgroup: {}",
            if spots.len() == 1 { "one directory".into() } else { format!("in {} hierarchies", spots.len()) }
        );
        let mut made = Vec::new();
        let mut create = || {
            let mut cgroup = Cgroup { directories: Vec::new(), missing: Vec::new() };
            for (spot, hierarchy, path) in &spots {
                match create_directory(hierarchy, path, place, &mut made) {
                    Ok(directory) => cgroup.directories.push(directory),
                    Err(error) => match error.downcast_ref::<Errno>() {
                        Some(&errno @ (Errno::EACCES | Errno::EPERM | Errno::EROFS)) => {
                            debug!(target: "syscall", "{path:?} can't be made: {errno}");
                            cgroup.missing.push(Missing { place: spot.clone(), errno });
                        }
                        _ => return Err(error),
                    },
                }
            }
            cgroup.ensure_somewhere(place)?;
            Ok(cgroup)
        };
        create().inspect_err(|_| {
            for path in made.iter().rev() {
                if let Err(error) = std::fs::remove_dir(path) {
                    debug!(target: "syscall", "rmdir({path:?}): {error}");
                }
            }
        })
    }
}
// ANCHOR_END: create

// ANCHOR: directory
fn create_directory(
    hierarchy: &Hierarchy,
    path: &Path,
    place: &Place,
    made: &mut Vec<PathBuf>,
) -> Result<Directory> {
    let below = path.strip_prefix(&hierarchy.mount_point).context("a cgroup outside of its hierarchy")?;
    let name = below.file_name().context("the topmost cgroup can't be made")?;
    let mut parent = open(hierarchy, &hierarchy.mount_point)?;
    for component in below.parent().unwrap_or(Path::new("")) {
        hand_down(&parent, place);
        let path = parent.path.join(component);
        make(hierarchy, &path, made)?;
        parent = open(hierarchy, &path)?;
        fill_cpuset(&parent)?;
    }
    hand_down(&parent, place);

    // Between mkdir and flock the new cgroup would look like one whose owner is dead.
    let _no_sweep = lock::children_of(&parent)?;
    let path = parent.path.join(name);
    if !make(hierarchy, &path, made)? {
        let old = own(hierarchy, &path)?;
        let mut pids = BTreeSet::new();
        add_processes(&old, &mut pids)?;
        ensure!(pids.is_empty(), "{path:?} exists, and has processes: {pids:?}");
        remove(&old, Instant::now() + DEADLINE)?;
        make(hierarchy, &path, made)?;
    }
    let directory = own(hierarchy, &path)?;
    fill_cpuset(&directory)?;
    Ok(directory)
}

fn own(hierarchy: &Hierarchy, path: &Path) -> Result<Directory> {
    let directory = open(hierarchy, path)?;
    lock::own(&directory)
        .with_context(|| format!("flock {path:?} (it exists, and has an owner who is alive)"))?;
    Ok(directory)
}

/// Whether the directory is new.
fn make(hierarchy: &Hierarchy, path: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    debug!(target: "syscall", "mkdir({path:?}, 0755)  in the hierarchy {hierarchy}");
    match mkdir(path, Mode::from_bits_truncate(0o755)) {
        Ok(()) => made.push(path.into()),
        Err(Errno::EEXIST) => return Ok(false),
        Err(errno) => return Err(anyhow!(errno).context(format!("mkdir {path:?}"))),
    }
    Ok(true)
}

fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Directory> {
    Directory::open(hierarchy, path).with_context(|| format!("open {path:?}"))
}
// ANCHOR_END: directory

// ANCHOR: hand_down
/// Enables the controllers of `place` for the cgroups below `parent`, as far as that goes. One that can't be
/// enabled is no error here, where it may not be needed; where it is, `why` finds out at which cgroup it got
/// lost.
fn hand_down(parent: &Directory, place: &Place) {
    if parent.version() == Version::V1 {
        return;
    }
    let available = words(&parent.try_read("cgroup.controllers").unwrap_or_default());
    let enabled = words(&parent.try_read("cgroup.subtree_control").unwrap_or_default());
    // One at a time: a write with several names fails as a whole.
    for controller in available.iter().filter(|one| place.wants(one) && !enabled.contains(one)) {
        let file = parent.path.join("cgroup.subtree_control");
        info!(target: "syscall", "write({file:?}, \"+{controller}\")  hand the controller down");
        if let Err(errno) = parent.try_write("cgroup.subtree_control", &format!("+{controller}")) {
            debug!(target: "syscall", "{file:?} refuses +{controller}: {errno}");
        }
    }
}
// ANCHOR_END: hand_down

// ANCHOR: cpuset
/// Gives a cpuset of version 1 the processors and the memory of its parent, if it has none.
fn fill_cpuset(directory: &Directory) -> Result<()> {
    if directory.version() == Version::V2 || !directory.hierarchy.has("cpuset") {
        return Ok(());
    }
    let Some(parent) = directory.path.parent() else { return Ok(()) };
    let parent = open(&directory.hierarchy, parent)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if directory.read(file)?.is_empty() {
            directory.write_quietly(file, &parent.read(file)?, "an empty cpuset takes no process")?;
        }
    }
    Ok(())
}
// ANCHOR_END: cpuset
