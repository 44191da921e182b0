//! What is still in use: a file or directory that is locked, as [`ch01_pid::lock`] has it.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use ch01_pid::flock;
use nix::errno::Errno;
use nix::sys::stat::fstat;

// ANCHOR: lock
/// Waits until the file at `path` is ours alone, and makes it where it isn't.
pub(crate) fn alone(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path).with_context(|| format!("open {path:?}"))?;
    flock(&file, libc::LOCK_EX).with_context(|| format!("flock {path:?}"))?;
    Ok(file)
}

/// Marks what is at `path` as in use: several may do so. `None`: it is being removed, or is gone.
pub(crate) fn shared(path: &Path) -> Result<Option<File>> {
    try_lock(path, libc::LOCK_SH)
}

/// What is at `path`, if nobody uses it: then it is ours until the file is closed. `None`: it is another's,
/// or gone.
pub(crate) fn alone_if_free(path: &Path) -> Result<Option<File>> {
    try_lock(path, libc::LOCK_EX)
}

fn try_lock(path: &Path, operation: i32) -> Result<Option<File>> {
    // O_NONBLOCK: nobody has put a FIFO here to keep us waiting.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("open {path:?}"))?,
    };
    match flock(&file, operation | libc::LOCK_NB) {
        // Between open(2) and the lock, another may have had the lock, and removed what was there.
        Ok(()) => match fstat(&file).with_context(|| format!("stat {path:?}"))?.st_nlink {
            0 => Ok(None),
            _ => Ok(Some(file)),
        },
        Err(Errno::EWOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("flock {path:?}")),
    }
}
// ANCHOR_END: lock

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::{alone_if_free, shared};

    #[test]
    fn who_has_a_lock_has_it_on_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let (path, done) = (&directory.path().join("record"), &AtomicBool::new(false));
        let held = thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3000 {
                    fs::write(path, "").unwrap();
                    while alone_if_free(path).unwrap().map(|_lock| fs::remove_file(path).unwrap()).is_none() {
                    }
                }
                done.store(true, Ordering::SeqCst);
            });
            let mut held = 0;
            while !done.load(Ordering::SeqCst) {
                let Some(_lock) = shared(path).unwrap() else { continue };
                assert!(path.exists(), "locked, and removed");
                held += 1;
            }
            held
        });
        assert!(held > 0, "it was never locked");
    }
}
