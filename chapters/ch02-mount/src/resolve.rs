//! A path inside a root file system that may lie.
//!
//! The files of a container belong to whoever made its image. `/etc` may be a symbolic link to the host's
//! `/etc`; `..` may lead out; a component may change between a check and its use. So a path is never checked
//! first and used afterwards: the kernel resolves it in one step with the container's root as its root, and
//! answers with a descriptor, which can't be moved any more. CVE-2019-16884, 2021-30465 and 2025-31133 are
//! what happened to runc where it did otherwise. Interface:
//! [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html), Linux 5.6.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use crate::Tree;

// ANCHOR: root
/// A root file system from outside: every path is resolved in it as a process inside would.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens the root file system at `path`, a path of the host's.
    ///
    /// # Errors
    ///
    /// Names `path`: ENOENT, ENOTDIR, EACCES.
    pub fn open(path: &Path) -> Result<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty())
            .with_context(|| format!("open the root file system {path:?}"))?;
        Ok(Root(root))
    }

    /// The root of a mount, attached or not, of which the caller keeps the object.
    ///
    /// # Errors
    ///
    /// fcntl(2)'s errno.
    pub fn of(tree: &Tree) -> Result<Root> {
        let root = tree.as_fd().try_clone_to_owned();
        Ok(Root(root.context("duplicate the descriptor of a mount")?))
    }

    /// Opens `path` inside: `..` stops at the root, an absolute symbolic link starts there, and the links of
    /// procfs that jump elsewhere ("magic links") are refused with ELOOP.
    ///
    /// # Errors
    ///
    /// openat2(2)'s errno, bare, for callers that go on after ENOENT.
    pub fn find(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, ResolveFlag::RESOLVE_NO_MAGICLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
        let how =
            OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT | resolve);
        loop {
            match openat2(&self.0, path, how) {
                // A rename or a mount somewhere raced with a `..`: the kernel was not sure, and wants to be
                // asked again.
                Err(Errno::EAGAIN) => continue,
                result => return result,
            }
        }
    }
}
// ANCHOR_END: root

// ANCHOR: make
impl Root {
    /// Opens the directory `path` inside; makes it, and those above it, where they are missing (mode 755).
    ///
    /// # Errors
    ///
    /// Names the component. EEXIST: it is a symbolic link that leads nowhere.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd> {
        self.walk(path, ResolveFlag::RESOLVE_NO_MAGICLINKS)
    }

    /// As [`Root::directory`], where no symbolic link may be on the way: for /proc, /sys and /dev, on which
    /// others rely. With `/proc` a link to `/`, the new procfs would cover the root, and no mask would find
    /// its path.
    ///
    /// # Errors
    ///
    /// As for [`Root::directory`]; ELOOP: a component is a symbolic link.
    pub fn mount_point(&self, path: &Path) -> Result<OwnedFd> {
        self.walk(path, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn walk(&self, path: &Path, resolve: ResolveFlag) -> Result<OwnedFd> {
        let open =
            |path: &Path| self.resolve(path, O_PATH_DIRECTORY, resolve).map_err(|errno| refusal(errno, path));
        let is_missing = |error: &anyhow::Error| error.downcast_ref() == Some(&Errno::ENOENT);
        let mut so_far = PathBuf::from("/");
        let mut directory = open(&so_far)?;
        for component in path.components() {
            so_far.push(component);
            directory = match (open(&so_far), component) {
                (Err(error), Component::Normal(name)) if is_missing(&error) => {
                    let made = mkdirat(&directory, name, Mode::from_bits_truncate(0o755));
                    // EEXIST: somebody else has made it meanwhile; or it is a link that leads nowhere.
                    let made_now = open(&so_far);
                    if made_now.is_err() {
                        made.with_context(|| format!("mkdir {so_far:?} in the root file system"))?;
                    }
                    made_now?
                }
                (result, _) => result?,
            };
        }
        Ok(directory)
    }

    /// Opens the file `path` inside, whatever its kind; makes an empty regular file where there is none.
    ///
    /// # Errors
    ///
    /// Names `path`. EEXIST: it is a symbolic link that leads nowhere.
    pub fn file(&self, path: &Path) -> Result<OwnedFd> {
        match self.find(path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => self.make_file(path),
            result => result.map_err(|errno| refusal(errno, path)),
        }
    }

    fn make_file(&self, path: &Path) -> Result<OwnedFd> {
        let no_name = || anyhow!("{path:?} in the root file system: this path does not end in a name");
        let (parent, name) = (path.parent().ok_or_else(no_name)?, path.file_name().ok_or_else(no_name)?);
        let directory = self.directory(parent)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let made = openat(&directory, name, flags, Mode::from_bits_truncate(0o644));
        // EEXIST: as above.
        self.find(path, OFlag::O_PATH)
            .or(made)
            .with_context(|| format!("make the file {path:?} in the root file system"))
    }
}
// ANCHOR_END: make

const O_PATH_DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// What openat2(2) said of `path` inside.
pub(crate) fn refusal(errno: Errno, path: &Path) -> anyhow::Error {
    let hint = match errno {
        Errno::ENOSYS => " (it needs Linux 5.6; without it no path in a hostile root can be trusted)",
        Errno::ELOOP => " (a symbolic link where none may be, or a loop of them)",
        _ => "",
    };
    anyhow!(errno).context(format!("openat2 {path:?} in the root file system{hint}"))
}

/// Whether an open file is a directory: fstat(2).
pub(crate) fn is_directory(file: impl AsFd) -> Result<bool> {
    let status = fstat(file).context("fstat")?;
    Ok(SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

impl From<Tree> for Root {
    /// The root of a mount, attached or not.
    fn from(tree: Tree) -> Root {
        Root(tree.into())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
