//! Resolves a path as a process would for which some directory is `/`: path_resolution(7), a component at a
//! time.
//!
//! The kernel can do it too (openat2(2) with RESOLVE_IN_ROOT), but tells only where a path ends. Here each
//! symbolic link on the way counts: a copy must have the same ones. Where /bin is a link to usr/bin,
//! /bin/sh is found in the copy only if that link is copied along with /usr/bin/dash.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use nix::errno::Errno;

use crate::error::Doing;

/// Where a path leads. All paths are absolute, and as seen inside the root.
pub(crate) struct Walk {
    /// The symbolic links that were followed, in order: where each one is (no link is left in that path),
    /// and its text.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// What the path leads to in the end, by a path without symbolic links.
    pub(crate) real: PathBuf,
}

/// As many links as the kernel follows before it answers ELOOP.
const MAXIMUM_LINKS: usize = 40;

/// Resolves the absolute `path` inside `root`.
pub(crate) fn walk(root: &Path, path: &Path) -> io::Result<Walk> {
    let mut walk = Walk { links: Vec::new(), real: PathBuf::from("/") };
    let mut rest = names(path);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            walk.real.pop();
            continue;
        }
        let next = walk.real.join(name);
        match fs::read_link(inside(root, &next)) {
            Ok(target) => {
                if walk.links.len() == MAXIMUM_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                if target.is_absolute() {
                    walk.real = PathBuf::from("/");
                }
                let mut names = names(&target);
                names.append(&mut rest);
                rest = names;
                walk.links.push((next, target));
            }
            // readlink(2): the file is no symbolic link.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => walk.real = next,
            Err(error) => return Err(error),
        }
    }
    Ok(walk)
}

/// The path, seen from outside, of what is `path` inside.
pub(crate) fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The names in a path; `..` stays, since what it means depends on the links before it.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

/// The room on disk that a tree takes, in bytes; directories that may not be read count as empty.
pub(crate) fn size(directory: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(directory).doing("stat", directory)?;
    // st_blocks counts 512 bytes, whatever the file system's own blocks are: stat(3type).
    let mut size = metadata.blocks() * 512;
    if metadata.is_dir() {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(size),
            other => other.doing("read the directory", directory)?,
        };
        for entry in entries {
            size += self::size(&entry.doing("read the directory", directory)?.path())?;
        }
    }
    Ok(size)
}
