//! Instructions, written from the last to the first.
//!
//! A conditional jump has 8 bits for each of its two distances, and all jumps lead forward. Written
//! backwards, a program knows the place of all that an instruction can jump to, so each distance is known at
//! once, and what is farther away than 255 instructions gets a `goto` (of 32 bits) close by.

use std::collections::HashMap;

use super::super::policy::Action;
use super::super::program::{Instruction, Program, code, returned};

// ANCHOR: assembler
/// A program in the making.
#[derive(Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// Where an action is returned: the place that was written last.
    returns: HashMap<u32, Label>,
}

/// An instruction that is written: how many there were from it to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// How far a conditional jump leads.
const FARTHEST: usize = u8::MAX as usize;

impl Assembler {
    fn push(&mut self, code: u16, k: u32, jt: usize, jf: usize) -> Label {
        self.reversed.push(Instruction { code, jt: jt as u8, jf: jf as u8, k });
        Label(self.reversed.len())
    }

    /// How many instructions the next one to be written would have to jump over.
    fn over(&self, to: Label) -> usize {
        self.reversed.len() - to.0
    }

    /// Returns the action.
    pub(super) fn action(&mut self, action: Action) -> Label {
        let value = returned(action);
        match self.returns.get(&value) {
            Some(label) => *label,
            None => self.return_value(value),
        }
    }

    fn return_value(&mut self, value: u32) -> Label {
        let label = self.push(code::RETURN, value, 0, 0);
        self.returns.insert(value, label);
        label
    }

    /// Something close by that is as good as `to`: a `goto`, or where an action is returned, the same once
    /// more, which is as long.
    fn relay(&mut self, to: Label) -> Label {
        let target = self.reversed[to.0 - 1];
        match target.code {
            code::RETURN => self.return_value(target.k),
            _ => self.push(code::GOTO, self.over(to) as u32, 0, 0),
        }
    }

    /// Compares the accumulator with `k`.
    pub(super) fn compare(&mut self, comparison: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // Each relay moves the other one away by an instruction, so it is looked at again.
        while self.over(yes) > FARTHEST || self.over(no) > FARTHEST {
            match self.over(yes) > FARTHEST {
                true => yes = self.relay(yes),
                false => no = self.relay(no),
            }
        }
        self.push(comparison, k, self.over(yes), self.over(no))
    }

    /// Loads 32 bits of `seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next);
        self.push(code::LOAD, offset, 0, 0)
    }

    /// Masks the accumulator, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.before(next);
        self.push(code::AND, mask, 0, 0)
    }

    /// Makes `next` what an instruction that doesn't jump falls into.
    fn before(&mut self, next: Label) {
        if self.over(next) != 0 {
            self.relay(next);
        }
    }

    /// In the order in which it runs; the last instruction that was written is the first.
    pub(super) fn finish(mut self) -> Program {
        self.reversed.reverse();
        Program(self.reversed)
    }
}
// ANCHOR_END: assembler
