//! Data: open, read, write, and what else is done with the content of a file.
//!
//! read(2) on a FUSE file is answered from the kernel's page cache, or by FUSE_READ: the server reads from
//! the branch into its memory, and the kernel copies that once more. Since Linux 6.9 there is a third way,
//! *passthrough*: the server answers FUSE_OPEN with a file that it has opened, and the kernel reads, writes
//! and maps that one by itself. It needs CAP_SYS_ADMIN: such files are open in nobody's list of descriptors.
//!
//! Of one node, all that is open at a time is open in the same way, and in passthrough on the same file
//! (fs/fuse/iomode.c answers EIO else). That is why a copy-up of a file that somebody reads in passthrough
//! needs a second node; see [`raise`](super::raise).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuser::BackingId;
use log::info;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, copy_file_range, fallocate};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek64};

use super::attributes::Answer;
use super::changes::Maker;
use super::filesystem::{FileSystem, errno};
use super::nodes::Open;
use super::privileges;
use crate::union::{Make, Result};

// ANCHOR: open
/// Registers a file with the kernel, for passthrough: the ioctl FUSE_DEV_IOC_BACKING_OPEN.
pub(super) type Register<'a> = &'a dyn Fn(BorrowedFd) -> std::io::Result<BackingId>;

/// An open file, for the reply.
#[derive(Debug)]
pub(super) struct Opened {
    /// The handle's number.
    pub(super) handle: u64,
    /// In passthrough: the file that the kernel uses.
    pub(super) backing: Option<Arc<BackingId>>,
    /// It is the first one through which others may map the file and write to it unseen.
    is_newly_mapped: bool,
}

impl FileSystem {
    /// open(2). `flags` may have O_TRUNC.
    pub(super) fn open(&self, id: u64, flags: i32, is_root: bool, register: Register) -> Result<Opened> {
        let flags = OFlag::from_bits_truncate(flags);
        let (access, truncates) = (flags & OFlag::O_ACCMODE, flags.contains(OFlag::O_TRUNC));
        if access != OFlag::O_RDONLY || truncates {
            self.make_writable(id, truncates.then_some(0))?;
        } else if self.nodes().get(id)?.is_superseded {
            // The path leads to the second node now.
            return Err(Errno::ESTALE);
        }
        let names = self.names_stay();
        let flags = access | flags & OFlag::O_TRUNC | OFlag::O_NONBLOCK;
        let file = match is_root && truncates {
            true => privileges::with_all(|| self.object(id, flags))?,
            false => self.object(id, flags)?,
        };
        // Under the same guard: a copy-up in between would not know of this handle, and leave it the old
        // file.
        let opened = self.register(id, File::from(file), access, register)?;
        drop(names);
        if opened.is_newly_mapped {
            self.attributes_are_stale(id);
        }
        Ok(opened)
    }

    /// open(2) with O_CREAT of a name that is not there.
    pub(super) fn create_file(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        maker: Maker,
        flags: i32,
        register: Register,
    ) -> Result<(Answer, Opened)> {
        let access = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
        let (mut answer, file) = self.make(parent, name, &Make::File(access), mode, maker)?;
        let opened = self.register(answer.id, File::from(file), access, register)?;
        if opened.is_newly_mapped {
            answer.valid = Duration::ZERO;
        }
        Ok((answer, opened))
    }

    /// Makes a handle for a file of the node. The caller holds the lock on names since it opened the file, or
    /// the file is in the top branch.
    fn register(&self, id: u64, file: File, access: OFlag, register: Register) -> Result<Opened> {
        let file = Arc::new(file);
        // The kernel would write with our rights, and we have laid down the one to leave set-id bits on,
        // which root has.
        let is_set_id = access != OFlag::O_RDONLY && fstat(&*file)?.st_mode & 0o6000 != 0;
        // The lock is held so that no other thread registers a file for this node.
        let mut nodes = self.nodes();
        let node = nodes.change(id)?;
        if node.is_superseded {
            return Err(Errno::ESTALE);
        }
        let branch = node.branch;
        match &mut node.open {
            Some(open) => open.handles += 1,
            None => {
                let backing = if is_set_id { None } else { self.back(&file, register) };
                let backing = backing.map(|backing| (Arc::new(backing), branch));
                node.open = Some(Box::new(Open { handles: 1, file: file.clone(), backing }));
            }
        }
        let backing =
            node.open.as_ref().and_then(|open| open.backing.as_ref().map(|(backing, _)| backing.clone()));
        // A shared mapping that is written to sends no request, and outlives the handle.
        let is_newly_mapped = backing.is_some() && access == OFlag::O_RDWR && !node.is_mapped;
        node.is_mapped |= is_newly_mapped;
        drop(nodes);
        Ok(Opened { handle: self.handles.add(id, file), backing, is_newly_mapped })
    }

