//! What one branch itself says of a directory: names, whiteouts included.
//!
//! [`Union::list`](crate::Union::list) shows what remains of a stack. Here it is the other way round: what
//! did the top branch do to the stack?

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::branch::is;
use crate::overlay::Form;
use crate::overlay::marks::{self, Mark};
use crate::union::xattr;
use crate::whiteout::{self, Name};
use crate::{Branch, Directory, Union};

// ANCHOR: view
/// A directory of one branch.
#[derive(Default)]
pub(super) struct View {
    /// Nothing of the same directory in lower branches shows.
    pub(super) opaque: bool,
    /// In order.
    pub(super) names: BTreeMap<OsString, Named>,
}

/// What a branch says of a name: an object, a whiteout, or both.
#[derive(Clone, Copy, Default)]
pub(super) struct Named {
    /// The object, where the branch has one.
    pub(super) object: Option<libc::stat>,
    /// What is below is hidden, whether the branch has an object or not.
    pub(super) whiteout: bool,
}

/// Reads the directory `path` of `branch`, whose marks are in `form`.
///
/// # Errors
///
/// Names what no layer may have: a malformed whiteout, or one that is no regular file.
pub(super) fn read(branch: &Branch, path: &Path, form: Form) -> Result<View> {
    let (directory, objects) = branch.objects(path)?;
    let place = |name: &OsStr| branch.path().join(path).join(name);
    let mut view = View::default();
    if let Form::Overlay(_) = form {
        view.opaque = marks::is_opaque(directory.as_fd(), form)?;
    }
    for (name, object) in objects {
        match (form, whiteout::classify(&name)) {
            (Form::Overlay(_), _) => match marks::read(directory.as_fd(), &name, form)? {
                Some(Mark::Whiteout(name)) => view.names.entry(name).or_default().whiteout = true,
                _ => view.names.entry(name).or_default().object = Some(object),
            },
            (Form::Aufs, Name::Plain(_)) => view.names.entry(name).or_default().object = Some(object),
            // AuFS's own work, never shown.
            (Form::Aufs, Name::Reserved) => (),
            (Form::Aufs, Name::Malformed) => bail!("{:?} is a whiteout of no possible name", place(&name)),
            (Form::Aufs, mark) => {
                ensure!(
                    is(&object, libc::S_IFREG),
                    "{:?} has a whiteout's name and is no regular file",
                    place(&name)
                );
                match mark {
                    Name::Whiteout(hidden) => view.names.entry(hidden.into()).or_default().whiteout = true,
                    _ => view.opaque = true,
                }
            }
        }
    }
    Ok(view)
}
// ANCHOR_END: view

/// The extended attributes of an object that is held, but for SELinux's label: the policy chooses that for
/// each place.
pub(super) fn attributes(object: impl AsFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let mut attributes = xattr::all(object, |name| name != c"security.selinux")?;
    attributes.sort();
    Ok(attributes)
}

// ANCHOR: below
/// The root directory of what is below the top branch.
pub(super) fn root_below(union: &Union) -> Result<Directory> {
    let mut root = nothing_at(Path::new(""));
    for (index, branch) in union.branches().iter().enumerate().skip(1) {
        root.branches.push(index);
        match union.open(index, Path::new(whiteout::OPAQUE), OFlag::O_PATH) {
            Ok(_) => break,
            Err(Errno::ENOENT) => (),
            Err(errno) => {
                Err(errno).with_context(|| format!("open {:?}", branch.path().join(whiteout::OPAQUE)))?
            }
        }
    }
    Ok(root)
}

/// The directory `name` of what is below; an empty one, where there is none.
pub(super) fn directory_below(union: &Union, below: &Directory, name: &OsStr) -> Result<Directory> {
    match union.enter(below, name) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(nothing_at(&below.child(name))),
        entered => entered.with_context(|| format!("look up /{}", below.child(name).display())),
    }
}

/// A directory that no branch has.
pub(super) fn nothing_at(path: &Path) -> Directory {
    Directory { path: path.into(), branches: Vec::new() }
}
// ANCHOR_END: below
