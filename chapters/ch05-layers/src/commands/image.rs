// ANCHOR: imports
//! A small image for a container: the root file system of all lessons, and a layer with one program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use ch05_layers::layers::Layers;
use lesson::untold;
use log::info;

use super::mounted::Backend;
// ANCHOR_END: imports

// ANCHOR: open
const IMAGE: &str = "hello";

/// Opens the store, and makes the image in it unless it is there.
pub fn open(store: &Path, root: &Path) -> Result<Layers> {
    let layers = Layers::open(store)?;
    let there = layers.list()?;
    let is_missing = |id: &str| !there.iter().any(|other| other == id);
    untold(|| {
        if is_missing("base") {
            layers.add("base", None, root)?;
        }
        if is_missing(IMAGE) {
            layers.add_with(IMAGE, Some("base"), write_hello)?;
        }
        Ok(layers)
    })
}

fn write_hello(layer: &Path) -> Result<()> {
    let directory = layer.join("usr/local/bin");
    fs::create_dir_all(&directory).with_context(|| format!("mkdir {directory:?}"))?;
    let file = directory.join("hello");
    fs::write(&file, "#!/bin/sh\necho \"hello from a layer\"\n")
        .with_context(|| format!("write {file:?}"))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&file, executable).with_context(|| format!("chmod {file:?}"))
}
// ANCHOR_END: open

// ANCHOR: container
/// The container on the image, which is made unless it is there. The backends mark deletions in their own ways, so each
/// has a container of its own.
pub fn container(layers: &Layers, backend: Backend) -> Result<&'static str> {
    let id = match backend {
        Backend::Aufs => "with-aufs",
        Backend::Overlay => "with-overlay",
    };
    if !layers.list()?.iter().any(|other| other == id) {
        layers.container(id, IMAGE, backend.form()?)?;
    }
    let branches = layers.branches(id)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = branches.iter().map(|branch| format!("{} ({})", name(&branch.path), branch.mode));
    info!(target: "kernel", "its layers: {}", names.collect::<Vec<_>>().join(", "));
    Ok(id)
}
// ANCHOR_END: container

// ANCHOR: changes
/// As many changes as one reads.
const SHOWN: usize = 20;

/// The container's changes, as `docker diff` lists them.
pub fn tell_changes(layers: &Layers, id: &str) -> Result<()> {
    let changes = untold(|| layers.diff(id))?;
    for change in changes.iter().take(SHOWN) {
        info!(target: "kernel", "{change}");
    }
    match changes.len() {
        0 => info!(target: "kernel", "none"),
        number if number > SHOWN => info!(target: "kernel", "and {} more", number - SHOWN),
        _ => (),
    }
    Ok(())
}
// ANCHOR_END: changes
