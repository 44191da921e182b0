//! Replies: how an answer is put into the protocol's words.

use std::time::UNIX_EPOCH;

use fuser::{
    FileAttr, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyStatfs,
    ReplyXattr,
};
use nix::errno::Errno;
use nix::sys::statvfs::Statvfs;

use super::attributes::{Answer, LONG};
use crate::union::Result;
use crate::whiteout::LONGEST_NAME;

/// An id is never used for a second node, so it needs no number of its generation.
pub(super) const FIRST: Generation = Generation(0);

pub(super) fn code(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

/// A close needs no request: nothing waits to be written.
pub(super) const PASSTHROUGH: FopenFlags = FopenFlags::FOPEN_NOFLUSH;
/// The pages of a file stay true after its close, for it changes only through the mount.
pub(super) const CACHED: FopenFlags = PASSTHROUGH.union(FopenFlags::FOPEN_KEEP_CACHE);

pub(super) fn entry(result: Result<Answer>, reply: ReplyEntry) {
    match result {
        Ok(answer) => reply.entry_with_ttls(&answer.valid, &LONG, &answer.as_entry(), FIRST),
        // Node 0: there is no such name, and the kernel may remember that.
        Err(Errno::ENOENT) => reply.entry(&LONG, &nothing(), FIRST),
        Err(errno) => reply.error(code(errno)),
    }
}

fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn made(result: Result<Answer>, reply: ReplyEntry) {
    match result {
        Ok(answer) => reply.entry_with_ttls(&answer.valid, &LONG, &answer.as_entry(), FIRST),
        Err(errno) => reply.error(code(errno)),
    }
}

pub(super) fn attributes(result: Result<Answer>, reply: ReplyAttr) {
    match result {
        Ok(answer) => reply.attr(&answer.valid, &answer.attributes),
        Err(errno) => reply.error(code(errno)),
    }
}

pub(super) fn empty(result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}

pub(super) fn value(result: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(code(errno)),
    }
}

/// The space is the top branch's; names are shorter, for each needs room for its whiteout.
pub(super) fn statistics(result: Result<Statvfs>, reply: ReplyStatfs) {
    match result {
        Ok(status) => reply.statfs(
            status.blocks(),
            status.blocks_free(),
            status.blocks_available(),
            status.files(),
            status.files_free(),
            status.block_size() as u32,
            LONGEST_NAME as u32,
            status.fragment_size() as u32,
        ),
        Err(errno) => reply.error(code(errno)),
    }
}
