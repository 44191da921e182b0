//! In the caller's stead: what the server must not do with its own rights.
//!
//! A new file's mode is what its maker asked for, less its maker's umask; unless the directory has a default
//! access list, which then counts instead. The kernel of the branch knows that rule, and applies it to the
//! umask of whoever makes the file. That one is here a thread of the server, so each thread has a umask of
//! its own, and puts on the caller's.
//!
//! Who writes to a file that is set-user-id takes the bit off, or else anybody with the right to write it had
//! its owner's rights. The kernel sees to that, unless the writer has CAP_FSETID. Here the server writes for
//! others, and as root it has that capability. So it lays it down (a thread's *effective* set is what
//! counts), and takes it up only where it makes an object as the caller may have it. Manual pages:
//! capabilities(7), capset(2).

use std::cell::Cell;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use crate::union::Result;

/// The capability's number (linux/capability.h).
const CAP_FSETID: u32 = 4;

/// What capget(2) and capset(2) take: version 3 has the sets as two halves of 32.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

// ANCHOR: privileges
/// Lays the capability down, for this thread and those that it starts.
pub(super) fn lay_down() -> Result<()> {
    set_effective(false)
}

/// Runs `change` with the capability, where this process may have it at all.
pub(super) fn with_all<T>(change: impl FnOnce() -> Result<T>) -> Result<T> {
    set_effective(true)?;
    let result = change();
    set_effective(false)?;
    result
}
// ANCHOR_END: privileges

fn set_effective(wanted: bool) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Half::default(); 2];
    // SAFETY: for version 3 the kernel writes two halves, which live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    Errno::result(result)?;
    let bit = 1 << CAP_FSETID;
    let before = sets[0].effective;
    sets[0].effective = if wanted { before | (sets[0].permitted & bit) } else { before & !bit };
    if sets[0].effective == before {
        return Ok(());
    }
    // SAFETY: as above; the kernel reads them.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    Errno::result(result).map(drop)
}

// ANCHOR: umask
thread_local! {
    /// This thread's umask, once it has its own.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// From now on this thread makes files with this umask.
pub(super) fn set_umask(mask: u32) -> Result<()> {
    let before = UMASK.get();
    if before.is_none() {
        // The umask is one for all threads that share their root and working directory.
        unshare(CloneFlags::CLONE_FS)?;
    }
    if before != Some(mask) {
        umask(Mode::from_bits_truncate(mask));
        UMASK.set(Some(mask));
    }
    Ok(())
}
// ANCHOR_END: umask
