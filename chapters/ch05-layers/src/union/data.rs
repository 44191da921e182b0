//! Copies a file's content, holes as holes.
//!
//! A *hole* is a range that was never written: it reads as zeros and takes no blocks. A copy by read and
//! write would fill it: a disk image of 10 GiB with 100 MiB of data would take 10 GiB in the top branch.
//! lseek(2) tells where data begins and where it ends. copy_file_range(2), which std::io::copy uses, leaves
//! the copying to the kernel, and shares the blocks where the file system can (btrfs, XFS).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::Result;

// ANCHOR: data
/// Makes `to`, which is empty, hold the first `length` bytes of `from`.
pub(crate) fn copy(mut from: &File, mut to: &File, length: u64) -> Result<()> {
    let mut position = 0;
    while position < length {
        let data = match lseek(from, position as i64, Whence::SeekData) {
            // Nothing but a hole up to the end.
            Err(Errno::ENXIO) => break,
            data => data? as u64,
        };
        let hole = lseek(from, data as i64, Whence::SeekHole)? as u64;
        let end = hole.min(length);
        if data < end {
            from.seek(SeekFrom::Start(data)).map_err(errno_of)?;
            to.seek(SeekFrom::Start(data)).map_err(errno_of)?;
            std::io::copy(&mut from.take(end - data), &mut to).map_err(errno_of)?;
        }
        position = hole;
    }
    // A hole at the end.
    to.set_len(length).map_err(errno_of)
}
// ANCHOR_END: data

fn errno_of(error: std::io::Error) -> Errno {
    // The copy's own error, of a write that wrote nothing, has no errno.
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
