//! The store on the disk: Docker's aufs driver's form.
//!
//! ```text
//! STORE/
//!   layers.lock           who holds it changes the store; and: this directory is a store
//!   diff/ID/              what the layer itself holds
//!   layers/ID             the layers that it stands on, one a line, the top one first
//!   mnt/ID/               where a container is mounted
//!   trusted.overlay/ID/   of a container for overlayfs: work/.
//!                         Of a layer of an image: diff/, with overlayfs's marks, if it has whiteouts
//!   user.overlay/ID/      the same, for mounts without root
//! ```
//!
//! A layer exists if `layers/ID` does: that file is written last and removed first. So whatever a killed
//! process leaves is either a whole layer or directories without that file, which the next [`Store::open`]
//! sweeps. What takes long (a copy) is made under a temporary name, `.partial-layer-*`, locked by who makes
//! it, without the store's lock.
//!
//! That holds for killed processes, not for a machine that loses its power: as in Docker's driver, nothing
//! waits until a layer is on the disk, since syncfs(2) would wait for what all others have written too. Files
//! of what was made in the last half minute may be empty then: remove it and make it again.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use log::debug;
use nix::sys::stat::fstat;
use nix::unistd::geteuid;

use super::id;
use super::partial::{self, inherit_nothing, is_partial};
use crate::lock;
use crate::overlay::Marks;
use crate::temporary::{remove_tree, sweep};
use crate::union::attributes::set_mode;

/// The directories of a store.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// The store's lock: as long as it lives, nobody else adds, removes or sweeps.
pub(super) struct Alone {
    _lock: File,
}

// ANCHOR: open
impl Store {
    /// Opens the store at `root`, or makes one in an empty or new directory; sweeps it.
    pub(super) fn open(root: &Path) -> Result<Store> {
        // Layers hold set-user-ID programs with old bugs: nobody else is to reach them here.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("mkdir {root:?}"))?;
        let root = root.canonicalize().with_context(|| format!("realpath {root:?}"))?;
        let store = Store { root };
        store.keep_others_out()?;
        // A sweep removes what has no name here: it must never come upon a directory of another kind.
        let is_store = || store.root.join("layers.lock").exists();
        ensure!(
            is_store() || entries(&store.root)?.is_empty() || is_store(),
            "{:?} is no store of layers, and not empty: name a new directory",
            store.root
        );
        let _alone = store.lock()?;
        for directory in ["diff", "layers", "mnt"] {
            make_directory(&store.root.join(directory))?;
        }
        for marks in [Marks::Trusted, Marks::User] {
            make_directory(&store.of_overlay(marks))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Whoever may write to the store could put a link in the place of a directory that a sweep empties.
    fn keep_others_out(&self) -> Result<()> {
        let Store { root } = self;
        let directory = File::open(root).with_context(|| format!("open {root:?}"))?;
        let status = fstat(&directory).with_context(|| format!("stat {root:?}"))?;
        let user = geteuid();
        ensure!(
            status.st_uid == user.as_raw(),
            "{root:?} belongs to user {}, and this is user {user}: who owns a store can make it lead anywhere",
            status.st_uid
        );
        ensure!(
            status.st_mode & 0o022 == 0,
            "others may write to {root:?} (mode {:o}), and could make it lead anywhere: `chmod 700` it, if all in \
             it is yours",
            status.st_mode & 0o7777
        );
        // The directory may have been there before.
        set_mode(&directory, 0o700).with_context(|| format!("chmod {root:?}"))?;
        inherit_nothing(&directory).with_context(|| format!("removexattr {root:?}"))
    }

    /// Waits for the store's lock.
    pub(super) fn lock(&self) -> Result<Alone> {
        Ok(Alone { _lock: lock::alone(&self.root.join("layers.lock"))? })
    }
}
// ANCHOR_END: open

// ANCHOR: sweep
impl Store {
    /// Removes what killed processes left. The caller holds the lock, so nothing but a `.partial-layer-*` is
    /// being made.
    fn sweep(&self) -> Result<()> {
        for name in entries(&self.root.join("layers"))? {
            // A container's record is written after that of its init layer, and removed before it.
            let lone = match id::container_of(&name) {
                Some(container) => !self.exists(container)?,
                None => false,
            };
            if lone || is_temporary(&name) {
                remove_file(&self.root.join("layers").join(&name))?;
            }
        }
        for directory in self.places() {
            sweep(&directory, partial::PREFIX)?;
            for name in entries(&directory)? {
                if !is_partial(name.as_ref()) && !self.exists(&name)? {
                    remove_tree(&directory.join(&name))?;
                }
            }
        }
        for name in entries(&self.root.join("mnt"))? {
            if !self.exists(&name)? {
                self.remove_mountpoint(&name)?;
            }
        }
        Ok(())
    }

    /// The directories that hold content.
    fn places(&self) -> [PathBuf; 3] {
        [self.root.join("diff"), self.of_overlay(Marks::Trusted), self.of_overlay(Marks::User)]
    }
}
// ANCHOR_END: sweep

// ANCHOR: records
impl Store {
    /// Whether layer or container `id` is there, whole.
    pub(super) fn exists(&self, id: &str) -> Result<bool> {
        exists(&self.record(id))
    }

    /// The layers that `id` stands on, the top one first.
    pub(super) fn parents(&self, id: &str) -> Result<Vec<String>> {
        let path = self.record(id);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("no layer or container {id:?} in {:?}", self.root)
            }
            text => text.with_context(|| format!("read {path:?}"))?,
        };
        let parents: Vec<String> = text.lines().map(String::from).collect();
        for parent in &parents {
            id::check(id::container_of(parent).unwrap_or(parent))
                .with_context(|| format!("a line of {path:?}"))?;
        }
        Ok(parents)
    }

