// ANCHOR: scratch
//! A directory for the layers of one run, that goes with it.
//!
//! A program that is killed has no chance to remove its directory, and a name tells nothing of whether its owner lives. A
//! lock does: the kernel lets go of it when its owner dies, however that happens. So the next run knows which directories
//! it may sweep. Manual page: flock(2).

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, geteuid, mkdtemp};

/// What the names begin with.
const PREFIX: &str = "hull-layers-";

/// A directory of this run's own. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one, once those of dead owners are gone.
    pub fn create() -> Result<Scratch> {
        let parent = parent()?;
        sweep(&parent)?;
        loop {
            let template = parent.join(format!("{PREFIX}XXXXXX"));
            let path = mkdtemp(&template).with_context(|| format!("mkdtemp {template:?}"))?;
            // None: another run has swept it in the instant before it was locked.
            if let Some(lock) = lock(&path)? {
                return Ok(Scratch { path, _lock: lock });
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            log::warn!("{}", lesson::describe(&error));
        }
    }
}
// ANCHOR_END: scratch

// ANCHOR: parent
/// TMPDIR, or else /var/tmp before /tmp: it is on a disk, where the blocks of a file can be asked for, and overlayfs
/// can have its upper layer.
fn parent() -> Result<PathBuf> {
    let usual = if access("/var/tmp", AccessFlags::W_OK).is_ok() { "/var/tmp" } else { "/tmp" };
    let parent = std::env::var_os("TMPDIR").map_or(usual.into(), PathBuf::from);
    parent
        .canonicalize()
        .with_context(|| format!("the directory for temporary files {parent:?} (TMPDIR names it)"))
}
// ANCHOR_END: parent

// ANCHOR: sweep
/// Removes the directories of this user whose owner is dead.
fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).with_context(|| format!("read the directory {parent:?}"))? {
        let entry = entry.with_context(|| format!("read the directory {parent:?}"))?;
        let is_ours = |metadata: Metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw();
        // One that is gone by now is another run's.
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && entry.metadata().is_ok_and(is_ours)
        {
            let path = entry.path();
            if let Some(_lock) = lock(&path)? {
                info!(target: "syscall", "flock({path:?}, LOCK_EX)  its owner is dead: it is swept");
                remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Locks the directory itself, until the result is closed. None: it is another's, or is gone.
fn lock(path: &Path) -> Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("open {path:?}"))?,
    };
    // SAFETY: the call takes numbers; the descriptor is open.
    match Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Err(Errno::EWOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("flock {path:?}")),
        // A directory that was removed has no name any more.
        Ok(_) => {
            Ok((file.metadata().with_context(|| format!("fstat {path:?}"))?.nlink() > 0).then_some(file))
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    let gone = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    match fs::remove_dir_all(path) {
        Err(error) if !gone(&error) => Err(error).with_context(|| format!("remove {path:?}")),
        _ => Ok(()),
    }
}
// ANCHOR_END: sweep
