//! The process whose namespaces, cgroup and root are joined.
//!
//! `/proc/PID` shows them: `ns/` has a link for each namespace, `root` is a link to the root directory. But a
//! pid can be given to another process between two looks. Two descriptors mean this one alone: its pidfd, and
//! that of its directory in /proc, where each look fails (ESRCH) once the process is gone. Manual pages:
//! pidfd_open(2), proc_pid_ns(5), proc_pid_root(5).
//!
//! To look is to have the right to trace (PTRACE_MODE_READ of ptrace(2)): the same user, with all capabilities
//! that the process has; or CAP_SYS_PTRACE in its user namespace, as who made that has it.

use std::fs::read_link;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use ch01_pid::child::pidfd_open;
use log::info;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::Pid;

use crate::Kind;

// ANCHOR: target
/// A process that runs, and that we may look at.
#[derive(Debug)]
pub struct Target {
    pid: Pid,
    pidfd: OwnedFd,
    proc: OwnedFd,
}

impl Target {
    /// Opens the process with this pid.
    ///
    /// # Errors
    ///
    /// When there is no such process (ESRCH), it has ended, the pid is that of a thread (EINVAL), or we have
    /// not the right to look (EACCES).
    pub fn open(pid: Pid) -> Result<Target> {
        info!(target: "syscall", "pidfd_open({pid})  this process, and none that has its pid later");
        let pidfd = pidfd_open(pid).map_err(|errno| {
            let hint = match errno {
                Errno::ESRCH => "there is no such process",
                Errno::EINVAL | Errno::ENOENT => "this is a thread; its process has another pid",
                _ => "pidfd_open(2) lists the reasons",
            };
            anyhow!(errno).context(format!("pidfd_open({pid}) ({hint})"))
        })?;
        // A PID namespace that was made and no procfs with it: to the directories there the pid means another process.
        let own = read_link("/proc/self").context("readlink \"/proc/self\"")?;
        ensure!(
            own == Path::new(&Pid::this().to_string()),
            "/proc is of another PID namespace, where this process is {own:?}, and not {}: mount one of ours",
            Pid::this()
        );
        let path = format!("/proc/{pid}");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open(path.as_str(), flags, Mode::empty()).with_context(|| format!("open {path:?}"))?;
        let target = Target { pid, pidfd, proc };
        // It lives now, so it did when its directory was opened: both descriptors mean the same process.
        target.ensure_alive()?;
        target.identity(Kind::User)?;
        Ok(target)
    }

    /// Its pid, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    ///
    /// Names the process; poll(2)'s errno.
    pub fn ensure_alive(&self) -> Result<()> {
        let mut end = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let has_ended = poll(&mut end, PollTimeout::ZERO).context("poll of the pidfd")? > 0;
        ensure!(!has_ended, "the process {} has ended", self.pid);
        Ok(())
    }
}
// ANCHOR_END: target

// ANCHOR: root
impl Target {
    /// Its root directory: a place in its mount namespace, wherever that is.
    ///
    /// # Errors
    ///
    /// open(2)'s errno.
    pub fn root(&self) -> Result<OwnedFd> {
        info!(target: "syscall", "open(\"/proc/{}/root\", O_PATH)  its root directory", self.pid);
        self.open_below("root", OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    /// Opens what is in its directory in /proc.
    pub(crate) fn open_below(&self, name: &str, flags: OFlag) -> Result<OwnedFd> {
        openat(&self.proc, name, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| self.refusal(errno, "open", name))
    }

    /// What tells its namespace of this kind from others: device and inode. None where the kernel has no
    /// namespaces of this kind.
    pub(crate) fn identity(&self, kind: Kind) -> Result<Option<(u64, u64)>> {
        let name = format!("ns/{}", kind.file());
        match fstatat(&self.proc, name.as_str(), AtFlags::empty()) {
            Ok(status) => Ok(Some((status.st_dev, status.st_ino))),
            Err(Errno::ENOENT) => {
                // Where the process has just ended, it is the same errno.
                self.ensure_alive()?;
                Ok(None)
            }
            Err(errno) => Err(self.refusal(errno, "stat", &name)),
        }
    }

    fn refusal(&self, errno: Errno, call: &str, name: &str) -> anyhow::Error {
        let hint = match errno {
            Errno::ESRCH | Errno::ENOENT => " (the process has ended)",
            Errno::EACCES | Errno::EPERM => {
                " (not ours to look into: it is another user's, or has capabilities that we have not)"
            }
            _ => "",
        };
        anyhow!(errno).context(format!("{call} \"/proc/{}/{name}\"{hint}", self.pid))
    }
}
// ANCHOR_END: root

impl AsFd for Target {
    /// The pidfd: readable (poll(2)) once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Target {
    pub(crate) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }
}
