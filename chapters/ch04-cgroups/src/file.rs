//! The directory of a cgroup, and the files in it.
//!
//! The kernel takes a value in one write(2), and answers at once: what it refuses is the errno of that write.
//! The directory is held open, since its path may lead to another cgroup later.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use log::{Level, info, log};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::{Hierarchy, Version, why};

// ANCHOR: directory
/// A cgroup in one hierarchy.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) hierarchy: Hierarchy,
    /// On disk.
    pub(crate) path: PathBuf,
    descriptor: OwnedFd,
}

impl Directory {
    pub(crate) fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Directory, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let descriptor = openat(AT_FDCWD, path, flags, Mode::empty())?;
        Ok(Directory { hierarchy: hierarchy.clone(), path: path.into(), descriptor })
    }

    pub(crate) fn version(&self) -> Version {
        self.hierarchy.version
    }

    /// The cgroups right below; none where this one is gone.
    pub(crate) fn children(&self) -> Result<Vec<Directory>> {
        let wrong = || format!("list {:?}", self.path);
        let mut children = Vec::new();
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(children),
            entries => entries.with_context(wrong)?,
        };
        for entry in entries {
            let entry = entry.with_context(wrong)?;
            if !entry.file_type().with_context(wrong)?.is_dir() {
                continue;
            }
            match Directory::open(&self.hierarchy, &entry.path()) {
                // Removed since it was listed.
                Err(Errno::ENOENT | Errno::ENODEV) => (),
                child => children.push(child.with_context(|| format!("open {:?}", entry.path()))?),
            }
        }
        children.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(children)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
// ANCHOR_END: directory

// ANCHOR: write
impl Directory {
    /// Writes a value, which is told with its `reason`.
    pub(crate) fn write(&self, name: &str, value: &str, reason: &str) -> Result<()> {
        self.write_at(Level::Info, name, value, reason)
    }

    /// The same, where it is a detail of how rather than of what.
    pub(crate) fn write_quietly(&self, name: &str, value: &str, reason: &str) -> Result<()> {
        self.write_at(Level::Debug, name, value, reason)
    }

    fn write_at(&self, level: Level, name: &str, value: &str, reason: &str) -> Result<()> {
        log!(target: "syscall", level, "write({:?}, {value:?})  {reason}", self.path.join(name));
        self.try_write(name, value).map_err(|errno| self.refusal(errno, name, value))
    }

    /// Writes a value. False when the kernel finds it invalid beside the other values as they are (EINVAL):
    /// the caller changes those first.
    pub(crate) fn write_if_valid(&self, name: &str, value: &str, reason: &str) -> Result<bool> {
        info!(target: "syscall", "write({:?}, {value:?})  {reason}", self.path.join(name));
        match self.try_write(name, value) {
            Err(Errno::EINVAL) => Ok(false),
            result => result.map(|()| true).map_err(|errno| self.refusal(errno, name, value)),
        }
    }

    /// Writes a value; for callers that know what an errno means.
    pub(crate) fn try_write(&self, name: &str, value: &str) -> Result<(), Errno> {
        let mut file = self.open_file(name, OFlag::O_WRONLY)?;
        // One write: the kernel would take the rest of a value that came in two for a second one.
        match file.write(value.as_bytes()).map_err(errno_of)? {
            length if length == value.len() => Ok(()),
            _ => Err(Errno::EIO),
        }
    }

    /// The error for a value that was refused: the file, the value, the errno and the likely reason.
    pub(crate) fn refusal(&self, errno: Errno, name: &str, value: &str) -> anyhow::Error {
        let why = why::refused(self, name, errno).map_or(String::new(), |why| format!(" ({why})"));
        anyhow!(errno).context(format!("write {value:?} to {:?}{why}", self.path.join(name)))
    }
}
// ANCHOR_END: write

// ANCHOR: read
impl Directory {
    /// What is in a file; with the newline at its end taken off.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        self.try_read(name).map_err(|errno| {
            let why = why::refused(self, name, errno).map_or(String::new(), |why| format!(" ({why})"));
            anyhow!(errno).context(format!("read {:?}{why}", self.path.join(name)))
        })
    }

    /// What is in a file, where this version and this kernel have it.
    pub(crate) fn read_if_there(&self, name: &str) -> Result<Option<String>> {
        match self.try_read(name) {
            // EOPNOTSUPP: the file is there, and what it would tell is switched off, as pressure by psi=0.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            result => result.map(Some).with_context(|| format!("read {:?}", self.path.join(name))),
        }
    }

    /// What is in a file; for callers that know what an errno means.
    pub(crate) fn try_read(&self, name: &str) -> Result<String, Errno> {
        let mut text = String::new();
        self.open_file(name, OFlag::O_RDONLY)?.read_to_string(&mut text).map_err(errno_of)?;
        text.truncate(text.trim_end().len());
        Ok(text)
    }

    fn open_file(&self, name: &str, flags: OFlag) -> Result<File, Errno> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(openat(&self.descriptor, name, flags, Mode::empty())?.into())
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open_file(name, OFlag::O_PATH).is_ok()
    }
}
// ANCHOR_END: read

// ANCHOR: parse
/// The number after `key` in a file of lines `key number`: `memory.events`, `cpu.stat`...
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The words of a file such as `cgroup.controllers`.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}
// ANCHOR_END: parse

fn errno_of(error: std::io::Error) -> Errno {
    // read_to_string's own error, of a text that is no UTF-8, has no errno.
    error.raw_os_error().map_or(Errno::EILSEQ, Errno::from_raw)
}
