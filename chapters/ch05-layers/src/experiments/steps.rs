// ANCHOR: imports
//! The steps: lookup, copy-up, deletion, a directory made anew, commit, a second container.
//!
//! What is done to a union is done by plain system calls on its files, as any program does it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ch05_layers::layers::BranchSize;
use lesson::untold;
use log::info;

use super::{Container, Stage, blocks};
// ANCHOR_END: imports

// ANCHOR: in_one_container
/// What happens in the first container.
pub fn in_one_container(stage: &Stage, one: &Container) -> Result<()> {
    lookup(stage, one)?;
    copy_up(stage, one)?;
    deletion(stage, one)?;
    directory_made_anew(stage, one)
}
// ANCHOR_END: in_one_container

// ANCHOR: lookup
/// The first layer that has a name answers for it.
fn lookup(stage: &Stage, one: &Container) -> Result<()> {
    stage
        .step("Lookup: the layers are asked from left to right, and the first that has the name answers.")?;
    one.show()?;
    tell_content("in the union, etc/motd", &one.path("etc/motd"))?;
    // Nothing is written yet, so this is how all unions look it up, overlayfs too.
    let union = stage.layers.union(one.id)?;
    for verdict in union.explain(Path::new("etc/motd")).context("explain \"etc/motd\"")? {
        let (name, said) = (one.columns[verdict.branch].0.as_str(), verdict.to_string());
        let said = said.split_once(": ").map_or(said.as_str(), |(_, said)| said);
        info!(target: "kernel", "branch {}, {name}: {said}", verdict.branch);
    }
    Ok(())
}

fn tell_content(what: &str, file: &Path) -> Result<()> {
    let content = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
    info!(target: "kernel", "{what} says {content:?}");
    Ok(())
}
// ANCHOR_END: lookup

// ANCHOR: copy_up
/// The first write to a file of a lower layer copies it to the top.
fn copy_up(stage: &Stage, one: &Container) -> Result<()> {
    stage.step("Copy-up: the first write to a file of an image copies it into the container's layer.")?;
    let file = one.path("etc/motd");
    info!(target: "syscall", "open(\"etc/motd\", O_WRONLY | O_APPEND), write(\"changed\\n\")  a file that only read-only layers have");
    let mut opened = OpenOptions::new().append(true).open(&file).with_context(|| format!("open {file:?}"))?;
    opened.write_all(b"changed\n").with_context(|| format!("write to {file:?}"))?;
    drop(opened);
    one.show_changes()?;
    tell_content("in the union, etc/motd", &file)?;
    tell_content("in the layer of the container, etc/motd", &one.in_layer(0, "etc/motd"))?;
    tell_content("in the layer tools, etc/motd", &one.in_layer(TOOLS, "etc/motd"))
}

/// Where in a container's layers those of the image are, after its own and the init layer.
const TOOLS: usize = 3;
const BASE: usize = 4;
// ANCHOR_END: copy_up

// ANCHOR: deletion
/// A deletion in a lower layer is a file more in the top one.
fn deletion(stage: &Stage, one: &Container) -> Result<()> {
    stage.step("Deletion: a read-only layer can't lose a file. A mark in the container's layer hides it: a whiteout.")?;
    let before = sizes(stage, one)?;
    let file = one.path("lib/big");
    info!(target: "syscall", "unlink(\"lib/big\")  {} bytes, in the layer base", super::image::BIG);
    fs::remove_file(&file).with_context(|| format!("unlink {file:?}"))?;
    one.show_changes()?;
    let exists = |path: &Path| path.try_exists().with_context(|| format!("stat {path:?}"));
    let lower = one.in_layer(BASE, "lib/big");
    info!(target: "kernel", "the union has lib/big: {}", exists(&file)?);
    info!(target: "kernel", "the layer base has lib/big: {}", exists(&lower)?);
    tell_growth(&before, &sizes(stage, one)?);
    Ok(())
}

fn sizes(stage: &Stage, container: &Container) -> Result<Vec<BranchSize>> {
    untold(|| stage.layers.size(container.id))
}

