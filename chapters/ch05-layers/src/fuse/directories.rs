//! Directories: FUSE_READDIR, and FUSE_READDIRPLUS, which looks each name up as well.
//!
//! readdir(3) reads in pieces. Between two of them names may come and go, and a program may ask for the place
//! where it was before (telldir(3), seekdir(3)); the kernel itself keeps the pieces, and asks us again from
//! the middle of what it has kept. So the *offset* of a name must mean the same in every reading, whoever
//! reads: here it is a hash of the name, and names come in the order of their hashes. ext4 does the same.
//!
//! So no state belongs to an open directory. The first FUSE_OPENDIR is answered with ENOSYS: the kernel takes
//! that as "don't ask", and a walk through a tree costs one request less for each directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::FileType;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;

use super::attributes::{Answer, kind_of};
use super::filesystem::FileSystem;
use super::nodes::source;
use super::numbers::ROOT;
use crate::union::{Directory, Entry, Listed, Result};

// ANCHOR: listing
/// What a directory holds, in the order of the offsets.
#[derive(Debug)]
pub(super) struct Listing(Vec<(u64, Listed)>);

/// Offsets of `.` and `..`, which come first. Offset 0 is the beginning.
const SELF: u64 = 1;
const PARENT: u64 = 2;

impl Listing {
    fn new(names: Vec<Listed>) -> Listing {
        let mut names: Vec<(u64, Listed)> =
            names.into_iter().map(|listed| (offset(&listed.name), listed)).collect();
        names.sort_unstable_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
        Listing(names)
    }

    /// The names behind `offset`.
    fn from(&self, offset: u64) -> &[(u64, Listed)] {
        &self.0[self.0.partition_point(|(at, _)| *at <= offset)..]
    }
}

/// The offset of a name: the same in every process, and positive as a signed number, since telldir(3) gives
/// one.
fn offset(name: &OsStr) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() >> 1).max(PARENT + 1)
}
// ANCHOR_END: listing

// ANCHOR: read
/// A name for the reply to FUSE_READDIR.
pub(super) struct Name<'a> {
    pub(super) name: &'a OsStr,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) kind: FileType,
}

impl FileSystem {
    /// Gives the names behind `offset` to `add`, until it says that the reply is full.
    pub(super) fn read_directory(
        &self,
        id: u64,
        offset: u64,
        mut add: impl FnMut(Name) -> bool,
    ) -> Result<()> {
        let _names = self.names_stay();
        let directory = self.directory(id)?;
        let listing = self.listing(id, &directory)?;
        let mut statuses = Statuses::new(self, &directory);
        for dot in self.dots(id, offset)? {
            if add(dot) {
                return Ok(());
            }
        }
        for (offset, listed) in listing.from(offset) {
            let entry = statuses.of(listed)?;
            let number = self.nodes().numbers.of(source(id, &listed.name, &entry));
            let kind = kind_of(entry.status.st_mode);
            if add(Name { name: &listed.name, number, offset: *offset, kind }) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// As [`FileSystem::read_directory`], with all that a lookup tells. Those that are added, the kernel
    /// knows.
    pub(super) fn read_directory_plus(
        &self,
        id: u64,
        offset: u64,
        mut add: impl FnMut(&OsStr, u64, &Answer) -> bool,
    ) -> Result<()> {
        let _names = self.names_stay();
        let directory = self.directory(id)?;
        let listing = self.listing(id, &directory)?;
        let mut statuses = Statuses::new(self, &directory);
        for dot in self.dots(id, offset)? {
            // The kernel knows them already, and takes only number and kind.
            let answer = self.answer(dot.number, &self.status(dot.number)?)?;
            if add(dot.name, dot.offset, &answer) {
                return Ok(());
            }
        }
        if listing.from(offset).is_empty() {
            self.nodes().names_changed(id);
        }
        for (offset, listed) in listing.from(offset) {
            let entry = statuses.of(listed)?;
            let child = self.nodes().tell(id, &listed.name, &entry)?;
            let answer = self.answer(child, &entry.status)?;
            if add(&listed.name, *offset, &answer) {
                self.nodes().forget(child, 1);
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the directory holds, read once between two changes of its names.
    fn listing(&self, id: u64, directory: &Directory) -> Result<Arc<Listing>> {
        if let Some(listing) = &self.nodes().get(id)?.listing {
            return Ok(listing.clone());
        }
        let listing = Arc::new(Listing::new(self.union.list(directory)?));
        self.nodes().change(id)?.listing = Some(listing.clone());
        Ok(listing)
    }

    /// `.` and `..`, as far as they are behind `offset`.
    fn dots(&self, id: u64, offset: u64) -> Result<Vec<Name<'static>>> {
        let parent = if id == ROOT { ROOT } else { self.nodes().place(id)?.0 };
        let dot = |name, number, offset| Name { name, number, offset, kind: FileType::Directory };
        let dots = [dot(OsStr::new("."), id, SELF), dot(OsStr::new(".."), parent, PARENT)];
        Ok(dots.into_iter().filter(|dot| dot.offset > offset).collect())
    }
}
// ANCHOR_END: read

// ANCHOR: statuses
/// Asks for attributes by name alone: the directory is opened once in each branch, not for each name.
struct Statuses<'a> {
    filesystem: &'a FileSystem,
    directory: &'a Directory,
    open: HashMap<usize, OwnedFd>,
}

impl Statuses<'_> {
    fn new<'a>(filesystem: &'a FileSystem, directory: &'a Directory) -> Statuses<'a> {
        Statuses { filesystem, directory, open: HashMap::new() }
    }

    fn of(&mut self, listed: &Listed) -> Result<Entry> {
        let Listed { branch, name, .. } = listed;
        if !self.open.contains_key(branch) {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let open = self.filesystem.union.open(*branch, &self.directory.path, flags)?;
            self.open.insert(*branch, open);
        }
        let directory = self.open.get(branch).ok_or(Errno::EIO)?;
        let status = fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Entry { branch: *branch, status })
    }
}
// ANCHOR_END: statuses
