//! A copy of a layer that differs in nothing: holes, hard links, owners, modes, times, extended attributes,
//! devices.
//!
//! A layer's digest and an image's behaviour depend on all of them. A hole that is filled makes a disk image
//! large; two names of one file that become two files double a layer; a set-user-ID bit that is lost breaks
//! `su`. Both sides are reached through a [`Branch`], so no symbolic link leads a copy out of either.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::{debug, info};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};

use super::view;
use crate::branch::is;
use crate::union::attributes::{set_mode, set_owner, set_times, times};
use crate::union::{data, xattr};
use crate::{Branch, branch};

// ANCHOR: tree
/// Copies the tree of `from` to `into`, an empty directory. What `keep` refuses, by its path, is left out,
/// with all that is in it. Returns the directories in which something was left out.
pub(super) fn tree(from: &Branch, into: &Path, keep: impl Fn(&Path) -> Result<bool>) -> Result<Vec<PathBuf>> {
    info!(target: "syscall", "copy_file_range, linkat, mknod, setxattr: {:?} to {into:?}", from.path());
    let into = Branch::open(into, branch::Mode::ReadWrite)?;
    let mut copy = Copy { from, into: &into, first_names: HashMap::new() };
    let mut left_out = Vec::new();
    let (mut rest, mut directories) = (vec![PathBuf::new()], Vec::new());
    while let Some(directory) = rest.pop() {
        for (name, _) in from.objects(&directory)?.1 {
            let path = directory.join(name);
            if !keep(&path)? {
                left_out.push(directory.clone());
                continue;
            }
            let kind = copy.object(&path).with_context(|| format!("copy {:?}", from.path().join(&path)))?;
            if kind == SFlag::S_IFDIR {
                rest.push(path);
            }
        }
        directories.push(directory);
    }
    // Those within first: whatever is made in a directory sets its time.
    for path in directories.iter().rev() {
        copy.directory(path).with_context(|| format!("copy what {:?} is", from.path().join(path)))?;
    }
    left_out.dedup();
    Ok(left_out)
}
// ANCHOR_END: tree

struct Copy<'a> {
    from: &'a Branch,
    into: &'a Branch,
    /// Where the files with several names are in the copy. The container may run on, and an inode number be
    /// used again for another file: with the time of its last change, it is the same file.
    first_names: HashMap<(u64, i64, i64), PathBuf>,
}

// ANCHOR: object
impl Copy<'_> {
    /// Makes the object at `path`; of a directory, itself only. Returns its type.
    fn object(&mut self, path: &Path) -> Result<SFlag> {
        debug!(target: "syscall", "copy of {path:?}");
        let (parent, name) = self.parent(path)?;
        // From here on it is this object, whatever a container puts in its place meanwhile.
        let from = self.from.find(path, OFlag::O_PATH).context("open")?;
        let status = fstat(&from).context("stat")?;
        let kind = SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT);
        if kind == SFlag::S_IFDIR {
            // Its own mode comes last, it may forbid to write.
            mkdirat(&parent, name, Mode::S_IRWXU).context("mkdir")?;
            return Ok(kind);
        }
        let identity = (status.st_ino, status.st_ctime, status.st_ctime_nsec);
        if let Some(first) = self.first_names.get(&identity) {
            let (first_parent, first) = self.parent(first)?;
            linkat(&first_parent, first, &parent, name, AtFlags::empty()).context("link")?;
            return Ok(kind);
        }
        match kind {
            SFlag::S_IFREG => file(&from, &parent, name)?,
            SFlag::S_IFLNK => {
                let target = readlinkat(&from, "").context("readlink")?;
                symlinkat(target.as_os_str(), &parent, name).context("symlink")?;
            }
            _ => mknodat(&parent, name, kind, Mode::empty(), status.st_rdev)
                .context("mknod (devices other than 0:0 take CAP_MKNOD over the host)")?,
        }
        if status.st_nlink > 1 {
            self.first_names.insert(identity, path.into());
        }
        give_attributes(&from, self.into.find(path, OFlag::O_PATH).context("open the copy")?)?;
        Ok(kind)
    }

    /// What a directory itself is, when all in it has been made.
    fn directory(&self, path: &Path) -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let from = self.from.find(path, flags).context("open")?;
        give_attributes(&from, self.into.find(path, flags).context("open the copy")?)
    }

    /// The parent directory in the copy, and the name in it.
    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let parent = path.parent().context("the root has no parent")?;
        let directory = self
            .into
            .find(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .context("open its directory's copy")?;
        Ok((directory, path.file_name().context("no name")?))
    }
}

/// Copies the regular file that is held by `from`.
fn file(from: &OwnedFd, parent: &OwnedFd, name: &OsStr) -> Result<()> {
    // By its magic link. Its name may be a device's by now, and to open one is to use it.
    let held = Path::new("/proc/self/fd").join(from.as_raw_fd().to_string());
    let reopen = |more| open(&held, OFlag::O_RDONLY | OFlag::O_CLOEXEC | more, Mode::empty());
    // Only the owner may leave the access time as it is.
    let from = match reopen(OFlag::O_NOATIME) {
        Err(Errno::EPERM) => reopen(OFlag::empty()),
        result => result,
    };
    let from = File::from(from.context("open")?);
    let length = from.metadata().context("stat")?.len();
    let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let to = File::from(openat(parent, name, new, Mode::S_IRUSR | Mode::S_IWUSR).context("create")?);
    data::copy(&from, &to, length).context("copy the content")
}
// ANCHOR_END: object

// ANCHOR: attributes
/// Gives `to` the owner, extended attributes, mode and times of `from`, in an order in which none undoes
/// another: a new owner takes set-id bits and file capabilities off; a plain user can't set an attribute of
/// what he may not write; and each change but that of the times is a change of the times.
fn give_attributes(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let (status, made) = (fstat(&from).context("stat")?, fstat(&to).context("stat the copy")?);
    if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid) {
        set_owner(&to, Some(status.st_uid), Some(status.st_gid))
            .context("chown (only root can give files away)")?;
    }
    for (name, value) in view::attributes(&from).context("getxattr")? {
        xattr::set(&to, &name, &value, 0).with_context(|| format!("setxattr {name:?}"))?;
    }
    if !is(&status, libc::S_IFLNK) {
        set_mode(&to, status.st_mode).context("chmod")?;
    }
    let (accessed, modified) = times(&status);
    set_times(&to, accessed, modified).context("utimensat")
}
// ANCHOR_END: attributes