/// What a deletion has done to the sizes of the container and of its image.
fn tell_growth(before: &[BranchSize], after: &[BranchSize]) {
    let own =
        |sizes: &[BranchSize]| format!("{} inodes, {} bytes on the disk", sizes[0].inodes, sizes[0].disk);
    let image = |sizes: &[BranchSize]| sizes[1..].iter().map(|size| size.disk).sum::<u64>();
    let hidden = |sizes: &[BranchSize]| sizes[1..].iter().map(|size| size.hidden).sum::<u64>();
    info!(target: "kernel", "the container's layer: {}; before, {}", own(after), own(before));
    info!(target: "kernel", "the layers below: {} bytes on the disk; before, {}", image(after), image(before));
    info!(target: "kernel", "bytes below that nobody can see: {}; before, {}", hidden(after), hidden(before));
}
// ANCHOR_END: deletion

// ANCHOR: opaque
/// A directory made over a deleted one must not show what the deleted one had.
fn directory_made_anew(stage: &Stage, one: &Container) -> Result<()> {
    stage.step(
        "A directory deleted and made anew: it must not show what the old one had. So it is marked opaque.",
    )?;
    let directory = one.path("cache");
    info!(target: "syscall", "unlink(\"cache/index\"), rmdir(\"cache\")  both are in the layer base");
    fs::remove_dir_all(&directory).with_context(|| format!("remove {directory:?}"))?;
    one.show_changes()?;
    info!(target: "syscall", "mkdir(\"cache\")  the name is free again");
    fs::create_dir(&directory).with_context(|| format!("mkdir {directory:?}"))?;
    one.show_changes()?;
    let entries = fs::read_dir(&directory).with_context(|| format!("read the directory {directory:?}"))?;
    info!(target: "kernel", "in the union, cache has {} entries", entries.count());
    Ok(())
}
// ANCHOR_END: opaque

// ANCHOR: commit
/// The container's layer becomes one of an image.
pub fn commit(stage: &Stage, one: &Container) -> Result<()> {
    for change in untold(|| stage.layers.diff(one.id))? {
        info!(target: "kernel", "{change}");
    }
    stage.layers.commit(one.id, "changed")
}
// ANCHOR_END: commit

// ANCHOR: second
/// Another container on the image's layers: nothing is copied.
pub fn second_container(stage: &Stage, one: &Container, two: &Container) -> Result<()> {
    stage.step("A second container, on the new image: it has a layer of its own, and shares all others.")?;
    two.show_changes()?;
    tell_content("in the second container, etc/motd", &two.path("etc/motd"))?;
    for container in [one, two] {
        let stat = |file: &Path| fs::metadata(file).with_context(|| format!("stat {file:?}"));
        let seen = stat(&container.path("lib/tool"))?.ino();
        info!(target: "kernel", "lib/tool in {}: the union shows inode {seen}", container.id);
        let (layer, file) = answering(stage, container, "lib/tool")?;
        let metadata = stat(&file)?;
        info!(
            target: "kernel",
            "the layer {layer} answers for it, with inode {} of device {}",
            metadata.ino(), metadata.dev()
        );
        info!(target: "kernel", "its place on the disk in {}: {}", container.id, blocks::of(&file)?);
    }
    let own = sizes(stage, two)?;
    let below = own[1..].iter().map(|size| size.disk).sum::<u64>();
    info!(target: "kernel", "the second container adds {} bytes on the disk to {below} that were there", own[0].disk);
    Ok(())
}

/// The layer that answers for `name` in a container, and the file there.
fn answering<'a>(stage: &Stage, container: &'a Container, name: &str) -> Result<(&'a str, PathBuf)> {
    let union = stage.layers.union(container.id)?;
    let verdicts = union.explain(Path::new(name)).with_context(|| format!("explain {name:?}"))?;
    let answers = verdicts.iter().find(|verdict| verdict.answers);
    let branch = answers.with_context(|| format!("no layer has {name:?}"))?.branch;
    Ok((&container.columns[branch].0, container.in_layer(branch, name)))
}
// ANCHOR_END: second
