// ANCHOR: scratch
//! Where the layers of one run are.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ch05_layers::temporary::Temporary;
use nix::unistd::{AccessFlags, access};

/// A directory of this run's own, which goes with it.
pub fn create() -> Result<Temporary> {
    Temporary::create(&parent()?, "hull-layers-")
}

/// TMPDIR, or else /var/tmp before /tmp: it is on a disk, where the blocks of a file can be asked for, and overlayfs
/// can have its upper layer.
fn parent() -> Result<PathBuf> {
    let usual = if access("/var/tmp", AccessFlags::W_OK).is_ok() { "/var/tmp" } else { "/tmp" };
    let parent = std::env::var_os("TMPDIR").map_or(usual.into(), PathBuf::from);
    parent
        .canonicalize()
        .with_context(|| format!("the directory for temporary files {parent:?} (TMPDIR names it)"))
}
// ANCHOR_END: scratch
