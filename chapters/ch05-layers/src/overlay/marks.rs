//! A layer's marks: what is deleted in the layers below.
//!
//! The two unions say the same two things in two ways:
//!
//! | | AuFS, and the OCI's image layers | overlayfs |
//! |---|---|---|
//! | NAME is deleted: a *whiteout* | an empty file `.wh.NAME` | a character device 0:0 called NAME |
//! | nothing below a directory shows: *opaque* | an empty file `.wh..wh..opq` in it | `y` in its `overlay.opaque` |
//!
//! A name can't stand beside its own whiteout in overlayfs's form, and does not need to: a file hides what is
//! below it anyway, and a directory that hides what is below it is an opaque one.
//!
//! Since Linux 6.7 overlayfs knows one more whiteout, for layers that are on an overlay themselves, where a
//! 0:0 device can't be made: an empty file with the attribute `overlay.whiteout`, in a directory whose
//! `overlay.opaque` is `x`. It is read here, and not written.
//!
//! Everything is done by the descriptor of the directory that holds the mark, and no link is followed. So who
//! unpacks an image can use it while the layer is still hostile.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use log::debug;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, makedev, mknodat};

use super::Marks;
use crate::union::xattr;
use crate::whiteout::{self, Name};

// ANCHOR: form
/// In whose form a mark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `.wh.NAME` and `.wh..wh..opq`.
    Aufs,
    /// A device, and an extended attribute.
    Overlay(Marks),
}

/// What an object in a layer says about the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// This name is deleted.
    Whiteout(OsString),
    /// Nothing shows of what lower layers have in the directory that the object is in.
    Opaque,
}
// ANCHOR_END: form

/// The mode of a mark that is a file: nobody can write into it.
pub(super) const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IRGRP).union(Mode::S_IROTH);

// ANCHOR: whiteout
/// Hides `name` of the layers below in `directory`, which is open. A mark that is there already is no error.
/// In overlayfs's form, a directory of that name in the layer itself is made opaque; anything else of that
/// name hides what is below by itself.
///
/// Who then makes something in the place of a 0:0 device removes the device first; a directory is to be made
/// [opaque] then.
///
/// # Errors
///
/// The name is none that a file can have in the union (`.`, `..`, one with a `/`, one that begins with
/// `.wh.`), or is too long for AuFS's form (ENAMETOOLONG, over 251 bytes); or what the kernel refuses, with
/// the name.
pub fn whiteout(directory: BorrowedFd, name: &OsStr, form: Form) -> Result<()> {
    if !is_plain(name) {
        bail!("whiteout of {name:?}: no file of a layer can have this name");
    }
    match form {
        Form::Aufs => make_file(directory, &whiteout::of(name)),
        Form::Overlay(marks) => match status(directory, name)? {
            None => make_device(directory, name),
            Some(object) if kind(&object) == SFlag::S_IFDIR => {
                opaque(hold(directory, name)?.as_fd(), Form::Overlay(marks))
            }
            Some(_) => Ok(()),
        },
    }
}

/// Whether a file of the union can have this name.
fn is_plain(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let is_path = bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/');
    !is_path && matches!(whiteout::classify(name), Name::Plain(_))
}

fn make_device(directory: BorrowedFd, name: &OsStr) -> Result<()> {
    // Any user may make this one device: it leads to no driver (Linux 5.8; before, it took CAP_MKNOD).
    debug!(target: "syscall", "mknodat(fd, {name:?}, S_IFCHR, makedev(0, 0))  a whiteout");
    let made = mknodat(directory, name, SFlag::S_IFCHR, MODE, makedev(0, 0));
    made.with_context(|| format!("mknod {name:?}, a 0:0 device"))
}

fn make_file(directory: BorrowedFd, name: &OsStr) -> Result<()> {
    debug!(target: "syscall", "openat(fd, {name:?}, O_CREAT | O_EXCL)  a mark of AuFS's");
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    match openat(directory, name, flags, MODE) {
        Ok(_) => Ok(()),
        Err(Errno::EEXIST) if status(directory, name)?.is_some_and(|object| is_empty_file(&object)) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("create {name:?}")),
    }
}
// ANCHOR_END: whiteout

