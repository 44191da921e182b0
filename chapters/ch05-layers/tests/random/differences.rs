//! The known differences: where a union can't be, or chooses not to be, what a plain directory is. They are
//! the only exceptions of the comparison. Each has a test of its own in `claims.rs`, which proves what is
//! said here.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::case::{Item, Operation, Step};
use super::model;
use super::player::{Answer, Player};
use super::tree::{self, Facts, Kind, Tree};
use super::words::{Flags, Place};

/// An operation that is refused because it meets a known difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// By our union, and by overlayfs too.
    ByBoth,
    /// By our union alone.
    ByUnion,
}

/// Whether root is about to write to a file that has set-id bits and that a slot has open in passthrough. There the
/// kernel writes with the server's rights, who has laid down the one to leave the bits on; so they go, as they do when
/// others write. Such a step is not played.
pub fn takes_set_id_bits_off(step: &Step, plain: &Player) -> bool {
    let truncates = |flags: &Flags| flags.0 & libc::O_TRUNC != 0;
    let written = match &step.operation {
        Operation::WriteFile { path, .. } | Operation::Truncate { path, .. } => plain.metadata(path),
        Operation::Open { path, flags, .. } if truncates(flags) => plain.metadata(path),
        Operation::Write { slot, .. }
        | Operation::TruncateOpen { slot, .. }
        | Operation::Allocate { slot, .. } => plain.open_metadata(*slot),
        _ => None,
    };
    let Some(written) = written.filter(|file| file.is_file() && file.mode() & 0o6000 != 0) else {
        return false;
    };
    let is_open = |slot| plain.open_metadata(slot).is_some_and(|open| open.ino() == written.ino());
    !step.as_user && (0..3).any(is_open)
}

/// Whether a slot's file is deleted, and the step asks for its status or changes that. What is the image's has no place
/// any more that it could be copied up to: the unions refuse, each with an errno of its own, and overlayfs shows the
/// links that the layer has. Such a step is not played.
pub fn is_deleted(step: &Step, plain: &Player) -> bool {
    let (Operation::ModeOpen { slot, .. } | Operation::StatOpen { slot }) = step.operation else {
        return false;
    };
    plain.open_metadata(slot).is_some_and(|open| open.nlink() == 0)
}

/// What is known of the case when an operation is about to be played.
pub struct World<'a> {
    /// The root of the plain directory.
    pub plain: &'a Path,
    /// The root of the union's top branch.
    pub top: &'a Path,
    /// What the layers below the top show.
    pub lower: &'a Tree,
}

/// Names over this length are refused: `.wh.` must fit in front (`NAME_MAX` is 255).
const NAME_MAX: usize = 251;

/// Whether `operation` meets a known difference that refuses it; then it is played only where it is refused,
/// so that the trees stay the same.
pub fn refused(operation: &Operation, world: &World) -> Option<Refused> {
    // Names that begin with `.wh.` are the union's own, and a long one leaves no room for them.
    let is_refused = |name: &str| name.starts_with(".wh.") || (NAME_MAX + 1..=255).contains(&name.len());
    if operation.places().iter().flat_map(Place::names).any(is_refused) {
        return Some(Refused::ByUnion);
    }
    let Operation::Rename { from, to, flags } = operation else { return None };
    // The kernel does nothing, and asks no file system, where both names are those of one inode.
    if world.are_one(from, to) {
        return None;
    }
    // A whiteout is the union's own thing: nobody makes one by hand.
    if flags & libc::RENAME_WHITEOUT != 0 {
        return Some(Refused::ByBoth);
    }
    // Only the top branch can be changed, so what other branches hold of a directory can't move.
    let moved = [Some(from), (flags & libc::RENAME_EXCHANGE != 0).then_some(to)];
    if moved.into_iter().flatten().any(|place| world.has_lower_part(place)) {
        return Some(Refused::ByBoth);
    }
    None
}

impl World<'_> {
    /// Whether `place` is a directory that a branch below the top has a part of.
    fn has_lower_part(&self, place: &Place) -> bool {
        let Some(path) = self.resolve(place) else { return false };
        let is_directory = self.plain.join(&path).symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        is_directory && model::has_lower_part(&tree::read(self.top).unwrap_or_default(), self.lower, &path)
    }

    /// Whether two places are names of one inode.
    pub fn are_one(&self, one: &Place, other: &Place) -> bool {
        let inode = |place: &Place| Some(self.plain.join(&place.0).symlink_metadata().ok()?.ino());
        inode(one).is_some_and(|number| inode(other) == Some(number))
    }

    /// The path of `place` itself, after the symlinks in the directories above.
    pub fn resolve(&self, place: &Place) -> Option<String> {
        let (parent, name) = place.parent();
        let parent = self.plain.join(parent).canonicalize().ok()?;
        let parent = parent.strip_prefix(self.plain.canonicalize().ok()?).ok()?.to_str()?.to_string();
        Some(model::join(&parent, name))
    }

    /// The content of the file that `place` leads to, where a lower branch still answers for it.
    pub fn lower_content(&self, place: &Place) -> Option<Vec<u8>> {
        let path = self.plain.join(&place.0).canonicalize().ok()?;
        let path = path.strip_prefix(self.plain.canonicalize().ok()?).ok()?.to_path_buf();
        let in_top = self.top.join(&path).symlink_metadata().is_ok();
        let file = std::fs::metadata(self.plain.join(&path)).is_ok_and(|metadata| metadata.is_file());
        (file && !in_top).then(|| std::fs::read(self.plain.join(&path)).ok())?
    }
}

/// overlayfs shows the number of links that a lower file has, and one inode number for all its names, until a
/// name is copied up. So these two are not compared there, in cases whose layers have hard links.
pub fn forgive_overlay(layers: &[Vec<Item>], tree: &mut Tree, plain: &Tree) {
    for (path, facts) in tree.iter_mut() {
        if let Some(expected) = plain.get(path) {
            forgive_links(layers, facts, expected);
        }
    }
}

/// The same for what stat(2) answers.
pub fn forgive_overlay_answer(layers: &[Vec<Item>], answer: &mut Answer, plain: &Answer) {
    if let (Answer::Facts(facts), Answer::Facts(expected)) = (answer, plain) {
        forgive_links(layers, facts, expected);
    }
}

fn forgive_links(layers: &[Vec<Item>], facts: &mut Facts, expected: &Facts) {
    let has_links = layers.iter().flatten().any(|item| matches!(item, Item::Link { .. }));
    if has_links && facts.kind != Kind::Directory && expected.kind != Kind::Directory {
        facts.links = expected.links;
        facts.inode = expected.inode;
    }
}
