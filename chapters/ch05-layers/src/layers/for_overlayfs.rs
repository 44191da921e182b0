//! A container for overlayfs, on layers in AuFS's form.
//!
//! Layers come in AuFS's form from every registry, and overlayfs would show a `.wh.` file as a file. So a
//! layer that has whiteouts is copied once and the copy's marks are converted; all containers for overlayfs
//! share the copy. A layer that deletes nothing (most do not) is the same in both forms.
//!
//! And the other way round: what overlayfs would take for a mark of its own is, in AuFS's form, a device or
//! an attribute like any other. A layer that has such is refused: its maker would choose what one backend
//! shows, and the other not.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::commit::check_name;
use super::copy;
use super::partial::Partial;
use super::store::{Store, exists, make_directory};
use crate::Branch;
use crate::branch::Mode;
use crate::overlay::{Form, Marks, Overlay, convert};

/// What overlayfs takes to mount a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDirectories {
    /// The init layer and the image's, the top one first.
    pub lower: Vec<PathBuf>,
    /// The read-write layer.
    pub upper: PathBuf,
    /// Where overlayfs makes what it then renames into the upper layer.
    pub work: PathBuf,
    /// Which extended attributes hold the marks.
    pub marks: Marks,
}

impl OverlayDirectories {
    /// The mount that they are for.
    pub fn overlay(&self) -> Overlay<'_> {
        let lower = self.lower.iter().map(PathBuf::as_path).collect();
        Overlay { lower, upper: Some((&self.upper, &self.work)), marks: self.marks }
    }
}

// ANCHOR: overlay
impl Store {
    /// Makes what container `id` on `parents` needs to be mounted by overlayfs. The caller holds the lock,
    /// and has prepared the image's layers, unless they were changed just now: the init layer is left, which
    /// is small.
    pub(super) fn prepare_overlay(&self, id: &str, parents: &[String], marks: Marks) -> Result<()> {
        for layer in parents {
            if !self.is_prepared(layer, marks)? {
                self.install_prepared(layer, marks, self.prepare(layer, marks)?)?;
            }
        }
        make_directory(&self.of_overlay(marks).join(id))?;
        make_directory(&self.work(id, marks))
    }

    /// Whether it is known in which form overlayfs can take the layer.
    pub(super) fn is_prepared(&self, layer: &str, marks: Marks) -> Result<bool> {
        exists(&self.of_overlay(marks).join(layer))
    }

    /// Makes the converted copy of a layer that has whiteouts. Of another, nothing but an empty directory, so
    /// that the next container need not look for whiteouts again.
    pub(super) fn prepare(&self, layer: &str, marks: Marks) -> Result<Partial> {
        let own = self.diff(layer);
        let partial = Partial::create(&self.of_overlay(marks))?;
        make_directory(&partial.content())?;
        let has_whiteouts = convert::has_whiteouts(&own, marks);
        if has_whiteouts.with_context(|| format!("layer {layer:?} can't be mounted by overlayfs"))? {
            let converted = partial.content().join("diff");
            make_directory(&converted)?;
            copy::tree(&Branch::open(&own, Mode::ReadOnly)?, &converted, check_name)?;
            convert::to_overlay(&converted, marks)?;
        }
        Ok(partial)
    }

    /// Puts it into its place. The caller holds the lock.
    pub(super) fn install_prepared(&self, layer: &str, marks: Marks, prepared: Partial) -> Result<()> {
        prepared.install(&self.of_overlay(marks).join(layer))
    }

    /// Where they are.
    pub(super) fn overlay_directories(
        &self,
        id: &str,
        parents: &[String],
        marks: Marks,
    ) -> Result<OverlayDirectories> {
        let lower = |layer: &String| {
            let converted = self.converted(layer, marks);
            Ok(if exists(&converted)? { converted } else { self.diff(layer) })
        };
        let lower = parents.iter().map(lower).collect::<Result<_>>()?;
        Ok(OverlayDirectories { lower, upper: self.diff(id), work: self.work(id, marks), marks })
    }

    /// Whose marks are in the layer: a container for overlayfs has a work directory.
    pub(super) fn form(&self, id: &str) -> Result<Form> {
        for marks in [Marks::Trusted, Marks::User] {
            if exists(&self.work(id, marks))? {
                return Ok(Form::Overlay(marks));
            }
        }
        Ok(Form::Aufs)
    }
}
// ANCHOR_END: overlay
