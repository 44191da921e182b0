//! What is kept of a mark when it changes its form: owner, mode and times of the file or device that it was.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use nix::sys::stat::{FileStat, fstat};
use nix::sys::time::TimeSpec;

use super::marks::{MODE, hold};
use crate::union::attributes::{set_mode, set_owner, set_times};

// ANCHOR: kept
/// Owner, mode and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    owner: u32,
    group: u32,
    /// The permission bits.
    mode: u32,
    accessed: (i64, i64),
    modified: (i64, i64),
}

impl Kept {
    pub(super) fn of(object: &FileStat) -> Kept {
        Kept {
            owner: object.st_uid,
            group: object.st_gid,
            mode: object.st_mode & 0o7777,
            accessed: (object.st_atime, object.st_atime_nsec),
            modified: (object.st_mtime, object.st_mtime_nsec),
        }
    }

    /// For a mark in `directory` that was no file before.
    pub(super) fn of_mark_in(directory: &FileStat) -> Kept {
        Kept { mode: MODE.bits(), ..Kept::of(directory) }
    }

    /// Gives them to `name` in `directory`.
    pub(super) fn give_to(&self, directory: BorrowedFd, name: &OsStr) -> Result<()> {
        let object = hold(directory, name)?;
        let give = || -> nix::Result<()> {
            let now = fstat(&object)?;
            // A plain user may not call chown(2), and need not where the layer's files are theirs.
            if (now.st_uid, now.st_gid) != (self.owner, self.group) {
                set_owner(&object, Some(self.owner), Some(self.group))?;
            }
            // After the owner: a change of it takes set-user-id away.
            set_mode(&object, self.mode)?;
            let time = |(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds);
            set_times(&object, time(self.accessed), time(self.modified))
        };
        let Kept { owner, group, mode, .. } = self;
        give().with_context(|| {
            format!("give {name:?} the owner {owner}:{group}, the mode {mode:o} and its times")
        })
    }
}
// ANCHOR_END: kept

// ANCHOR: text
impl fmt::Display for Kept {
    /// Numbers with spaces between them, as [`Kept::parse`] reads them.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Kept { owner, group, mode, accessed, modified } = self;
        write!(formatter, "{owner} {group} {mode} ")?;
        write!(formatter, "{} {} {} {}", accessed.0, accessed.1, modified.0, modified.1)
    }
}

impl Kept {
    /// Nothing, where it is no text of ours.
    pub(super) fn parse(text: &[u8]) -> Option<Kept> {
        let numbers: Result<Vec<i64>, _> =
            std::str::from_utf8(text).ok()?.split(' ').map(str::parse).collect();
        let [owner, group, mode, accessed, accessed_nano, modified, modified_nano] =
            numbers.ok()?.try_into().ok()?;
        let nano = 0..1_000_000_000;
        (nano.contains(&accessed_nano) && nano.contains(&modified_nano)).then_some(())?;
        Some(Kept {
            owner: owner.try_into().ok()?,
            group: group.try_into().ok()?,
            mode: u32::try_from(mode).ok()? & 0o7777,
            accessed: (accessed, accessed_nano),
            modified: (modified, modified_nano),
        })
    }
}
// ANCHOR_END: text
