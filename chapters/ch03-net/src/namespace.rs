//! The network namespace as an object.
//!
//! A namespace has no name. It lives while a process is in it, or while somebody holds a descriptor of the file by
//! which /proc shows it; the number of that file's inode tells two of them apart. Each *thread* is in a network
//! namespace: setns(2) moves the caller alone. A socket stays for ever in the namespace in which it was made. Manual
//! pages: [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html),
//! [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::debug;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

// ANCHOR: namespace
/// A network namespace, which lives at least as long as this object.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: PathBuf,
}

impl Namespace {
    /// The one in which the calling thread is.
    ///
    /// # Errors
    ///
    /// open(2)'s errno: /proc is not mounted, or belongs to another PID namespace.
    pub fn here() -> Result<Namespace> {
        Namespace::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The one in which the process `pid` is. A pid may be given to a second process once the first was reaped, so
    /// ask for a child that has not been waited for.
    ///
    /// # Errors
    ///
    /// ENOENT where there is no such process; EACCES without the right to trace it (ptrace(2)).
    pub fn of(pid: Pid) -> Result<Namespace> {
        Namespace::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The one that `path` leads to: a file below /proc, or one on which such a file was mounted, as `ip netns`
    /// does in /run/netns.
    ///
    /// # Errors
    ///
    /// open(2)'s errno. That the file is of another kind is found by the call that uses it.
    pub fn open(path: &Path) -> Result<Namespace> {
        let file = File::open(path).with_context(|| format!("open the network namespace {path:?}"))?;
        Ok(Namespace { file, path: path.to_path_buf() })
    }

    /// What tells it from all others that live now: the number in `net:[4026531840]`. The kernel gives it to
    /// another one when this one is gone.
    ///
    /// # Errors
    ///
    /// fstat(2)'s errno.
    pub fn inode(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        Ok(metadata.with_context(|| format!("fstat the network namespace {:?}", self.path))?.ino())
    }
}
// ANCHOR_END: namespace

// ANCHOR: run
impl Namespace {
    /// Calls `what` with the calling thread in this namespace, and comes back. Other threads stay where they are.
    ///
    /// # Errors
    ///
    /// Those of `what`. EPERM without CAP_SYS_ADMIN over either namespace.
    ///
    /// # Panics
    ///
    /// Where there is no way back, which is tried before.
    pub fn run<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        let here = Namespace::here()?;
        // Root in a user namespace may enter a namespace of its own, but not come back to the host's.
        here.enter().context("it is where this thread is, and must be able to come back to")?;
        self.enter()?;
        let _back = Back(here);
        what()
    }

    fn enter(&self) -> Result<()> {
        debug!(target: "syscall", "setns({:?}, CLONE_NEWNET)  this thread alone", self.path);
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("setns to the network namespace {:?}", self.path))
    }
}

/// Takes the thread back, also where `what` panics.
struct Back(Namespace);

impl Drop for Back {
    fn drop(&mut self) {
        // Whatever the thread did next would be done to the wrong network.
        self.0.enter().expect("the way back was open before");
    }
}
// ANCHOR_END: run

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<Namespace> for OwnedFd {
    fn from(namespace: Namespace) -> OwnedFd {
        namespace.file.into()
    }
}