    /// Writes the record of `id`: from here on it exists. The caller holds the lock.
    pub(super) fn write_parents(&self, id: &str, parents: &[String]) -> Result<()> {
        let temporary = self.root.join("layers").join(format!(".{id}"));
        let text: String = parents.iter().map(|parent| format!("{parent}\n")).collect();
        let write = || File::create(&temporary)?.write_all(text.as_bytes());
        write().with_context(|| format!("write {temporary:?}"))?;
        fs::rename(&temporary, self.record(id)).with_context(|| format!("rename {temporary:?}"))
    }

    /// Removes the record of `id`, and then its directories. The caller holds the lock.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        remove_file(&self.record(id))?;
        self.clear(id)
    }

    /// Removes the content that a failed attempt at making `id` has left. The caller holds the lock.
    pub(super) fn clear(&self, id: &str) -> Result<()> {
        for place in self.places() {
            remove_tree(&place.join(id))?;
        }
        Ok(())
    }

    /// All names that have a record, init layers too, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names = entries(&self.root.join("layers"))?;
        names.retain(|name| !is_temporary(name));
        names.sort_unstable();
        Ok(names)
    }

    /// The file that says that `id` exists; who uses `id` holds a lock on it.
    pub(super) fn record(&self, id: &str) -> PathBuf {
        self.root.join("layers").join(id)
    }
}
// ANCHOR_END: records

// ANCHOR: places
impl Store {
    /// What all layers hold.
    pub(super) fn diffs(&self) -> PathBuf {
        self.root.join("diff")
    }

    /// What the layer itself holds.
    pub(super) fn diff(&self, id: &str) -> PathBuf {
        self.root.join("diff").join(id)
    }

    /// Where the container is mounted.
    pub(super) fn mountpoint(&self, id: &str) -> PathBuf {
        self.root.join("mnt").join(id)
    }

    /// The layer with overlayfs's marks, where its own form is AuFS's.
    pub(super) fn converted(&self, id: &str, marks: Marks) -> PathBuf {
        self.of_overlay(marks).join(id).join("diff")
    }

    /// A container's work directory: overlayfs makes there what it then renames into the upper layer.
    pub(super) fn work(&self, id: &str, marks: Marks) -> PathBuf {
        self.of_overlay(marks).join(id).join("work")
    }

    /// What is kept for overlayfs's mounts.
    pub(super) fn of_overlay(&self, marks: Marks) -> PathBuf {
        self.root.join(marks.prefix().trim_end_matches('.'))
    }

    /// Removes the directory that a container was mounted at.
    pub(super) fn remove_mountpoint(&self, id: &str) -> Result<()> {
        let path = self.mountpoint(id);
        // Never what is in it: were it still mounted, those would be the container's files.
        match fs::remove_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                Err(error).with_context(|| format!("rmdir {path:?}: it is still mounted, `umount` it first"))
            }
            result => result.with_context(|| format!("rmdir {path:?}")),
        }
    }
}
// ANCHOR_END: places

/// mkdir(2) with mode 0755, whatever the umask is; there already: as it is.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    debug!(target: "syscall", "mkdir({path:?}, 0755)");
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        result => result.with_context(|| format!("mkdir {path:?}"))?,
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path, mode).with_context(|| format!("chmod {path:?}"))
}

/// Whether something is at `path`. What can't be looked at is an error: a sweep would take it for gone.
pub(super) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().with_context(|| format!("stat {path:?}"))
}

/// A record that is being written: no layer's name begins with a dot.
fn is_temporary(name: &str) -> bool {
    name.starts_with('.')
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("unlink {path:?}")),
    }
}

fn entries(directory: &Path) -> Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<String>> {
        // A name that is no UTF-8 is none of ours; it has no record under this one either.
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    read().with_context(|| format!("read the directory {directory:?}"))
}
