//! Where the default root file systems live.
//!
//! First `rootfs/` in cargo's target directory, so that `cargo clean` removes it; that directory is found
//! by the file CACHEDIR.TAG which cargo puts there. Where it can't be written (another user ran the build)
//! or does not exist (an installed program), the user's cache directory: $XDG_CACHE_HOME, else ~/.cache.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::error::{Doing, errno};
use crate::{Source, marker, tree};

/// A finished root file system in the default place.
#[derive(Debug)]
pub struct Finished {
    /// Where its programs come from.
    pub source: Source,
    /// Its absolute path.
    pub directory: PathBuf,
    /// The room it takes on disk, in bytes, without what the caller may not read.
    pub size: u64,
}

/// The finished root file systems in the default places.
///
/// # Errors
///
/// A [`crate::SystemCallError`] when one of them can't be read.
pub fn list() -> Result<Vec<Finished>> {
    let mut found = Vec::new();
    for directory in bases()?.iter().flat_map(|base| Source::REAL.map(|source| base.join(source.name()))) {
        if let Some(source) = source_at(&directory)? {
            let size = tree::size(&directory)?;
            found.push(Finished { source, directory, size });
        }
    }
    Ok(found)
}

/// The finished root file system from `source`, if there is one in a default place.
pub(crate) fn finished(source: Source) -> Result<Option<PathBuf>> {
    for directory in bases()?.iter().map(|base| base.join(source.name())) {
        if source_at(&directory)?.is_some() {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

/// The path for the root file system from `source`: where a finished one is, else where one can be made.
pub(crate) fn create(source: Source) -> Result<PathBuf> {
    if let Some(directory) = finished(source)? {
        return Ok(directory);
    }
    let bases = bases()?;
    let base = bases.iter().find(|base| can_be_written(base)).with_context(|| {
        format!("none of {bases:?} can be written: set XDG_CACHE_HOME to a directory of yours")
    })?;
    fs::create_dir_all(base).doing("mkdir", base)?;
    Ok(base.join(source.name()))
}

/// As [`marker::read`], but a place that may not be entered is no place of ours: $HOME may still be another
/// user's.
fn source_at(directory: &Path) -> Result<Option<Source>> {
    match marker::read(directory) {
        Err(error) if errno(&error) == Some(Errno::EACCES) => Ok(None),
        other => other,
    }
}

/// The directories that may hold root file systems, the preferred one first.
fn bases() -> Result<Vec<PathBuf>> {
    let program = own_path().context("readlink /proc/self/exe")?;
    let target = program.ancestors().skip(1).find(|directory| is_made_by_cargo(directory));
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let target = target.map(|directory| directory.join("rootfs"));
    Ok(target.into_iter().chain(cache.map(|directory| directory.join("hull/rootfs"))).collect())
}

/// Where this program lies. One that runs from a copy of itself, which is no file in any directory, still has the
/// name that it was called by.
fn own_path() -> std::io::Result<PathBuf> {
    let path = env::current_exe()?;
    let called = env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
    Ok(match called {
        Some(name) if !path.is_file() => name.canonicalize().unwrap_or(path),
        _ => path,
    })
}

/// Other programs tag their caches with the same file, but say so in its comment.
fn is_made_by_cargo(directory: &Path) -> bool {
    fs::read_to_string(directory.join("CACHEDIR.TAG")).is_ok_and(|text| text.contains("created by cargo"))
}

/// Whether the nearest ancestor that exists can be written.
fn can_be_written(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|directory| access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok())
}

/// The variable's value as a path. The XDG Base Directory Specification says to ignore one that is not
/// absolute.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .as_deref()
        .map(OsStr::as_ref)
        .filter(|path: &&Path| path.is_absolute())
        .map(Path::to_owned)
}
