// ANCHOR: mount_table
//! The mount table of this process: which mount is at a place, and a word at each change. proc_pid_mountinfo(5).

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use ch02_mount::unescape;

const FILE: &str = "/proc/self/mountinfo";

/// The number of the uppermost mount at `path`, which is absolute and has no symlink in it: the first field of its line,
/// whose fifth is the place.
pub fn mount_at(path: &Path) -> Result<Option<u64>> {
    let table = fs::read_to_string(FILE).with_context(|| format!("read {FILE:?}"))?;
    let is_here = |line: &&str| line.split(' ').nth(4).is_some_and(|place| unescape(place) == path);
    let line = table.lines().rfind(is_here);
    Ok(line.and_then(|line| line.split(' ').next()).and_then(|number| number.parse().ok()))
}

/// The type of the file system of the uppermost mount at `path`, an absolute path: the field after the dash.
pub fn type_at(path: &str) -> Result<String> {
    let table = fs::read_to_string(FILE).with_context(|| format!("read {FILE:?}"))?;
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(path));
    let kind = line.and_then(|line| line.split_once(" - ")).and_then(|(_, rest)| rest.split(' ').next());
    Ok(kind.with_context(|| format!("{FILE:?} has no mount at {path}"))?.to_string())
}

/// An open mount table: poll(2) says POLLPRI after each change.
pub struct Changes(File);

impl Changes {
    /// Begins to watch.
    pub fn watch() -> Result<Changes> {
        Ok(Changes(File::open(FILE).with_context(|| format!("open {FILE:?}"))?))
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
// ANCHOR_END: mount_table
