//! File descriptors that a child must not inherit.
//!
//! A descriptor of a directory is a way around every wall of a container: openat(2) and fchdir(2) start from
//! it, wherever the root directory is. CVE-2024-21626 was one that runc had left open. A program can't know
//! what it was given by its own parent either, so all are closed but those on a list. Interface:
//! [close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html), Linux 5.9.

use std::os::fd::RawFd;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;

// ANCHOR: close_others
/// Closes every descriptor of this process above 2 that is not in `keep`.
///
/// # Errors
///
/// close_range(2)'s errno. ENOSYS (a kernel before 5.9) is met with a walk through `/proc/self/fd`.
pub fn close_others(keep: &[RawFd]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| *fd as u32).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();

    let mut first = 3;
    for fd in keep {
        if first < fd {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}
// ANCHOR_END: close_others

// ANCHOR: close_range
fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: closing descriptors touches no memory. The caller gives the ones that are still used by living
    // objects in its list, and never returns to code that uses others.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) => close_one_by_one(first, last),
        Err(errno) => Err(anyhow!(errno).context(format!("close_range({first}, {last})"))),
    }
}
// ANCHOR_END: close_range

/// For kernels before 5.9.
fn close_one_by_one(first: u32, last: u32) -> Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd").context("read the directory \"/proc/self/fd\"")?;
    // The list is taken before anything is closed: one of the descriptors is the one that reads the
    // directory.
    let open: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: as in `close_range`. The one that read the directory is closed by now: EBADF, and no harm.
        unsafe { libc::close(fd as RawFd) };
    }
    Ok(())
}