    fn back(&self, file: &Arc<File>, register: Register) -> Option<BackingId> {
        use std::os::fd::AsFd;
        if !self.passthrough.load(Ordering::Relaxed) {
            return None;
        }
        match register(file.as_fd()) {
            Ok(backing) => Some(backing),
            Err(error) => {
                // EPERM: no CAP_SYS_ADMIN. ELOOP: the branch lies on a stacked file system itself. It would
                // be so for the next file too.
                let (errno, ioctl) = (errno(error), "ioctl(FUSE_DEV_IOC_BACKING_OPEN)");
                let refusal = format!("{} ({errno:?})", errno.desc());
                info!(target: "syscall", "{ioctl}: {refusal}  so file data go through the server");
                self.passthrough.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// The last close(2) of what one open(2) gave.
    pub(super) fn release(&self, handle: u64) -> Result<()> {
        let handle = self.handles.remove(handle)?;
        let mut nodes = self.nodes();
        let node = nodes.change(handle.node)?;
        if let Some(open) = &mut node.open {
            open.handles -= 1;
            if open.handles == 0 {
                if node.removed.is_some() || node.is_superseded {
                    node.removed = fstat(&open.file).ok().map(Box::new);
                }
                node.open = None;
                // The kernel's integrity measurement writes `security.ima` when a file is closed.
                node.has_no_attributes = false;
            }
        }
        nodes.drop_unused(handle.node);
        Ok(())
    }
}
// ANCHOR_END: open

// ANCHOR: data
impl FileSystem {
    /// pread(2): fills `buffer`, or up to the end of the file.
    pub(super) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let file = self.handles.get(handle)?.file();
        let mut length = 0;
        while length < buffer.len() {
            match file.read_at(&mut buffer[length..], offset + length as u64).map_err(errno) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(Errno::EINTR) => (),
                Err(errno) => return Err(errno),
            }
        }
        Ok(length)
    }

    /// pwrite(2). `kills_set_id`: the writer may not leave set-id bits on.
    pub(super) fn write(&self, handle: u64, offset: u64, data: &[u8], kills_set_id: bool) -> Result<usize> {
        let file = self.handles.get(handle)?.file();
        let write = || {
            let mut length = 0;
            while length < data.len() {
                match file.write_at(&data[length..], offset + length as u64).map_err(errno) {
                    Ok(more) => length += more,
                    Err(Errno::EINTR) => (),
                    // What was written was written; the error comes with the next one.
                    Err(_) if length > 0 => break,
                    Err(errno) => return Err(errno),
                }
            }
            Ok(length)
        };
        match !kills_set_id && fstat(&*file)?.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
            true => privileges::with_all(write),
            false => write(),
        }
    }

    /// fsync(2), fdatasync(2).
    pub(super) fn synchronize(&self, handle: u64, data_only: bool) -> Result<()> {
        let file = self.handles.get(handle)?.file();
        if data_only { file.sync_data() } else { file.sync_all() }.map_err(errno)
    }

    /// fallocate(2). `is_root`: the caller may leave set-id bits on.
    pub(super) fn allocate(
        &self,
        handle: u64,
        (offset, length): (u64, u64),
        mode: i32,
        is_root: bool,
    ) -> Result<()> {
        let file = self.handles.get(handle)?.file();
        let mode = FallocateFlags::from_bits_retain(mode);
        let allocate = || fallocate(&*file, mode, offset as i64, length as i64);
        if is_root { privileges::with_all(allocate) } else { allocate() }
    }

    /// lseek(2) to the next data or hole; the kernel does the rest of its kinds by itself.
    pub(super) fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64> {
        let whence = match whence {
            libc::SEEK_DATA => Whence::SeekData,
            libc::SEEK_HOLE => Whence::SeekHole,
            _ => return Err(Errno::EINVAL),
        };
        lseek64(&*self.handles.get(handle)?.file(), offset, whence)
    }

    /// copy_file_range(2): the branch's file system may share the blocks. `is_root`: the caller may leave
    /// set-id bits on.
    pub(super) fn copy_range(
        &self,
        from: (u64, u64),
        to: (u64, u64),
        length: u64,
        is_root: bool,
    ) -> Result<usize> {
        let (source, target) = (self.handles.get(from.0)?.file(), self.handles.get(to.0)?.file());
        let (mut start, mut end) = (from.1 as i64, to.1 as i64);
        // The reply has 32 bits for the length.
        let length = length.min(1 << 30) as usize;
        let mut copy = || copy_file_range(&*source, Some(&mut start), &*target, Some(&mut end), length);
        if is_root { privileges::with_all(copy) } else { copy() }
    }

    /// readlink(2).
    pub(super) fn read_link(&self, id: u64) -> Result<std::ffi::OsString> {
        let _names = self.names_stay();
        nix::fcntl::readlinkat(self.object(id, OFlag::O_PATH)?, c"")
    }
}
// ANCHOR_END: data
