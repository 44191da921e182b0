//! The root directory of a process, and the processes that it finds in the procfs below it.
//!
//! `/proc/PID/root` leads to the directory at which that process's absolute paths begin, through its own
//! mount table: `/proc/PID/root/proc` is what the process itself finds at `/proc`. proc_pid_root(5).

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::process::{Process, names_in, open_at};
use super::{Field, Unreadable};

/// Which directory a process's paths begin at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its path as the reader sees it: `/` when both have the same root or the reader cannot reach it by a
    /// path.
    pub path: String,
    /// `major:minor` of the file system and the inode number: the same directory has the same identity for
    /// everyone.
    pub identity: String,
    /// The number of entries in it.
    pub entries: Field<usize>,
}

/// The processes that a process can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleProcesses {
    /// Their ids in the PID namespace of the procfs, in rising order.
    Pids(Vec<i32>),
    /// There is no procfs at its `/proc`, so it cannot see any.
    NoProc,
}

/// The identity of the directory at which `process`'s paths begin.
pub fn identify(process: &Process, root: &Field<OwnedFd>) -> Field<Root> {
    let root = root.as_ref().map_err(Clone::clone)?;
    let status = fstat(root).map_err(|errno| Unreadable::refused("stat root", errno))?;
    Ok(Root {
        path: process.link("root")?,
        identity: format!("{}:{}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino),
        entries: names_in(root, ".").map(|names| names.len()),
    })
}

/// The processes in the procfs at `/proc` below `root`.
pub fn visible_processes(root: &Field<OwnedFd>) -> Field<VisibleProcesses> {
    let root = root.as_ref().map_err(Clone::clone)?;
    // A symbolic link there would be followed in the reader's root, not in the process's.
    let proc = match open_at(root, "proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW) {
        Ok(proc) => proc,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(VisibleProcesses::NoProc),
        Err(errno) => return Err(Unreadable::refused("open root/proc", errno)),
    };
    let kind = fstatfs(&proc).map_err(|errno| Unreadable::refused("fstatfs root/proc", errno))?;
    if kind.filesystem_type() != PROC_SUPER_MAGIC {
        return Ok(VisibleProcesses::NoProc);
    }
    let mut pids: Vec<i32> = names_in(&proc, ".")?.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    Ok(VisibleProcesses::Pids(pids))
}
