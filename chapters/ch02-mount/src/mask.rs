//! What a container must not see, or not change, although it is mounted.
//!
//! Some files of /proc and /sys are not part of any namespace: what is read there tells of the host, what is
//! written there changes it. `/proc/kcore` is the host's memory, `/proc/sysrq-trigger` reboots it. They are
//! covered: a file by `/dev/null`, a directory by an empty tmpfs; or made read-only by a bind mount of the
//! path onto itself.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use log::{Level, info};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::resolve::{is_directory, refusal};
use crate::tree::Setting::Text;
use crate::{Attributes, Root, Tree, dev};

// ANCHOR: lists
/// What Docker masks by default in /proc.
pub const MASKED_IN_PROC: [&str; 9] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"];

/// What Docker masks by default in /sys, without the files of single processors.
pub const MASKED_IN_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];

/// What Docker makes read-only by default in /proc. /sys is read-only as a whole.
pub const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
// ANCHOR_END: lists

// ANCHOR: defaults
/// Masks and guards what Docker does by default, in the mounted `proc` and `sys`.
///
/// They are given as mounts, not looked up as `/proc` and `/sys`: those paths belong to the container's
/// files.
///
/// # Errors
///
/// Names the path.
pub fn apply_defaults(proc: &Root, sys: &Root) -> Result<()> {
    info!(
        target: "syscall",
        "move_mount(cover, \"/proc/kcore\") ...  over each path that tells of the host, where it exists"
    );
    MASKED_IN_PROC.iter().try_for_each(|path| mask(proc, Path::new(path)))?;
    MASKED_IN_SYS.iter().try_for_each(|path| mask(sys, Path::new(path)))?;
    info!(
        target: "syscall",
        "mount_setattr(\"/proc/sys\", +ro) ...  for each path that changes the host, where it exists"
    );
    READ_ONLY_IN_PROC.iter().try_for_each(|path| read_only(proc, Path::new(path)))
}
// ANCHOR_END: defaults

// ANCHOR: mask
/// Covers what is at `path` inside `root`. A path that does not exist needs no mask.
///
/// # Errors
///
/// Names `path`.
pub fn mask(root: &Root, path: &Path) -> Result<()> {
    let Some(place) = find_if_there(root, path)? else { return Ok(()) };
    let cover = if is_directory(&place)? {
        Tree::new_at(
            Level::Debug,
            "tmpfs",
            &[Text("mode", "755"), Text("nr_inodes", "1")],
            Attributes::READ_ONLY,
        )?
    } else {
        // The host's, and checked: CVE-2025-31133 was a container's own /dev/null, a symbolic link, that runc
        // bound over the file which it meant to hide.
        dev::host_device("null", 1, 3)?
    };
    cover.attach(&place, path)
}

/// Makes what is at `path` inside `root` read-only, with all below. A path that does not exist is passed
/// over.
///
/// # Errors
///
/// Names `path`.
pub fn read_only(root: &Root, path: &Path) -> Result<()> {
    let Some(place) = find_if_there(root, path)? else { return Ok(()) };
    let mut tree = Tree::copy_at(place.as_fd(), Path::new(""), true, Level::Debug)?;
    tree.add(Attributes::READ_ONLY, true)?;
    tree.attach(&place, path)
}

fn find_if_there(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.find(path, OFlag::O_PATH) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        result => result.map(Some).map_err(|errno| refusal(errno, path)),
    }
}
// ANCHOR_END: mask
