//! A volume: a directory or file of the host's that appears inside.
//!
//! It is a bind mount: no copy, the same files at a second place. What is written there stays when the
//! container is gone.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use crate::late::mount_id;
use crate::resolve::{is_directory, refusal};
use crate::{Attributes, Root, Tree};

// ANCHOR: volume
/// What `--volume SRC:DST[:ro]` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The path on the host.
    pub source: PathBuf,
    /// The absolute path inside. Directories that are missing are made.
    pub target: PathBuf,
    /// Whether it can't be written from inside.
    pub read_only: bool,
}

impl Volume {
    /// Copies the mounts at the source. To be called while the host's paths still lead to the host's files.
    ///
    /// # Errors
    ///
    /// Names the source.
    pub fn take(&self) -> Result<Tree> {
        let mut tree =
            Tree::copy(&self.source, true).with_context(|| format!("the volume {:?}", self.source))?;
        if self.read_only {
            // Recursive, or a mount below the source would stay writable.
            tree.add(Attributes::READ_ONLY, true)?;
        }
        Ok(tree)
    }

    /// Attaches what [`Volume::take`] returned inside `root`.
    ///
    /// # Errors
    ///
    /// Names the target.
    pub fn attach(&self, tree: &Tree, root: &Root) -> Result<()> {
        let place = place_for(tree, root, &self.target)?;
        tree.attach(&place, &self.target)
    }
}
// ANCHOR_END: volume

// ANCHOR: place
/// A directory for a mount of a directory, a file for one of a file.
fn place_for(tree: &Tree, root: &Root, target: &Path) -> Result<std::os::fd::OwnedFd> {
    let place = if is_directory(tree)? { root.directory(target)? } else { root.file(target)? };
    let top = root.find(Path::new("/"), OFlag::O_PATH).map_err(|errno| refusal(errno, Path::new("/")))?;
    let (place_status, top_status) = (fstat(&place)?, fstat(&top)?);
    // It would cover the root, and everything that is mounted in it.
    ensure!(
        (place_status.st_dev, place_status.st_ino) != (top_status.st_dev, top_status.st_ino)
            || mount_id(place.as_fd())? != mount_id(top.as_fd())?,
        "{target:?} leads to the root directory of the container: a volume can't take its place"
    );
    Ok(place)
}
// ANCHOR_END: place

impl FromStr for Volume {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Volume> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts[..] {
            [source, target] | [source, target, "rw"] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            [_, _, option] => bail!("the volume option {option:?} is unknown: it is ro or rw"),
            _ => return Err(anyhow!("a volume is SRC:DST, or SRC:DST:ro")),
        };
        ensure!(!source.is_empty(), "the volume {text:?} has no source");
        ensure!(target.starts_with('/'), "the volume's place inside, {target:?}, must be an absolute path");
        Ok(Volume { source: source.into(), target: target.into(), read_only })
    }
}
