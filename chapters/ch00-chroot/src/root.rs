//! The root directory of a process.
//!
//! `/proc/PID/root` is a link to it. Interface: chroot(2), chdir(2), stat(2).

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;
use nix::unistd;

// ANCHOR: enter
/// Makes `root` the root directory of this process, and its current directory too.
///
/// Needs CAP_SYS_CHROOT in the caller's user namespace.
///
/// # Errors
///
/// Names `root`, and keeps chroot(2)'s errno: ENOENT, ENOTDIR, EACCES, EPERM.
pub fn enter(root: &Path) -> Result<()> {
    info!(target: "syscall", "chroot({root:?})  every path that begins with / starts here now");
    unistd::chroot(root).map_err(|errno| chroot_error(root, errno))?;

    // chroot(2) leaves the current directory where it was: outside. From there, `..` leads up to the old
    // root, for the kernel stops `..` only at the root directory, and we do not stand below it.
    info!(target: "syscall", "chdir(\"/\")  the current directory is still outside: come in");
    unistd::chdir("/").with_context(|| format!("chdir \"/\" inside {root:?}"))
}
// ANCHOR_END: enter

// ANCHOR: chroot_error
fn chroot_error(root: &Path, errno: Errno) -> anyhow::Error {
    let hint = match errno {
        Errno::ENOENT => "there is no such directory",
        Errno::ENOTDIR => "a root file system is a directory; this is something else",
        Errno::EACCES => "this user may not enter the directory: look at the modes on its path",
        Errno::EPERM => "this needs CAP_SYS_CHROOT: root, or a user namespace of your own",
        _ => "chroot(2) lists the reasons",
    };
    anyhow!(errno).context(format!("chroot {root:?} ({hint})"))
}
// ANCHOR_END: chroot_error

// ANCHOR: identity
/// Which directory this is: the file system's device number and the inode number in it.
///
/// Two paths with the same identity are the same directory (stat(2)), whatever they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device of the file system that holds the directory.
    pub device: u64,
    /// The directory's inode number in that file system.
    pub inode: u64,
}

impl Identity {
    /// The identity of the directory at `path`, as this process sees it.
    ///
    /// # Errors
    ///
    /// Names `path`, with stat(2)'s errno.
    pub fn of(path: impl AsRef<Path>) -> Result<Identity> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).with_context(|| format!("stat {path:?}"))?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "device {} inode {}", self.device, self.inode)
    }
}
// ANCHOR_END: identity
