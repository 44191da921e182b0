//! Docker's three kinds of layers, and what can be said of them.
//!
//! A container's root file system is a union of:
//!
//! | layer | how many | who writes to it |
//! |---|---|---|
//! | read-write | one for each container | the container |
//! | init | one for each container | Docker, once: `/etc/hosts` and its like |
//! | read-only, the image | shared by all containers of the image | nobody |
//!
//! - [`Layers`]: the store that holds them. `store`: its form on the disk; `partial`: a layer in the making.
//! - `container`: a container's own two layers. `init`: what is in an init layer.
//! - [`diff`]: what a container has changed. [`commit`]: its read-write layer becomes part of a new image.
//! - [`size`]: what each layer takes, and what nobody can see of it.
//! - `for_overlayfs`: layers in the form that the kernel's union needs.
//! - `view`: what one branch says by itself. `copy`: a copy that differs in nothing.
//!
//! `diff`, `commit` and `size` need no store: they take any [`Union`].

mod commit;
mod container;
mod copy;
mod diff;
mod for_overlayfs;
mod id;
mod init;
mod partial;
mod size;
mod store;
mod view;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::branch::{Given, Mode};
use crate::overlay::Form;
use crate::{Branch, Union};

pub use commit::commit;
pub use container::Hold;
pub use diff::{Change, Kind, diff};
pub use for_overlayfs::OverlayDirectories;
pub use size::{BranchSize, size};

use partial::Partial;
use store::{Store, make_directory};

// ANCHOR: layers
/// A store of layers: images, and the containers on them. Several processes may use one at the same time.
#[derive(Debug)]
pub struct Layers {
    store: Store,
}

impl Layers {
    /// Opens the store at `root`, or makes one there, in a new or empty directory, which others can't enter.
    /// Removes what killed processes left.
    ///
    /// # Errors
    ///
    /// `root` is neither a store nor empty; it is another user's, or others may write to it; or what could
    /// not be made, read or removed.
    pub fn open(root: &Path) -> Result<Layers> {
        Ok(Layers { store: Store::open(root)? })
    }

    /// Adds layer `id` on top of layer `parent` (without one, it is the lowest of an image): a copy of the
    /// tree at `content`, in AuFS's form.
    ///
    /// # Errors
    ///
    /// As for [`Layers::add_with`]; and what could not be copied, or what no layer may have.
    pub fn add(&self, id: &str, parent: Option<&str>, content: &Path) -> Result<()> {
        let content = Branch::open(content, Mode::ReadOnly)?;
        self.add_with(id, parent, |layer| copy::tree(&content, layer, commit::check_name).map(drop))
    }

    /// Adds layer `id`, whose content `fill` writes into the empty directory that it is given: from an
    /// archive, or a program. Only when it is done, the layer exists.
    ///
    /// # Errors
    ///
    /// `id` is no name for a layer, or taken; there is no layer `parent`; `fill` failed.
    pub fn add_with(
        &self,
        id: &str,
        parent: Option<&str>,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        id::check(id)?;
        let parents = self.parents_on(parent)?;
        self.check_free(id)?;
        let partial = Partial::create(&self.store.diffs())?;
        make_directory(&partial.content())?;
        fill(&partial.content()).with_context(|| format!("layer {id:?}"))?;
        self.publish(id, &parents, partial)
    }

    /// The layers of an image, the top one first.
    fn stack_on(&self, image: &str) -> Result<Vec<String>> {
        id::check(image)?;
        let mut layers = vec![image.to_string()];
        layers.extend(self.store.parents(image)?);
        ensure!(
            !layers.iter().any(|layer| id::is_init(layer)),
            "{image:?} is a container: commit it, and use that layer"
        );
        Ok(layers)
    }

    fn parents_on(&self, parent: Option<&str>) -> Result<Vec<String>> {
        parent.map_or(Ok(Vec::new()), |parent| self.stack_on(parent))
    }

    fn check_free(&self, id: &str) -> Result<()> {
        ensure!(!self.store.exists(id)?, "{id:?} exists: use another name, or remove it");
        Ok(())
    }

