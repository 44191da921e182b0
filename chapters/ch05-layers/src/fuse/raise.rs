//! Copy-up in a live file system: others look on, and have the file open.
//!
//! [`Union::prepare`](crate::Union::prepare) takes as long as the file is big, and nobody waits for it but
//! those who want to change the same file. Then, in an instant in which no name changes, the copy is put in
//! place, the number is kept, and those who have the file open read from the copy.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use log::debug;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::filesystem::FileSystem;
use super::nodes::source;
use super::privileges;
use crate::union::{Directory, Result};

// ANCHOR: raise
impl FileSystem {
    /// Copies the node up into the top branch, if it is not there. Of a file that is about to be truncated,
    /// only the first `length` bytes.
    pub(super) fn raise(&self, id: u64, length: Option<u64>) -> Result<()> {
        self.union.claim()?;
        if self.nodes().get(id)?.branch == 0 {
            return Ok(());
        }
        let (parent, _) = self.nodes().place(id)?;
        self.raise_directory(parent)?;
        let _turn = Turn::wait(&self.raising, id);
        let (branch, path) = {
            let _names = self.names_stay();
            let nodes = self.nodes();
            match nodes.get(id)?.branch {
                0 => return Ok(()),
                branch => (branch, nodes.path(id)?),
            }
        };
        // No lock is held: a directory that has something of a lower branch in it is neither renamed nor
        // removed.
        let prepared = privileges::with_all(|| self.union.prepare(branch, &path, length))?;

        let _names = self.names_change();
        // It may have been deleted meanwhile, or have another name.
        let (parent, name) = self.nodes().place(id)?;
        let directory = self.directory(parent)?;
        if directory.child(&name) != path {
            return Err(Errno::ESTALE);
        }
        prepared.install(&directory, &name)?;
        self.is_raised(id, parent, &directory, &name)
    }

    /// Makes the directory exist in the top branch, and those above it. A loop: a layer may be thousands of
    /// directories deep, and a thread's stack has an end.
    pub(super) fn raise_directory(&self, id: u64) -> Result<()> {
        let mut lower = Vec::new();
        {
            let nodes = self.nodes();
            let mut at = id;
            while nodes.get(at)?.branch != 0 {
                lower.push(at);
                at = nodes.place(at)?.0;
            }
        }
        if !lower.is_empty() {
            self.union.claim()?;
        }
        lower.into_iter().rev().try_for_each(|id| self.raise_one_directory(id))
    }

    fn raise_one_directory(&self, id: u64) -> Result<()> {
        let _names = self.names_change();
        if self.nodes().get(id)?.branch == 0 {
            return Ok(());
        }
        let (parent, name) = self.nodes().place(id)?;
        let above = self.directory(parent)?;
        let directory = self.directory(id)?;
        let prepared =
            privileges::with_all(|| self.union.prepare(directory.branches[0], &directory.path, None))?;
        prepared.install(&above, &name)?;
        self.is_raised(id, parent, &above, &name)
    }

    /// The copy is in place: all that is known of the node is put right. The caller holds the lock on names.
    fn is_raised(&self, id: u64, parent: u64, directory: &Directory, name: &OsString) -> Result<()> {
        let entry = self.union.lookup(directory, name)?;
        let mut nodes = self.nodes();
        let number = nodes.get(id)?.number;
        nodes.numbers.keep(source(parent, name, &entry), number);
        nodes.names_changed(parent);
        nodes.names_changed(id);
        let node = nodes.change(id)?;
        node.branch = 0;
        // The policy has chosen another label for the copy, perhaps the first one.
        node.has_no_attributes = false;
        if let Some(branches) = &mut node.branches {
            branches.insert(0, 0);
        }
        let is_open = node.open.is_some();
        drop(nodes);
        if is_open {
            let file = self.union.open(0, &directory.child(name), OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
            let file = Arc::new(File::from(file));
            self.handles.replace(id, &file);
            if let Some(open) = &mut self.nodes().change(id)?.open {
                open.file = file;
            }
        }
        // Its blocks and the time of its last change of state are those of the copy.
        self.attributes_are_stale(id);
        Ok(())
    }
}
// ANCHOR_END: raise

// ANCHOR: make_writable
impl FileSystem {
    /// Raises a file whose content is about to change.
    ///
    /// Who reads it in passthrough reads the old file, and the kernel takes no second file for one node. So
    /// the file gets a second node: the first stays with those who have it open, and they keep what they have
    /// opened, as on overlayfs.
    ///
    /// # Errors
    ///
    /// ESTALE then. For the kernel that means: this path was looked up from caches that were wrong. It walks
    /// the path once more, asking us for each name (LOOKUP_REVAL), finds the second node, and asks that one.
    pub(super) fn make_writable(&self, id: u64, length: Option<u64>) -> Result<()> {
        if self.nodes().get(id)?.is_superseded {
            return Err(Errno::ESTALE);
        }
        // Who reads meanwhile must find all of the old content.
        let length = length.filter(|_| self.nodes().get(id).is_ok_and(|node| node.open.is_none()));
        self.raise(id, length)?;
        let mut nodes = self.nodes();
        let reads_old_file = |(_, branch): &(_, usize)| *branch != 0;
        let node = nodes.get(id)?;
        if node.is_superseded {
            // By another thread, meanwhile.
            return Err(Errno::ESTALE);
        }
        if node.open.as_ref().is_some_and(|open| open.backing.as_ref().is_some_and(reads_old_file)) {
            debug!("node {id} is read in passthrough: its file gets a second node");
            nodes.supersede(id)?;
            drop(nodes);
            self.attributes_are_stale(id);
            return Err(Errno::ESTALE);
        }
        Ok(())
    }
}
// ANCHOR_END: make_writable

/// The right to copy one node up, which one thread has at a time.
struct Turn<'a> {
    raising: &'a (Mutex<HashSet<u64>>, Condvar),
    id: u64,
}

impl Turn<'_> {
    fn wait(raising: &(Mutex<HashSet<u64>>, Condvar), id: u64) -> Turn<'_> {
        let (ids, ended) = raising;
        let mut ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
        while !ids.insert(id) {
            ids = ended.wait(ids).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { raising, id }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.raising.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.raising.1.notify_all();
    }
}
