//! A container: two layers of its own on those of an image.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use log::warn;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::store::make_directory;
use super::{Layers, id, init};
use crate::branch::Mode;
use crate::lock;
use crate::overlay::{Form, Marks};
use crate::union::attributes::{set_mode, set_owner};
use crate::{Branch, Union};

// ANCHOR: container
/// A container is in use as long as this lives, also in a child that was forked meanwhile: it can't be
/// removed.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

impl Layers {
    /// Makes container `id` on top of layer `image`: an init layer, `ID-init`, an empty read-write layer, and
    /// a mount point. `form`: who will make one tree of them, since the marks in the read-write layer are
    /// his.
    ///
    /// # Errors
    ///
    /// `id` is no name for a container, or taken; there is no layer `image`; what could not be made.
    pub fn container(&self, id: &str, image: &str, form: Form) -> Result<()> {
        id::check(id)?;
        self.check_free(id)?;
        if let Form::Overlay(marks) = form {
            for layer in self.stack_on(image)? {
                self.convert(&layer, marks)?;
            }
        }
        let _alone = self.store.lock()?;
        let image = self.stack_on(image)?;
        self.check_free(id)?;
        let init = id::init(id);
        let undo = || {
            self.store.remove_mountpoint(id)?;
            [id, &init].iter().try_for_each(|id| self.store.remove(id))
        };
        undo()?;
        self.make_container(id, &init, &image, form).inspect_err(|_| {
            if let Err(error) = undo() {
                warn!("{error:#}; the next who opens the store removes it");
            }
        })
    }

    fn make_container(&self, id: &str, init: &str, image: &[String], form: Form) -> Result<()> {
        let top = Branch::open(&self.store.diff(&image[0]), Mode::ReadOnly)?;
        for layer in [init, id] {
            make_directory(&self.store.diff(layer))?;
            // The union's root has the mode and the owner of the top branch's.
            let layer = Branch::open(&self.store.diff(layer), Mode::ReadWrite)?;
            give_root(&top, &layer).with_context(|| format!("set owner and mode of {:?}", layer.path()))?;
        }
        let mut branches = vec![Branch::open(&self.store.diff(init), Mode::ReadWrite)?];
        for layer in image {
            branches.push(Branch::open(&self.store.diff(layer), Mode::ReadOnly)?);
        }
        init::setup(&Union::new(branches)?)?;
        make_directory(&self.store.mountpoint(id))?;
        let mut parents = vec![init.to_string()];
        parents.extend_from_slice(image);
        if let Form::Overlay(marks) = form {
            self.store.prepare_overlay(id, &parents, marks)?;
        }
        self.store.write_parents(init, image)?;
        self.store.write_parents(id, &parents)
    }

    /// Prepares a layer of an image for overlayfs, which may take long: without the store's lock.
    fn convert(&self, layer: &str, marks: Marks) -> Result<()> {
        if self.store.is_prepared(layer, marks)? {
            return Ok(());
        }
        let _in_use = self.hold(layer)?;
        let prepared = self.store.prepare(layer, marks)?;
        let _alone = self.store.lock()?;
        // Another may have been faster.
        if self.store.is_prepared(layer, marks)? {
            return Ok(());
        }
        self.store.install_prepared(layer, marks, prepared)
    }

    /// Marks a container (or an image's layer) as in use, until the value is dropped.
    ///
    /// # Errors
    ///
    /// There is none, or it is being removed.
    pub fn hold(&self, id: &str) -> Result<Hold> {
        id::check(id)?;
        self.store.parents(id)?;
        let lock = lock::shared(&self.store.record(id))?;
        Ok(Hold { _lock: lock.with_context(|| format!("{id:?} is being removed"))? })
    }

    /// Removes a container with its init layer, or a layer of an image.
    ///
    /// # Errors
    ///
    /// Another layer or a container stands on it, or it is in use ([`Layers::hold`]), or still mounted. (In
    /// this mount namespace: rmdir(2) takes a mount away that only others see. So who mounts a container
    /// holds it.)
    pub fn remove(&self, id: &str) -> Result<()> {
        id::check(id)?;
        let _alone = self.store.lock()?;
        let parents = self.store.parents(id)?;
        for other in self.store.names()? {
            if self.store.parents(&other)?.iter().any(|parent| parent == id) {
                bail!("layer {id:?} is in use: {other:?} stands on it");
            }
        }
        let lock = lock::alone_if_free(&self.store.record(id))?;
        let _lock = lock.with_context(|| format!("{id:?} is in use by a running process"))?;
        self.store.remove_mountpoint(id)?;
        self.store.remove(id)?;
        match parents.first() {
            Some(init) if id::is_init(init) => self.store.remove(init),
            _ => Ok(()),
        }
    }
}

fn give_root(from: &Branch, to: &Branch) -> Result<()> {
    let root = Path::new("");
    let status = fstat(from.find(root, OFlag::O_PATH)?)?;
    let to = to.find(root, OFlag::O_PATH)?;
    let made = fstat(&to)?;
    if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid) {
        set_owner(&to, Some(status.st_uid), Some(status.st_gid))?;
    }
    Ok(set_mode(&to, status.st_mode)?)
}
// ANCHOR_END: container
