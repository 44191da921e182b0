//! A mount as an object.
//!
//! mount(2) does three things at once: make or find a tree of files, give it attributes, attach it at a path.
//! The newer calls (Linux 5.2) do them one by one, on a file descriptor: a *detached* mount, which no path
//! leads to, is got by open_tree(2) (a copy of an existing mount: a *bind mount*) or by fsopen(2) and
//! fsmount(2) (a new file system); mount_setattr(2) changes it while nobody can see it; move_mount(2)
//! attaches it. So a read-only mount is never writable for an instant, and the place of attachment is a
//! descriptor, which no symbolic link can move.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use log::{Level, log};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use crate::late::Late;
use crate::{Attributes, Propagation, filesystem};

// ANCHOR: tree
/// A mount that is not attached yet, or just has been.
#[derive(Debug)]
pub struct Tree {
    mount: OwnedFd,
    /// What it is a mount of, for messages.
    name: String,
    /// Attributes that a kernel before 5.12 can set only once the mount is attached.
    late: Vec<Late>,
    /// How loudly its steps are narrated: a mask among many is a detail.
    level: Level,
}
// ANCHOR_END: tree

// ANCHOR: copy
impl Tree {
    /// A copy of the mounts at `source`: the same files, to be attached at a second place. With `recursive`,
    /// the mounts below `source` come along.
    ///
    /// # Errors
    ///
    /// Names `source`. EINVAL without `recursive`: in a user namespace, a mount must not be parted from those
    /// that the host's root put on top of it, for they may hide something.
    pub fn copy(source: &Path, recursive: bool) -> Result<Tree> {
        Tree::copy_at(AT_FDCWD, source, recursive, Level::Info)
    }

    /// As [`Tree::copy`], for a path below the directory `directory`; with an empty `source`, of `directory`
    /// itself, which may be any file. `level` says how loudly the steps of this mount are narrated.
    ///
    /// # Errors
    ///
    /// As for [`Tree::copy`].
    pub fn copy_at(directory: BorrowedFd, source: &Path, recursive: bool, level: Level) -> Result<Tree> {
        let name = format!("{}", source.display());
        let (flag, how) = if recursive { (libc::AT_RECURSIVE as u32, " | AT_RECURSIVE") } else { (0, "") };
        log!(
            target: "syscall",
            level,
            "open_tree({source:?}, OPEN_TREE_CLONE{how})  a copy of this mount, not attached yet"
        );
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32 | flag;
        let path = c_string(source.as_os_str().as_encoded_bytes())?;
        // SAFETY: the path is a C string that lives through the call.
        let mount =
            unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), path.as_ptr(), flags) };
        let mount = descriptor(mount).with_context(|| format!("open_tree {source:?}"))?;
        Ok(Tree { mount, name, late: Vec::new(), level })
    }
}
// ANCHOR_END: copy

// ANCHOR: new
/// One setting of a new file system: fsconfig(2).
#[derive(Clone, Copy, Debug)]
pub enum Setting<'a> {
    /// A word alone, such as `noswap`.
    Flag(&'a str),
    /// A key and its value, of at most 255 bytes, such as `mode` and `755`.
    Text(&'a str, &'a str),
    /// A key and an open file.
    Descriptor(&'a str, BorrowedFd<'a>),
}

impl Tree {
    /// A new file system of the kind `kind` (`proc`, `tmpfs`...). Without a setting `source`, that is the
    /// kind too: what the mount table shows where no device is mounted.
    ///
    /// # Errors
    ///
    /// Names the file system, the setting that was refused, and what the kernel says of it; ENODEV where this
    /// kernel does not have the file system.
    pub fn new(kind: &str, settings: &[Setting], attributes: Attributes) -> Result<Tree> {
        Tree::new_at(Level::Info, kind, settings, attributes)
    }

    pub(crate) fn new_at(
        level: Level,
        kind: &str,
        settings: &[Setting],
        attributes: Attributes,
    ) -> Result<Tree> {
        let shown: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let shown = shown.join(",");
        log!(
            target: "syscall",
            level,
            "fsopen({kind:?}), fsconfig({shown}), fsmount({attributes})  a new {kind}, not attached yet"
        );

        let context = filesystem::Context::open(kind)?;
        if !settings.iter().any(|setting| matches!(setting, Setting::Text("source", _))) {
            context.set(Setting::Text("source", kind))?;
        }
        settings.iter().try_for_each(|setting| context.set(*setting))?;
        let mount = context.mount(attributes)?;
        Ok(Tree { mount, name: kind.into(), late: Vec::new(), level })
    }
}
// ANCHOR_END: new

// ANCHOR: change
/// What mount_setattr(2) can change of a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// Attributes to add.
    pub set: Attributes,
    /// Attributes to take away, before the others are added.
    pub clear: Attributes,
    /// The new propagation.
    pub propagation: Option<Propagation>,
    /// A user namespace by whose maps the owners of files are shown (an *id-mapped mount*, Linux 5.12).
    pub id_map: Option<BorrowedFd<'a>>,
}