    /// The second half of making a layer: it appears. What took long has been done without the lock.
    fn publish(&self, id: &str, parents: &[String], partial: Partial) -> Result<()> {
        let _alone = self.store.lock()?;
        self.check_free(id)?;
        let parent = parents.first().map(String::as_str);
        let unchanged = self.parents_on(parent).with_context(|| format!("layer {id:?}"))? == parents;
        ensure!(unchanged, "layer {parent:?} was removed meanwhile, and made again on others");
        self.store.clear(id)?;
        partial.install(&self.store.diff(id))?;
        self.store.write_parents(id, parents)
    }
}
// ANCHOR_END: layers

// ANCHOR: questions
impl Layers {
    /// All layers and containers, sorted; init layers are not listed.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut names = self.store.names()?;
        names.retain(|name| !id::is_init(name));
        Ok(names)
    }

    /// The branches of a container (rw, init, ro...) or of an image (ro...), the top one first.
    ///
    /// # Errors
    ///
    /// There is no container or layer `id`.
    pub fn branches(&self, id: &str) -> Result<Vec<Given>> {
        id::check(id)?;
        let parents = self.store.parents(id)?;
        let is_container = parents.first().is_some_and(|parent| id::is_init(parent));
        let own = if is_container { Mode::ReadWrite } else { Mode::ReadOnly };
        let mut branches = vec![Given { path: self.store.diff(id), mode: own }];
        for parent in parents {
            let mode = if id::is_init(&parent) { Mode::Init } else { Mode::ReadOnly };
            branches.push(Given { path: self.store.diff(&parent), mode });
        }
        Ok(branches)
    }

    /// The stack of a container or an image, opened.
    ///
    /// # Errors
    ///
    /// As for [`Layers::branches`] and [`Union::new`].
    pub fn union(&self, id: &str) -> Result<Union> {
        Union::of(&self.branches(id)?)
    }

    /// The form of the marks in the top branch: of a container, what it was made for; of an image, AuFS's.
    ///
    /// # Errors
    ///
    /// There is no container or layer `id`.
    pub fn form(&self, id: &str) -> Result<Form> {
        id::check(id)?;
        self.store.parents(id)?;
        self.store.form(id)
    }

    /// Where a container is to be mounted.
    ///
    /// # Errors
    ///
    /// There is no container `id`.
    pub fn mountpoint(&self, id: &str) -> Result<PathBuf> {
        self.check_container(id)?;
        let path = self.store.mountpoint(id);
        make_directory(&path)?;
        Ok(path)
    }

    /// What the mount of a container by overlayfs needs.
    ///
    /// # Errors
    ///
    /// There is no container `id`, or it was not made for overlayfs.
    pub fn overlay(&self, id: &str) -> Result<OverlayDirectories> {
        self.check_container(id)?;
        match self.store.form(id)? {
            Form::Aufs => bail!("container {id:?} has AuFS's marks: it was not made for overlayfs"),
            Form::Overlay(marks) => self.store.overlay_directories(id, &self.store.parents(id)?, marks),
        }
    }

    /// What a container has changed: [`diff`].
    ///
    /// # Errors
    ///
    /// As for [`diff`]; there is no container `id`.
    pub fn diff(&self, id: &str) -> Result<Vec<Change>> {
        self.check_container(id)?;
        diff(&self.union(id)?, self.store.form(id)?)
    }

    /// What the layers of a container or an image take: [`size`].
    ///
    /// # Errors
    ///
    /// As for [`size`]; there is no container or layer `id`.
    pub fn size(&self, id: &str) -> Result<Vec<BranchSize>> {
        size(&self.union(id)?, self.form(id)?)
    }

    /// A container's read-write layer becomes layer `image`, on top of the image that the container stands
    /// on. Nothing stops the container: what it writes meanwhile may be in the layer or not, and what it
    /// removes under our hands is an error.
    ///
    /// # Errors
    ///
    /// As for [`commit`] and [`Layers::add_with`].
    pub fn commit(&self, id: &str, image: &str) -> Result<()> {
        self.check_container(id)?;
        let _in_use = self.hold(id)?;
        id::check(image)?;
        self.check_free(image)?;
        let partial = Partial::create(&self.store.diffs())?;
        commit::copy_top(&self.union(id)?, self.store.form(id)?, &partial.content())?;
        self.publish(image, &self.store.parents(id)?[1..], partial)
    }

    fn check_container(&self, id: &str) -> Result<()> {
        id::check(id)?;
        let is_container = self.store.parents(id)?.first().is_some_and(|parent| id::is_init(parent));
        ensure!(is_container, "{id:?} is a layer of an image, not a container");
        Ok(())
    }
}
// ANCHOR_END: questions
