//! A directory in the making.
//!
//! A layer is made under another name beside its place, and renamed when it is whole: rename(2) is atomic.
//! Who is killed meanwhile leaves that directory behind, and the next one who makes something there removes
//! it. It is locked by whoever makes it, so the living are not taken for the dead.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::temporary::Temporary;
use crate::union::xattr;

/// What a name begins with that is still in the making.
pub(super) const PREFIX: &str = ".partial-layer-";

/// Whether `name` is that of something in the making.
pub(super) fn is_partial(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

// ANCHOR: partial
/// A directory in the making; removed when it is dropped.
pub(super) struct Partial(Temporary);

impl Partial {
    /// Makes one in `parent`, and removes those of dead processes there.
    pub(super) fn create(parent: &Path) -> Result<Partial> {
        let directory = Temporary::create(parent, PREFIX)?;
        inherit_nothing(&directory).with_context(|| format!("removexattr {:?}", directory.path()))?;
        Ok(Partial(directory))
    }

    /// Where the content is to be made: nothing is there yet.
    pub(super) fn content(&self) -> PathBuf {
        self.0.path().join("content")
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

/// Takes the access list off a directory that all in it would inherit: it is no part of a layer.
pub(super) fn inherit_nothing(directory: impl AsFd) -> Result<(), Errno> {
    xattr::discard(directory, c"system.posix_acl_default")
}
// ANCHOR_END: partial
