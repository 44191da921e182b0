//! A layer from one union's form to the other's, in place.
//!
//! The layer is looked at first, as a whole, and refused if it holds what can't be converted; then nothing
//! has been touched. Each mark of the new form is complete before the old one goes. So if the conversion is
//! interrupted (a full disk, a kill), doing it again finishes it: a layer may hold both forms, and each mark
//! counts, whichever way it is written. Only the directory that was being converted may then keep the time of
//! the interruption, and the mode that let a plain user write to it.
//!
//! From AuFS's form there and back, a layer is the same to the byte, for its digest counts every byte.
//! Whiteouts keep their owner, mode and times in either form; those of `.wh..wh..opq` are kept in an
//! attribute beside `overlay.opaque`. Lost for good are: what the layer says twice (`.wh.NAME` beside NAME);
//! that a whiteout is a link of another file; the extended attributes of a whiteout; and what overlayfs notes
//! for itself about files that it copied up (`overlay.origin` and others), which means nothing elsewhere. And
//! since a mark counts in either form, a layer in AuFS's form that holds a 0:0 device or an opaque directory
//! of overlayfs's has a whiteout in its place afterwards: [`has_whiteouts`] refuses it.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use log::{debug, info};
use nix::sys::stat::SFlag;
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::Marks;
use super::kept::Kept;
use super::marks::{
    self, Form, Mark, attribute, attributes, hold, is_device, is_empty_file, kind, status, value,
};
use super::walk::{Directory, walk};
use crate::union::attributes::{set_mode, set_times, times};
use crate::union::xattr;
use crate::whiteout::{self, LONGEST_NAME, Name};

// ANCHOR: convert
/// Turns the `.wh.` files of `layer` into overlayfs's marks.
///
/// # Errors
///
/// Names what can't be converted, and then the layer is as it was: a malformed whiteout, one that is no empty
/// file, AuFS's own files (`.wh..wh.plnk`...), an attribute that sends overlayfs to another name for a file's
/// data or a directory's content. Or a system call's errno, with the object.
pub fn to_overlay(layer: &Path, marks: Marks) -> Result<()> {
    info!(target: "syscall", "mknod, setxattr, unlink in {layer:?}  each .wh. file becomes a mark of overlayfs's");
    walk(layer, |directory| check(directory, marks))?;
    walk(layer, |directory| directory.as_it_was(|| directory_to_overlay(directory, marks)))
}

/// Turns overlayfs's marks in `layer` into `.wh.` files.
///
/// # Errors
///
/// As for [`to_overlay`]; and where a deleted name is too long for `.wh.` before it (over 251 bytes).
pub fn to_aufs(layer: &Path, marks: Marks) -> Result<()> {
    info!(target: "syscall", "open, removexattr, unlink in {layer:?}  each mark of overlayfs's becomes a .wh. file");
    walk(layer, |directory| check(directory, marks))?;
    walk(layer, |directory| check_lengths(directory, marks))?;
    walk(layer, |directory| directory.as_it_was(|| directory_to_aufs(directory, marks)))
}
// ANCHOR_END: convert

