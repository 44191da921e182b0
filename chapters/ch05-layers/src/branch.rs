//! A branch: one directory of the stack, and how a file in it is reached.
//!
//! An image's files belong to whoever made it. A symbolic link in a layer may point to the host's `/etc`, and
//! a path that was a directory a moment ago may be such a link now. So a path below a branch is never given
//! to the kernel as a string alone: it is resolved from the branch's descriptor, and the kernel refuses to
//! follow any link, or to leave. Interface:
//! [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html), Linux 5.6.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::fstatat;

// ANCHOR: mode
/// What may be done to a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `rw`: takes all changes; only the top branch can be.
    ReadWrite,
    /// `init`: read-only, and what it holds is left out of a commit.
    Init,
    /// `ro` (AuFS's `ro+wh`): read-only, its whiteouts count.
    ReadOnly,
}
// ANCHOR_END: mode

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(match self {
            Mode::ReadWrite => "rw",
            Mode::Init => "init",
            Mode::ReadOnly => "ro",
        })
    }
}

// ANCHOR: branch
/// One directory of the stack, held open, so that its path may change under it.
#[derive(Debug)]
pub struct Branch {
    path: PathBuf,
    mode: Mode,
    directory: OwnedFd,
}

impl Branch {
    /// Opens `path`; it must be a directory.
    ///
    /// # Errors
    ///
    /// Names `path`: ENOENT, ENOTDIR, EACCES. ENOSYS: a kernel before 5.6.
    pub fn open(path: &Path, mode: Mode) -> anyhow::Result<Branch> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path, flags, nix::sys::stat::Mode::empty())
            .with_context(|| format!("open the branch {path:?}"))?;
        let branch = Branch { path: path.into(), mode, directory };
        branch.find(Path::new(""), OFlag::O_PATH).with_context(|| {
            format!(
                "openat2 in the branch {path:?} (Linux 5.6; without it no path in a layer can be trusted)"
            )
        })?;
        Ok(branch)
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What may be done to it.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Opens `path`, from the root of the branch and without a leading `/`; an empty one is the root itself.
    ///
    /// # Errors
    ///
    /// openat2(2)'s errno. ELOOP: `path` leads through a symbolic link, or ends in one and `flags` lack
    /// O_PATH. EXDEV: it leads out by `..`, or into another file system mounted in the branch; a branch may
    /// be a mount point, not hold one, since inode numbers tell its files apart.
    pub fn find(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        match path.as_os_str().as_bytes() {
            [] => beneath(&self.directory, Path::new("."), flags),
            bytes if bytes.len() < LONGEST => beneath(&self.directory, path, flags),
            bytes => self.find_deep(bytes, flags),
        }
    }

    /// A path that is longer than a system call takes, in pieces.
    fn find_deep(&self, mut rest: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let as_path = |bytes| Path::new(OsStr::from_bytes(bytes));
        let mut directory = None;
        while rest.len() >= LONGEST {
            let slash = rest[..LONGEST].iter().rposition(|&byte| byte == b'/').ok_or(Errno::ENAMETOOLONG)?;
            let from = directory.as_ref().unwrap_or(&self.directory);
            directory = Some(beneath(from, as_path(&rest[..slash]), OFlag::O_PATH | OFlag::O_DIRECTORY)?);
            rest = &rest[slash + 1..];
        }
        beneath(directory.as_ref().unwrap_or(&self.directory), as_path(rest), flags)
    }
}

/// The kernel counts the zero byte at the end too.
const LONGEST: usize = libc::PATH_MAX as usize;

fn beneath(directory: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
    loop {
        match openat2(directory, path, how) {
            // EINTR: a signal, while a slow file system opened it.
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}
// ANCHOR_END: branch

// ANCHOR: objects
impl Branch {
    /// All that is in a directory of the branch, whatever it means to a union, in order; and the directory, opened.
    pub(crate) fn objects(&self, path: &Path) -> anyhow::Result<(OwnedFd, Vec<(OsString, libc::stat)>)> {
        let read = || -> Result<_, Errno> {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let directory = self.find(path, flags)?;
            let mut objects = Vec::new();
            for entry in
                Dir::openat(&directory, ".", flags | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?.iter()
            {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    // The container runs on, and has just removed it.
                    Err(Errno::ENOENT) => (),
                    status => objects.push((name.to_os_string(), status?)),
                }
            }
            objects.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok((directory, objects))
        };
        read().with_context(|| format!("read the directory {:?}", self.path.join(path)))
    }
}
// ANCHOR_END: objects

/// Whether the object is of this type (S_IFREG, S_IFDIR...).
pub(crate) fn is(object: &libc::stat, kind: libc::mode_t) -> bool {
    object.st_mode & libc::S_IFMT == kind
}

/// `DIR=rw`, `DIR=ro`, `DIR=init` (and AuFS's `ro+wh`), for the command line: path and mode, not yet opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The directory.
    pub path: PathBuf,
    /// What may be done to it.
    pub mode: Mode,
}

impl Given {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// As for [`Branch::open`].
    pub fn open(&self) -> anyhow::Result<Branch> {
        Branch::open(&self.path, self.mode)
    }
}

impl FromStr for Given {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Given> {
        // The last `=`: a path may contain others.
        let (path, mode) = text.rsplit_once('=').unwrap_or((text, ""));
        let mode = match mode {
            "rw" => Mode::ReadWrite,
            "ro" | "ro+wh" => Mode::ReadOnly,
            "init" => Mode::Init,
            _ => bail!("{text:?} is no branch: write DIR=rw, DIR=ro or DIR=init"),
        };
        if path.is_empty() {
            bail!("{text:?} names no directory: write DIR={mode}");
        }
        Ok(Given { path: path.into(), mode })
    }
}
