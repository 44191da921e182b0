//! What a container takes on the disk, layer by layer, and what of it nobody can see.
//!
//! A deletion frees nothing. The file stays in its layer, and the whiteout is one more thing on the disk: so
//! a container *grows* when it deletes. What it hides is paid for by everyone who pulls the image; the remedy
//! is to delete in the layer that made the file.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::diff::lookup;
use super::view::{self, View, directory_below, nothing_at, root_below};
use crate::branch::{Mode, is};
use crate::overlay::{Form, marks};
use crate::whiteout::{self, Name};
use crate::{Branch, Union};

// ANCHOR: types
/// What one branch takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchSize {
    /// Its directory, as it was given.
    pub path: PathBuf,
    /// What may be done to it.
    pub mode: Mode,
    /// Inodes of its own: files, directories (but for the branch's root), whiteouts.
    pub inodes: u64,
    /// Whiteouts and opaque marks.
    pub whiteouts: u64,
    /// Bytes in its files (st_size), of one with several names once.
    pub bytes: u64,
    /// Bytes on the disk, directories too: what `du -s -B1` says when nobody is at work in it.
    pub disk: u64,
    /// Of `bytes`: in files that the union does not show, since branches above delete or replace them.
    pub hidden: u64,
}
// ANCHOR_END: types

// ANCHOR: size
/// What each branch takes, the top one first. The top one's marks are in `form`; all branches below have
/// AuFS's.
///
/// # Errors
///
/// Names what could not be read, or what no layer may have.
pub fn size(union: &Union, form: Form) -> Result<Vec<BranchSize>> {
    let shown = shown(union, form)?;
    let mut sizes = Vec::new();
    for (index, branch) in union.branches().iter().enumerate() {
        let form = if index == 0 { form } else { Form::Aufs };
        let (mut size, inodes) = measure(branch, form)?;
        let is_hidden = |inode: &u64| !shown.contains(&(index, *inode));
        size.hidden = inodes.iter().filter(|(inode, _)| is_hidden(inode)).map(|(_, bytes)| bytes).sum();
        sizes.push(size);
    }
    Ok(sizes)
}

/// What one branch takes by itself; and the inode number and size of each of its files.
fn measure(branch: &Branch, form: Form) -> Result<(BranchSize, HashMap<u64, u64>)> {
    let (path, mode) = (branch.path().to_path_buf(), branch.mode());
    let mut size = BranchSize { path, mode, inodes: 0, whiteouts: 0, bytes: 0, disk: 0, hidden: 0 };
    let mut inodes = HashMap::new();
    let root = branch.find(Path::new(""), OFlag::O_PATH).and_then(fstat);
    size.disk = on_disk(&root.with_context(|| format!("stat {:?}", branch.path()))?);
    let mut directories = vec![PathBuf::new()];
    while let Some(path) = directories.pop() {
        let (directory, objects) = branch.objects(&path)?;
        if let Form::Overlay(_) = form {
            size.whiteouts += u64::from(marks::is_opaque(directory.as_fd(), form)?);
        }
        for (name, object) in objects {
            let is_mark = match form {
                Form::Aufs => match whiteout::classify(&name) {
                    // Work that is not finished: it goes when the container ends.
                    Name::Reserved => continue,
                    class => matches!(class, Name::Whiteout(_) | Name::Opaque),
                },
                Form::Overlay(_) => marks::read(directory.as_fd(), &name, form)?.is_some(),
            };
            size.whiteouts += u64::from(is_mark);
            if is(&object, libc::S_IFDIR) {
                directories.push(path.join(name));
            } else if inodes.insert(object.st_ino, object.st_size as u64).is_some() {
                // Another name of a file that was counted.
                continue;
            } else {
                size.bytes += object.st_size as u64;
            }
            size.inodes += 1;
            size.disk += on_disk(&object);
        }
    }
    Ok((size, inodes))
}

fn on_disk(object: &libc::stat) -> u64 {
    // st_blocks counts in units of 512 bytes, whatever the file system's own are: inode(7).
    object.st_blocks as u64 * 512
}
// ANCHOR_END: size

// ANCHOR: shown
/// The files that the union shows: branch and inode number.
fn shown(union: &Union, form: Form) -> Result<HashSet<(usize, u64)>> {
    let mut shown = HashSet::new();
    // A directory below the top, and whether the top has it too.
    let mut directories = vec![(root_below(union)?, true)];
    while let Some((mut below, is_in_top)) = directories.pop() {
        let top = match is_in_top {
            true => view::read(&union.branches()[0], &below.path, form)?,
            false => View::default(),
        };
        if top.opaque {
            below = nothing_at(&below.path);
        }
        for (name, named) in &top.names {
            let Some(object) = named.object else { continue };
            if !is(&object, libc::S_IFDIR) {
                shown.insert((0, object.st_ino));
            } else if named.whiteout {
                directories.push((nothing_at(&below.child(name)), true));
            } else {
                directories.push((directory_below(union, &below, name)?, true));
            }
        }
        for listed in union.list(&below).with_context(|| format!("list /{}", below.path.display()))? {
            if top.names.contains_key(&listed.name) {
                continue;
            }
            match lookup(union, &below, &listed.name)? {
                Some(entry) if entry.is_directory() => {
                    directories.push((directory_below(union, &below, &listed.name)?, false));
                }
                Some(entry) => drop(shown.insert((entry.branch, entry.status.st_ino))),
                None => (),
            }
        }
    }
    Ok(shown)
}
// ANCHOR_END: shown
