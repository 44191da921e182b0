//! Changes of names: make, remove, rename, link.
//!
//! Before such a request the kernel has looked the name up, has asked itself whether the caller may do it
//! (mount option `default_permissions`), and holds a lock on the directory. What is left is what the union
//! does with whiteouts, and what the answer means for the nodes.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::fsync;

use super::attributes::Answer;
use super::filesystem::FileSystem;
use super::nodes::source;
use super::privileges;
use crate::union::{Directory, Entry, Make, Owner, Result};

/// Who asks for something to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker {
    pub(super) owner: Owner,
    pub(super) umask: u32,
}

// ANCHOR: lookup
impl FileSystem {
    /// FUSE_LOOKUP: `name` in the directory `parent`.
    pub(super) fn look_up(&self, parent: u64, name: &OsStr) -> Result<Answer> {
        let _names = self.names_stay();
        let entry = self.union.lookup(&self.directory(parent)?, name)?;
        let id = self.nodes().tell(parent, name, &entry)?;
        self.answer(id, &entry.status)
    }
}
// ANCHOR_END: lookup

// ANCHOR: make
impl FileSystem {
    /// open(2) with O_CREAT, mkdir(2), symlink(2), mknod(2). Of a file the descriptor is open.
    pub(super) fn make(
        &self,
        parent: u64,
        name: &OsStr,
        what: &Make,
        mode: u32,
        maker: Maker,
    ) -> Result<(Answer, OwnedFd)> {
        self.raise_directory(parent)?;
        let _names = self.names_change();
        let directory = self.directory(parent)?;
        privileges::set_umask(maker.umask)?;
        let make = || self.union.make(&directory, name, what, mode, maker.owner);
        let made = if mode & 0o6000 == 0 { make() } else { privileges::with_all(make) }?;
        let entry = Entry { branch: 0, status: fstat(&made)? };
        let mut nodes = self.nodes();
        nodes.names_changed(parent);
        // It is new, whatever its inode number in the branch once stood for.
        nodes.numbers.end(&source(parent, name, &entry));
        let id = nodes.tell(parent, name, &entry)?;
        if entry.is_directory() {
            nodes.change(id)?.branches = Some(vec![0]);
        }
        drop(nodes);
        Ok((self.answer(id, &entry.status)?, made))
    }

    /// link(2).
    pub(super) fn link(&self, id: u64, parent: u64, name: &OsStr) -> Result<Answer> {
        self.raise(id, None)?;
        self.raise_directory(parent)?;
        let _names = self.names_change();
        let (from, old_name) = self.nodes().place(id)?;
        self.union.link(&self.directory(from)?, &old_name, &self.directory(parent)?, name)?;
        let status = self.status(id)?;
        let mut nodes = self.nodes();
        nodes.names_changed(parent);
        let id = nodes.tell(parent, name, &Entry { branch: 0, status })?;
        drop(nodes);
        self.answer(id, &status)
    }
}
// ANCHOR_END: make

// ANCHOR: remove
impl FileSystem {
    /// unlink(2).
    pub(super) fn remove(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.take_away(parent, name, |directory| self.union.remove_entry(directory, name))
    }

    /// rmdir(2).
    pub(super) fn remove_directory(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.take_away(parent, name, |directory| {
            let entry = self.union.lookup(directory, name)?;
            self.union.remove_directory(directory, name)?;
            Ok(entry)
        })
    }

    /// `remove` returns what it has removed.
    fn take_away(
        &self,
        parent: u64,
        name: &OsStr,
        remove: impl FnOnce(&Directory) -> Result<Entry>,
    ) -> Result<()> {
        self.raise_directory(parent)?;
        let _names = self.names_change();
        let entry = remove(&self.directory(parent)?)?;
        self.is_removed(parent, name, &entry);
        Ok(())
    }

    /// The name `name` of `entry` is no more.
    fn is_removed(&self, parent: u64, name: &OsStr, entry: &Entry) {
        let mut nodes = self.nodes();
        let id = nodes.identify(parent, name, entry);
        nodes.unname(id, parent, name);
        nodes.names_changed(parent);
        let mut status = entry.status;
        // A file of a lower branch has one name, whatever it has there.
        let is_last = entry.is_directory() || entry.branch > 0 || status.st_nlink <= 1;
        if is_last {
            nodes.numbers.end(&source(parent, name, entry));
        }
        status.st_nlink = if is_last { 0 } else { status.st_nlink - 1 };
        // Who has it open, or stands in it, may still ask.
        if let (Err(Errno::ENOENT), Ok(node)) = (nodes.place(id), nodes.change(id)) {
            node.removed = Some(Box::new(status));
        }
    }
}
// ANCHOR_END: remove

// ANCHOR: rename
impl FileSystem {
    /// renameat2(2).
    pub(super) fn rename(&self, old: (u64, &OsStr), new: (u64, &OsStr), flags: u32) -> Result<()> {
        let ((parent, name), (new_parent, new_name)) = (old, new);
        self.raise_for_rename(parent, name)?;
        if flags == libc::RENAME_EXCHANGE {
            self.raise_for_rename(new_parent, new_name)?;
        }
        self.raise_directory(parent)?;
        self.raise_directory(new_parent)?;
        let _names = self.names_change();
        let (from, to) = (self.directory(parent)?, self.directory(new_parent)?);
        let source = self.union.lookup(&from, name)?;
        let target = match self.union.lookup(&to, new_name) {
            Err(Errno::ENOENT) => None,
            target => Some(target?),
        };
        self.union.rename(&from, name, &to, new_name, flags)?;

        let mut nodes = self.nodes();
        let id = nodes.identify(parent, name, &source);
        nodes.names_changed(parent);
        if let Some(target) = target {
            if flags == libc::RENAME_EXCHANGE {
                let other = nodes.identify(new_parent, new_name, &target);
                nodes.unname(other, new_parent, new_name);
                nodes.add_name(other, parent, name);
            } else {
                drop(nodes);
                self.is_removed(new_parent, new_name, &target);
                nodes = self.nodes();
            }
        }
        nodes.names_changed(new_parent);
        nodes.unname(id, parent, name);
        nodes.add_name(id, new_parent, new_name);
        Ok(())
    }

    /// A file is copied up before, so that its number is kept, and nobody waits for it.
    fn raise_for_rename(&self, parent: u64, name: &OsStr) -> Result<()> {
        let id = {
            let _names = self.names_stay();
            let entry = self.union.lookup(&self.directory(parent)?, name)?;
            if entry.branch == 0 || entry.is_directory() {
                return self.union.claim();
            }
            self.nodes().identify(parent, name, &entry)
        };
        self.raise(id, None)
    }
}
// ANCHOR_END: rename

impl FileSystem {
    /// fsync(2) of a directory: its names, in the top branch.
    pub(super) fn synchronize_directory(&self, id: u64) -> Result<()> {
        let _names = self.names_stay();
        if self.nodes().get(id)?.removed.is_some() {
            return Ok(());
        }
        let directory = self.directory(id)?;
        fsync(self.union.open(
            directory.branches[0],
            &directory.path,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        )?)
    }
}
