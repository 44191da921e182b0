//! The union: AuFS's rules as plain code over directories, with no mount.
//!
//! The rules, each in the file that carries it out:
//!
//! - [`lookup`](Union::lookup): from the top branch to the bottom. The first branch that has the name
//!   answers; a whiteout ends the search. [`enter`](Union::enter): directories of one name are one directory,
//!   until something hides those below.
//! - [`list`](Union::list): the names of such a directory. [`explain`](Union::explain): why a branch answers,
//!   or does not.
//! - [`copy_up`](Union::copy_up): before its first change, an object of a lower branch is copied to the top
//!   one.
//! - [`make`](Union::make), [`remove`](Union::remove), [`rename`](Union::rename): what needs a whiteout, or
//!   the end of one. Each changes the union in one instant: a crash leaves it as before, or after.
//!
//! Two branches are not asked to agree on anything, and hard links do not cross them: two names of one file
//! in a lower branch are two files here, and become two in the top branch. (AuFS remembered such pairs in
//! `.wh..wh.plnk`; overlayfs shows one file until a copy-up parts them.) Links made in the top branch are
//! true links.
//!
//! The union does not lock names: two changes of one name at the same time are for the caller to keep apart.
//! The file system in `fuse` does.

pub mod attributes;
mod copy_up;
pub(crate) mod data;
mod explain;
mod list;
mod lookup;
mod make;
mod remove;
mod rename;
mod work;
pub mod xattr;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::Branch;
use crate::branch::{Given, Mode};

pub use copy_up::Prepared;
pub use explain::{Found, Hider, Verdict};
pub use list::Listed;
pub use make::{Make, Owner};

/// The result of an operation on the union: an errno, as a file system gives it.
pub type Result<T> = std::result::Result<T, Errno>;

// ANCHOR: union
/// A stack of branches, the top one first.
#[derive(Debug)]
pub struct Union {
    branches: Vec<Branch>,
    work: work::Work,
}

/// A directory of the union: its path, and the branches whose directory shows through there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// From the root of the union, without a leading `/`; the root's is empty.
    pub path: PathBuf,
    /// Indices of branches, the top one first. 0 among them means: it can be written to.
    pub branches: Vec<usize>,
}

/// What answers for a name.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The index of the branch that it was found in.
    pub branch: usize,
    /// What fstat(2) says of it there.
    pub status: libc::stat,
}
// ANCHOR_END: union

impl Directory {
    /// The path of `name` in it.
    pub fn child(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.status.st_mode & libc::S_IFMT == libc::S_IFDIR
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (branch, inode, mode) = (self.branch, self.status.st_ino, self.status.st_mode);
        write!(formatter, "Entry {{ branch: {branch}, inode: {inode}, mode: {mode:o} }}")
    }
}

impl Union {
    /// A union of `branches`, the top one first.
    ///
    /// # Errors
    ///
    /// There is none; one below the top is `rw`; one is another, or lies in another.
    pub fn new(branches: Vec<Branch>) -> anyhow::Result<Union> {
        ensure!(!branches.is_empty(), "a union needs a branch: --branch DIR=rw");
        if let Some(branch) = branches[1..].iter().find(|branch| branch.mode() == Mode::ReadWrite) {
            bail!(
                "the branch {:?} is rw and not on top: branches above could hide a change in it; make it ro",
                branch.path()
            );
        }
        refuse_overlap(&branches)?;
        Ok(Union { branches, work: work::Work::default() })
    }

    /// A union of the directories `given`, the top one first.
    ///
    /// # Errors
    ///
    /// As for [`Branch::open`] and [`Union::new`].
    pub fn of(given: &[Given]) -> anyhow::Result<Union> {
        Union::new(given.iter().map(Given::open).collect::<anyhow::Result<_>>()?)
    }

    /// The branches, the top one first.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Whether changes are possible: the top branch is `rw`.
    pub fn is_writable(&self) -> bool {
        self.branches[0].mode() == Mode::ReadWrite
    }

    /// Opens the object itself in `branch`; of a symbolic link only O_PATH.
    ///
    /// # Errors
    ///
    /// As for [`Branch::find`].
    pub fn open(&self, branch: usize, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        self.branches[branch].find(path, flags)
    }

    /// fstat(2) of the object itself in `branch`.
    fn status(&self, branch: usize, path: &Path) -> Result<libc::stat> {
        // ENOTDIR, ELOOP: the directory that it was looked for in is none any more.
        let stale =
            |errno| if matches!(errno, Errno::ENOTDIR | Errno::ELOOP) { Errno::ESTALE } else { errno };
        nix::sys::stat::fstat(self.branches[branch].find(path, OFlag::O_PATH).map_err(stale)?)
    }

    /// Opens the directory in `branch` that was there when `directory` was entered.
    fn open_directory(&self, branch: usize, directory: &Directory, flags: OFlag) -> Result<OwnedFd> {
        self.branches[branch].find(&directory.path, flags | OFlag::O_DIRECTORY).map_err(|errno| match errno {
            // Somebody changed the branch behind the union's back.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Errno::ESTALE,
            errno => errno,
        })
    }

    /// The top branch's directory of `parent`, for a change in it.
    fn top(&self, parent: &Directory) -> Result<OwnedFd> {
        self.claim()?;
        // The caller has not raised it.
        let is_raised = parent.branches.first() == Some(&0);
        if !is_raised {
            return Err(Errno::EINVAL);
        }
        self.open_directory(0, parent, OFlag::O_PATH)
    }
}

/// A change in the top branch would change a lower one that it lies in, and an object would be found at two
/// places.
fn refuse_overlap(branches: &[Branch]) -> anyhow::Result<()> {
    let real_path = |branch: &Branch| {
        let path = branch.path();
        std::fs::canonicalize(path).with_context(|| format!("realpath of the branch {path:?}"))
    };
    let paths = branches.iter().map(real_path).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    for (upper, one) in paths.iter().enumerate() {
        for other in &paths[upper + 1..] {
            ensure!(one != other, "{one:?} is given twice: a directory can be one branch only");
            let overlap = one.starts_with(other) || other.starts_with(one);
            ensure!(
                !overlap,
                "the branches {one:?} and {other:?} lie one in the other: a union needs them apart"
            );
        }
    }
    Ok(())
}

/// A name as a system call's caller may give it.
fn check_name(name: &OsStr) -> Result<()> {
    match name.as_encoded_bytes() {
        b"" | b"." | b".." => Err(Errno::EINVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}
