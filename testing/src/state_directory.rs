//! `/run/hull`, where programs keep what must outlive a process: each sandbox has its own, a tmpfs.
//!
//! A mount needs a directory to be put on, and that one is the host's. It is made for the first sandbox and
//! removed with the last: removed any earlier, it would take the other sandboxes' mounts with it, as rmdir(2)
//! does since Linux 3.18 with what is mounted there in other mount namespaces.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The directory.
pub(crate) const PATH: &str = "/run/hull";

/// The host's directory, with a shared lock on it that says that a sandbox needs it.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    lock: Option<Flock<File>>,
}

impl StateDirectory {
    pub(crate) fn new() -> io::Result<StateDirectory> {
        loop {
            match fs::create_dir(PATH) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let lock = match File::open(PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => Flock::lock(file?, FlockArg::LockShared).map_err(|(_, errno)| errno)?,
            };
            // While we waited, the last sandbox may have removed the directory that we have locked.
            if fs::metadata(PATH)
                .is_ok_and(|metadata| lock.metadata().is_ok_and(|ours| ours.ino() == metadata.ino()))
            {
                return Ok(StateDirectory { lock: Some(lock) });
            }
        }
    }
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        self.lock = None;
        let Ok(directory) = File::open(PATH) else { return };
        if let Ok(_alone) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            // It stays where a program that runs outside of a sandbox has something in it.
            let _ = fs::remove_dir(PATH);
        }
    }
}

/// The files below `directory`, but locks: a file named `lock`, or with a name that ends in `.lock`. A lock
/// can't be removed while another program may wait for it, and neither can the directory that holds it, so
/// directories are not counted either.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else if name != "lock" && !name.ends_with(".lock") {
            found.push(entry.path());
        }
    }
    found
}