impl Tree {
    /// Adds `attributes` to this mount, and with `recursive` to those below it.
    ///
    /// # Errors
    ///
    /// As for [`Tree::change`].
    pub fn add(&mut self, attributes: Attributes, recursive: bool) -> Result<()> {
        self.change(Change { set: attributes, ..Change::default() }, recursive)
    }

    /// Changes this mount, and with `recursive` those below it.
    ///
    /// # Errors
    ///
    /// mount_setattr(2)'s errno. On a kernel before 5.12 the change is made when the mount is attached; an id
    /// map is refused there with ENOSYS.
    pub fn change(&mut self, change: Change, recursive: bool) -> Result<()> {
        log!(
            target: "syscall",
            self.level,
            "mount_setattr({:?}, {change})  before anybody can reach it",
            self.name
        );
        match change_mount(self.mount.as_fd(), change, recursive) {
            Err(Errno::ENOSYS) if change.id_map.is_none() => self.late.push(change.late(recursive)),
            result => result.with_context(|| format!("mount_setattr {:?} ({change})", self.name))?,
        }
        Ok(())
    }
}
// ANCHOR_END: change

// ANCHOR: attach
impl Tree {
    /// Attaches the mount on top of `place`, which is open: a directory, or a file where the mount is of a
    /// file. `shown` is the place's path for messages.
    ///
    /// # Errors
    ///
    /// move_mount(2)'s errno.
    pub fn attach(&self, place: impl AsFd, shown: &Path) -> Result<()> {
        log!(target: "syscall", self.level, "move_mount(fd, {shown:?})  attach it");
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        let (mount, place, empty) = (self.mount.as_raw_fd(), place.as_fd().as_raw_fd(), c"".as_ptr());
        // SAFETY: both paths are the same static C string.
        let result = unsafe { libc::syscall(libc::SYS_move_mount, mount, empty, place, empty, flags) };
        Errno::result(result).with_context(|| format!("move_mount {:?} to {shown:?}", self.name))?;
        let mut late = self.late.iter();
        late.try_for_each(|late| late.apply_to(self.mount.as_fd()))
            .with_context(|| format!("the mount {shown:?}"))
    }
}
// ANCHOR_END: attach

impl AsFd for Tree {
    /// The root of the mount: a directory from which openat(2) can start, even before it is attached.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl From<OwnedFd> for Tree {
    /// A mount that another process has prepared and sent here (SCM_RIGHTS, in unix(7)).
    fn from(mount: OwnedFd) -> Tree {
        Tree {
            mount,
            name: "a mount that was prepared elsewhere".into(),
            late: Vec::new(),
            level: Level::Info,
        }
    }
}

impl From<Tree> for OwnedFd {
    fn from(tree: Tree) -> OwnedFd {
        tree.mount
    }
}

// ANCHOR: change_mount
/// Changes the mount whose root is `mount`: mount_setattr(2). Chapter 6 asks with it whether a mount can be changed
/// at all.
///
/// # Errors
///
/// The bare errno. EINVAL: `mount` is no root of a mount, or the mount belongs to no mount namespace, or to another
/// one than the caller's.
pub fn change_mount(mount: BorrowedFd, change: Change, recursive: bool) -> Result<(), Errno> {
    // The kinds of access time are one field of three values, not flags: the field is cleared before one is
    // set.
    let access_time = Attributes::ACCESS_TIME;
    let clear = if change.set.intersects(access_time) { change.clear | access_time } else { change.clear };
    let id_map = if change.id_map.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: change.set.bits() | id_map,
        attr_clr: clear.bits(),
        propagation: change.propagation.map_or(0, |propagation| propagation.flag().0.bits()),
        userns_fd: change.id_map.map_or(0, |namespace| namespace.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (mount, empty, size) = (mount.as_raw_fd(), c"".as_ptr(), size_of::<libc::mount_attr>());
    // SAFETY: the path is a static C string; the structure lives through the call, and its size is told.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount, empty, flags, &raw const attributes, size) };
    Errno::result(result).map(drop)
}
// ANCHOR_END: change_mount

impl Change<'_> {
    /// The same for a kernel that has no mount_setattr(2).
    pub(crate) fn late(self, recursive: bool) -> Late {
        Late { set: self.set, clear: self.clear, propagation: self.propagation, recursive }
    }
}

impl fmt::Display for Change<'_> {
    /// As in `-noexec +ro,nosuid`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut words = Vec::new();
        words.extend((self.clear != Attributes::NONE).then(|| format!("-{}", self.clear)));
        words.extend((self.set != Attributes::NONE).then(|| format!("+{}", self.set)));
        words.extend(self.propagation.map(|propagation| propagation.flag().1.to_string()));
        words.extend(self.id_map.map(|_| "id-mapped".to_string()));
        formatter.write_str(&words.join(" "))
    }
}

pub(crate) fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| anyhow!(Errno::EINVAL).context("a name has a NUL byte in it"))
}

/// Takes the descriptor that a raw system call has returned.
pub(crate) fn descriptor(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let raw = Errno::result(result)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}
