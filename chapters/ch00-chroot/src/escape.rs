//! The classic way out of a chroot.
//!
//! The kernel resolves `..` like this: at the process's root directory it stays, everywhere else it goes up.
//! So a process whose current directory is *not below* its root directory can walk up to the real root. All
//! it needs is a second chroot(2), which moves the root below a directory that the process still holds open.
//!
//! It needs CAP_SYS_CHROOT, which root in a chroot has. It does not help against a mount namespace whose root
//! was changed by pivot_root(2): there the directory that we hold open is the top of everything.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use log::info;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd;

use crate::Identity;

// ANCHOR: escape
/// A path of this many components is longer than PATH_MAX allows: nothing real is deeper.
const DEEPEST: usize = 4096;

/// Tries to leave the root directory of this process; returns the identity of the root in which it ends.
///
/// When the result differs from `Identity::of("/")` before the call, the process has escaped.
///
/// # Errors
///
/// Names the call that failed. EPERM means that CAP_SYS_CHROOT is missing.
pub fn escape() -> Result<Identity> {
    info!(target: "syscall", "open(\"/\", O_PATH | O_DIRECTORY)  hold on to a directory inside");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let held: OwnedFd = open("/", flags, Mode::empty()).context("open \"/\"")?;

    let below = any_directory()?;
    info!(target: "syscall", "chroot({below:?})  the root is now below the directory that we hold");
    unistd::chroot(below.as_str()).with_context(|| format!("chroot {below:?}"))?;

    info!(target: "syscall", "fchdir(fd)  stand in the held directory: outside of the root");
    unistd::fchdir(&held).context("fchdir to the held directory")?;

    let steps = climb()?;
    info!(target: "syscall", "chdir(\"..\") {steps} times  up, until .. is the directory itself");

    info!(target: "syscall", "chroot(\".\")  make the place where we stand the root");
    unistd::chroot(".").context("chroot \".\"")?;
    Identity::of("/")
}

/// Goes up until `..` leads nowhere else; returns the number of steps.
fn climb() -> Result<usize> {
    for steps in 0..DEEPEST {
        if Identity::of("..")? == Identity::of(".")? {
            return Ok(steps);
        }
        unistd::chdir("..").context("chdir \"..\"")?;
    }
    bail!("chdir \"..\": still not at the top after {DEEPEST} steps")
}
// ANCHOR_END: escape

// ANCHOR: any_directory
/// The first directory in `/`, by name. Any would do: the second chroot only has to lead further down.
fn any_directory() -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/").context("read the directory \"/\"")? {
        let entry = entry.context("read the directory \"/\"")?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        names.extend(entry.file_name().into_string().ok().filter(|_| is_directory));
    }
    let first = names.into_iter().min();
    first.context("the root directory has no directory in it, and the escape needs one")
}
// ANCHOR_END: any_directory
