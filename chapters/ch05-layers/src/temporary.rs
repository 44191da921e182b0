//! A directory that ends with its owner, also where the owner is killed.
//!
//! A program that is killed has no chance to remove its directory. The next one that makes such a directory at
//! the same place does it: a lock, which the kernel drops with its owner, tells the living from the dead.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::branch::{Mode, is};
use crate::union::attributes::set_mode;
use crate::{Branch, lock};

// ANCHOR: temporary
/// A directory of this process's own; removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// As long as it is open, no sweep takes the directory for a dead process's.
    lock: File,
}

impl Temporary {
    /// Makes one in `parent`, with a name that begins with `prefix`, and removes those of dead processes there.
    ///
    /// # Errors
    ///
    /// Names what could not be made, or removed.
    pub fn create(parent: &Path, prefix: &str) -> Result<Temporary> {
        sweep(parent, prefix)?;
        loop {
            let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
            let path = made.with_context(|| format!("mkdir {parent:?}/{prefix}*"))?.keep();
            // Before its lock was taken, another's sweep may have come upon it: then once more.
            if let Some(lock) = lock::alone_if_free(&path)? {
                return Ok(Temporary { path, lock });
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Temporary {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            warn!("{error:#}; the next who makes something there tries again");
        }
    }
}

/// Removes what killed processes have left in `parent` under such names.
pub(crate) fn sweep(parent: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(parent).with_context(|| format!("read the directory {parent:?}"))? {
        let entry = entry.with_context(|| format!("read the directory {parent:?}"))?;
        let path = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        // In a directory like /tmp, others may make what has such a name.
        if !status(&path)?.is_some_and(|status| status.is_dir() && status.uid() == geteuid().as_raw()) {
            continue;
        }
        if let Some(_lock) = lock::alone_if_free(&path)? {
            info!(target: "syscall", "flock({path:?}, LOCK_EX)  its owner is dead: it is swept");
            remove_tree(&path)?;
        }
    }
    Ok(())
}
// ANCHOR_END: temporary

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
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
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
    let (directory, objects) = tree.objects(path)?;
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
