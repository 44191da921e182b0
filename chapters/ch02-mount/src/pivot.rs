//! The new root takes the old one's place.
//!
//! pivot_root(2) changes the *mount* at the top of a mount namespace, and with it the root directory of every
//! process in the namespace that stood at the old top. The old tree goes to a directory below the new one,
//! and is then unmounted: after that the host's files are not hidden, they are not there. That is what
//! chroot(2) can't do. Manual page: [pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html).

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd;

use crate::tree::change_mount;
use crate::{Attributes, Change, Propagation, Root, Tree};

// ANCHOR: make_mount_point
/// Makes the directory `root` the root of a mount, which pivot_root(2) asks for: it is bound onto itself, and
/// what is mounted below comes along.
///
/// # Errors
///
/// Names `root`: ENOENT, ENOTDIR, EACCES.
pub fn make_mount_point(root: &Path) -> Result<Root> {
    let place = Root::open(root)?;
    let tree = Tree::copy(root, true)?;
    tree.attach(&place, root)?;
    Ok(Root::from(tree))
}
// ANCHOR_END: make_mount_point

// ANCHOR: attach_prepared
/// Makes `tree`, a mount that is not attached yet, one that can become the root. Whoever has more rights than
/// this process can have prepared it: the host's root a mount on which the files' owners are shown as others,
/// for a container in a user namespace. No path leads to it: in such a namespace, root can't pass a directory
/// of the host's that is closed to others.
///
/// # Errors
///
/// mount_setattr(2)'s and move_mount(2)'s errno.
pub fn attach_prepared(tree: &Tree) -> Result<Root> {
    // A copy of a shared mount is shared: what is mounted in it would appear in the original, on the host.
    info!(target: "syscall", "mount_setattr(the prepared root, private)  what is mounted in it stays in it");
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    change_mount(tree.as_fd(), private, true).context("mount_setattr of the prepared root (private)")?;
    // On top of the present root, which paths still start from: nothing that stands on a path is covered.
    let top = Root::open(Path::new("/"))?;
    tree.attach(&top, Path::new("/"))?;
    Root::of(tree)
}
// ANCHOR_END: attach_prepared

// ANCHOR: pivot
/// Makes `root` the root of this mount namespace, and removes the old one with all its mounts.
///
/// # Errors
///
/// EINVAL: the root's mount or its parent is shared (see [`propagation`](crate::propagation)), or it is no
/// mount's root; or the old root is the initial ramfs, which can't be moved.
pub fn pivot(root: &Root) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old_root = open("/", flags, Mode::empty()).context("open the old root \"/\"")?;
    info!(target: "syscall", "fchdir(root)  stand in the new root");
    unistd::fchdir(root).context("fchdir to the new root")?;

    // Both arguments are the same directory: the old root is then stacked on top of the new one, at the same
    // place, and no directory for it (the manual's put_old) has to exist in the container's files.
    info!(target: "syscall", "pivot_root(\".\", \".\")  the new root takes the old one's place");
    unistd::pivot_root(".", ".").map_err(|errno| {
        let hint = match errno {
            Errno::EINVAL => "the mounts are shared, or the old root is the initial ramfs",
            _ => "pivot_root(2) lists the reasons",
        };
        anyhow!(errno).context(format!("pivot_root to the new root ({hint})"))
    })?;

    // `.` is still the new root. Without this step its mounts would become slaves, and a volume lose its
    // propagation.
    info!(target: "syscall", "fchdir(old root)  stand in the old root, which lies on top");
    unistd::fchdir(&old_root).context("fchdir to the old root")?;

    // A mount of the old root that is shared would pass its end on to the host, where its copy would go too.
    info!(target: "syscall", "mount(NULL, \".\", NULL, MS_REC | MS_SLAVE, NULL)  the host must not hear of the end");
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, ".", None::<&str>, slave, None::<&str>)
        .context("mount the old root with MS_REC | MS_SLAVE")?;

    // Detached, since it is busy: it has mounts below it, and every process's old directories. Nobody can
    // reach it any more.
    info!(target: "syscall", "umount2(\".\", MNT_DETACH)  the old root goes: the host's files are not there");
    umount2(".", MntFlags::MNT_DETACH).context("umount2 of the old root")?;

    info!(target: "syscall", "chdir(\"/\")  and stand in the root that is left");
    unistd::chdir("/").context("chdir \"/\" in the new root")
}
// ANCHOR_END: pivot

// ANCHOR: read_only_root
/// Makes the root mount of this process read-only; those below it (/dev, a volume) stay as they are.
///
/// # Errors
///
/// mount_setattr(2)'s errno.
pub fn make_root_read_only() -> Result<()> {
    info!(target: "syscall", "mount_setattr(\"/\", +ro)  the root file system can't be changed any more");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).context("open \"/\"")?;
    let change = Change { set: Attributes::READ_ONLY, ..Change::default() };
    match change_mount(root.as_fd(), change, false) {
        Err(Errno::ENOSYS) => change.late(false).apply_to(root.as_fd()),
        result => result.context("mount_setattr \"/\" (+ro)"),
    }
}
// ANCHOR_END: read_only_root
