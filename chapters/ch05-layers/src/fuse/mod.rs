//! FUSE: the union as a live file system, served by a program.
//!
//! AuFS was a file system of the kernel's that never got into it. *FUSE*, "file system in user space", needs
//! no place in the kernel: it is a file system whose every operation is a message to a process. Each program
//! can use the mount and none can tell the difference, but by the time that it takes: two context switches
//! for each message. So it is decided by how few there are. The kernel keeps what it was told once, and the
//! data of files it reads and writes without us, where it may.
//!
//! ```text
//!   cat /mnt/a/f          kernel                                   server
//!   ------------          ------                                   ------
//!   open("/mnt/a/f") -->  FUSE_LOOKUP 1 "a"                  -->   which branches have the directory a?
//!                                                            <--   node 2, attributes, valid for a year
//!                         FUSE_LOOKUP 2 "f"                  -->   the topmost of these that has f
//!                                                            <--   node 3
//!                         FUSE_OPEN 3 O_RDONLY               -->   opens it there
//!   descriptor       <--                                     <--   handle 1; passthrough: that file
//!   read             -->  reads that file, and asks nobody
//! ```
//!
//! In the order of a request's way: [`mount`](mount()) and the server's process; requests, one method for
//! each kind; nodes and their numbers; attributes; directories; data, and the copy-up under open files;
//! changes of names; extended attributes. Interface:
//! [fuse(4)](https://man7.org/linux/man-pages/man4/fuse.4.html), Documentation/filesystems/fuse.rst.

mod attributes;
mod changes;
mod data;
mod directories;
mod filesystem;
mod handles;
mod mount;
mod negotiation;
mod nodes;
mod numbers;
mod privileges;
mod raise;
mod replies;
mod requests;
mod server;
mod xattr;

use std::path::Path;

use anyhow::{Context, Result};
use log::debug;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use mount::remove_dead;
pub use server::Server;

use crate::Union;
use filesystem::FileSystem;

// ANCHOR: session
/// How the union is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other users than the one who mounts may use it (a container's root needs it when uids differ).
    pub allow_other: bool,
    /// Threads that serve. One alone is the fastest for one program that makes one request after the other,
    /// for the kernel wakes them in turn; but all others wait while it is in an fsync(2) or a copy-up.
    pub threads: usize,
    /// File data by the kernel itself where it allows it: Linux 6.9, and CAP_SYS_ADMIN over the host.
    pub passthrough: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { allow_other: false, threads: 2, passthrough: true }
    }
}

/// A mounted union, not yet served: until then, who uses it waits.
#[derive(Debug)]
pub struct Session {
    session: fuser::Session<FileSystem>,
}

/// Mounts `union` at `mountpoint`: directly as root, else by fusermount3.
///
/// # Errors
///
/// ENOENT: there is no /dev/fuse. EPERM, EACCES: this process may not. EBUSY: the top branch has another
/// writer.
pub fn mount(union: Union, mountpoint: &Path, options: &Options) -> Result<Session> {
    let filesystem = FileSystem::new(union, options.passthrough)?;
    let notifier = filesystem.notifier.clone();
    let session = mount::mount(filesystem, mountpoint, options)?;
    notifier.get_or_init(|| session.notifier());
    Ok(Session { session })
}

impl Session {
    /// Serves until it is unmounted.
    ///
    /// # Errors
    ///
    /// What /dev/fuse answers that is no request.
    pub fn serve(self) -> Result<()> {
        // A descriptor for each open file of each process that uses the mount.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
        if soft < hard {
            debug!(target: "syscall", "setrlimit(RLIMIT_NOFILE, {hard})  it was {soft}");
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit(RLIMIT_NOFILE)")?;
        }
        privileges::lay_down().context("capset without CAP_FSETID")?;
        self.session.run().context("serve /dev/fuse")
    }
}
// ANCHOR_END: session
