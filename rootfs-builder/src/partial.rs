//! A build is all or nothing: the tree is made beside its final place and then renamed.
//!
//! rename(2) is atomic, so whoever looks at the final path sees nothing or a whole root file system. Beside
//! it, and not in /tmp, because a rename does not cross file systems. For a destination
//! `target/rootfs/host`:
//!
//! ```text
//! target/rootfs/.host.partial.eY3mZq/   made by mkdtemp(3), so nobody else can enter it
//!                                  lock   flock(2)ed for as long as its builder lives, however it ends
//!                                  root/  becomes target/rootfs/host
//! ```
//!
//! A builder that is killed by SIGKILL leaves such a directory behind. The next one removes it: it gets the
//! lock if and only if the builder is dead, since the kernel drops a process's locks with the process. (A
//! pid in a file would not do: numbers are used again, and mean nothing in another PID namespace.)

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{geteuid, mkdtemp};

use crate::error::{Doing, errno};

/// The directory of one living builder.
pub(crate) struct Partial {
    directory: PathBuf,
    root: PathBuf,
    lock: Flock<File>,
}

impl Partial {
    /// Makes the directory and takes its lock.
    pub(crate) fn create(destination: &Path) -> Result<Partial> {
        let (parent, prefix) = parent_and_prefix(destination)?;
        let mut template = prefix;
        template.push("XXXXXX");
        loop {
            let directory = mkdtemp(&parent.join(&template)).doing("make a directory in", parent)?;
            match lock(&directory, FlockArg::LockExclusive) {
                Ok(Some(lock)) => {
                    let root = directory.join("root");
                    return Ok(Partial { directory, root, lock });
                }
                // Another builder has swept the directory before its lock was taken: the next one, then.
                Ok(None) => {}
                Err(error) => return Err(discarded(error, remove(&directory))),
            }
        }
    }

    /// Where the tree is to be made.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The locked file. A child that inherits it holds the lock too, so that nothing is swept while it
    /// still writes.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// Moves the finished tree to its place. False if something is there by now.
    pub(crate) fn rename(&self, destination: &Path) -> Result<bool> {
        crate::interrupt::check()?;
        match fs::rename(&self.root, destination) {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::ResourceBusy => Err(error)
                .doing("rename to", destination)
                .context("something is mounted there: name a directory inside it"),
            other => other.doing("rename to", destination).map(|()| true),
        }
    }

    /// Removes the directory with all that is still in it.
    pub(crate) fn discard(self) -> Result<()> {
        remove(&self.directory)
    }
}

/// Removes what dead builders of `destination` left behind.
pub(crate) fn sweep(destination: &Path) -> Result<()> {
    let (parent, prefix) = parent_and_prefix(destination)?;
    for entry in fs::read_dir(parent).doing("read the directory", parent)? {
        let entry = entry.doing("read the directory", parent)?;
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            continue;
        }
        // Another user's is not ours to judge, and in /tmp it may be a trap: a link to what only we can
        // remove.
        match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => {
                let metadata = other.doing("stat", &entry.path())?;
                if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
                    continue;
                }
            }
        }
        match lock(&entry.path(), FlockArg::LockExclusiveNonblock) {
            Ok(Some(_lock)) => remove(&entry.path())?,
            // Its builder lives, or another one has just removed it.
            Ok(None) => {}
            // Nothing can be removed from a file system that is read-only by now.
            Err(error) if errno(&error) == Some(Errno::EROFS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The destination as an absolute path without symbolic links, or a refusal when it can't become a directory.
pub(crate) fn destination(directory: &Path) -> Result<PathBuf> {
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return fs::canonicalize(directory).doing("resolve", directory),
        Ok(_) => return Err(Errno::ENOTDIR).doing("build in", directory),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).doing("build in", directory),
        Err(_) => {}
    }
    if directory.is_symlink() {
        bail!(
            "{directory:?} is a symbolic link that leads nowhere: remove it, or make the directory it names"
        );
    }
    let name =
        directory.file_name().with_context(|| format!("{directory:?} has no name that could be made"))?;
    let parent = match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let parent = fs::canonicalize(parent).doing("build in the parent directory", parent)?;
    Ok(parent.join(name))
}

/// Fails if `destination` is a directory with something in it.
pub(crate) fn refuse_if_occupied(destination: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(destination) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.doing("read the directory", destination)?,
    };
    ensure!(
        entries.next().is_none(),
        "{destination:?} is not empty, and no root file system of ours: \
         it is left as it is, name another directory"
    );
    Ok(())
}

/// Adds to an error that what had been made could not be removed either.
pub(crate) fn discarded(error: anyhow::Error, removal: Result<()>) -> anyhow::Error {
    match removal {
        Ok(()) => error,
        Err(kept) => error.context(format!("{kept:#}, so it is left behind, after")),
    }
}

/// Opens and locks the lock file, which is made if missing. None if it is locked, or is no longer the
/// directory's.
fn lock(directory: &Path, how: FlockArg) -> Result<Option<Flock<File>>> {
    let path = directory.join("lock");
    let file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.doing("open", &path)?,
    };
    let lock = match Flock::lock(file, how) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno).doing("flock", &path),
    };
    let locked = lock.metadata().doing("stat", &path)?;
    match fs::symlink_metadata(&path) {
        Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => Ok(Some(lock)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("stat", &path),
    }
}

/// Removes a partial directory whose lock is held. First the tree, then the lock's name, then the
/// directory: at each point others find it locked or find nothing to lose.
fn remove(directory: &Path) -> Result<()> {
    let root = directory.join("root");
    unless_missing(fs::remove_dir_all(&root)).doing("remove", &root)?;
    let lock = directory.join("lock");
    unless_missing(fs::remove_file(&lock)).doing("unlink", &lock)?;
    match unless_missing(fs::remove_dir(directory)) {
        // A builder whose mkdtemp made this directory has only now come to lock it: it is that builder's
        // again.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.doing("rmdir", directory),
    }
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The directory that holds `destination`, and how the names of its partial directories begin.
fn parent_and_prefix(destination: &Path) -> Result<(&Path, OsString)> {
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
        bail!("/ is the host's own root: name another directory");
    };
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".partial.");
    Ok((parent, prefix))
}
