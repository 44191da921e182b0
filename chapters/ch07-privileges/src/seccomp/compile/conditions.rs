//! Conditions on arguments of 64 bits, for a machine of 32.
//!
//! Each argument is looked at in two halves, the upper one first; which of them comes first in memory is the
//! architecture's order of bytes.
//!
//! On an architecture of 32 bits the lower half alone counts, of the argument and of the value. This is no
//! shortcut: a 64-bit program on x86_64 can make 32-bit calls (`int 0x80`) with whatever it likes in the
//! upper halves of its registers. The call doesn't see them; `seccomp_data` has shown them. A comparison of
//! all 64 bits would let `arg0 == 40` be passed by with 0x1_0000_0028. (It is also how a value of -1, which a
//! policy writes with 64 bits, matches.)

use super::super::architecture::Architecture;
use super::super::policy::{Condition, Operator};
use super::super::program::{ARGUMENTS, code};
use super::assembler::{Assembler, Label};

// ANCHOR: conditions
/// Where the halves of an argument stand in `seccomp_data`.
struct Halves {
    /// None where there is no upper half that counts.
    upper: Option<u32>,
    lower: u32,
}

impl Halves {
    fn of(argument: u8, architecture: Architecture) -> Halves {
        let first = ARGUMENTS + 8 * u32::from(argument);
        let (upper, lower) = match architecture.is_big_endian() {
            true => (first, first + 4),
            false => (first + 4, first),
        };
        Halves { upper: architecture.is_64_bit().then_some(upper), lower }
    }
}

/// Goes on at `yes` where the condition holds, else at `no`.
pub(super) fn condition(
    assembler: &mut Assembler,
    architecture: Architecture,
    condition: &Condition,
    yes: Label,
    no: Label,
) -> Label {
    let Condition { argument, operator, value, value_two } = *condition;
    let halves = Halves::of(argument, architecture);
    match operator {
        Operator::Equal => equal(assembler, &halves, u64::MAX, value, yes, no),
        Operator::NotEqual => equal(assembler, &halves, u64::MAX, value, no, yes),
        Operator::MaskedEqual => equal(assembler, &halves, value, value_two & value, yes, no),
        Operator::Greater => greater(assembler, &halves, code::GREATER, value, yes, no),
        Operator::LessOrEqual => greater(assembler, &halves, code::GREATER, value, no, yes),
        Operator::GreaterOrEqual => greater(assembler, &halves, code::GREATER_OR_EQUAL, value, yes, no),
        Operator::Less => greater(assembler, &halves, code::GREATER_OR_EQUAL, value, no, yes),
    }
}

/// `argument & mask == value`: both halves.
fn equal(assembler: &mut Assembler, halves: &Halves, mask: u64, value: u64, yes: Label, no: Label) -> Label {
    let lower = half_equal(assembler, halves.lower, mask as u32, value as u32, yes, no);
    match halves.upper {
        Some(upper) => half_equal(assembler, upper, (mask >> 32) as u32, (value >> 32) as u32, lower, no),
        None => lower,
    }
}

fn half_equal(assembler: &mut Assembler, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
    match mask {
        0 => yes,
        u32::MAX => {
            let compared = assembler.compare(code::EQUAL, value, yes, no);
            assembler.load(offset, compared)
        }
        _ => {
            let compared = assembler.compare(code::EQUAL, value, yes, no);
            let masked = assembler.and(mask, compared);
            assembler.load(offset, masked)
        }
    }
}

/// `argument > value`, or `>=`, as `comparison` says: the upper half decides, unless it is equal.
fn greater(
    assembler: &mut Assembler,
    halves: &Halves,
    comparison: u16,
    value: u64,
    yes: Label,
    no: Label,
) -> Label {
    let compared = assembler.compare(comparison, value as u32, yes, no);
    let lower = assembler.load(halves.lower, compared);
    let Some(upper) = halves.upper else { return lower };
    let value = (value >> 32) as u32;
    let not_greater = assembler.compare(code::EQUAL, value, lower, no);
    let compared = assembler.compare(code::GREATER, value, yes, not_greater);
    assembler.load(upper, compared)
}
// ANCHOR_END: conditions
