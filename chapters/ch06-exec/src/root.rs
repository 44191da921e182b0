//! The root directory of the process that is joined, and a working directory that is below it.
//!
//! Who joins a mount namespace stands at the top of its tree. The process that is joined may stand further
//! down, if it has used chroot(2) in there. Manual pages: chroot(2), fchdir(2), getcwd(2).

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::unistd;

// ANCHOR: enter_root
/// Makes the directory `root` the root directory of this process, and its working directory.
///
/// # Errors
///
/// EPERM without CAP_SYS_CHROOT in the own user namespace; EACCES where this user may not enter it.
pub fn enter_root(root: impl AsFd) -> Result<()> {
    info!(target: "syscall", "fchdir(root), chroot(\".\")  the root directory that it has, by descriptor");
    unistd::fchdir(root).context("fchdir to the root directory of the process that is joined")?;
    unistd::chroot(".").context("chroot to the root directory of the process that is joined")
}
// ANCHOR_END: enter_root

// ANCHOR: working_directory
/// Changes to a directory, which must be below the root directory.
///
/// A path can lead out: `/proc/self/fd/7` is wherever that descriptor is. The runtime runc once left one of the
/// host's directories open; an image that named it as its working directory had the host's files
/// (CVE-2024-21626). So the kernel is asked where we are now: getcwd(2) has no path for what is not below the
/// root.
///
/// # Errors
///
/// Names `path`: ENOENT, ENOTDIR, EACCES; or that it is outside.
pub fn working_directory(path: &Path) -> Result<()> {
    info!(target: "syscall", "chdir({path:?})  the working directory");
    unistd::chdir(path).with_context(|| format!("chdir {path:?}"))?;
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // By the system call: the C library hides what it says of a directory that is outside.
    // SAFETY: the kernel writes at most as many bytes as it is told that there are.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    match Errno::result(length) {
        Ok(_) => ensure!(buffer[0] == b'/', "chdir {path:?}: it leads out of the root directory"),
        // Too long for us, but a path from the root.
        Err(Errno::ENAMETOOLONG | Errno::ERANGE) => {}
        Err(errno) => return Err(anyhow!(errno).context(format!("getcwd after chdir {path:?}"))),
    }
    info!(target: "syscall", "getcwd()  and it is below the root directory");
    Ok(())
}
// ANCHOR_END: working_directory
