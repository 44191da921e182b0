//! A mount as an object.
//!
//! mount(2) does three things at once: make or find a tree of files, give it attributes, attach it at a path. The newer
//! calls (Linux 5.2) do them one by one, on a file descriptor: a *detached* mount, which no path leads to, is got by
//! open_tree(2) (a copy of an existing mount: a *bind mount*) or by fsopen(2) and fsmount(2) (a new file system);
//! mount_setattr(2) changes it while nobody can see it; move_mount(2) attaches it. So a read-only mount is never
//! writable for an instant, and the place of attachment is a descriptor, which no symbolic link can move.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use log::{Level, log};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use crate::Attributes;
use crate::late::Late;

// ANCHOR: tree
/// A mount that is not attached yet, or just has been.
#[derive(Debug)]
pub struct Tree {
    mount: OwnedFd,
    /// What it is a mount of, for messages.
    name: String,
    /// Attributes that a kernel before 5.12 can set only once the mount is attached.
    late: Option<Late>,
    /// How loudly its steps are narrated: a mask among many is a detail.
    level: Level,
}
// ANCHOR_END: tree

// ANCHOR: copy
impl Tree {
    /// A copy of the mounts at `source`: the same files, to be attached at a second place. With `recursive`, the mounts
    /// below `source` come along.
    ///
    /// # Errors
    ///
    /// Names `source`. EINVAL without `recursive`: in a user namespace, a mount must not be parted from those that the
    /// host's root put on top of it, for they may hide something.
    pub fn copy(source: &Path, recursive: bool) -> Result<Tree> {
        Tree::copy_at(AT_FDCWD, source, recursive, Level::Info)
    }

    /// As [`Tree::copy`], for a path below the directory `directory`; with an empty `source`, of `directory` itself, which
    /// may be any file. `level` says how loudly the steps of this mount are narrated.
    ///
    /// # Errors
    ///
    /// As for [`Tree::copy`].
    pub fn copy_at(directory: BorrowedFd, source: &Path, recursive: bool, level: Level) -> Result<Tree> {
        let name = format!("{}", source.display());
        let (flag, how) = if recursive { (libc::AT_RECURSIVE as u32, " | AT_RECURSIVE") } else { (0, "") };
        log!(target: "syscall", level, "open_tree({source:?}, OPEN_TREE_CLONE{how})  a copy of this mount, not attached yet");
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32 | flag;
        let path = c_string(source.as_os_str().as_encoded_bytes())?;
        // SAFETY: the path is a C string that lives through the call.
        let mount =
            unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), path.as_ptr(), flags) };
        let mount = descriptor(mount).with_context(|| format!("open_tree {source:?}"))?;
        Ok(Tree { mount, name, late: None, level })
    }
}
// ANCHOR_END: copy

// ANCHOR: new
impl Tree {
    /// A new file system of the kind `kind` (`proc`, `tmpfs`...), with `options` such as `("mode", "755")`.
    ///
    /// # Errors
    ///
    /// Names the file system and the option that was refused; ENODEV where this kernel does not have the file system.
    pub fn new(kind: &str, options: &[(&str, &str)], attributes: Attributes) -> Result<Tree> {
        Tree::new_at(Level::Info, kind, options, attributes)
    }

    pub(crate) fn new_at(
        level: Level,
        kind: &str,
        options: &[(&str, &str)],
        attributes: Attributes,
    ) -> Result<Tree> {
        let shown: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        log!(target: "syscall", level, "fsopen({kind:?}), fsconfig({}), fsmount({attributes})  a new {kind}, not attached yet",
            shown.join(","));

        let context = open_filesystem(kind).with_context(|| format!("fsopen {kind:?}"))?;
        for (key, value) in [("source", kind)].iter().chain(options) {
            let option = || format!("fsconfig of the option {key}={value} of {kind:?}");
            configure(&context, libc::FSCONFIG_SET_STRING, key, value).with_context(option)?;
        }
        configure(&context, libc::FSCONFIG_CMD_CREATE, "", "")
            .with_context(|| format!("make the {kind:?}"))?;

        let (context, bits) = (context.as_raw_fd(), attributes.bits() as u32);
        // SAFETY: the call takes numbers only.
        let mount = unsafe { libc::syscall(libc::SYS_fsmount, context, libc::FSMOUNT_CLOEXEC, bits) };
        let mount = descriptor(mount).with_context(|| format!("fsmount {kind:?}"))?;
        Ok(Tree { mount, name: kind.into(), late: None, level })
    }
}
// ANCHOR_END: new