/// Whether `layer`, in AuFS's form, deletes anything.
///
/// # Errors
///
/// Names what overlayfs would take for a mark of its own, and AuFS does not.
pub(crate) fn has_whiteouts(layer: &Path, marks: Marks) -> Result<bool> {
    let mut found = false;
    walk(layer, |directory| {
        refuse_marks(directory, marks).context("the directory itself")?;
        for (name, object) in &directory.objects {
            found |= !matches!(whiteout::classify(name), Name::Plain(_));
            ensure!(!is_device(object), "{name:?} is a 0:0 device, which overlayfs takes for a whiteout");
            if kind(object) != SFlag::S_IFDIR {
                refuse_marks(hold(directory.as_fd(), name)?, marks).with_context(|| format!("{name:?}"))?;
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn refuse_marks(object: impl AsFd, marks: Marks) -> Result<()> {
    let attributes = attributes(object, marks)?;
    let foreign = attributes.iter().find(|name| !NOTES.iter().any(|note| **name == attribute(marks, note)));
    ensure!(
        foreign.is_none(),
        "it has the attribute {:?}, a mark of overlayfs's",
        foreign.unwrap_or(&c"".into())
    );
    Ok(())
}

/// Where the owner, mode and times of `.wh..wh..opq` are kept, after `trusted.overlay.` or `user.overlay.`:
/// overlayfs neither shows an attribute that begins so in the mount, nor copies it up.
const KEPT: &str = "aufs";
/// The marks of a layer: these and 0:0 devices.
const MARKS: [&str; 3] = ["opaque", "whiteout", KEPT];
/// What overlayfs notes for itself in the upper layer of a mount. With `index=off` it works without.
const NOTES: [&str; 6] = ["impure", "nlink", "origin", "protattr", "upper", "uuid"];

// ANCHOR: check
/// Refuses what can't be converted, in either direction.
fn check(directory: &Directory, marks: Marks) -> Result<()> {
    check_attributes(directory, marks).context("the directory itself")?;
    for (name, object) in &directory.objects {
        match whiteout::classify(name) {
            Name::Plain(_) => {}
            Name::Malformed => bail!("{name:?} is a whiteout of no possible name"),
            Name::Reserved => {
                bail!(
                    "{name:?} belongs to AuFS itself, which is using this branch, or was when the machine stopped"
                )
            }
            Name::Whiteout(_) | Name::Opaque => {
                ensure!(is_empty_file(object), "{name:?} has a whiteout's name and is no empty file");
            }
        }
        check_opaque(directory, name, marks)?;
        // A directory's own are checked when it is visited.
        if kind(object) != SFlag::S_IFDIR {
            check_attributes(&hold(directory.as_fd(), name)?, marks).with_context(|| format!("{name:?}"))?;
        }
    }
    Ok(())
}

/// A directory's `overlay.opaque` is `y` or `x`, which says that files in it are whiteouts: refuses what
/// would set it to `y` where it is `x`.
fn check_opaque(directory: &Directory, name: &OsStr, marks: Marks) -> Result<()> {
    let object = match whiteout::classify(name) {
        Name::Opaque => hold(directory.as_fd(), OsStr::new("."))?,
        Name::Whiteout(hidden) => match status(directory.as_fd(), hidden)? {
            Some(object) if kind(&object) == SFlag::S_IFDIR => hold(directory.as_fd(), hidden)?,
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    let marked_files = value(object, marks, "opaque")?.as_deref() == Some(b"x");
    ensure!(!marked_files, "{name:?} stands beside overlay.opaque=x: one of the two would be lost");
    Ok(())
}

fn check_attributes(object: impl AsFd, marks: Marks) -> Result<()> {
    for name in attributes(object, marks)? {
        let name = name.to_string_lossy();
        let known = |word: &&str| name[marks.prefix().len()..] == **word;
        ensure!(
            MARKS.iter().chain(&NOTES).any(known),
            "the attribute {name:?} says that the content is elsewhere, or belongs to another overlay"
        );
    }
    Ok(())
}

fn check_lengths(directory: &Directory, marks: Marks) -> Result<()> {
    for (name, _) in &directory.objects {
        if let Some(Mark::Whiteout(_)) = marks::read(directory.as_fd(), name, Form::Overlay(marks))? {
            let length = name.len();
            ensure!(
                length <= LONGEST_NAME,
                "{name:?} has {length} bytes: only {LONGEST_NAME} leave room for .wh."
            );
        }
    }
    Ok(())
}
// ANCHOR_END: check

// ANCHOR: to_overlay
/// Whether something was changed.
fn directory_to_overlay(directory: &Directory, marks: Marks) -> Result<bool> {
    let (file, form) = (directory.as_fd(), Form::Overlay(marks));
    let mut changed = false;
    for (name, object) in &directory.objects {
        match marks::read(file, name, Form::Aufs)? {
            None => continue,
            Some(Mark::Whiteout(hidden)) => {
                marks::whiteout(file, &hidden, form)?;
                if status(file, &hidden)?.is_some_and(|object| is_device(&object)) {
                    Kept::of(object).give_to(file, &hidden)?;
                }
            }
            Some(Mark::Opaque) => {
                let (attribute, kept) = (attribute(marks, KEPT), Kept::of(object).to_string());
                xattr::set(file, &attribute, kept.as_bytes(), 0)
                    .with_context(|| format!("set {attribute:?}"))?;
                marks::opaque(file, form)?;
            }
        }
        remove(directory, name)?;
        changed = true;
    }
    Ok(changed)
}
// ANCHOR_END: to_overlay

// ANCHOR: to_aufs
/// Whether something was changed.
fn directory_to_aufs(directory: &Directory, marks: Marks) -> Result<bool> {
    let (file, form) = (directory.as_fd(), Form::Overlay(marks));
    let mut changed = false;
    if marks::is_opaque(file, form)? {
        marks::opaque(file, Form::Aufs)?;
        let kept = value(file, marks, KEPT)?.as_deref().and_then(Kept::parse);
        // What overlayfs itself made opaque has none. Not the time of today: two conversions give the same
        // layer.
        let kept = kept.unwrap_or_else(|| Kept::of_mark_in(&directory.status));
        kept.give_to(file, OsStr::new(whiteout::OPAQUE))?;
        changed = true;
    }
    for (name, object) in &directory.objects {
        if let Some(Mark::Whiteout(hidden)) = marks::read(file, name, form)? {
            marks::whiteout(file, &hidden, Form::Aufs)?;
            Kept::of(object).give_to(file, &whiteout::of(&hidden))?;
            remove(directory, name)?;
            changed = true;
        } else if kind(object) != SFlag::S_IFDIR {
            remove_attributes(hold(file, name)?, marks).with_context(|| format!("{name:?}"))?;
        }
    }
    // Last: as long as something is left to do, the directory still says so.
    remove_attributes(file, marks)?;
    Ok(changed)
}

fn remove_attributes(object: impl AsFd, marks: Marks) -> Result<()> {
    for attribute in attributes(&object, marks)? {
        xattr::remove(&object, &attribute).with_context(|| format!("remove {attribute:?}"))?;
    }
    Ok(())
}
// ANCHOR_END: to_aufs

fn remove(directory: &Directory, name: &OsStr) -> Result<()> {
    debug!(target: "syscall", "unlinkat(fd, {name:?}, 0)  the mark has its new form");
    unlinkat(directory.as_fd(), name, UnlinkatFlags::NoRemoveDir).with_context(|| format!("unlink {name:?}"))
}

impl Directory {
    /// A name that comes or goes sets the directory's time of modification, which is part of the layer. So is
    /// the mode, which may forbid to a plain user what he does here.
    fn as_it_was(&self, change: impl FnOnce() -> Result<bool>) -> Result<()> {
        let mode = self.status.st_mode;
        let closed = mode & 0o300 != 0o300 && !geteuid().is_root();
        if closed {
            set_mode(self, mode | 0o300).context("make the directory writable")?;
        }
        let changed = change();
        if closed {
            set_mode(self, mode).context("set the directory's mode back")?;
        }
        if changed? {
            let (_, modified) = times(&self.status);
            set_times(self, TimeSpec::UTIME_OMIT, modified).context("set the directory's time back")?;
        }
        Ok(())
    }
}
