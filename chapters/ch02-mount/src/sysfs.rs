//! /sys: the kernel's account of devices, modules and limits.
//!
//! A sysfs shows the network links of one network namespace, and only who owns that namespace may mount it.
//! Until chapter 3 gives the container a network namespace of its own, that is the host's, so a plain user
//! can't: there the host's own /sys is bound, with the mounts below it, read-only. Manual page: sysfs(5).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use log::info;
use nix::errno::Errno;
use nix::sys::statfs::{SYSFS_MAGIC, fstatfs};

use crate::{Attributes, Root, Tree};

// ANCHOR: sysfs
/// Mounts /sys inside `root`, read-only, and returns it.
///
/// # Errors
///
/// The errno of the new mount, or of the bind where a new one is refused.
pub fn mount(root: &Root) -> Result<Root> {
    let place = root.mount_point(Path::new("/sys"))?;
    let guarded = Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let tree = match Tree::new("sysfs", &[], guarded) {
        Err(error) if error.root_cause().downcast_ref() == Some(&Errno::EPERM) => {
            info!(
                target: "say",
                "A new /sys needs a network namespace of our own, so the host's is bound, read-only."
            );
            let mut host = Tree::copy(Path::new("/sys"), true)?;
            let kind = fstatfs(&host).context("statfs \"/sys\"")?.filesystem_type();
            ensure!(kind == SYSFS_MAGIC, "\"/sys\" of the host is no sysfs");
            host.add(guarded, true)?;
            host
        }
        result => result.context("a new /sys")?,
    };
    tree.attach(&place, Path::new("/sys"))?;
    Ok(Root::from(tree))
}
// ANCHOR_END: sysfs
