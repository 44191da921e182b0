//! The files of a container: all of this chapter, in the order in which the kernel needs it.

use std::path::Path;

use anyhow::Result;
use log::info;
use nix::sys::stat::{Mode, umask};

use crate::{Propagation, Root, Volume, dev, mask, pivot, proc, propagation, sysfs};

// ANCHOR: build_root
/// The child's half: private mounts, the new root at `path` and what belongs in it, and then nothing of the
/// host's is left. To be called in a new mount namespace and a new PID namespace.
///
/// # Errors
///
/// Those of each step: they name the mount and its place.
pub fn build_root(path: &Path, volumes: &[Volume], read_only: bool) -> Result<()> {
    build_root_on(|| pivot::make_mount_point(path), volumes, read_only)
}

/// As [`build_root`], on the mount that `root` makes: [`pivot::make_mount_point`], or
/// [`pivot::attach_prepared`] where the mount was prepared outside.
///
/// # Errors
///
/// As for [`build_root`].
pub fn build_root_on(root: impl FnOnce() -> Result<Root>, volumes: &[Volume], read_only: bool) -> Result<()> {
    // Modes are meant as they are written, whatever the user's umask.
    umask(Mode::empty());
    propagation::set(Path::new("/"), Propagation::Private, true)?;

    info!(target: "say", "Put a root together.");
    let root = root()?;
    let proc = proc::mount(&root)?;
    let sys = sysfs::mount(&root)?;
    dev::mount(&root)?;
    for volume in volumes {
        volume.attach(&volume.take()?, &root)?;
    }
    mask::apply_defaults(&proc, &sys)?;

    info!(target: "say", "Let it take the old root's place.");
    pivot::pivot(&root)?;
    if read_only {
        pivot::make_root_read_only()?;
    }
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}
// ANCHOR_END: build_root
