//! Propagation: whether a mount event in one namespace is repeated in another.
//!
//! A new mount namespace begins as a copy. Where a mount was *shared* (systemd makes all of the host's so),
//! original and copy are *peers*: what is mounted below one appears below the other. That would undo the
//! namespace. A *private* mount has no peers; a *slave* receives, but does not send. Manual page:
//! mount_namespaces(7), "Shared subtrees".

use std::path::Path;

use anyhow::{Context, Result};
use log::info;
use nix::mount::{MsFlags, mount};

// ANCHOR: propagation
/// What a mount does with the mount events of its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Neither sends nor receives.
    Private,
    /// Receives what is mounted outside, and sends nothing.
    Slave,
    /// Sends and receives.
    Shared,
    /// Private, and can't be bind mounted either.
    Unbindable,
}

/// Sets the propagation of the mount at `path`, and with `recursive` of all mounts below it.
///
/// # Errors
///
/// Names `path`. EINVAL: `path` is no mount point.
pub fn set(path: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let (flag, name) = propagation.flag();
    let (extent, how) = if recursive { (MsFlags::MS_REC, "MS_REC | ") } else { (MsFlags::empty(), "") };
    info!(target: "syscall", "mount(NULL, {path:?}, NULL, {how}{name}, NULL)  {}", propagation.meaning());
    // The new mount API says the same by mount_setattr(2). This form works since Linux 2.6.15.
    mount(None::<&str>, path, None::<&str>, flag | extent, None::<&str>)
        .with_context(|| format!("mount {path:?} with {how}{name}"))
}
// ANCHOR_END: propagation

impl Propagation {
    /// The flag of mount(2), which is also the value of `mount_attr.propagation`, and its name.
    pub(crate) fn flag(self) -> (MsFlags, &'static str) {
        match self {
            Propagation::Private => (MsFlags::MS_PRIVATE, "MS_PRIVATE"),
            Propagation::Slave => (MsFlags::MS_SLAVE, "MS_SLAVE"),
            Propagation::Shared => (MsFlags::MS_SHARED, "MS_SHARED"),
            Propagation::Unbindable => (MsFlags::MS_UNBINDABLE, "MS_UNBINDABLE"),
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Propagation::Private => "what is mounted from here on stays in this namespace",
            Propagation::Slave => "mounts of the host's still arrive here, ours stay here",
            Propagation::Shared => "what is mounted here appears in every copy of this mount",
            Propagation::Unbindable => "private, and nobody can bind it elsewhere",
        }
    }
}
