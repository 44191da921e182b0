//! Every directory of a layer, one after the other, whatever stands in it.
//!
//! Each directory is opened from the layer's root, as a [`Branch`] does it: the kernel refuses what leads
//! elsewhere, be it a symbolic link or another file system mounted inside. So no layer can send us to a file
//! outside of it.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::marks::kind;
use crate::Branch;
use crate::branch;

/// One directory, and what was in it when it was opened.
pub(super) struct Directory {
    file: OwnedFd,
    /// What fstat(2) said of it.
    pub(super) status: FileStat,
    /// From the layer's root.
    path: PathBuf,
    /// Without `.` and `..`, in order, so that a layer is always treated in the same way.
    pub(super) objects: Vec<(OsString, FileStat)>,
}

// ANCHOR: walk
/// Calls `visit` for each directory of `layer`, a directory before those in it.
pub(super) fn walk(layer: &Path, mut visit: impl FnMut(&Directory) -> Result<()>) -> Result<()> {
    let layer = Branch::open(layer, branch::Mode::ReadOnly)?;
    let mut paths = vec![PathBuf::new()];
    while let Some(path) = paths.pop() {
        let directory = Directory::open(&layer, path)?;
        visit(&directory)
            .with_context(|| format!("in the directory {:?}", layer.path().join(&directory.path)))?;
        let inner = directory.objects.iter().filter(|(_, object)| kind(object) == SFlag::S_IFDIR);
        paths.extend(inner.map(|(name, _)| directory.path.join(name)));
    }
    Ok(())
}
// ANCHOR_END: walk

// ANCHOR: open
impl Directory {
    fn open(layer: &Branch, path: PathBuf) -> Result<Directory> {
        let (file, objects) = layer.objects(&path)?;
        let status = fstat(&file).with_context(|| format!("stat {:?}", layer.path().join(&path)))?;
        Ok(Directory { file, status, path, objects })
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
// ANCHOR_END: open
