//! Copy-up: an object of a lower branch comes to the top one, before its first change.
//!
//! "Copy on write" at the grain of whole files: the first byte that is changed in a file of 1 GiB copies it
//! all. The copy has the data, mode, owner, times and extended attributes of the original, so that nobody in
//! the union sees that it happened, except for the inode number and the blocks. It is put together in the
//! work directory, written to the disk, and then renamed into place: after a crash there is the old file or
//! the whole new one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use log::{debug, warn};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, readlinkat, renameat, renameat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, fsync, symlinkat, unlinkat};

use super::work::keep_times;
use super::{Directory, Result, Union, attributes, data, xattr};

// ANCHOR: copy_up
impl Union {
    /// Copies `name` up into the top branch, if it is not there: of a directory, itself and nothing in it.
    /// `parent` has the top.
    ///
    /// # Errors
    ///
    /// As for [`Union::lookup`] and [`Union::claim`]. EPERM: its owner, or a device, is not for this process
    /// to make. EACCES: a directory whose mode does not let this process write in it, since rename(2) changes
    /// its `..`. ENOSPC.
    pub fn copy_up(&self, parent: &Directory, name: &OsStr) -> Result<()> {
        let entry = self.lookup(parent, name)?;
        if entry.branch == 0 {
            return Ok(());
        }
        self.prepare(entry.branch, &parent.child(name), None)?.install(parent, name)
    }

    /// Makes `path`, a directory, and those above it exist in the top branch.
    ///
    /// # Errors
    ///
    /// As for [`Union::walk`] and [`Union::copy_up`].
    pub fn raise(&self, path: &Path) -> Result<Directory> {
        self.claim()?;
        let mut directory = self.root()?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let mut child = self.enter(&directory, name)?;
            if child.branches[0] != 0 {
                self.prepare(child.branches[0], &child.path, None)?.install(&directory, name)?;
                child.branches.insert(0, 0);
            }
            directory = child;
        }
        Ok(directory)
    }

    /// The first and long half of a copy-up: the copy, in the work directory. Nobody sees it, so nobody has
    /// to wait for it. Of a file that is about to be truncated, only the first `length` bytes are copied.
    ///
    /// # Errors
    ///
    /// As for [`Union::copy_up`].
    pub fn prepare(&self, branch: usize, path: &Path, length: Option<u64>) -> Result<Prepared<'_>> {
        let work = self.work()?;
        let original = self.open(branch, path, OFlag::O_PATH)?;
        let status = fstat(&original)?;
        debug!(target: "syscall", "copy-up of {path:?} from branch {branch}");
        // From here on, a failure removes what was made so far.
        let prepared = Prepared { union: self, name: Some(self.work_name()) };
        let name = prepared.name.as_deref().expect("it was just set");
        let file = match status.st_mode & libc::S_IFMT {
            libc::S_IFREG => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                Some(File::from(openat(work, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
            }
            _ => make_alike(&original, &status, work, name).map(|()| None)?,
        };
        if let Some(file) = &file {
            let length = length.unwrap_or(u64::MAX).min(status.st_size as u64);
            // What is not read needs no right to be read.
            if length > 0 {
                data::copy(&self.open_quietly(branch, path)?, file, length)?;
            }
        }
        let copy = openat(work, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        copy_attributes(&original, &status, &copy)?;
        if let Some(file) = &file {
            // Else a crash after the rename could leave its name with nothing in it.
            fsync(file)?;
        }
        Ok(prepared)
    }

    /// Opens a regular file of a lower branch for reading, and leaves its access time as it is where the
    /// kernel allows it.
    fn open_quietly(&self, branch: usize, path: &Path) -> Result<File> {
        // O_NONBLOCK: should it have become a FIFO, nobody may ever write to it.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        match self.open(branch, path, flags | OFlag::O_NOATIME) {
            // Only its owner may.
            Err(Errno::EPERM) => self.open(branch, path, flags),
            result => result,
        }
        .map(File::from)
    }
}

/// Makes what is no regular file, and so has no content to copy.
fn make_alike(original: &OwnedFd, status: &libc::stat, work: &OwnedFd, name: &OsStr) -> Result<()> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => mkdirat(work, name, Mode::S_IRWXU),
        SFlag::S_IFLNK => symlinkat(readlinkat(original, c"")?.as_os_str(), work, name),
        // The device number is what a device is; a FIFO or a socket has none.
        kind => mknodat(work, name, kind, mode, status.st_rdev),
    }
}

/// In an order in which none undoes or forbids another: a new owner takes set-id bits and file capabilities off;
/// a plain user can't set an attribute of what its mode says he may not write; and each change but that of the
/// times is a change of the times.
fn copy_attributes(original: &OwnedFd, status: &libc::stat, copy: impl AsFd) -> Result<()> {
    let made = fstat(&copy)?;
    if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid) {
        attributes::set_owner(&copy, Some(status.st_uid), Some(status.st_gid))?;
    }
    xattr::copy(original, &copy)?;
    if status.st_mode & libc::S_IFMT != libc::S_IFLNK {
        attributes::set_mode(&copy, status.st_mode)?;
    }
    let (accessed, modified) = attributes::times(status);
    attributes::set_times(&copy, accessed, modified)
}
// ANCHOR_END: copy_up

// ANCHOR: install
/// A finished copy in the work directory; removed when it is dropped without being installed.
#[derive(Debug)]
pub struct Prepared<'a> {
    union: &'a Union,
    /// In the work directory, while it is there.
    name: Option<OsString>,
}

impl Prepared<'_> {
    /// The second half of a copy-up: the copy appears at its place. `parent` has the top, which does not have
    /// `name`.
    ///
    /// # Errors
    ///
    /// EEXIST: it has. ESTALE: its directory is gone.
    pub fn install(mut self, parent: &Directory, name: &OsStr) -> Result<()> {
        let top = self.union.top(parent)?;
        let (work, work_name) = (self.union.work()?, self.name.take().expect("it is installed once"));
        debug!(target: "syscall", "renameat2({work_name:?}, {name:?}, RENAME_NOREPLACE)  the copy appears");
        // Who looks at the directory's times should not learn of it.
        let renamed = keep_times(&top, || {
            match renameat2(work, work_name.as_os_str(), &top, name, RenameFlags::RENAME_NOREPLACE) {
                // This file system can't.
                Err(Errno::EINVAL) => renameat(work, work_name.as_os_str(), &top, name),
                result => result,
            }
        });
        if renamed.is_err() {
            self.name = Some(work_name);
        }
        renamed
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        let (Some(name), Ok(work)) = (self.name.take(), self.union.work()) else { return };
        let remove = |flag| unlinkat(work, name.as_os_str(), flag);
        match remove(UnlinkatFlags::NoRemoveDir).or_else(|_| remove(UnlinkatFlags::RemoveDir)) {
            // ENOENT: the failure was that it could not be made.
            Ok(()) | Err(Errno::ENOENT) => (),
            Err(errno) => {
                warn!("remove an unfinished copy from the top branch: {errno}; the next start does")
            }
        }
    }
}
// ANCHOR_END: install
