//! /proc: the kernel's account of the processes.
//!
//! A procfs belongs to the PID namespace of the process that mounts it, and shows the processes of that one.
//! So PID 1 of a new namespace needs a new one: in the old one it would see the host's processes, and not
//! find itself. Manual page: proc(5).

use std::path::Path;

use anyhow::{Context, Result};

use crate::{Attributes, Root, Tree};

// ANCHOR: proc
/// Mounts a new procfs at /proc inside `root`, and returns it. To be called in the new PID namespace.
///
/// # Errors
///
/// EPERM in a user namespace where the host's own /proc is masked, as in a container of Docker's: the kernel
/// does not show there what was hidden from us here.
pub fn mount(root: &Root) -> Result<Root> {
    let place = root.mount_point(Path::new("/proc"))?;
    let attributes = Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let tree = Tree::new("proc", &[], attributes).context(
        "a new /proc (EPERM means that this machine's own /proc is masked, as in a container: the kernel will not unmask it)",
    )?;
    tree.attach(&place, Path::new("/proc"))?;
    Ok(Root::from(tree))
}
// ANCHOR_END: proc
