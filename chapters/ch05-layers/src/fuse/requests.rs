//! Requests: what the kernel asks, one method for each kind, and how the answer is put.
//!
//! A request is a few bytes read from /dev/fuse: a header with the kind (`FUSE_LOOKUP`), a number for the
//! answer to repeat, the node id, and who asks; then what the kind needs. The crate `fuser` reads and writes
//! them, and calls these methods, each in one of several threads. The protocol: include/uapi/linux/fuse.h;
//! manual page: [fuse(4)](https://man7.org/linux/man-pages/man4/fuse.4.html).

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::fcntl::OFlag;
use nix::sys::statvfs::fstatvfs;

use super::attributes::Changes;
use super::changes::Maker;
use super::filesystem::FileSystem;
use super::replies::{CACHED, FIRST, PASSTHROUGH, attributes, code, empty, entry, made, statistics, value};
use crate::union::{Make, Owner};

fn maker(request: &Request, umask: u32) -> Maker {
    Maker { owner: Owner { user: request.uid(), group: request.gid() }, umask }
}

thread_local! {
    /// What a read fills, made once for each thread.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

// ANCHOR: requests
impl Filesystem for FileSystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.negotiate(config);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.look_up(parent.0, name), reply);
    }

    fn forget(&self, _request: &Request, id: INodeNo, count: u64) {
        self.nodes().forget(id.0, count);
    }

    fn getattr(&self, _request: &Request, id: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        attributes(self.attributes(id.0), reply);
    }

    #[rustfmt::skip]
    fn setattr(
        &self, request: &Request, id: INodeNo, mode: Option<u32>, user: Option<u32>, group: Option<u32>,
        size: Option<u64>, accessed: Option<TimeOrNow>, modified: Option<TimeOrNow>, _: Option<SystemTime>,
        handle: Option<FileHandle>, _: Option<SystemTime>, _: Option<SystemTime>, _: Option<SystemTime>,
        _: Option<BsdFileFlags>, reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode, user, group, size, accessed, modified,
            handle: handle.map(|handle| handle.0), is_root: request.uid() == 0,
        };
        attributes(self.change_attributes(id.0, &changes), reply);
    }

    fn readlink(&self, _request: &Request, id: INodeNo, reply: ReplyData) {
        match self.read_link(id.0) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(errno) => reply.error(code(errno)),
        }
    }

    #[rustfmt::skip]
    fn mknod(
        &self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, device: u32, reply: ReplyEntry,
    ) {
        let what = match mode & libc::S_IFMT {
            libc::S_IFREG => Make::File(OFlag::O_WRONLY),
            _ => Make::Node(device.into()),
        };
        let result = self.make(parent.0, name, &what, mode, maker(request, umask));
        made(result.map(|(answer, _)| answer), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let result = self.make(parent.0, name, &Make::Directory, mode, maker(request, umask));
        made(result.map(|(answer, _)| answer), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let result = self.make(parent.0, name, &Make::Symlink(target.into()), 0o777, maker(request, 0));
        made(result.map(|(answer, _)| answer), reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent.0, name), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove_directory(parent.0, name), reply);
    }

    #[rustfmt::skip]
    fn rename(
        &self, _request: &Request, parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr,
        flags: RenameFlags, reply: ReplyEmpty,
    ) {
        empty(FileSystem::rename(self, (parent.0, name), (new_parent.0, new_name), flags.bits()), reply);
    }

    fn link(&self, _request: &Request, id: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        made(FileSystem::link(self, id.0, parent.0, name), reply);
    }

    fn open(&self, request: &Request, id: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let register = |file: std::os::fd::BorrowedFd| reply.open_backing(file);
        match FileSystem::open(self, id.0, flags.0, request.uid() == 0, &register) {
            Ok(opened) => match opened.backing {
                Some(backing) => reply.opened_passthrough(FileHandle(opened.handle), PASSTHROUGH, &backing),
                None => reply.opened(FileHandle(opened.handle), CACHED),
            },
            Err(errno) => reply.error(code(errno)),
        }
    }

    #[rustfmt::skip]
    fn create(
        &self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32,
        reply: ReplyCreate,
    ) {
        let register = |file: std::os::fd::BorrowedFd| reply.open_backing(file);
        match self.create_file(parent.0, name, mode, maker(request, umask), flags, &register) {
            Ok((answer, opened)) => {
                let (attributes, handle) = (answer.as_entry(), FileHandle(opened.handle));
                match opened.backing {
                    Some(backing) => reply.created_passthrough(&answer.valid, &attributes, FIRST, handle, PASSTHROUGH, &backing),
                    None => reply.created(&answer.valid, &attributes, FIRST, handle, CACHED),
                }
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    #[rustfmt::skip]
    fn read(
        &self, _request: &Request, _id: INodeNo, handle: FileHandle, offset: u64, size: u32, _flags: OpenFlags,
        _owner: Option<LockOwner>, reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size as usize {
                buffer.resize(size as usize, 0);
            }
            match FileSystem::read(self, handle.0, offset, &mut buffer[..size as usize]) {
                Ok(length) => reply.data(&buffer[..length]),
                Err(errno) => reply.error(code(errno)),
            }
        });
    }

    #[rustfmt::skip]
    fn write(
        &self, _request: &Request, _id: INodeNo, handle: FileHandle, offset: u64, data: &[u8], flags: WriteFlags,
        _open_flags: OpenFlags, _owner: Option<LockOwner>, reply: ReplyWrite,
    ) {
        let kills_set_id = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match FileSystem::write(self, handle.0, offset, data, kills_set_id) {
            Ok(length) => reply.written(length as u32),
            Err(errno) => reply.error(code(errno)),
        }
    }

    #[rustfmt::skip]
    fn release(
        &self, _request: &Request, _id: INodeNo, handle: FileHandle, _flags: OpenFlags, _owner: Option<LockOwner>,
        _flush: bool, reply: ReplyEmpty,
    ) {
        empty(FileSystem::release(self, handle.0), reply);
    }

    fn fsync(
        &self,
        _request: &Request,
        _id: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.synchronize(handle.0, data_only), reply);
    }

    // Close needs no request; a kernel before 5.16, which does not know that it may be told so, asks once.
    fn flush(&self, _request: &Request, _id: INodeNo, _: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    // No file here is a terminal, as isatty(3) asks, nor has the flags of chattr(1).
    #[rustfmt::skip]
    fn ioctl(
        &self, _request: &Request, _id: INodeNo, _: FileHandle, _flags: IoctlFlags, _command: u32, _input: &[u8],
        _size: u32, reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    // A file can always be read and written: the kernel says so by itself from then on.
    #[rustfmt::skip]
    fn poll(
        &self, _request: &Request, _id: INodeNo, _: FileHandle, _notifier: PollNotifier, _events: PollEvents,
        _flags: PollFlags, reply: ReplyPoll,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    // Nothing belongs to an open directory: the kernel does not ask again, and need not tell of the close.
    fn opendir(&self, _request: &Request, _id: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.read_directory(id.0, offset, |name| {
            reply.add(INodeNo(name.number), name.offset, name.kind, name.name)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(code(errno)),
        }
    }

    #[rustfmt::skip]
    fn readdirplus(
        &self, _request: &Request, id: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.read_directory_plus(id.0, offset, |name, offset, answer| {
            // One time for both, the name and the attributes.
            reply.add(INodeNo(answer.id), offset, name, &answer.valid, &answer.as_entry(), FIRST)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn fsyncdir(&self, _request: &Request, id: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        empty(self.synchronize_directory(id.0), reply);
    }

    fn statfs(&self, _request: &Request, _id: INodeNo, reply: ReplyStatfs) {
        statistics(self.union.open(0, Path::new(""), OFlag::O_PATH).and_then(fstatvfs), reply);
    }

    #[rustfmt::skip]
    fn setxattr(
        &self, request: &Request, id: INodeNo, name: &OsStr, value: &[u8], flags: i32, _position: u32,
        reply: ReplyEmpty,
    ) {
        let caller = maker(request, 0).owner;
        empty(self.set_extended_attribute(id.0, name, value, flags, caller), reply);
    }

    fn getxattr(&self, _request: &Request, id: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        value(self.extended_attribute(id.0, name), size, reply);
    }

    fn listxattr(&self, _request: &Request, id: INodeNo, size: u32, reply: ReplyXattr) {
        value(self.extended_attributes(id.0), size, reply);
    }

    fn removexattr(&self, _request: &Request, id: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove_extended_attribute(id.0, name), reply);
    }

    #[rustfmt::skip]
    fn fallocate(
        &self, request: &Request, _id: INodeNo, handle: FileHandle, offset: u64, length: u64, mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(self.allocate(handle.0, (offset, length), mode, request.uid() == 0), reply);
    }

    #[rustfmt::skip]
    fn lseek(
        &self, _request: &Request, _id: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek,
    ) {
        match self.seek(handle.0, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(code(errno)),
        }
    }

    #[rustfmt::skip]
    fn copy_file_range(
        &self, request: &Request, _from: INodeNo, handle: FileHandle, offset: u64, _to: INodeNo,
        new_handle: FileHandle, new_offset: u64, length: u64, _flags: CopyFileRangeFlags, reply: ReplyWrite,
    ) {
        let (from, to) = ((handle.0, offset), (new_handle.0, new_offset));
        match self.copy_range(from, to, length, request.uid() == 0) {
            Ok(length) => reply.written(length as u32),
            Err(errno) => reply.error(code(errno)),
        }
    }
}
// ANCHOR_END: requests
