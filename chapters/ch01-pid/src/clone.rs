//! clone3(2): make a process.
//!
//! fork(2) copies the caller. clone3 does the same when it is given no other flags, and more with them: new
//! namespaces (`CLONE_NEW*`), a pidfd for the child (`CLONE_PIDFD`), a place in a cgroup from its first
//! instruction on (`CLONE_INTO_CGROUP`). The C library has no wrapper. Manual page:
//! [clone(2)](https://man7.org/linux/man-pages/man2/clone.2.html).

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// CLONE_INTO_CGROUP of linux/sched.h. The constant of the crate `libc` is a C int, which it does not fit in.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

// ANCHOR: cloned
/// What clone3 returns: twice, as fork does.
#[derive(Debug)]
pub enum Cloned {
    /// In the parent: the child's pid as the parent sees it, and a *pidfd*, a file descriptor for the child.
    /// A pid can be given to another process once the child is gone; a pidfd never means anyone else.
    Parent(Pid, OwnedFd),
    /// In the child.
    Child,
}
// ANCHOR_END: cloned

// ANCHOR: clone3
/// Makes a child in new `namespaces` (of `CLONE_NEW*`), and straight into `cgroup` if one is given: a
/// directory of a cgroup v2 hierarchy.
///
/// # Errors
///
/// clone(2) lists them. Of note: ENOSYS (a kernel before 5.3, or a filter that hides the call), EPERM (no
/// CAP_SYS_ADMIN), ENOSPC (a limit on namespaces), EINVAL (flags that this kernel does not know).
///
/// # Safety
///
/// `namespaces` must hold flags of new namespaces only: CLONE_VM would run the child on the caller's stack.
///
/// The process must have a single thread. The child gets a copy of the memory but not of the other threads,
/// so a lock that one of them held would stay locked for ever.
pub unsafe fn clone3(namespaces: CloneFlags, cgroup: Option<BorrowedFd>) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut arguments = arguments(namespaces);
    arguments.flags |= libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = Signal::SIGCHLD as u64;
    if let Some(directory) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM, as the caller promises, so the child goes on here with its own copy of the memory,
    // as after fork(2). The caller promises that no other thread exists. The kernel only writes to `pidfd`,
    // which outlives the call.
    match unsafe { call(&arguments) }? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Pid::from_raw(pid), pidfd))
        }
    }
}

fn arguments(namespaces: CloneFlags) -> libc::clone_args {
    // SAFETY: the structure is integers only; zero means "not used" for each of them.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces.bits() as u32 as u64;
    arguments
}

/// Makes the call: 0 in the child.
///
/// # Safety
///
/// As for [`clone3`]; and what the arguments point to outlives the call.
unsafe fn call(arguments: &libc::clone_args) -> Result<libc::pid_t, Errno> {
    // SAFETY: the kernel reads the structure, and what the flags mean was promised by the caller.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const *arguments, size_of::<libc::clone_args>()) };
    Ok(Errno::result(pid)? as libc::pid_t)
}
// ANCHOR_END: clone3

// ANCHOR: sibling
/// Makes a brother of the caller instead of a child (CLONE_PARENT): the caller's parent is its parent, and
/// waits for it. False in the one that was made.
///
/// Its pid, as the caller sees it, is in `pid` before it runs, however soon the caller is killed
/// (CLONE_PARENT_SETTID).
///
/// # Errors
///
/// As for [`clone3`]. EINVAL too where the caller is the PID 1 of a namespace.
///
/// # Safety
///
/// As for [`clone3`]; `pid` is valid for writing.
pub(crate) unsafe fn clone_sibling(namespaces: CloneFlags, pid: *mut libc::pid_t) -> Result<bool, Errno> {
    let mut arguments = arguments(namespaces);
    arguments.flags |= (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID) as u64;
    arguments.parent_tid = pid as u64;
    // `exit_signal` stays 0, since the kernel takes no other here: the brother gets the caller's own, which is
    // SIGCHLD, so that waitid(2) finds it without `__WCLONE`.
    // SAFETY: as the caller promises.
    Ok(unsafe { call(&arguments) }? != 0)
}
// ANCHOR_END: sibling

// ANCHOR: single_threaded
/// Whether this process has a single thread.
///
/// unshare(2) with CLONE_THREAD changes nothing, and is refused (EINVAL) in a process with several threads.
/// It is the only way to ask that does not need `/proc`.
///
/// # Errors
///
/// Any other errno of unshare(2), such as the EPERM of a container's filter.
pub fn is_single_threaded() -> Result<bool, Errno> {
    match nix::sched::unshare(CloneFlags::CLONE_THREAD) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}
// ANCHOR_END: single_threaded
