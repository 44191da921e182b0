//! What chapter 6 needs to join a process: setns(2) on a pidfd, and a place for its own program that a container can't
//! write to. open_tree(2), memfd_create(2).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::getpid;

use crate::distribution::Remedy;
use crate::examine::{Finding, State};
use crate::machine::{Machine, sysctl};
use lesson::probe::{Refusal, in_child};

/// Linux 5.8. The kernel asks for the powers of each namespace, so it is asked for one of our own.
pub(crate) fn setns_of_a_pidfd(machine: &Machine) -> Finding {
    if !machine.can_isolate() {
        return Finding::new(State::Unknown, "not tried: it takes a user namespace");
    }
    let answer = in_child(|| {
        machine.isolate(CloneFlags::CLONE_NEWUTS)?;
        // SAFETY: the call takes two numbers and makes a descriptor.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, getpid().as_raw(), 0) };
        let pidfd = descriptor("pidfd_open", raw)?;
        setns(pidfd, CloneFlags::CLONE_NEWUTS).map_err(|errno| Refusal::new("setns of a pidfd", errno))?;
        Ok(String::new())
    });
    match answer {
        Ok(_) => Finding::new(State::Ok, "joined our own namespace by it"),
        Err(refusal) if refusal.errno == Errno::EINVAL => Finding::new(
            State::Missing,
            format!("{refusal}: a kernel before 5.8; namespaces are joined one by one"),
        ),
        Err(refusal) => Finding::new(State::Restricted, refusal.to_string()),
    }
}

/// The program that joins a container executes itself anew: from a clone of its mount, or else from memory.
pub(crate) fn own_program(_: &Machine) -> Finding {
    let clone = in_child(|| {
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        // SAFETY: the path is a static C string.
        let raw =
            unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/proc/self/exe".as_ptr(), flags) };
        let clone = descriptor("open_tree", raw)?;
        let attributes =
            libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
        let (mount, empty, size) = (clone.as_raw_fd(), c"".as_ptr(), size_of::<libc::mount_attr>());
        // SAFETY: the path is a static C string; the structure lives through the call, and its size is told.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount,
                empty,
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size,
            )
        };
        Errno::result(result).map_err(|errno| Refusal::new("mount_setattr", errno))?;
        Ok(String::new())
    });
    let Err(no_clone) = clone else {
        return Finding::new(State::Ok, "made a read-only clone of its mount");
    };
    let copy = in_child(|| {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a static C string.
        let make = |flags| unsafe { libc::memfd_create(c"doctor".as_ptr(), flags) };
        let raw = match Errno::result(make(flags | libc::MFD_EXEC)) {
            // A kernel before 6.3 does not know the flag.
            Err(Errno::EINVAL) => make(flags),
            result => result.map_err(|errno| Refusal::new("memfd_create", errno))?,
        };
        descriptor("memfd_create", raw.into()).map(|_| String::new())
    });
    match copy {
        Ok(_) => Finding::new(State::Ok, format!("a copy in memory ({no_clone})")),
        Err(refusal) => {
            let finding = Finding::new(State::Restricted, format!("{refusal}; {no_clone}"));
            match sysctl("vm.memfd_noexec").as_deref() {
                Some("2") => finding.mended_by(Remedy::Root("sysctl -w vm.memfd_noexec=1")),
                _ => finding,
            }
        }
    }
}

fn descriptor(operation: &str, raw: libc::c_long) -> Result<OwnedFd, Refusal> {
    let raw = Errno::result(raw).map_err(|errno| Refusal::new(operation, errno))?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}