// ANCHOR: attach
impl Tree {
    /// Adds `attributes` to this mount, and with `recursive` to those below it.
    ///
    /// # Errors
    ///
    /// mount_setattr(2)'s errno. On a kernel before 5.12 the mounts get them when they are attached.
    pub fn add(&mut self, attributes: Attributes, recursive: bool) -> Result<()> {
        log!(target: "syscall", self.level, "mount_setattr({:?}, +{attributes})  before anybody can reach it", self.name);
        match add_attributes(self.mount.as_fd(), attributes, recursive) {
            Err(Errno::ENOSYS) => self.late = Some(Late { attributes, recursive }),
            result => result.with_context(|| format!("mount_setattr {:?} (+{attributes})", self.name))?,
        }
        Ok(())
    }

    /// Attaches the mount on top of `place`, which is open: a directory, or a file where the mount is of a file.
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
        match &self.late {
            None => Ok(()),
            Some(late) => late.add_to(self.mount.as_fd()).with_context(|| format!("the mount {shown:?}")),
        }
    }
}
// ANCHOR_END: attach

impl AsFd for Tree {
    /// The root of the mount: a directory from which openat(2) can start, even before it is attached.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl From<Tree> for OwnedFd {
    fn from(tree: Tree) -> OwnedFd {
        tree.mount
    }
}

// ANCHOR: add_attributes
/// Adds `attributes` to the mount whose root is `mount`: mount_setattr(2).
pub(crate) fn add_attributes(
    mount: BorrowedFd,
    attributes: Attributes,
    recursive: bool,
) -> Result<(), Errno> {
    // The kinds of access time are one field of three values, not flags: the field is cleared first.
    let access_time = Attributes::NO_ATIME | Attributes::STRICT_ATIME;
    let clear = if attributes.bits() & access_time.bits() != 0 { libc::MOUNT_ATTR__ATIME } else { 0 };
    let change =
        libc::mount_attr { attr_set: attributes.bits(), attr_clr: clear, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (mount, empty, size) = (mount.as_raw_fd(), c"".as_ptr(), size_of::<libc::mount_attr>());
    // SAFETY: the path is a static C string; the structure lives through the call, and its size is told.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount, empty, flags, &raw const change, size) };
    Errno::result(result).map(drop)
}
// ANCHOR_END: add_attributes

fn open_filesystem(kind: &str) -> Result<OwnedFd> {
    let kind = c_string(kind.as_bytes())?;
    // SAFETY: the name is a C string that lives through the call.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

fn configure(context: &OwnedFd, command: libc::fsconfig_command, key: &str, value: &str) -> Result<()> {
    let (key, value) = (c_string(key.as_bytes())?, c_string(value.as_bytes())?);
    let is_option = command == libc::FSCONFIG_SET_STRING;
    let pointer = |text: &CString| if is_option { text.as_ptr() } else { std::ptr::null() };
    let (context, key, value) = (context.as_raw_fd(), pointer(&key), pointer(&value));
    // SAFETY: both pointers are null or C strings that live through the call.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context, command, key, value, 0) };
    Errno::result(result)?;
    Ok(())
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| anyhow!(Errno::EINVAL).context("a name has a NUL byte in it"))
}

/// Takes the descriptor that a raw system call has returned.
fn descriptor(result: libc::c_long) -> Result<OwnedFd> {
    let raw = Errno::result(result)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}
