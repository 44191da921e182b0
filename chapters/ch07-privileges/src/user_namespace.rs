//! A user namespace as an object.
//!
//! Each process is in one, and so are the things that it makes: a mount namespace belongs to the user
//! namespace in which its maker was, and a capability counts only over what belongs to one's own user
//! namespace or to one below. User namespaces form a tree; each has an owner, the user who made it, who has
//! all capabilities in it from outside. Its maps say who is who: `userns::map::write_for` writes those of a
//! child. Like any namespace, it lives while a process is in it or while somebody holds a descriptor. Manual
//! pages: user_namespaces(7), ioctl_nsfs(2).
//!
//! What to know of a child that was made with CLONE_NEWUSER:
//!
//! - It has all capabilities in it at once, but it is nobody there until the maps are written, and it is root
//!   only once it has called setresuid(2): its number outside is still its maker's. With files it fails until
//!   then (EOVERFLOW).
//! - That setresuid(2) makes it non-dumpable, so that its files in /proc belong to the host's root until the
//!   next execve(2), and it clears PR_SET_PDEATHSIG: prctl(2).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use log::info;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use userns::{IdMap, map};

// ANCHOR: with_maps
/// Makes a user namespace with these maps, in which no process is. It is there for its maps: a mount shows
/// its files' owners by them (see [`id_map`](crate::id_map)), and any process that has CAP_SYS_ADMIN in it
/// may join it by setns(2).
///
/// # Errors
///
/// Those of clone3(2), and of `userns::map::write`: they name the range that is refused.
pub fn with_maps(users: &[IdMap], groups: &[IdMap]) -> Result<OwnedFd> {
    // Before the child is made: it is cheaper to ask, and the error is the same.
    map::check(map::Ids::Users, users)?;
    map::check(map::Ids::Groups, groups)?;
    info!(target: "say", "A user namespace for its maps alone: a child makes it, and ends once we hold it.");
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWUSER).dies_with_parent().start(|_| exit_now(0))?;
    map::write(held.pid(), users, groups)?;
    let file = format!("/proc/{}/ns/user", held.pid());
    info!(target: "syscall", "open({file:?}, O_RDONLY)  the namespace lives while this descriptor does");
    let namespace = File::open(&file).with_context(|| format!("open {file:?}"))?;
    // The child never passes the gate: it is killed here.
    drop(held);
    Ok(namespace.into())
}
// ANCHOR_END: with_maps

/// `_IO(NSIO, 2)` and `_IO(NSIO, 4)` of linux/nsfs.h.
const NS_GET_PARENT: libc::c_ulong = nix::request_code_none!(0xb7, 2) as libc::c_ulong;
const NS_GET_OWNER_UID: libc::c_ulong = nix::request_code_none!(0xb7, 4) as libc::c_ulong;

// ANCHOR: family
/// The user namespace in which `namespace`, a user or PID namespace, was made.
///
/// # Errors
///
/// EPERM: that is outside of our own, which nobody may see from inside; so too for the first one, which has
/// no parent. EINVAL: a namespace of a kind that has no parent.
pub fn parent(namespace: impl AsFd) -> Result<OwnedFd> {
    info!(target: "syscall", "ioctl(namespace, NS_GET_PARENT)  the namespace around it");
    // SAFETY: the call takes no argument and returns a number.
    let parent = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_PARENT as _) };
    let parent = Errno::result(parent).map_err(|errno| {
        let hint = match errno {
            Errno::EPERM => " (it is not visible from our own user namespace, or there is none)",
            Errno::EINVAL => " (only user and PID namespaces have one)",
            _ => "",
        };
        anyhow!(errno).context(format!("ioctl(NS_GET_PARENT){hint}"))
    })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(parent) })
}

/// The user who made the user namespace `namespace`, as our own user namespace numbers users; 65534 where it
/// has no number for that user.
///
/// # Errors
///
/// EINVAL: it is no user namespace.
pub fn owner(namespace: impl AsFd) -> Result<u32> {
    info!(target: "syscall", "ioctl(namespace, NS_GET_OWNER_UID)  who has all capabilities in it, from outside");
    let mut owner: libc::uid_t = 0;
    // SAFETY: the call writes one uid_t, which lives through the call.
    let result = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_OWNER_UID as _, &raw mut owner) };
    Errno::result(result).context("ioctl(NS_GET_OWNER_UID) (of a user namespace alone)")?;
    Ok(owner)
}
// ANCHOR_END: family
