//! Claim: the union as plain code over directories answers as a plain directory does, and as its own mount
//! does, and both leave the same files in the top branch.

#[path = "random/mod.rs"]
mod random;

#[path = "overlay_support/mod.rs"]
mod overlay_support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ch05_layers::branch::Mode;
use ch05_layers::{Branch, Union};

use random::case::Case;
use random::code::{Code, resolve};
use random::differences::{self, World};
use random::player::{Answer, Player};
use random::stage::{Room, Stage, in_own_mount_table};
use random::tree::{self, Kind, Tree};
use random::{layers, model, run};

#[test]
fn the_code_without_a_mount_answers_as_a_plain_directory_does() {
    testing::needs!(Root);
    in_own_mount_table(|| {
        let stage = Stage::without_mounts();
        run::play(2000, |case| {
            let room = stage.room(case.layers.len());
            make_layers(&room.layers, case);
            let lower = shown(&room.layers);
            layers::make_plain(&room.plain, &lower);
            let result = agree(case, &room.layers, &room.top, &room.plain, &lower);
            room.clear();
            result
        });
    });
}

#[test]
fn the_code_without_a_mount_answers_as_the_mount_does() {
    testing::needs!(Root, Fuse);
    in_own_mount_table(|| {
        let (mounted, stage) = (Stage::new(true), Stage::without_mounts());
        run::play(1000, |case| {
            let (with, without) = (mounted.room(case.layers.len()), stage.room(case.layers.len()));
            make_layers(&with.layers, case);
            make_layers(&without.layers, case);
            let lower = shown(&with.layers);
            let result = agree(case, &without.layers, &without.top, &with.union, &lower)
                .and_then(|done| same_top(&with, &without).map(|()| done));
            with.clear();
            without.clear();
            result
        });
    });
}

fn make_layers(layers: &[PathBuf], case: &Case) {
    for (number, items) in case.layers.iter().enumerate() {
        layers::make(&layers[number], items, number, &BTreeSet::new());
    }
}

fn shown(layers: &[PathBuf]) -> Tree {
    model::flatten(&model::read_lower(layers).expect("the layers"))
}

/// The same names, whiteouts and contents.
fn same_top(with: &Room, without: &Room) -> Result<(), String> {
    let read = |room: &Room| if room.top.exists() { tree::read(&room.top) } else { Ok(Tree::new()) };
    let (mut with, mut without) = (read(with)?, read(without)?);
    // Directories are raised by the mount when they are needed, by the player of the code also for what fails
    // then.
    forget_bare_directories(&mut with, &without);
    forget_bare_directories(&mut without, &with);
    match tree::difference(&with, &without) {
        None => Ok(()),
        Some(text) => Err(format!("the mount's top branch is expected, the code's is not the same:\n{text}")),
    }
}

/// Takes away directories which `other` does not have and in which there is nothing.
fn forget_bare_directories(tree: &mut Tree, other: &Tree) {
    for path in tree.keys().rev().cloned().collect::<Vec<_>>() {
        let is_bare = !tree.keys().any(|below| below.starts_with(&format!("{path}/")));
        if !other.contains_key(&path) && is_bare && tree[&path].kind == Kind::Directory {
            tree.remove(&path);
        }
    }
}

/// Plays `case` on a union of `layers` and `top`, and at `other`, which answers as it should. Returns how
/// many steps were done.
fn agree(case: &Case, layers: &[PathBuf], top: &Path, other: &Path, lower: &Tree) -> Result<usize, String> {
    // As the mount of both makes it.
    layers::make(top, &[], 0, &BTreeSet::new());
    layers::set_changed(top, &lower[""]);
    let open = |path: &PathBuf, mode| Branch::open(path, mode).expect("a branch");
    let below = layers.iter().rev().map(|path| open(path, Mode::ReadOnly));
    let branches = std::iter::once(open(&top.to_path_buf(), Mode::ReadWrite)).chain(below).collect();
    let code = Code(Union::new(branches).expect("a union"));
    let mut player = Player::new(other.to_path_buf(), None);
    compare(other, &code)?;
    let mut done = 0;
    for (number, step) in case.steps.iter().enumerate().filter(|(_, step)| !step.as_user) {
        let at = |text: String| format!("step {}, {step}: {text}", number + 1);
        let world = World { plain: other, top, lower };
        let refused = differences::refused(&step.operation, &world);
        let Some(operation) = resolve(&step.operation, &world) else { continue };
        let Some(result) = code.call(&operation) else { continue };
        let expected = match refused {
            Some(_) if result.is_err() => continue,
            Some(refused) => return Err(at(format!("the code does what must be {refused:?}"))),
            None => player.play(step),
        };
        let got = result.map_or_else(Answer::Error, |()| Answer::Done);
        if expected != got {
            return Err(at(format!("{expected:?} is expected, the code answers {got:?}")));
        }
        done += usize::from(got == Answer::Done);
        compare(other, &code).map_err(at)?;
    }
    Ok(done)
}

fn compare(other: &Path, code: &Code) -> Result<(), String> {
    match tree::difference(&tree::read(other)?, &code.tree()?) {
        None => Ok(()),
        Some(text) => Err(format!("the code does not show what is expected:\n{text}")),
    }
}

#[test]
fn random_layers_that_are_converted_and_back_are_the_same_to_the_byte() {
    testing::needs!(Root, Tool("tar"));
    use ch05_layers::overlay::{
        Marks,
        convert::{to_aufs, to_overlay},
    };
    in_own_mount_table(|| {
        let stage = Stage::without_mounts();
        run::play(300, |case| {
            let room = stage.room(case.layers.len());
            make_layers(&room.layers, case);
            let mut result = Ok(case.steps.len());
            for layer in &room.layers {
                // A file beside its own whiteout has one name in overlayfs's form: this alone is not kept.
                let names = tree::read(layer)?;
                let is_beside = |path: &String| {
                    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
                    let hidden = name.strip_prefix(".wh.").map(|name| model::join(directory, name));
                    hidden.is_some_and(|hidden| names.contains_key(&hidden))
                };
                if names.keys().any(is_beside) {
                    continue;
                }
                for marks in [Marks::Trusted, Marks::User] {
                    let before = overlay_support::archive(layer, &[]);
                    let there = to_overlay(layer, marks).and_then(|()| to_aufs(layer, marks));
                    if let Err(error) = there {
                        result = Err(format!("{error:#}"));
                    } else if overlay_support::archive(layer, &[]) != before {
                        result = Err(format!("{layer:?} is not the same, with {marks:?}"));
                    }
                }
            }
            room.clear();
            result
        });
    });
}
