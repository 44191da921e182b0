//! Plays a case everywhere at once, and compares after each step.

use std::collections::BTreeSet;
use std::fs;

use ch05_layers::overlay::{Marks, convert};
use nix::errno::Errno;

use super::case::{Case, Operation, Step};
use super::differences::{self, Refused, World};
use super::layers;
use super::model;
use super::player::{Answer, Player, remove_all};
use super::stage::{Room, Stage};
use super::tree::{self, Tree};

/// A case in play.
pub struct Play<'a> {
    case: &'a Case,
    room: &'a Room,
    /// What the layers show without the top.
    lower: Tree,
    pub plain: Player,
    pub union: Player,
    pub overlay: Player,
    passthrough: bool,
    /// How many steps had another answer than an error.
    done: usize,
    /// For each slot: what the lower file held that it was opened on for reading.
    lower_content: [Option<Vec<u8>>; 3],
}

/// Plays `case`, and returns how many steps were done, and not refused. An error says at which step what
/// differs.
pub fn check(stage: &Stage, case: &Case) -> Result<usize, String> {
    let room = stage.room(case.layers.len());
    stage.beat();
    let result = Play::new(stage, case, &room).and_then(|mut play| {
        play.steps()?;
        let done = play.done;
        play.end().map(|()| done)
    });
    stage.beat();
    room.clear();
    result
}

