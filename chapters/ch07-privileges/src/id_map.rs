//! A mount on which files have other owners: an *id-mapped mount*.
//!
//! The files of an image belong to root on the disk. A container in a user namespace has another root, 100000
//! on the host, say, and that one owns nothing there. To chown(2) all files costs a copy of each, and a
//! second container with other numbers needs a second copy. An id-mapped mount has a user namespace, by whose
//! maps it shows the owners: a file of 0 on the disk is one of 100000 through this mount, and what 100000
//! makes through it is of 0 on the disk. The files do not change, and other mounts of them do not either.
//! Manual page: mount_setattr(2), "ID-mapped mounts"; Linux 5.12.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Result, anyhow};
use ch02_mount::{Change, Tree};
use nix::errno::Errno;
use nix::sys::statfs::fstatfs;
use userns::IdMap;

use crate::user_namespace;

// ANCHOR: copy
/// A copy of the mounts at `source`, not attached yet, whose owners are shown by the maps of
/// `user_namespace`: a number *inside* is one on the disk, the number *outside* is the one that the host
/// sees. With `recursive` the mounts below `source` come along, with the same maps.
///
/// # Errors
///
/// Those of [`Tree::copy`] and of [`apply`].
pub fn copy(source: &Path, recursive: bool, user_namespace: BorrowedFd) -> Result<Tree> {
    let mut tree = Tree::copy(source, recursive)?;
    apply(&mut tree, user_namespace, recursive)?;
    Ok(tree)
}

/// As [`copy`], with maps for this mount alone.
///
/// # Errors
///
/// Those of [`copy`] and of [`user_namespace::with_maps`].
pub fn copy_with_maps(source: &Path, recursive: bool, users: &[IdMap], groups: &[IdMap]) -> Result<Tree> {
    let namespace = user_namespace::with_maps(users, groups)?;
    // The mount holds the namespace from here on, so our descriptor may go.
    copy(source, recursive, namespace.as_fd())
}
// ANCHOR_END: copy

// ANCHOR: apply
/// Gives the mount `tree` the maps of `user_namespace`, and with `recursive` those below it; all of them or
/// none. It must not be attached yet: who has opened a file on a mount must not see its owner change.
///
/// # Errors
///
/// EINVAL: the file system can't be id-mapped, which is said by its name; or the descriptor is of no user
/// namespace. EPERM: without CAP_SYS_ADMIN in the user namespace that the *file system* belongs to, which for
/// a disk is the host's; or the mount has a map already. ENOSYS before Linux 5.12.
pub fn apply(tree: &mut Tree, user_namespace: BorrowedFd, recursive: bool) -> Result<()> {
    let change = Change { id_map: Some(user_namespace), ..Change::default() };
    tree.change(change, recursive).map_err(|error| {
        let Some(errno) = error.root_cause().downcast_ref::<Errno>().copied() else { return error };
        let below = if recursive { " or one of a mount below it" } else { "" };
        let hint = match errno {
            Errno::EINVAL => format!(
                "this kernel can't id-map its file system, {}{below}; or the namespace is no user namespace, or the \
                 one that the file system belongs to",
                file_system(tree)
            ),
            Errno::EPERM => "it takes CAP_SYS_ADMIN in the user namespace that the file system belongs to: for what \
                             the host has mounted, root over the host; and a mount takes only one map, and never \
                             the host's own"
                .into(),
            Errno::ENOSYS => "it needs Linux 5.12".into(),
            _ => return error,
        };
        // The errno is the chain's last link, and stays it.
        let operation = error.to_string();
        anyhow!(errno).context(format!("{operation}: {hint}"))
    })
}
// ANCHOR_END: apply

/// The name of the file system that is mounted, for those that refuse; else its number in linux/magic.h.
fn file_system(mount: impl AsFd) -> String {
    const NAMES: [(u32, &str); 10] = [
        (0x794c_7630, "overlay"),
        (0x6573_5546, "fuse"),
        (0x6969, "nfs"),
        (0x0102_1997, "9p"),
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x6367_7270, "cgroup2"),
        (0x1980_0202, "mqueue"),
        (0x1cd1, "devpts"),
        (0x0102_1994, "tmpfs, which can be from Linux 6.3 on"),
    ];
    let Ok(status) = fstatfs(mount) else { return "of an unknown kind".into() };
    let kind = status.filesystem_type().0 as u32;
    let name = NAMES.iter().find(|(magic, _)| *magic == kind);
    name.map_or_else(|| format!("number {kind:#x} of linux/magic.h"), |(_, name)| (*name).to_string())
}
