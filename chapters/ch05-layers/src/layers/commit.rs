//! `docker commit`: a container's top branch becomes a read-only layer.
//!
//! That is all there is to it: the branch is copied as it is, whiteouts included, and the copy is put on top
//! of the image. Nothing is merged, and the image is not touched. What the init layer holds is left out:
//! those files were this container's own.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::copy;
use super::diff::{differ, is_of_init, lookup};
use super::partial::Partial;
use super::view::{directory_below, root_below};
use crate::branch::Mode;
use crate::overlay::{Form, convert, marks};
use crate::union::attributes::{set_times, times};
use crate::whiteout::{self, Name};
use crate::{Branch, Union};

// ANCHOR: commit
/// Copies the top branch of `union`, whose marks are in `form`, to `into` as a layer in AuFS's form. `into`
/// must not exist; it appears as a whole.
///
/// # Errors
///
/// Names what could not be copied, or what no layer may have.
pub fn commit(union: &Union, form: Form, into: &Path) -> Result<()> {
    ensure!(fs::symlink_metadata(into).is_err(), "{into:?} exists: name a new directory");
    let parent = match into.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => bail!("{into:?} can't be a layer"),
    };
    let partial = Partial::create(parent)?;
    copy_top(union, form, &partial.content())?;
    partial.install(into)
}

/// Makes the layer at `into`, a new directory.
pub(super) fn copy_top(union: &Union, form: Form, into: &Path) -> Result<()> {
    fs::create_dir(into).with_context(|| format!("mkdir {into:?}"))?;
    let keep = |path: &Path| {
        let Some(name) = path.file_name() else { return Ok(true) };
        Ok(match (form, whiteout::classify(name)) {
            (_, Name::Plain(_)) | (Form::Aufs, Name::Opaque) => !is_of_init(union, path)?,
            // To overlayfs a name like any other; in the new layer it would hide another file.
            (Form::Overlay(_), _) => {
                bail!("{path:?}: in a layer this is AuFS's name for a deleted file; rename it")
            }
            (Form::Aufs, Name::Whiteout(hidden)) => !is_of_init(union, &path.with_file_name(hidden))?,
            // Work that is not finished.
            (Form::Aufs, Name::Reserved) => false,
            (Form::Aufs, Name::Malformed) => bail!("{path:?} is a whiteout of no possible name"),
        })
    };
    let left_out = copy::tree(&union.branches()[0], into, keep)?;
    for directory in left_out.iter().rev() {
        remove_if_needless(union, form, into, directory)?;
    }
    if let Form::Overlay(marks) = form {
        convert::to_aufs(into, marks)?;
    }
    Ok(())
}
// ANCHOR_END: commit

// ANCHOR: needless
/// A directory that came to the top branch only since an init file in it was changed is no change of the
/// image: `/etc` for `/etc/hosts`.
fn remove_if_needless(union: &Union, form: Form, into: &Path, path: &Path) -> Result<()> {
    let top = &union.branches()[0];
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(()) };
    let own =
        top.find(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).with_context(|| format!("open {path:?}"))?;
    if matches!(form, Form::Overlay(_)) && marks::is_opaque(own.as_fd(), form)? {
        return Ok(());
    }
    let mut below = root_below(union)?;
    for component in parent {
        below = directory_below(union, &below, component)?;
    }
    match lookup(union, &below, name)? {
        Some(old) if !differ(union, path, &old, &fstat(&own).context("stat")?)? => (),
        _ => return Ok(()),
    }
    let layer = Branch::open(into, Mode::ReadWrite)?;
    let parent = layer.find(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY).context("open")?;
    let (accessed, modified) = times(&fstat(&parent).context("stat")?);
    match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
        // It has changes of the image too.
        Err(Errno::ENOTEMPTY) => Ok(()),
        result => {
            result.with_context(|| format!("rmdir {path:?}"))?;
            set_times(&parent, accessed, modified).context("set the directory's time back")
        }
    }
}
// ANCHOR_END: needless

/// What may be in a layer that is added: whiteouts, but none of AuFS's own files, nor one that hides no
/// possible name.
pub(super) fn check_name(path: &Path) -> Result<bool> {
    match path.file_name().map(whiteout::classify) {
        Some(Name::Malformed) => bail!("{path:?} is a whiteout of no possible name: no layer may have it"),
        Some(Name::Reserved) => Ok(false),
        _ => Ok(true),
    }
}
