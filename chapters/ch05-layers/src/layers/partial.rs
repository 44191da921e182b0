//! A directory in the making.
//!
//! A layer is made under another name beside its place, and renamed when it is whole: rename(2) is atomic.
//! Who is killed meanwhile leaves that directory behind, and the next one who makes something there removes
//! it. It is locked by whoever makes it, so the living are not taken for the dead.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::lock;
use super::view::{is, objects};
use crate::Branch;
use crate::branch::Mode;
use crate::union::attributes::set_mode;
use crate::union::xattr;

/// What a name begins with that is still in the making.
const PREFIX: &str = ".partial-layer-";

/// Whether `name` is that of something in the making.
pub(super) fn is_partial(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

// ANCHOR: partial
/// A directory in the making; removed when it is dropped.
pub(super) struct Partial {
    directory: PathBuf,
    /// As long as it is open, no sweep takes the directory for a dead process's.
    _lock: File,
}

impl Partial {
    /// Makes one in `parent`, and removes those of dead processes there.
    pub(super) fn create(parent: &Path) -> Result<Partial> {
        sweep(parent)?;
        loop {
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
            let directory = made.with_context(|| format!("mkdir {parent:?}/{PREFIX}*"))?.keep();
            // Before its lock was taken, another's sweep may have come upon it: then once more.
            if let Some(lock) = lock::alone_if_free(&directory)? {
                inherit_nothing(&lock).with_context(|| format!("removexattr {directory:?}"))?;
                return Ok(Partial { directory, _lock: lock });
            }
        }
    }

    /// Where the content is to be made: nothing is there yet.
    pub(super) fn content(&self) -> PathBuf {
        self.directory.join("content")
    }

    /// Moves the content to its place, where nothing may be.
    pub(super) fn install(self, path: &Path) -> Result<()> {
        let content = self.content();
        info!(target: "syscall", "rename({content:?}, {path:?})  there as a whole, or not at all");
        let renamed = match renameat2(AT_FDCWD, &content, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
            // This file system can't refuse to replace; it replaces an empty directory at most.
            Err(Errno::EINVAL) => fs::rename(&content, path).map_err(anyhow::Error::new),
            result => result.map_err(anyhow::Error::new),
        };
        renamed.with_context(|| format!("rename {content:?} to {path:?}"))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.directory) {
            warn!("{error:#}; the next who makes something there tries again");
        }
    }
}

/// Takes the access list off a directory that all in it would inherit: it is no part of a layer.
pub(super) fn inherit_nothing(directory: impl AsFd) -> Result<(), Errno> {
    match xattr::remove(directory, c"system.posix_acl_default") {
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Removes what killed processes were making in `parent`.
pub(super) fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).with_context(|| format!("read the directory {parent:?}"))? {
        let entry = entry.with_context(|| format!("read the directory {parent:?}"))?;
        let path = entry.path();
        if !is_partial(&entry.file_name()) {
            continue;
        }
        // In a directory like /tmp, others may make what has such a name.
        if !status(&path)?.is_some_and(|status| status.is_dir() && status.uid() == geteuid().as_raw()) {
            continue;
        }
        if let Some(_lock) = lock::alone_if_free(&path)? {
            info!(target: "syscall", "unlinkat({path:?})  whoever made it was killed");
            remove_tree(&path)?;
        }
    }
    Ok(())
}
// ANCHOR_END: partial

/// lstat(2), if something is there.
fn status(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        status => status.map(Some).with_context(|| format!("stat {path:?}")),
    }
}

// ANCHOR: remove
/// Removes a tree. Not there: nothing to do.
///
/// std's remove_dir_all would walk into a file system that is mounted in it and remove the files there, and
/// it keeps a descriptor open for each level, of which a hostile layer has more than a process may have. A
/// [`Branch`] is not left, and needs two.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let Some(status) = status(path)? else { return Ok(()) };
    if !status.is_dir() {
        return fs::remove_file(path).with_context(|| format!("unlink {path:?}"));
    }
    let tree = Branch::open(path, Mode::ReadOnly)?;
    // Each behind the one that it is in.
    let mut directories = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(directory) = directories.get(next) {
        let inner = remove_files(&tree, directory)?;
        directories.extend(inner);
        next += 1;
    }
    for directory in directories.iter().skip(1).rev() {
        let remove = || {
            let parent = tree.find(directory.parent().unwrap_or(Path::new("")), OFlag::O_PATH)?;
            unlinkat(&parent, directory.file_name().unwrap_or_default(), UnlinkatFlags::RemoveDir)
        };
        remove().with_context(|| format!("rmdir {:?}", path.join(directory)))?;
    }
    fs::remove_dir(path).with_context(|| format!("rmdir {path:?}"))
}

/// Removes all but the directories in `path`, and returns these.
fn remove_files(tree: &Branch, path: &Path) -> Result<Vec<PathBuf>> {
    let place = tree.path().join(path);
    // Its mode may forbid its owner to remove what is in it.
    let open_up = || set_mode(tree.find(path, OFlag::O_PATH)?, 0o700);
    open_up().with_context(|| {
        format!("chmod {place:?} (EXDEV: another file system is mounted there; unmount it first)")
    })?;
    let (directory, objects) = objects(tree, path)?;
    let mut directories = Vec::new();
    for (name, object) in objects {
        if is(&object, libc::S_IFDIR) {
            directories.push(path.join(name));
            continue;
        }
        match unlinkat(&directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => (),
            result => result.with_context(|| format!("unlink {:?}", place.join(&name)))?,
        }
    }
    Ok(directories)
}
// ANCHOR_END: remove