// ANCHOR: opaque
/// Hides all that the layers below have in this directory.
///
/// # Errors
///
/// What the kernel refuses: EPERM for `trusted.*` without privileges, EOPNOTSUPP where the file system has no
/// such attributes.
pub fn opaque(directory: BorrowedFd, form: Form) -> Result<()> {
    match form {
        Form::Aufs => make_file(directory, OsStr::new(whiteout::OPAQUE)),
        Form::Overlay(marks) => {
            let attribute = attribute(marks, "opaque");
            debug!(target: "syscall", "setxattr(fd, {attribute:?}, \"y\")  nothing below shows through");
            xattr::set(directory, &attribute, b"y", 0).with_context(|| format!("set {attribute:?}"))
        }
    }
}
// ANCHOR_END: opaque

// ANCHOR: read
/// Whether the directory is marked as opaque.
///
/// # Errors
///
/// The errno of what could not be read.
pub fn is_opaque(directory: BorrowedFd, form: Form) -> Result<bool> {
    Ok(match form {
        Form::Aufs => read(directory, OsStr::new(whiteout::OPAQUE), form)? == Some(Mark::Opaque),
        Form::Overlay(marks) => value(directory, marks, "opaque")?.as_deref() == Some(b"y"),
    })
}

/// What the object `name` in `directory` says of the layers below in this form. (In overlayfs's form a
/// directory says of itself that it is opaque: [`is_opaque`].)
///
/// # Errors
///
/// The errno of what could not be read.
pub fn read(directory: BorrowedFd, name: &OsStr, form: Form) -> Result<Option<Mark>> {
    let Some(object) = status(directory, name)? else { return Ok(None) };
    Ok(match (form, whiteout::classify(name)) {
        (Form::Aufs, Name::Whiteout(hidden)) if is_empty_file(&object) => Some(Mark::Whiteout(hidden.into())),
        (Form::Aufs, Name::Opaque) if is_empty_file(&object) => Some(Mark::Opaque),
        (Form::Aufs, _) => None,
        (Form::Overlay(marks), _) => {
            let deleted = is_device(&object) || is_marked_file(directory, name, &object, marks)?;
            deleted.then(|| Mark::Whiteout(name.into()))
        }
    })
}

/// An empty file with the attribute `overlay.whiteout`, in a directory that says that there are such.
fn is_marked_file(directory: BorrowedFd, name: &OsStr, object: &FileStat, marks: Marks) -> Result<bool> {
    Ok(is_empty_file(object)
        && attributes(hold(directory, name)?, marks)?.contains(&attribute(marks, "whiteout"))
        && value(directory, marks, "opaque")?.as_deref() == Some(b"x"))
}
// ANCHOR_END: read

/// One of overlayfs's attributes of an object that is held, if it has it.
pub(super) fn value(object: impl AsFd, marks: Marks, word: &str) -> Result<Option<Vec<u8>>> {
    let attribute = attribute(marks, word);
    match xattr::get(object, &attribute) {
        // EOPNOTSUPP: the file system has no attributes at all.
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        value => value.map(Some).with_context(|| format!("read {attribute:?}")),
    }
}

/// The names of overlayfs's attributes that an object has. Unlike a value, a name may be read by anybody.
pub(super) fn attributes(object: impl AsFd, marks: Marks) -> Result<Vec<CString>> {
    let names = match xattr::list(object) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names.context("list the extended attributes")?,
    };
    let names = names.split(|byte| *byte == 0).filter(|name| name.starts_with(marks.prefix().as_bytes()));
    Ok(names.map(|name| CString::new(name).expect("no zero byte in it")).collect())
}

pub(super) fn attribute(marks: Marks, word: &str) -> CString {
    CString::new(format!("{}{word}", marks.prefix())).expect("no zero byte in it")
}

/// Takes hold of `name`, whatever it is, without opening its content: there is no driver behind a whiteout.
pub(super) fn hold(directory: BorrowedFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty()).with_context(|| format!("open {name:?}"))
}

/// What fstatat(2) says of `name`, if it is there.
pub(super) fn status(directory: BorrowedFd, name: &OsStr) -> Result<Option<FileStat>> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        status => status.map(Some).with_context(|| format!("stat {name:?}")),
    }
}

pub(super) fn kind(object: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(object.st_mode) & SFlag::S_IFMT
}

pub(super) fn is_empty_file(object: &FileStat) -> bool {
    kind(object) == SFlag::S_IFREG && object.st_size == 0
}

/// The device that is a whiteout.
pub(super) fn is_device(object: &FileStat) -> bool {
    kind(object) == SFlag::S_IFCHR && object.st_rdev == makedev(0, 0)
}
