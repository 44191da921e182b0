//! The top branch's writer, and the place where it works unseen.
//!
//! A copy-up must be seen whole or not at all, also after a crash: the copy is put together under
//! `.wh..wh.work`, and renamed to where it belongs. What a crash leaves there was never seen, and the next
//! writer removes it. That one must know that the last one is dead: it takes a lock, flock(2), which the
//! kernel drops with its owner.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ch01_pid::flock;
use log::debug;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::remove::remove_tree;
use super::{Result, Union, attributes, xattr};
use crate::whiteout::WORK;

// ANCHOR: claim
/// What the writer holds.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Only one thread opens these.
    opening: Mutex<()>,
    /// The top branch's root, locked.
    root: OnceLock<OwnedFd>,
    directory: OnceLock<OwnedFd>,
    /// The last name that was used in it.
    last: AtomicU64,
}

impl Union {
    /// Becomes the top branch's only writer, until this union is dropped; each change does so by itself. The
    /// first time, what a writer that died has left is removed.
    ///
    /// # Errors
    ///
    /// EROFS: the top branch is not `rw`. EBUSY: another union writes to it (`lslocks` tells which process
    /// holds it). ESTALE: the branch was removed.
    pub fn claim(&self) -> Result<()> {
        if !self.is_writable() {
            return Err(Errno::EROFS);
        }
        self.locked_root().map(drop)
    }

    fn locked_root(&self) -> Result<&OwnedFd> {
        let root = once(&self.work.root, &self.work.opening, || {
            let root = self.branches()[0].find(Path::new(""), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            lock(&root)?;
            keep_times(&root, || match remove_tree(&root, OsStr::new(WORK)) {
                Err(Errno::ENOENT) => Ok(()),
                result => result,
            })?;
            Ok(root)
        })?;
        // A removed directory stays open, and refuses each new name with ENOENT, which would be a riddle.
        let is_removed = fstat(root)?.st_nlink == 0;
        if is_removed { Err(Errno::ESTALE) } else { Ok(root) }
    }

    /// The work directory, made when it is first needed.
    pub(super) fn work(&self) -> Result<&OwnedFd> {
        let root = self.locked_root()?;
        once(&self.work.directory, &self.work.opening, || {
            debug!(target: "syscall", "mkdirat({WORK:?})  what is not ready is not seen");
            keep_times(root, || mkdirat(root, WORK, Mode::S_IRWXU))?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let directory = openat(root, WORK, flags, Mode::empty())?;
            // The set-group-id bit too: what is made in it would get its group.
            attributes::set_mode(&directory, 0o700)?;
            xattr::remove_access_lists(&directory)?;
            Ok(directory)
        })
    }

    /// A name in the work directory that was not used before.
    pub(super) fn work_name(&self) -> OsString {
        self.work.last.fetch_add(1, Ordering::Relaxed).to_string().into()
    }
}

/// OnceLock::get_or_try_init, which is not yet in the stable standard library.
fn once<'a, T>(cell: &'a OnceLock<T>, opening: &Mutex<()>, open: impl Fn() -> Result<T>) -> Result<&'a T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let _opening = opening.lock().unwrap_or_else(PoisonError::into_inner);
    match cell.get() {
        Some(value) => Ok(value),
        None => open().map(|value| cell.get_or_init(|| value)),
    }
}

fn lock(directory: &OwnedFd) -> Result<()> {
    flock(directory, libc::LOCK_EX | libc::LOCK_NB).map_err(|errno| match errno {
        Errno::EWOULDBLOCK => Errno::EBUSY,
        errno => errno,
    })
}
// ANCHOR_END: claim

impl Drop for Union {
    fn drop(&mut self) {
        let (Some(root), Some(_)) = (self.work.root.get(), self.work.directory.get()) else { return };
        // ENOTEMPTY: an unfinished copy could not be removed; the next writer tries again, and has the error.
        if let Err(errno) = keep_times(root, || unlinkat(root, WORK, UnlinkatFlags::RemoveDir)) {
            debug!("unlinkat({WORK:?}, AT_REMOVEDIR): {errno}");
        }
    }
}

// ANCHOR: keep_times
/// Makes a change in a directory that is none to those who see it, and so leaves no trace in its times.
pub(super) fn keep_times<T>(directory: impl AsFd, change: impl FnOnce() -> Result<T>) -> Result<T> {
    let (accessed, modified) = attributes::times(&fstat(&directory)?);
    let result = change()?;
    match attributes::set_times(directory, accessed, modified) {
        // A directory of another user's, in which this one may write: its times tell of the change.
        Ok(()) | Err(Errno::EPERM) => Ok(result),
        Err(errno) => Err(errno),
    }
}
// ANCHOR_END: keep_times
