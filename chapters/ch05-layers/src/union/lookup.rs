//! Lookup: which branch answers for a name.
//!
//! In each branch, from the top, the name itself is asked for first, and then its whiteout. So a file beside
//! its own whiteout, in one branch, is there: a whiteout hides what is *below* it, as in image layers.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use log::warn;
use nix::errno::Errno;

use super::{Directory, Entry, Result, Union, check_name};
use crate::whiteout::{self, Name, OPAQUE};

// ANCHOR: lookup
/// How a search for a name ended.
pub(super) enum Answer {
    /// This object is what the union shows.
    Found(Entry),
    /// This branch has a whiteout, and those above do not have the name.
    Whiteout(usize),
    /// No branch has it.
    Nothing,
}

impl Union {
    /// Which branch answers for `name` in `parent`.
    ///
    /// # Errors
    ///
    /// ENOENT: none, or a whiteout hides it; or the name is one that AuFS keeps for itself. EIO: a whiteout
    /// on the way is no regular file. ESTALE: a branch was changed behind the union's back.
    pub fn lookup(&self, parent: &Directory, name: &OsStr) -> Result<Entry> {
        match self.search(parent, name)? {
            Answer::Found(entry) => Ok(entry),
            Answer::Whiteout(_) | Answer::Nothing => Err(Errno::ENOENT),
        }
    }

    pub(super) fn search(&self, parent: &Directory, name: &OsStr) -> Result<Answer> {
        check_name(name)?;
        let Name::Plain(_) = whiteout::classify(name) else { return Ok(Answer::Nothing) };
        self.search_in(&parent.branches, parent, name)
    }

    fn search_in(&self, branches: &[usize], parent: &Directory, name: &OsStr) -> Result<Answer> {
        let path = parent.child(name);
        for (&branch, below) in branches.iter().zip((0..branches.len()).rev()) {
            match self.status(branch, &path) {
                Ok(status) => return Ok(Answer::Found(Entry { branch, status })),
                Err(Errno::ENOENT) => (),
                Err(errno) => return Err(errno),
            }
            // In the lowest one a whiteout has nothing to hide: one system call less for each missing name.
            if below > 0 && self.has_whiteout(branch, parent, name)? {
                return Ok(Answer::Whiteout(branch));
            }
        }
        Ok(Answer::Nothing)
    }

    /// Whether the branches below the top would show `name` in `parent`, were it not for the top one.
    pub(super) fn is_below(&self, parent: &Directory, name: &OsStr) -> Result<bool> {
        let below = parent.branches.strip_prefix(&[0]).unwrap_or(&parent.branches);
        Ok(matches!(self.search_in(below, parent, name)?, Answer::Found(_)))
    }

    /// Whether `branch` hides `name` in `parent` from those below.
    pub(super) fn has_whiteout(&self, branch: usize, parent: &Directory, name: &OsStr) -> Result<bool> {
        self.has_mark(branch, &parent.path.join(whiteout::of(name)))
    }

    /// Whether the directory `path` of `branch` hides those below it.
    pub(super) fn is_opaque(&self, branch: usize, path: &Path) -> Result<bool> {
        self.has_mark(branch, &path.join(OPAQUE))
    }

    fn has_mark(&self, branch: usize, mark: &Path) -> Result<bool> {
        match self.status(branch, mark) {
            Ok(status) if status.st_mode & libc::S_IFMT == libc::S_IFREG => Ok(true),
            // A directory, a device, a link: no union makes one. Taken for a whiteout it would delete what
            // its maker perhaps kept; ignored, show what he perhaps deleted.
            Ok(_) => {
                let path = self.branches()[branch].path().join(mark);
                warn!("{path:?} should be a whiteout, and is no regular file: remove it from the layer");
                Err(Errno::EIO)
            }
            // ENAMETOOLONG: a name of more than 251 bytes can't have a whiteout.
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
// ANCHOR_END: lookup

// ANCHOR: enter
impl Union {
    /// The root directory of the union.
    ///
    /// # Errors
    ///
    /// EIO: a branch's opaque mark is no regular file.
    pub fn root(&self) -> Result<Directory> {
        let mut root = Directory { path: PathBuf::new(), branches: Vec::new() };
        for branch in 0..self.branches().len() {
            root.branches.push(branch);
            if self.is_opaque(branch, &root.path)? {
                break;
            }
        }
        Ok(root)
    }

    /// The directory `name` in `parent`: that of the first branch which has one, merged with those below it,
    /// until a branch has something else of that name, or a whiteout, or the directory there is opaque.
    ///
    /// # Errors
    ///
    /// ENOTDIR; else as for [`Union::lookup`].
    pub fn enter(&self, parent: &Directory, name: &OsStr) -> Result<Directory> {
        check_name(name)?;
        let Name::Plain(_) = whiteout::classify(name) else { return Err(Errno::ENOENT) };
        let mut directory = Directory { path: parent.child(name), branches: Vec::new() };
        for (&branch, below) in parent.branches.iter().zip((0..parent.branches.len()).rev()) {
            let mut is_opaque = false;
            match self.status(branch, &directory.path) {
                Ok(status) if (Entry { branch, status }).is_directory() => {
                    directory.branches.push(branch);
                    is_opaque = below > 0 && self.is_opaque(branch, &directory.path)?;
                }
                Ok(_) if directory.branches.is_empty() => return Err(Errno::ENOTDIR),
                Ok(_) => break,
                Err(Errno::ENOENT) => (),
                Err(errno) => return Err(errno),
            }
            if is_opaque || below > 0 && self.has_whiteout(branch, parent, name)? {
                break;
            }
        }
        if directory.branches.is_empty() { Err(Errno::ENOENT) } else { Ok(directory) }
    }

    /// The directory at `path`, from the root, name by name. A leading `/` is allowed, `..` is not.
    ///
    /// # Errors
    ///
    /// EINVAL: a `..`; else as for [`Union::enter`].
    pub fn walk(&self, path: &Path) -> Result<Directory> {
        let mut directory = self.root()?;
        for component in path.components() {
            match component {
                Component::Normal(name) => directory = self.enter(&directory, name)?,
                Component::RootDir | Component::CurDir => (),
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::EINVAL),
            }
        }
        Ok(directory)
    }
}
// ANCHOR_END: enter
