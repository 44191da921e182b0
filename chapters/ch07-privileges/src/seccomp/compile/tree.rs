//! A balanced search over the numbers.
//!
//! A list of comparisons, one for each of 400 numbers, makes the last call in it the slowest. Here the
//! numbers are cut into ranges of equal outcome, and each comparison halves them: nine for Docker's policy.

use std::collections::HashMap;

use super::super::architecture::Architecture;
use super::super::policy::Action;
use super::super::program::code;
use super::assembler::{Assembler, Label};
use super::conditions::condition;
use super::outcomes::Outcome;

// ANCHOR: ranges
/// What happens to each number, as ranges: a range goes from its first number to the next range's.
pub(super) struct Ranges(Vec<Range>);

struct Range {
    first: u32,
    outcome: Outcome,
}

impl Ranges {
    /// All numbers, with one outcome.
    pub(super) fn all(action: Action) -> Ranges {
        Ranges(vec![Range { first: 0, outcome: Outcome::Always(action) }])
    }

    /// From `first` on, `action`; in the place of what was said of numbers from there on.
    pub(super) fn from(&mut self, first: u32, action: Action) {
        self.push(first, Outcome::Always(action));
    }

    /// The same for `outcome`.
    pub(super) fn one(&mut self, number: u32, outcome: Outcome) {
        self.push(number, outcome);
    }

    fn push(&mut self, first: u32, outcome: Outcome) {
        while self.0.last().is_some_and(|last| last.first >= first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.outcome != outcome) {
            self.0.push(Range { first, outcome });
        }
    }
}
// ANCHOR_END: ranges

// ANCHOR: tree
/// Writes the search over the ranges: it goes on from the number in the accumulator.
pub(super) struct Tree<'a> {
    assembler: &'a mut Assembler,
    architecture: Architecture,
    default: Action,
    /// Alternatives that are written: calls that hang on the same conditions share them.
    written: HashMap<Outcome, Label>,
}

impl Tree<'_> {
    /// Of `architecture`'s conditions: x86_64's and x32's are the same.
    pub(super) fn new(assembler: &mut Assembler, architecture: Architecture, default: Action) -> Tree<'_> {
        Tree { assembler, architecture, default, written: HashMap::new() }
    }

    /// Over all of them.
    pub(super) fn search(&mut self, ranges: &Ranges) -> Label {
        self.part(&ranges.0)
    }

    fn part(&mut self, ranges: &[Range]) -> Label {
        match ranges {
            [] => unreachable!("a part of no ranges"),
            [range] => self.outcome(&range.outcome),
            // A single number with the same on both sides: one comparison instead of two.
            [before, one, after] if before.outcome == after.outcome && after.first - one.first == 1 => {
                let (no, yes) = (self.outcome(&before.outcome), self.outcome(&one.outcome));
                self.assembler.compare(code::EQUAL, one.first, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let (yes, no) = (self.part(high), self.part(low));
                self.assembler.compare(code::GREATER_OR_EQUAL, high[0].first, yes, no)
            }
        }
    }

    fn outcome(&mut self, outcome: &Outcome) -> Label {
        let alternatives = match outcome {
            Outcome::Always(action) => return self.assembler.action(*action),
            Outcome::Depends(alternatives) => alternatives,
        };
        if let Some(label) = self.written.get(outcome) {
            return *label;
        }
        let mut label = self.assembler.action(self.default);
        for alternative in alternatives.iter().rev() {
            let otherwise = label;
            label = self.assembler.action(alternative.action);
            for one in alternative.conditions.iter().rev() {
                label = condition(self.assembler, self.architecture, one, label, otherwise);
            }
        }
        self.written.insert(outcome.clone(), label);
        label
    }
}
// ANCHOR_END: tree
