//! What a container has changed: `docker diff`.
//!
//! Nobody has to compare two trees of files. Whatever the container changed is in its top branch, so only
//! that one is walked, and each name in it is looked up in the branches below. The lines are those of
//! Docker's comparison (moby's `ChangesDirs`): a file counts as changed if its type, mode, owner, size or
//! time of modification is another; a directory if its mode or owner is, or anything in it. A deleted
//! directory is one line. (Docker does not sort the lines, of the extended attributes it compares only
//! `security.capability`, and it takes two times of one second for the same if one of them has no
//! nanoseconds, as after an old tar archive. Here the lines are sorted as a walk meets them, all attributes
//! count, and so do nanoseconds.)

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::view::{self, Named, attributes, directory_below, root_below};
use crate::branch::{Mode, is};
use crate::overlay::{Form, Marks};
use crate::union::Entry;
use crate::{Directory, Union};

// ANCHOR: change
/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No branch below has it.
    Added,
    /// It is another, or has another content, mode or owner.
    Changed,
    /// The branches below have it, and the union does not.
    Deleted,
}

/// One line of `docker diff`; `Display` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// To which file, with a leading `/`.
    pub path: PathBuf,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let letter = match self.kind {
            Kind::Added => 'A',
            Kind::Changed => 'C',
            Kind::Deleted => 'D',
        };
        write!(formatter, "{letter} {}", self.path.display())
    }
}
// ANCHOR_END: change

// ANCHOR: diff
/// What the top branch of `union` changes, in the order of a walk. Its marks are in `form`; all branches
/// below have AuFS's. What an init branch holds is left out.
///
/// # Errors
///
/// Names what could not be read, or what no layer may have.
pub fn diff(union: &Union, form: Form) -> Result<Vec<Change>> {
    let mut found = BTreeMap::new();
    // A directory, what is below it, and whether all of that is hidden.
    let mut directories = vec![(root_below(union)?, false)];
    while let Some((below, hidden)) = directories.pop() {
        let view = view::read(&union.branches()[0], &below.path, form)?;
        let mut names = view.names;
        if hidden || view.opaque {
            for listed in union.list(&below).with_context(|| format!("list /{}", below.path.display()))? {
                names.entry(listed.name).or_default().whiteout = true;
            }
        }
        for (name, Named { object, whiteout }) in names {
            let path = below.child(&name);
            if is_of_init(union, &path)? {
                continue;
            }
            let old = lookup(union, &below, &name)?;
            match (object, old) {
                (None, None) => (),
                (None, Some(_)) => add(&mut found, &path, Kind::Deleted),
                (Some(_), None) => add(&mut found, &path, Kind::Added),
                (Some(new), Some(old)) if differ(union, &path, &old, &new)? => {
                    add(&mut found, &path, Kind::Changed)
                }
                (Some(_), Some(_)) => (),
            }
            if object.is_some_and(|object| is(&object, libc::S_IFDIR)) {
                directories.push((directory_below(union, &below, &name)?, whiteout));
            }
        }
    }
    Ok(found.into_iter().map(|(path, kind)| Change { kind, path: Path::new("/").join(path) }).collect())
}

/// A change of a file is one of each directory above it.
fn add(found: &mut BTreeMap<PathBuf, Kind>, path: &Path, kind: Kind) {
    found.insert(path.into(), kind);
    for directory in path.ancestors().skip(1) {
        if directory.as_os_str().is_empty() || found.contains_key(directory) {
            break;
        }
        found.insert(directory.into(), Kind::Changed);
    }
}
// ANCHOR_END: diff

// ANCHOR: init
/// Whether an init branch has something other than a directory at `path`: then it is none of the image's
/// business what became of it.
pub(super) fn is_of_init(union: &Union, path: &Path) -> Result<bool> {
    for branch in union.branches().iter().filter(|branch| branch.mode() == Mode::Init) {
        let status = branch.find(path, OFlag::O_PATH).and_then(fstat);
        match status {
            Ok(status) if is(&status, libc::S_IFDIR) => (),
            Ok(_) => return Ok(true),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => (),
            Err(errno) => Err(errno).with_context(|| format!("stat {:?}", branch.path().join(path)))?,
        }
    }
    Ok(false)
}
// ANCHOR_END: init

/// What the branches below the top have of this name.
pub(super) fn lookup(union: &Union, below: &Directory, name: &std::ffi::OsStr) -> Result<Option<Entry>> {
    match union.lookup(below, name) {
        Err(Errno::ENOENT) => Ok(None),
        entry => entry.map(Some).with_context(|| format!("look up /{}", below.child(name).display())),
    }
}

// ANCHOR: differ
/// Whether the object at `path` in the top branch, `new`, is another than `old`. A directory's time is no
/// sign: it changes when an init file in it does, and its size depends on what it once held.
pub(super) fn differ(union: &Union, path: &Path, old: &Entry, new: &libc::stat) -> Result<bool> {
    let facts = |status: &libc::stat| {
        let content = (status.st_size, status.st_mtime, status.st_mtime_nsec);
        let content = if is(status, libc::S_IFDIR) { (0, 0, 0) } else { content };
        (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, content)
    };
    if facts(&old.status) != facts(new) {
        return Ok(true);
    }
    let attributes = |branch| -> Result<Vec<(CString, Vec<u8>)>, Errno> {
        let mut attributes = attributes(union.open(branch, path, OFlag::O_PATH)?)?;
        // Marks, and overlayfs's notes of where it copied the file from.
        attributes.retain(|(name, _)| !Marks::have(name));
        Ok(attributes)
    };
    let differ = || Ok(attributes(0)? != attributes(old.branch)?);
    differ()
        .map_err(|errno: Errno| anyhow::Error::new(errno).context(format!("getxattr /{}", path.display())))
}
// ANCHOR_END: differ
