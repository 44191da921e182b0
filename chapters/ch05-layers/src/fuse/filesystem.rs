//! The file system: the union, and what a mount of it needs besides.
//!
//! Several threads read requests from the kernel at once. What they share has two locks:
//!
//! - `nodes` guards the table, and is held only while memory is looked at, never over a system call that may
//!   take long.
//! - `names` guards the branches: who computes a path and then gives it to the kernel holds it shared, so
//!   that the path stays true; who changes names in the branches holds it alone. Data are read and written
//!   under neither, and a copy-up copies under neither.
//!
//! `names` is taken before `nodes`.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use anyhow::Context;
use fuser::{INodeNo, Notifier};
use log::debug;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::handles::Handles;
use super::nodes::Nodes;
use crate::union::{Directory, Result};
use crate::{Union, branch};

// ANCHOR: filesystem
/// A union and its nodes.
#[derive(Debug)]
pub(super) struct FileSystem {
    pub(super) union: Union,
    nodes: Mutex<Nodes>,
    names: RwLock<()>,
    pub(super) handles: Handles,
    /// Ids of files that are being copied up.
    pub(super) raising: (Mutex<HashSet<u64>>, Condvar),
    /// Whether the kernel may read and write files by itself.
    pub(super) passthrough: AtomicBool,
    /// To tell the kernel what it should not keep any more; there once it is mounted.
    pub(super) notifier: Arc<OnceLock<Notifier>>,
}

impl FileSystem {
    pub(super) fn new(union: Union, passthrough: bool) -> anyhow::Result<FileSystem> {
        if union.branches()[0].mode() == branch::Mode::ReadWrite {
            let top = union.branches()[0].path();
            union
                .claim()
                .with_context(|| format!("become the writer of the branch {top:?} (lslocks shows who is)"))?;
        }
        // The lowest branch: most files of an image are on its device.
        let lowest = union.branches().len() - 1;
        let lowest = union.open(lowest, Path::new(""), OFlag::O_PATH).and_then(fstat);
        let device = lowest.context("fstat of the lowest branch")?.st_dev;
        let root = union.root().context("read the root of the union")?;
        Ok(FileSystem {
            union,
            nodes: Mutex::new(Nodes::new(root.branches, device)),
            names: RwLock::new(()),
            handles: Handles::default(),
            raising: Default::default(),
            passthrough: AtomicBool::new(passthrough),
            notifier: Arc::default(),
        })
    }

    /// The table of nodes, for as long as the guard is held.
    pub(super) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No name in the branches changes while the guard is held.
    pub(super) fn names_stay(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only the holder of the guard changes names in the branches, and nobody relies on one.
    pub(super) fn names_change(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}
// ANCHOR_END: filesystem

// ANCHOR: directory
impl FileSystem {
    /// The directory of the union that the node is. The caller holds the lock on names.
    pub(super) fn directory(&self, id: u64) -> Result<Directory> {
        // Up to the first whose branches are known, and down again.
        let (mut directory, below) = {
            let nodes = self.nodes();
            let (mut at, mut below) = (id, Vec::new());
            loop {
                if let Some(branches) = &nodes.get(at)?.branches {
                    break (Directory { branches: branches.clone(), path: nodes.path(at)? }, below);
                }
                let (parent, name) = nodes.place(at)?;
                below.push((at, name));
                at = parent;
            }
        };
        for (id, name) in below.into_iter().rev() {
            directory = self.union.enter(&directory, &name)?;
            self.nodes().change(id)?.branches = Some(directory.branches.clone());
        }
        Ok(directory)
    }

    /// Opens the object in its branch. The caller holds the lock on names.
    pub(super) fn object(&self, id: u64, flags: OFlag) -> Result<OwnedFd> {
        let nodes = self.nodes();
        let node = nodes.get(id)?;
        if let (Some(open), OFlag::O_PATH) = (&node.open, flags) {
            // It may have no name any more.
            return duplicate(&open.file);
        }
        let (branch, path) = (node.branch, nodes.path(id)?);
        drop(nodes);
        self.union.open(branch, &path, flags)
    }

    /// The kernel must ask again for the attributes of this node.
    pub(super) fn attributes_are_stale(&self, id: u64) {
        let Some(notifier) = self.notifier.get() else { return };
        // An offset below zero: the attributes, and not the content. ENOENT, the kernel has dropped it, is no
        // error here; others mean that it is being unmounted.
        if let Err(error) = notifier.inval_inode(INodeNo(id), -1, 0) {
            debug!("FUSE_NOTIFY_INVAL_INODE for node {id}: {error}");
        }
    }
}
// ANCHOR_END: directory

fn duplicate(file: &File) -> Result<OwnedFd> {
    file.try_clone().map(OwnedFd::from).map_err(errno)
}

/// The errno of an error of the standard library.
pub(super) fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
