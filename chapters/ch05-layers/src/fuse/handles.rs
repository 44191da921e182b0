//! Handles: what FUSE_OPEN returns, and FUSE_READ and FUSE_WRITE bring with them.
//!
//! On the server's side an open file is a number of its own choosing. FUSE_RELEASE comes when the last
//! descriptor that open(2) gave is closed, and the last mapping is gone.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;

use crate::union::Result;

// ANCHOR: handles
/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    /// The node that it was opened as.
    pub(super) node: u64,
    /// Another one after a copy-up: who reads an old file must see what is written to the new one.
    file: RwLock<Arc<File>>,
}

/// All handles.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    last: AtomicU64,
}

impl Handle {
    /// The file in its branch.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Handles {
    /// A new handle of the node, with its file.
    pub(super) fn add(&self, node: u64, file: Arc<File>) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let handle = Handle { node, file: RwLock::new(file) };
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(handle));
        number
    }

    /// The handle with this number.
    pub(super) fn get(&self, number: u64) -> Result<Arc<Handle>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&number).cloned().ok_or(Errno::EBADF)
    }

    /// Closes it.
    pub(super) fn remove(&self, number: u64) -> Result<Arc<Handle>> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number).ok_or(Errno::EBADF)
    }

    /// All handles of the node read from `file` from now on.
    pub(super) fn replace(&self, node: u64, file: &Arc<File>) {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        for handle in open.values().filter(|handle| handle.node == node) {
            *handle.file.write().unwrap_or_else(PoisonError::into_inner) = file.clone();
        }
    }
}
// ANCHOR_END: handles
