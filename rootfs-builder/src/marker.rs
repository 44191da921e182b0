//! The marker: a file that says that this tree is whole, ours, and from which source. It is written last.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::Doing;
use crate::{Source, files, tree};

/// Below /etc, so that `ls /` in a lesson shows a plain Unix root.
const PATH: &str = "etc/rootfs-builder";

pub(crate) fn write(root: &Path, source: Source) -> Result<()> {
    files::write_file(&root.join(PATH), format!("source={source}\n").as_bytes(), 0o644)
}

/// The source from which the tree at `root` was built; None if it is not one of ours, or there is none.
pub(crate) fn read(root: &Path) -> Result<Option<Source>> {
    let path = root.join(PATH);
    let text = match fs::read_to_string(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.doing("read", &path)?,
    };
    let source = text.trim_end().strip_prefix("source=").and_then(|word| word.parse().ok());
    source
        .map(Some)
        .with_context(|| format!("{path:?} says {text:?}, which is no source: remove that root file system"))
}

/// Whether /bin/sh leads to a file, as seen by a process for which `root` is /.
pub(crate) fn has_shell(root: &Path) -> Result<bool> {
    match tree::walk(root, Path::new("/bin/sh")) {
        Ok(walk) => Ok(tree::inside(root, &walk.real).is_file()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).doing("look up", &PathBuf::from("/bin/sh")),
    }
}
