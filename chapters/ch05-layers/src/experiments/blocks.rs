// ANCHOR: blocks
//! Where on the disk the data of a file is: the ioctl FS_IOC_FIEMAP.
//!
//! An *extent* is a run of blocks. The file system tells for each where in the file it begins, and where on the device.
//! Interface: Documentation/filesystems/fiemap.rst in the kernel's source.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;

/// As many extents as are asked for: a small file has one or two.
const MOST: usize = 16;

/// `struct fiemap` of linux/fiemap.h, with room for the answer.
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; MOST],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// `_IOWR('f', 11, struct fiemap)`: the same number on each architecture that Rust's Linux targets take from asm-generic.
const FS_IOC_FIEMAP: libc::Ioctl = 0xC020_660B_u32 as libc::Ioctl;
/// Write to the disk first what is in memory only: it has no place yet.
const FIEMAP_FLAG_SYNC: u32 = 1;

/// The extents of the file at `path`, in words, or why there are none to be told.
pub fn of(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("open {path:?}"))?;
    let mut map = Map {
        start: 0,
        length: u64::MAX,
        flags: FIEMAP_FLAG_SYNC,
        mapped: 0,
        count: MOST as u32,
        reserved: 0,
        extents: [Extent::default(); MOST],
    };
    // SAFETY: the kernel reads the head of the structure, and writes at most `count` extents behind it: there is room.
    let asked = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) };
    match Errno::result(asked) {
        Err(Errno::EOPNOTSUPP | Errno::ENOTTY) => {
            return Ok("not told by this file system".into());
        }
        result => result.with_context(|| format!("ioctl({path:?}, FS_IOC_FIEMAP)"))?,
    };
    let extents = map.extents.iter().take(map.mapped as usize);
    let shown =
        extents.map(|extent| format!("{} bytes at byte {} of the device", extent.length, extent.physical));
    Ok(shown.collect::<Vec<_>>().join(", "))
}
// ANCHOR_END: blocks
