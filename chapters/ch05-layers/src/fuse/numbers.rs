//! Inode numbers: what stat(2) shows as `st_ino`, and programs tell files apart by.
//!
//! Two branches may use one number for two files, and a copy-up puts a file into another branch, under
//! another number. So the union gives numbers of its own. They stay as long as it is mounted, also where the
//! kernel has forgotten the file meanwhile: tar(1) and rsync(1) take two names with one number for two links
//! to one file. AuFS kept the same table in files, its *xino*.
//!
//! Where it can, the union gives a file the number that it has in its branch, as overlayfs does. git(1) notes
//! the inode numbers of what it has read, and reads all files again if they are others, in each new mount of
//! the same image.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;

/// The root directory's, given by the protocol (FUSE_ROOT_ID).
pub(super) const ROOT: u64 = 1;

/// Beyond what file systems use.
const FIRST_FRESH: u64 = 1 << 62;

// ANCHOR: numbers
/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An inode of a branch.
    Inode {
        /// The branch's index.
        branch: usize,
        /// Its st_dev: one branch may show files of several devices, as overlayfs and btrfs do.
        device: u64,
        /// Its number on that device.
        inode: u64,
    },
    /// A name, in the directory with this number, of a file with several in a lower branch. A copy-up would
    /// part them, so they are apart from the start.
    Name(u64, OsString),
}

/// The table.
#[derive(Debug)]
pub(super) struct Numbers {
    known: HashMap<Source, u64>,
    /// All that were ever given, and are never given to anything else.
    given: HashSet<u64>,
    /// Numbers of this device are kept as they are, as far as they are free. Those of two devices may be the
    /// same.
    device: u64,
    last: u64,
}

impl Numbers {
    /// A table that keeps the numbers of `device` as they are.
    pub(super) fn new(device: u64) -> Numbers {
        // To the kernel, an answer with node 0 says that there is no such name.
        Numbers { known: HashMap::new(), given: HashSet::from([0, ROOT]), device, last: FIRST_FRESH }
    }

    /// A number that nothing else has.
    pub(super) fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The number of `source`, the one that it had before if it had one.
    pub(super) fn of(&mut self, source: Source) -> u64 {
        if let Some(&number) = self.known.get(&source) {
            return number;
        }
        let number = match source {
            Source::Inode { device, inode, .. } if device == self.device && self.give(inode) => inode,
            _ => self.fresh(),
        };
        self.known.insert(source, number);
        number
    }

    /// Whether `number` is free, and from now on it isn't.
    fn give(&mut self, number: u64) -> bool {
        number < FIRST_FRESH && self.given.insert(number)
    }

    /// From now on `source` is found at `number`: a copy-up keeps it.
    pub(super) fn keep(&mut self, source: Source, number: u64) {
        self.known.insert(source, number);
    }

    /// `source` is deleted. The branch's file system may give its inode to another file.
    pub(super) fn end(&mut self, source: &Source) {
        self.known.remove(source);
    }
}
// ANCHOR_END: numbers

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_through_a_copy_up_and_not_given_again_after_a_deletion() {
        let mut numbers = Numbers::new(9);
        let [top, lower] = [0, 1].map(|branch| Source::Inode { branch, device: 9, inode: 7 });
        let number = numbers.of(lower.clone());
        assert_eq!(number, 7);
        assert_ne!(
            numbers.of(top.clone()),
            number,
            "the same inode number in another branch is another file"
        );
        numbers.keep(top.clone(), number);
        assert_eq!(numbers.of(top.clone()), number);
        numbers.end(&top);
        assert_ne!(numbers.of(top), number);
        assert_eq!(numbers.of(lower), number);
    }

    #[test]
    fn files_of_two_devices_with_one_inode_number_are_two_files() {
        let mut numbers = Numbers::new(9);
        let [one, other] = [8, 9].map(|device| Source::Inode { branch: 1, device, inode: 7 });
        assert_eq!(numbers.of(other.clone()), 7);
        assert_ne!(numbers.of(one), 7);
        assert_eq!(numbers.of(other), 7);
    }
}
