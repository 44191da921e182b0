//! New names: files, directories, links, devices; and the marks that hide what is below.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use log::debug;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::lookup::Answer;
use super::{Directory, Result, Union, attributes, check_name};
use crate::whiteout::{self, LONGEST_NAME, Name, OPAQUE};

/// What is to be made.
#[derive(Clone, Debug)]
pub enum Make {
    /// A regular file (O_EXCL), opened with these flags.
    File(OFlag),
    /// A directory.
    Directory,
    /// A symlink to this target.
    Symlink(PathBuf),
    /// A FIFO, socket or device: the type is in the mode, and this is its device number.
    Node(u64),
}

/// Who owns what is made (the directory's setgid bit has its effect all the same).
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

// ANCHOR: make
impl Union {
    /// Makes `name` in `parent`, which has the top. The descriptor of a file, opened; of others, O_PATH. As
    /// for open(2), the process's umask counts.
    ///
    /// # Errors
    ///
    /// EEXIST. EPERM: a name that AuFS keeps for itself, or an owner that this process can't give.
    /// ENAMETOOLONG: over 251 bytes. As for [`Union::lookup`] and [`Union::claim`].
    pub fn make(
        &self,
        parent: &Directory,
        name: &OsStr,
        what: &Make,
        mode: u32,
        owner: Owner,
    ) -> Result<OwnedFd> {
        check_new_name(name)?;
        let is_deleted = self.check_absent(parent, name)?;
        let top = self.top(parent)?;
        let made = create(&top, name, what, mode)?;
        let finish = || {
            set_owner(&made, &top, owner)?;
            if is_deleted {
                // Beside its own whiteout, the new object is already what the union shows; a new directory
                // must be opaque before the whiteout goes, or the lower one's files would come back.
                if let Make::Directory = what {
                    make_opaque(&top, name)?;
                }
                remove_whiteout(&top, name)?;
            }
            Ok(())
        };
        finish().inspect_err(|_| undo(&top, name, what))?;
        Ok(made)
    }

    /// Whether the top branch has a whiteout for `name`; EEXIST where the union has the name.
    fn check_absent(&self, parent: &Directory, name: &OsStr) -> Result<bool> {
        match self.search(parent, name)? {
            Answer::Found(_) => Err(Errno::EEXIST),
            Answer::Whiteout(branch) => Ok(branch == 0),
            Answer::Nothing => Ok(false),
        }
    }
}

fn create(top: &OwnedFd, name: &OsStr, what: &Make, mode: u32) -> Result<OwnedFd> {
    let permissions = Mode::from_bits_truncate(mode & 0o7777);
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match what {
        Make::File(how) => {
            return openat(top, name, *how | flags | OFlag::O_CREAT | OFlag::O_EXCL, permissions);
        }
        Make::Directory => mkdirat(top, name, permissions)?,
        Make::Symlink(target) => symlinkat(target, top, name)?,
        Make::Node(device) => {
            mknodat(top, name, SFlag::from_bits_truncate(mode & libc::S_IFMT), permissions, *device)?
        }
    }
    openat(top, name, flags | OFlag::O_PATH, Mode::empty())
}

/// Gives what was made to `owner`, unless it is his already. The kernel has given it the process's ids, or
/// the group of a set-group-id directory.
fn set_owner(made: &OwnedFd, top: &OwnedFd, owner: Owner) -> Result<()> {
    let status = fstat(made)?;
    let user = Some(owner.user).filter(|&user| user != status.st_uid);
    let mut group = Some(owner.group).filter(|&group| group != status.st_gid);
    if group.is_some() && fstat(top)?.st_mode & libc::S_ISGID != 0 {
        group = None;
    }
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    attributes::set_owner(made, user, group)?;
    let set_id_bits = libc::S_ISUID | libc::S_ISGID;
    let is_directory = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if !is_directory && status.st_mode & set_id_bits != 0 {
        // The new owner has taken them off.
        attributes::set_mode(made, status.st_mode)?;
    }
    Ok(())
}

/// Takes back what could not be finished, as if it had not been begun.
fn undo(top: &OwnedFd, name: &OsStr, what: &Make) {
    let flag = match what {
        Make::Directory => {
            // The union is whole without it, so the error that is reported is the one that led here.
            let _ = openat(top, name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
                .and_then(|made| unlinkat(made, OPAQUE, UnlinkatFlags::NoRemoveDir));
            UnlinkatFlags::RemoveDir
        }
        _ => UnlinkatFlags::NoRemoveDir,
    };
    if let Err(errno) = unlinkat(top, name, flag) {
        log::warn!("remove {name:?}, which could not be finished: {errno}");
    }
}
// ANCHOR_END: make

// ANCHOR: link
impl Union {
    /// link(2): `new_name` in `to` becomes a second name of `name` in `from`. Both directories have the top.
    /// An object of a lower branch is copied up first: a link can't lead from one branch to another.
    ///
    /// # Errors
    ///
    /// EEXIST. EPERM: `name` is a directory. As for [`Union::make`] and [`Union::copy_up`].
    pub fn link(&self, from: &Directory, name: &OsStr, to: &Directory, new_name: &OsStr) -> Result<()> {
        check_new_name(new_name)?;
        if self.lookup(from, name)?.is_directory() {
            return Err(Errno::EPERM);
        }
        let is_deleted = self.check_absent(to, new_name)?;
        let (top, new_top) = (self.top(from)?, self.top(to)?);
        self.copy_up(from, name)?;
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one to itself.
        linkat(&top, name, &new_top, new_name, AtFlags::empty())?;
        if is_deleted {
            remove_whiteout(&new_top, new_name)?;
        }
        Ok(())
    }
}
// ANCHOR_END: link

/// Whether a name can be made.
pub(super) fn check_new_name(name: &OsStr) -> Result<()> {
    check_name(name)?;
    match whiteout::classify(name) {
        Name::Plain(name) if name.len() > LONGEST_NAME => Err(Errno::ENAMETOOLONG),
        Name::Plain(_) => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

// ANCHOR: marks
/// Hides `name` of the branches below; false: it was hidden already.
pub(super) fn make_whiteout(top: &OwnedFd, name: &OsStr) -> Result<bool> {
    let whiteout = whiteout::of(name);
    debug!(target: "syscall", "openat({whiteout:?}, O_CREAT | O_EXCL, 0444)  hides the name below");
    make_mark(top, &whiteout)
}

/// Hides what lower branches have in the directory `name`.
pub(super) fn make_opaque(top: &OwnedFd, name: &OsStr) -> Result<bool> {
    let mark = Path::new(name).join(OPAQUE);
    debug!(target: "syscall", "openat({mark:?}, O_CREAT | O_EXCL, 0444)  hides what is below");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    make_mark(&openat(top, name, flags, Mode::empty())?, OsStr::new(OPAQUE))
}

fn make_mark(directory: &OwnedFd, mark: &OsStr) -> Result<bool> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o444);
    match openat(directory, mark, flags, mode) {
        // The umask is that of who deletes. Whoever packs the layer must be able to read it all the same.
        Ok(mark) => fchmod(&mark, mode).map(|()| true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Ends the hiding of `name`, of which there is a new one now.
pub(super) fn remove_whiteout(top: &OwnedFd, name: &OsStr) -> Result<()> {
    let whiteout = whiteout::of(name);
    debug!(target: "syscall", "unlinkat({whiteout:?})  there is a new {name:?}");
    unlinkat(top, whiteout.as_os_str(), UnlinkatFlags::NoRemoveDir)
}
// ANCHOR_END: marks
