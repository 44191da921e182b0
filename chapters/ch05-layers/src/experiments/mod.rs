// ANCHOR: imports
//! The experiments of chapter 5: what becomes of a container's layers, step by step.

mod blocks;
mod image;
mod steps;
mod trees;

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use ch01_pid::Signals;
use ch05_layers::fuse::Options;
use ch05_layers::layers::Layers;
use ch05_layers::overlay::Form;
use lesson::{Lesson, untold};
use log::info;

use crate::commands::mounted::{Backend, Mounted};
use crate::commands::scratch;
use trees::Tree;
// ANCHOR_END: imports

// ANCHOR: all
/// All steps, in the order in which the book tells them.
pub fn all(lesson: &Lesson, signals: &Signals, backend: Backend) -> Result<()> {
    // Removed when this function is left, after all that uses it.
    let scratch = scratch::create()?;
    let layers = untold(|| Layers::open(&scratch.path().join("store")))?;
    let stage = Stage { lesson, signals, backend, layers };

    info!(target: "say", "An image is a stack of layers. Make one that has three, and a container on it.");
    untold(|| image::make(&stage.layers))?;
    let mut one = stage.container("one", image::LAYERS[0])?;
    let outcome = steps::in_one_container(&stage, &one).and_then(|()| {
        info!(target: "say", "Commit: the container's layer becomes a new read-only one, on top of the image's.");
        steps::commit(&stage, &one)?;
        let mut two = stage.container("two", "changed")?;
        let outcome = steps::second_container(&stage, &one, &two);
        explained(outcome, &mut two)?;
        two.unmount()
    });
    explained(outcome, &mut one)?;
    one.unmount()
}

/// Where the server has died, that is why all fails with ENOTCONN.
fn explained(outcome: Result<()>, container: &mut Container) -> Result<()> {
    match container.union.death()? {
        Some(death) => match outcome {
            Err(error) => Err(error.context(death)),
            Ok(()) => Err(anyhow!(death)),
        },
        None => outcome,
    }
}
// ANCHOR_END: all

// ANCHOR: stage
/// What all steps use.
pub struct Stage<'a> {
    lesson: &'a Lesson,
    signals: &'a Signals,
    backend: Backend,
    layers: Layers,
}

/// A container whose union is mounted.
pub struct Container {
    id: &'static str,
    union: Mounted,
    /// Its layers, the top one first: title and directory.
    columns: Vec<(String, PathBuf)>,
    /// What was shown last.
    shown: RefCell<trees::Rows>,
}

impl Stage<'_> {
    /// A new container on `image`, mounted.
    fn container(&self, id: &'static str, image: &str) -> Result<Container> {
        self.layers.container(id, image, self.backend.form()?)?;
        let union = Mounted::container(self.lesson, &self.layers, id, &Options::default())?;
        let branches = self.layers.branches(id)?;
        let mut directories: Vec<PathBuf> = branches.iter().map(|branch| branch.path.clone()).collect();
        if self.layers.form(id)? != Form::Aufs {
            // The kernel reads other marks: of a layer that has some, it has a copy with its own.
            let overlay = self.layers.overlay(id)?;
            directories = std::iter::once(overlay.upper).chain(overlay.lower).collect();
        }
        let title = |branch: &ch05_layers::branch::Given| {
            let name = branch.path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} ({})", branch.mode)
        };
        let columns = branches.iter().map(title).zip(directories).collect();
        Ok(Container { id, union, columns, shown: RefCell::default() })
    }

    /// Begins a step, unless a signal has asked for the end.
    fn step(&self, sentence: &str) -> Result<()> {
        self.signals.stop_if_told()?;
        info!(target: "say", "{sentence}");
        Ok(())
    }
}

impl Container {
    /// Prints the union's tree beside those of the layers.
    fn show(&self) -> Result<()> {
        self.print(true)
    }

    /// The same without the init layer, which never changes, and without what only it has. Rows that differ from what was
    /// shown before are marked.
    fn show_changes(&self) -> Result<()> {
        self.print(false)
    }

    fn print(&self, with_init: bool) -> Result<()> {
        let union = Tree::read("the union", self.union.path())?;
        let layers = self.columns.iter().map(|(title, directory)| Tree::read(title, directory));
        let trees: Vec<Tree> = std::iter::once(Ok(union)).chain(layers).collect::<Result<_>>()?;
        let all: Vec<&Tree> = trees.iter().collect();
        let without_init: Vec<&Tree> = trees.iter().filter(|tree| !tree.is_init()).collect();
        let before = self.shown.replace(trees::rows(without_init.iter().copied()));
        let now = self.shown.borrow();
        let is_new = |row: &trees::Row| !before.is_empty() && before.get(row) != now.get(row);
        trees::print(if with_init { &all } else { &without_init }, is_new);
        Ok(())
    }

    /// A path in the union.
    fn path(&self, name: &str) -> PathBuf {
        self.union.path().join(name)
    }

    /// The same path in the layer `layer`.
    fn in_layer(&self, layer: usize, name: &str) -> PathBuf {
        self.columns[layer].1.join(name)
    }

    fn unmount(self) -> Result<()> {
        untold(|| self.union.stop())
    }
}
// ANCHOR_END: stage
