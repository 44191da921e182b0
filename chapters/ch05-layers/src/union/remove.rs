//! Deletion: what a lower branch has is hidden, what the top one has is removed.
//!
//! In this order: a whiteout beside its file hides nothing yet, so a crash between the two leaves the file as
//! it was.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use log::debug;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::make::make_whiteout;
use super::{Directory, Entry, Result, Union};

// ANCHOR: remove
impl Union {
    /// unlink(2). `parent` has the top.
    ///
    /// # Errors
    ///
    /// EISDIR; as for [`Union::lookup`] and [`Union::claim`].
    pub fn remove(&self, parent: &Directory, name: &OsStr) -> Result<()> {
        self.remove_entry(parent, name).map(drop)
    }

    /// As [`Union::remove`]. Returns what was removed.
    pub(crate) fn remove_entry(&self, parent: &Directory, name: &OsStr) -> Result<Entry> {
        let entry = self.lookup(parent, name)?;
        if entry.is_directory() {
            return Err(Errno::EISDIR);
        }
        let top = self.top(parent)?;
        if entry.branch != 0 || self.is_below(parent, name)? {
            make_whiteout(&top, name)?;
        }
        if entry.branch == 0 {
            debug!(target: "syscall", "unlinkat({name:?})");
            unlinkat(&top, name, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(entry)
    }

    /// rmdir(2). `parent` has the top.
    ///
    /// # Errors
    ///
    /// ENOTDIR. ENOTEMPTY: the union shows something in it. As for [`Union::list`] and [`Union::claim`].
    pub fn remove_directory(&self, parent: &Directory, name: &OsStr) -> Result<()> {
        let directory = self.enter(parent, name)?;
        let top = self.top(parent)?;
        let is_below = directory.branches != [0] || self.is_below(parent, name)?;
        if !is_below {
            match remove_empty(&top, name) {
                // By files, or by whiteouts alone?
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => (),
                result => return result,
            }
        }
        if !self.list(&directory)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        if is_below {
            make_whiteout(&top, name)?;
        }
        if directory.branches[0] == 0 {
            // Beside its own whiteout it is opaque: it stays empty without the whiteouts in it.
            remove_marks(&top, name)?;
            remove_empty(&top, name)?;
        }
        Ok(())
    }
}

fn remove_empty(top: &OwnedFd, name: &OsStr) -> Result<()> {
    debug!(target: "syscall", "unlinkat({name:?}, AT_REMOVEDIR)");
    unlinkat(top, name, UnlinkatFlags::RemoveDir)
}

/// Removes all that is in the directory `name`: whiteouts, since the union shows it empty.
pub(super) fn remove_marks(top: &OwnedFd, name: &OsStr) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut directory = Dir::openat(top, name, flags, Mode::empty())?;
    remove_content(&mut directory)
}
// ANCHOR_END: remove

/// Removes `name` in `parent`, whatever it is, and all that is in it. No link is followed.
pub(super) fn remove_tree(parent: impl AsFd, name: &OsStr) -> Result<()> {
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        // EPERM is POSIX's word for a directory.
        Err(Errno::EISDIR | Errno::EPERM) => (),
        result => return result,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    remove_content(&mut Dir::openat(&parent, name, flags, Mode::empty())?)?;
    unlinkat(&parent, name, UnlinkatFlags::RemoveDir)
}

fn remove_content(directory: &mut Dir) -> Result<()> {
    let entries = directory.iter().collect::<Result<Vec<_>>>()?;
    for entry in entries {
        match entry.file_name().to_bytes() {
            b"." | b".." => (),
            name => remove_tree(&directory, OsStr::from_bytes(name))?,
        }
    }
    Ok(())
}
