//! The init layer: what a container needs and an image must not have.
//!
//! Docker gives each container its own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, by mounting
//! files over these names; and a mount needs something to be mounted on. So between the image and the
//! container's own layer there is one with empty files and directories of these names (moby,
//! `daemon/initlayer`). Were they in the container's own layer, each commit would carry one container's host
//! name into an image.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{getegid, geteuid};

use crate::union::attributes::set_mode;
use crate::union::{Make, Owner};
use crate::{Directory, Union};

/// What is to stand at a path.
#[derive(Clone, Copy)]
enum Kind {
    Directory,
    File,
    Symlink(&'static str),
}

// ANCHOR: list
/// moby's list. `/.dockerenv` tells programs that they run in a container.
const LIST: [(&str, Kind); 10] = [
    ("dev/pts", Kind::Directory),
    ("dev/shm", Kind::Directory),
    ("proc", Kind::Directory),
    ("sys", Kind::Directory),
    (".dockerenv", Kind::File),
    ("etc/resolv.conf", Kind::File),
    ("etc/hosts", Kind::File),
    ("etc/hostname", Kind::File),
    ("dev/console", Kind::File),
    ("etc/mtab", Kind::Symlink("/proc/mounts")),
];
// ANCHOR_END: list

// ANCHOR: setup
/// Fills the top branch of `union`, the init layer, which is on top of the image.
///
/// An image's `/etc` may be a symbolic link to the host's. The union follows none: as in moby, a link or a
/// file on the way is replaced by a directory, and a file of the image by an empty one; a directory stays.
pub(super) fn setup(union: &Union) -> Result<()> {
    let layer = union.branches()[0].path();
    info!(target: "syscall", "mkdir, creat, symlink in {layer:?}  what no image should have");
    for (path, kind) in LIST {
        place(union, path, kind).with_context(|| format!("make /{path} in the init layer"))?;
    }
    Ok(())
}

fn place(union: &Union, path: &str, kind: Kind) -> Result<(), Errno> {
    let mut directory = union.root()?;
    let mut components: Vec<&OsStr> = Path::new(path).iter().collect();
    let last = components.pop().ok_or(Errno::EINVAL)?;
    for name in components {
        make(union, &directory, name, Kind::Directory)?;
        directory = union.enter(&directory, name)?;
    }
    make(union, &directory, last, kind)
}

/// Makes `name`, unless there is a directory.
fn make(union: &Union, parent: &Directory, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    let old = union.lookup(parent, name);
    if matches!(old, Ok(old) if old.is_directory()) {
        return Ok(());
    }
    let parent = union.raise(&parent.path)?;
    match old {
        Err(Errno::ENOENT) => (),
        old => {
            old?;
            union.remove(&parent, name)?;
        }
    }
    let what = match kind {
        Kind::Directory => Make::Directory,
        Kind::File => Make::File(OFlag::O_WRONLY),
        Kind::Symlink(target) => Make::Symlink(PathBuf::from(target)),
    };
    let owner = Owner { user: geteuid().as_raw(), group: getegid().as_raw() };
    let made = union.make(&parent, name, &what, 0o755, owner)?;
    match kind {
        Kind::Symlink(_) => Ok(()),
        // The process's umask may have taken bits away.
        Kind::Directory | Kind::File => set_mode(made, 0o755),
    }
}
// ANCHOR_END: setup
