//! The model of a union: layers applied one after the other to one tree, from the lowest to the top, as one
//! unpacks an image. The union under test goes the other way, from the top down, name by name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::tree::{self, Inode, Kind, Tree};

/// In a directory: layers below show nothing through it.
const OPAQUE: &str = ".wh..wh..opq";

/// Reads layers below the top one: what is one file with two names there, the union shows as two files.
pub fn read_lower(layers: &[PathBuf]) -> Result<Vec<Tree>, String> {
    let mut next = u64::MAX;
    let mut read = |layer: &PathBuf| {
        let mut tree = tree::read(layer)?;
        for facts in tree.values_mut().filter(|facts| facts.kind != Kind::Directory) {
            facts.links = Some(1);
            facts.inode = Inode(next);
            next -= 1;
        }
        Ok(tree)
    };
    layers.iter().map(&mut read).collect()
}

/// What a stack of branches shows, the lowest first. Each tree holds a branch as it is on disk, `.wh.` files
/// included.
pub fn flatten(branches: &[Tree]) -> Tree {
    let mut shown = Tree::new();
    for branch in branches {
        apply(branch, &mut shown);
    }
    shown
}

/// One layer on top of `shown`: what it hides goes first, so that what stands beside a whiteout of its name
/// is kept.
fn apply(branch: &Tree, shown: &mut Tree) {
    for path in branch.keys() {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(hidden) = name.strip_prefix(".wh.") else { continue };
        match hidden {
            ".wh..opq" => remove_below(shown, directory),
            _ => remove(shown, &join(directory, hidden)),
        }
    }
    for (path, facts) in branch.iter().filter(|(path, _)| !is_mark(path)) {
        let both_directories = facts.kind == Kind::Directory
            && shown.get(path).is_some_and(|lower| lower.kind == Kind::Directory);
        if !both_directories {
            remove(shown, path);
        }
        shown.insert(path.clone(), facts.clone());
    }
}

/// The whiteouts of each layer whose directory no layer below has: they hide nothing.
pub fn idle_whiteouts(layers: &[Tree]) -> Vec<BTreeSet<String>> {
    let idle = |number: usize| {
        let (layer, below) = (&layers[number], flatten(&layers[..number]));
        let is_idle = |path: &&String| {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            name.starts_with(".wh.") && name != OPAQUE && !has_lower_part(layer, &below, directory)
        };
        layer.keys().filter(is_idle).cloned().collect()
    };
    (0..layers.len()).map(idle).collect()
}

/// Whether a path ends in a name that AuFS keeps for itself.
pub fn is_mark(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh."))
}

pub fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_string() } else { format!("{directory}/{name}") }
}

/// `path` and all that is below.
pub fn remove(tree: &mut Tree, path: &str) {
    tree.remove(path);
    if !path.is_empty() {
        remove_below(tree, path);
    }
}

fn remove_below(tree: &mut Tree, path: &str) {
    let below = |name: &str| match path {
        "" => !name.is_empty(),
        _ => name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
    };
    tree.retain(|name, _| !below(name));
}

/// Whether `path` is a directory of which a branch below the top one shows a part.
pub fn has_lower_part(top: &Tree, lower: &Tree, path: &str) -> bool {
    let ends: Vec<usize> = path.match_indices('/').map(|(end, _)| end).chain([path.len()]).collect();
    let cut = |end: &usize| {
        let here = &path[..*end];
        let (directory, name) = here.rsplit_once('/').unwrap_or(("", here));
        let hidden = top.contains_key(&join(directory, &format!(".wh.{name}")));
        let replaced = top.get(here).is_some_and(|facts| facts.kind != Kind::Directory);
        hidden || replaced || top.contains_key(&join(here, OPAQUE))
    };
    let is_directory = lower.get(path).is_some_and(|facts| facts.kind == Kind::Directory);
    is_directory && !top.contains_key(OPAQUE) && !ends.iter().any(cut)
}
