//! Mode, owner and times of an object that is held open, of whatever kind it is, a symbolic link included.
//!
//! A descriptor opened with O_PATH names an object without opening its content: the only way to hold a link,
//! a device or a file that one may not read. fchmod(2) and futimens(3) refuse it (EBADF); their `*at` forms
//! take it with an empty path (AT_EMPTY_PATH). Manual pages:
//! [chmod(2)](https://man7.org/linux/man-pages/man2/chmod.2.html),
//! [chown(2)](https://man7.org/linux/man-pages/man2/chown.2.html),
//! [utimensat(2)](https://man7.org/linux/man-pages/man2/utimensat.2.html), Linux 5.8 for its empty path.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use super::Result;

// ANCHOR: attributes
/// The path by which the kernel finds the object that a descriptor holds: a "magic link", which jumps to it
/// and not to where its name leads now. For the calls that have no form for descriptors.
pub(crate) fn magic_link(object: BorrowedFd) -> CString {
    let path = format!("/proc/self/fd/{}", object.as_raw_fd());
    CString::new(path).expect("no zero byte in it")
}

/// chmod(2): the permission bits, set-id bits and the sticky bit of `mode`.
///
/// # Errors
///
/// EOPNOTSUPP: a symbolic link has no mode that could be changed.
pub fn set_mode(object: impl AsFd, mode: u32) -> Result<()> {
    // fchmodat2(2), which takes an empty path, is in Linux 6.6 only.
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    fchmodat(nix::fcntl::AT_FDCWD, magic_link(object.as_fd()).as_c_str(), mode, FchmodatFlags::FollowSymlink)
}

/// chown(2): the kernel takes set-id bits off, except for a directory's.
///
/// # Errors
///
/// EPERM.
pub fn set_owner(object: impl AsFd, user: Option<u32>, group: Option<u32>) -> Result<()> {
    fchownat(object, c"", user.map(Uid::from_raw), group.map(Gid::from_raw), AtFlags::AT_EMPTY_PATH)
}

/// utimensat(2): [`TimeSpec::UTIME_NOW`] and [`TimeSpec::UTIME_OMIT`] are allowed.
///
/// # Errors
///
/// EPERM, EACCES.
pub fn set_times(object: impl AsFd, accessed: TimeSpec, modified: TimeSpec) -> Result<()> {
    let times = [*accessed.as_ref(), *modified.as_ref()];
    let descriptor = object.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed, so it is open; path and times live on this stack until the call
    // returns.
    let result = unsafe { libc::utimensat(descriptor, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) };
    Errno::result(result).map(drop)
}

/// The times in what fstat(2) said: last access, last change of the content.
pub fn times(status: &libc::stat) -> (TimeSpec, TimeSpec) {
    let accessed = TimeSpec::new(status.st_atime, status.st_atime_nsec);
    (accessed, TimeSpec::new(status.st_mtime, status.st_mtime_nsec))
}
// ANCHOR_END: attributes
