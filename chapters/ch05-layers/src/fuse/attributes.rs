//! Attributes: what stat(2) says of a node, and its changes.
//!
//! FUSE_GETATTR is asked once; the answer says for how long the kernel may answer for us. Nothing changes in
//! the union but through the mount, and the kernel knows of each change there, since it asked for it. So the
//! time is a year, and `ls -l` of a directory that was seen before costs no request at all.
//!
//! FUSE_SETATTR is chmod(2), chown(2), truncate(2) and utimensat(2) in one: it names those fields that are to
//! change. On a file of a lower branch each is a first write, and copies it up.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::time::TimeSpec;
use nix::unistd::truncate;

use super::filesystem::{FileSystem, errno};
use super::privileges;
use crate::union::{Result, attributes};

/// How long the kernel may keep an answer. (The protocol knows no "for ever".)
pub(super) const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

// ANCHOR: attributes
/// What the kernel is told of a node.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) attributes: FileAttr,
    /// How long the attributes stay true.
    pub(super) valid: Duration,
}

impl Answer {
    /// For a reply that carries a node id, which in this crate's replies *is* the inode number.
    pub(super) fn as_entry(&self) -> FileAttr {
        FileAttr { ino: INodeNo(self.id), ..self.attributes }
    }
}

/// The fields of the protocol.
pub(super) fn attributes_of(number: u64, status: &libc::stat) -> FileAttr {
    let kind = kind_of(status.st_mode);
    FileAttr {
        ino: INodeNo(number),
        size: status.st_size as u64,
        blocks: status.st_blocks as u64,
        atime: time(status.st_atime, status.st_atime_nsec),
        mtime: time(status.st_mtime, status.st_mtime_nsec),
        ctime: time(status.st_ctime, status.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind,
        perm: (status.st_mode & 0o7777) as u16,
        // Two more than its directories, says Unix. A merged directory would have to count them in all
        // branches: 1 means that nobody has counted, as on btrfs.
        nlink: if kind == FileType::Directory { status.st_nlink.min(1) } else { status.st_nlink } as u32,
        uid: status.st_uid,
        gid: status.st_gid,
        // Its lower half is what the protocol has room for: 12 bits of major, 20 of minor.
        rdev: status.st_rdev as u32,
        blksize: status.st_blksize as u32,
        flags: 0,
    }
}

pub(super) fn kind_of(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// Before 1970 the seconds are negative, and the nanoseconds still count forwards.
fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let nanoseconds = Duration::from_nanos(nanoseconds as u64);
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds) + nanoseconds,
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanoseconds,
    }
}

fn time_specification(time: Option<TimeOrNow>) -> TimeSpec {
    match time {
        None => TimeSpec::UTIME_OMIT,
        Some(TimeOrNow::Now) => TimeSpec::UTIME_NOW,
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(after) => TimeSpec::from_duration(after),
            // fuser counts the nanoseconds backwards as well, so both halves are those of the request with
            // the sign off.
            Err(before) => {
                let before = before.duration();
                TimeSpec::new(-(before.as_secs() as i64), before.subsec_nanos().into())
            }
        },
    }
}
// ANCHOR_END: attributes

// ANCHOR: changes
/// What FUSE_SETATTR is to change.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) accessed: Option<TimeOrNow>,
    pub(super) modified: Option<TimeOrNow>,
    /// ftruncate(2): through this handle.
    pub(super) handle: Option<u64>,
    /// The caller may leave set-id bits on.
    pub(super) is_root: bool,
}

impl FileSystem {
    /// stat(2).
    pub(super) fn attributes(&self, id: u64) -> Result<Answer> {
        let _names = self.names_stay();
        self.answer(id, &self.status(id)?)
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2).
    pub(super) fn change_attributes(&self, id: u64, changes: &Changes) -> Result<Answer> {
        let size_before =
            changes.size.and_then(|_| self.attributes(id).ok()).map(|answer| answer.attributes.size);
        match changes.size {
            // A handle that can write is one of a file in the top branch.
            Some(_) if changes.handle.is_some() => self.union.claim()?,
            Some(size) => self.make_writable(id, Some(size))?,
            None => self.raise(id, None)?,
        }
        let _names = self.names_stay();
        let object = self.object(id, OFlag::O_PATH)?;
        if let Some(size) = changes.size {
            self.truncate(id, size, size_before, changes)?;
        }
        if changes.user.is_some() || changes.group.is_some() {
            attributes::set_owner(&object, changes.user, changes.group)?;
        }
        // After the owner, who takes set-id bits off.
        if let Some(mode) = changes.mode {
            privileges::with_all(|| attributes::set_mode(&object, mode))?;
        }
        let (accessed, modified) = (changes.accessed, changes.modified);
        if accessed.is_some() || modified.is_some() {
            attributes::set_times(&object, time_specification(accessed), time_specification(modified))?;
        }
        self.answer(id, &fstat(object.as_fd())?)
    }

    /// What the kernel is told of the node, given what its branch says of it.
    pub(super) fn answer(&self, id: u64, status: &libc::stat) -> Result<Answer> {
        let nodes = self.nodes();
        let node = nodes.get(id)?;
        // A first node does not hear of changes made through the second; entry replies give the second one's
        // id for its number, so it must be asked for at once.
        let is_shared = node.is_superseded || id != node.number;
        // A write takes set-id bits off in the branch, and the kernel, which has left that to us, does not
        // look at the mode again: who has written a program of his own into the file would run it as its
        // owner.
        let is_set_id = status.st_mode & libc::S_IFMT == libc::S_IFREG && status.st_mode & 0o6000 != 0;
        let valid = if is_shared || node.is_mapped || is_set_id { Duration::ZERO } else { LONG };
        let mut attributes = attributes_of(node.number, status);
        if node.branch > 0 {
            // Its other names there are those of other files here.
            attributes.nlink = attributes.nlink.min(1);
        }
        Ok(Answer { id, attributes, valid })
    }

    /// fstat(2) of the object in its branch. The caller holds the lock on names.
    pub(super) fn status(&self, id: u64) -> Result<libc::stat> {
        let nodes = self.nodes();
        let node = nodes.get(id)?;
        match (&node.open, &node.removed) {
            (Some(open), removed) => {
                let (file, links) = (open.file.clone(), removed.as_ref().map(|status| status.st_nlink));
                drop(nodes);
                let mut status = fstat(file)?;
                // In a lower branch it has all its names still.
                status.st_nlink = links.unwrap_or(status.st_nlink);
                return Ok(status);
            }
            (None, Some(status)) => return Ok(**status),
            (None, None) => (),
        }
        let (branch, path) = (node.branch, nodes.path(id)?);
        drop(nodes);
        fstat(self.union.open(branch, &path, OFlag::O_PATH)?)
    }

    fn truncate(&self, id: u64, size: u64, before: Option<u64>, changes: &Changes) -> Result<()> {
        let truncate = || match changes.handle {
            Some(handle) => self.handles.get(handle)?.file().set_len(size).map_err(errno),
            // ftruncate(2) is always a change of the content, truncate(2) may be none where the size is the
            // same.
            None if before == Some(size) => {
                let object = self.object(id, OFlag::O_PATH)?;
                truncate(attributes::magic_link(object.as_fd()).as_c_str(), size as i64)
            }
            // The copy may have this size already, and the content is another one all the same.
            None => {
                File::from(self.object(id, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?).set_len(size).map_err(errno)
            }
        };
        if changes.is_root { privileges::with_all(truncate) } else { truncate() }
    }
}
// ANCHOR_END: changes
