//! Who lives: a lock that ends with its owner, flock(2).
//!
//! What a program leaves behind when it is killed has a name, and a name does not tell whether its owner lives.
//! A pid that is written down does not either: the number is given to another process later. A lock does. It
//! belongs to an open file, not to a path or a process, and the kernel lets go of it with the last descriptor,
//! however its owner ends. So what is locked belongs to somebody who lives, and what is not, to nobody. Manual
//! page: [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html).

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

// ANCHOR: flock
/// flock(2): `operation` is LOCK_EX, LOCK_SH or LOCK_UN, with LOCK_NB so as not to wait.
///
/// nix has a type that unlocks when it is dropped. A forked child shares the lock: its copy of that type would
/// unlock for its parent too. Here only LOCK_UN does, or the last close(2).
///
/// # Errors
///
/// EWOULDBLOCK: with LOCK_NB, when it is another's.
pub fn flock(file: impl AsFd, operation: i32) -> Result<(), Errno> {
    loop {
        // SAFETY: the call takes numbers; the descriptor is open, since it is borrowed.
        match Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation) }) {
            Err(Errno::EINTR) => (),
            result => return result.map(drop),
        }
    }
}
// ANCHOR_END: flock