impl<'a> Play<'a> {
    /// Makes the layers; nothing is played yet.
    pub fn new(stage: &Stage, case: &'a Case, room: &'a Room) -> Result<Play<'a>, String> {
        for (number, items) in case.layers.iter().enumerate() {
            layers::make(&room.layers[number], items, number, &BTreeSet::new());
        }
        let raw = model::read_lower(&room.layers)?;
        // overlayfs lists a whiteout that hides nothing.
        let idle = model::idle_whiteouts(&raw);
        for (number, items) in case.layers.iter().enumerate() {
            layers::make(&room.overlay_layers[number], items, number, &idle[number]);
            convert::to_overlay(&room.overlay_layers[number], Marks::Trusted)
                .map_err(|error| format!("converting layer {number}: {error:#}"))?;
        }
        let lower = model::flatten(&raw);
        layers::make_plain(&room.plain, &lower);
        let play = Play {
            case,
            room,
            lower,
            plain: Player::new(room.plain.clone(), None),
            union: Player::new(room.union.clone(), Some(stage.union())),
            overlay: Player::new(room.overlay.clone(), Some(stage.overlay())),
            passthrough: stage.is_in_passthrough(),
            done: 0,
            lower_content: Default::default(),
        };
        play.compare().map_err(|text| format!("before the first step, {text}"))?;
        Ok(play)
    }

    fn steps(&mut self) -> Result<(), String> {
        let mut before = (tree::read(self.plain.root())?, tree::read(self.union.root())?);
        for (number, step) in self.case.steps.iter().enumerate() {
            let at = |text: String| format!("step {}, {step}: {text}", number + 1);
            self.step(step).map_err(at)?;
            let after = self.compare().map_err(at)?;
            let renumbered = tree::renumbered((&before.0, &after.0), (&before.1, &after.1));
            if !renumbered.is_empty() {
                let text =
                    "these paths keep their inode number in the plain directory alone, or in the union alone";
                return Err(at(format!("{text}: {renumbered:?}")));
            }
            before = after;
        }
        Ok(())
    }

    /// Plays one step, and compares the answers.
    fn step(&mut self, step: &Step) -> Result<(), String> {
        if self.passthrough && differences::takes_set_id_bits_off(step, &self.plain) {
            return Ok(());
        }
        if differences::is_deleted(step, &self.plain) {
            return Ok(());
        }
        let world = World { plain: self.plain.root(), top: &self.room.top, lower: &self.lower };
        let refused = differences::refused(&step.operation, &world);
        if let Operation::Open { slot, path, flags, .. } = &step.operation {
            let reading = flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) == libc::O_RDONLY;
            self.lower_content[*slot] = world.lower_content(path).filter(|_| reading);
        }
        let union = self.union.play(step);
        if let Some(refused) = refused {
            must_refuse("the union", &union)?;
            if let Operation::Open { slot, .. } = step.operation {
                // There, the slot is empty now.
                self.plain.close(slot);
                self.overlay.close(slot);
            }
            return match refused {
                Refused::ByUnion => Ok(()),
                Refused::ByBoth => must_refuse("overlayfs", &self.overlay.play(step)),
            };
        }
        let plain = self.plain.play(step);
        self.done += usize::from(!matches!(plain, Answer::Error(_) | Answer::Nothing));
        let mut overlay = self.overlay.play(step);
        differences::forgive_overlay_answer(&self.case.layers, &mut overlay, &plain);
        if plain != overlay {
            return Err(format!("the plain directory answers {plain:?}, overlayfs {overlay:?}"));
        }
        if plain != union && !self.is_from_before_copy_up(step, &union) {
            return Err(format!("the plain directory answers {plain:?}, the union {union:?}"));
        }
        Ok(())
    }

    /// A descriptor that was opened for reading before the copy-up stays with the lower file, where it is in
    /// passthrough.
    fn is_from_before_copy_up(&self, step: &Step, answer: &Answer) -> bool {
        match (&step.operation, answer) {
            (Operation::Read { slot }, Answer::Content(content)) => {
                self.passthrough && self.lower_content[*slot].as_ref() == Some(content)
            }
            (Operation::StatOpen { slot }, Answer::Facts(_)) => {
                self.passthrough && self.lower_content[*slot].is_some()
            }
            _ => false,
        }
    }

    /// Compares the whole trees, and returns the plain directory's and the union's.
    fn compare(&self) -> Result<(Tree, Tree), String> {
        let plain = tree::read(self.plain.root())?;
        let union = tree::read(self.union.root()).map_err(|error| format!("the union: {error}"))?;
        let mut overlay = tree::read(self.overlay.root()).map_err(|error| format!("overlayfs: {error}"))?;
        if let Some(text) = tree::difference(&plain, &union) {
            return Err(format!("the union is not as the plain directory:\n{text}"));
        }
        differences::forgive_overlay(&self.case.layers, &mut overlay, &plain);
        if let Some(text) = tree::difference(&plain, &overlay) {
            return Err(format!("overlayfs is not as the plain directory:\n{text}"));
        }
        Ok((plain, union))
    }

    /// What the union left on disk must show the same to one who unpacks it as image layers; and all can be
    /// removed.
    fn end(self) -> Result<(), String> {
        let plain = tree::read(self.plain.root())?;
        let mut raw = model::read_lower(&self.room.layers)?;
        if self.room.top.exists() {
            raw.push(tree::read(&self.room.top)?);
        }
        let work = raw.last().into_iter().flat_map(Tree::keys).find(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with(".wh..wh.") && name != ".wh..wh..opq"
        });
        if let Some(work) = work {
            return Err(format!("at the end, the top branch holds {work:?}"));
        }
        if let Some(text) = tree::difference(&plain, &model::flatten(&raw)) {
            return Err(format!("at the end, the branches do not hold what the union shows:\n{text}"));
        }
        remove_all(self.union.root())?;
        remove_all(self.overlay.root())?;
        match fs::symlink_metadata(self.union.root()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => Err(format!("removed, and still there: {other:?}")),
        }
    }
}

/// An operation that meets a known difference fails. That nothing was changed is seen by comparing the trees.
fn must_refuse(who: &str, answer: &Answer) -> Result<(), String> {
    match answer {
        Answer::Error(_) | Answer::Nothing => Ok(()),
        answer => Err(format!("{who} answers {answer:?}, and not an error such as {}", Errno::EXDEV)),
    }
}
