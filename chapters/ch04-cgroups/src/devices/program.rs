//! The rules as a program for the kernel's eBPF machine.
//!
//! The machine has eleven registers of 64 bits and instructions of 8 bytes. Before the kernel takes a program
//! it verifies it: each instruction can be reached, jumps lead forward, no memory but the argument's is read,
//! and the program ends with 0 (deny) or 1 (allow) in register 0. Then it runs in the kernel, at each open and
//! each mknod of a device node, with the address of this in register 1 (`<linux/bpf.h>`):
//!
//! ```c
//! struct bpf_cgroup_dev_ctx {
//!     __u32 access_type; /* (BPF_DEVCG_ACC_* << 16) | BPF_DEVCG_DEV_* */
//!     __u32 major;
//!     __u32 minor;
//! };
//! ```
//!
//! An open may ask for two accesses at once, reading and writing, and different rules may decide them. So the
//! program keeps the accesses that are still undecided, and walks through the rules from the last to the
//! first: a rule that denies one of them ends with 0, a rule that allows some takes them off, and when none
//! is left it ends with 1. (runc and crun compare whole accesses instead: there `deny c 1:5 w` does not stop
//! an open for reading *and* writing.)
//!
//! [Instruction set](https://docs.kernel.org/bpf/standardization/instruction-set.html).

use super::{Access, Kind, Rule};

// ANCHOR: instruction
/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instruction {
    operation: u8,
    /// Two numbers of 4 bits: destination and source.
    registers: u8,
    /// Of memory: bytes from the source's address. Of a jump: instructions, from the next one on.
    offset: i16,
    immediate: i32,
}
// ANCHOR_END: instruction

// ANCHOR: program
type Register = u8;
const VERDICT: Register = 0;
const ARGUMENT: Register = 1;
const KIND: Register = 2;
const UNDECIDED: Register = 3;
const MAJOR: Register = 4;
const MINOR: Register = 5;

/// The program that answers as `rules` do.
pub fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, ARGUMENT, 0),
        and(KIND, 0xffff),
        load(UNDECIDED, ARGUMENT, 0),
        shift_right(UNDECIDED, 16),
        load(MAJOR, ARGUMENT, 4),
        load(MINOR, ARGUMENT, 8),
    ];
    for rule in rules.iter().rev().filter(|rule| !rule.access.is_empty()) {
        let conditions = conditions(rule);
        let verdict = verdict(rule);
        for (index, (register, value)) in conditions.iter().enumerate() {
            let to_next_rule = conditions.len() - index - 1 + verdict.len();
            program.push(jump_if_not_equal(*register, *value, to_next_rule as i16));
        }
        program.extend(&verdict);
        if conditions.is_empty() && rule.access == Access::ALL {
            // It decides all that is left. The verifier rejects instructions that can't be reached.
            return program;
        }
    }
    program.extend([set(VERDICT, 0), exit()]);
    program
}

/// What must hold for the rule to match: registers and their values.
fn conditions(rule: &Rule) -> Vec<(Register, u32)> {
    const BPF_DEVCG_DEV_BLOCK: u32 = 1;
    const BPF_DEVCG_DEV_CHAR: u32 = 2;
    let kind = match rule.devices.kind {
        Kind::All => None,
        Kind::Block => Some(BPF_DEVCG_DEV_BLOCK),
        Kind::Character => Some(BPF_DEVCG_DEV_CHAR),
    };
    [(KIND, kind), (MAJOR, rule.devices.major), (MINOR, rule.devices.minor)]
        .into_iter()
        .filter_map(|(register, value)| Some((register, value?)))
        .collect()
}

/// What a rule does that matches.
fn verdict(rule: &Rule) -> Vec<Instruction> {
    let mask = i32::from(rule.access.bits());
    let end = [set(VERDICT, rule.allow.into()), exit()];
    let over_the_end = end.len() as i16;
    let condition = match (rule.access, rule.allow) {
        (Access::ALL, _) => vec![],
        (_, true) => vec![and(UNDECIDED, !mask), jump_if_not_equal(UNDECIDED, 0, over_the_end)],
        (_, false) => {
            vec![copy(VERDICT, UNDECIDED), and(VERDICT, mask), jump_if_equal(VERDICT, 0, over_the_end)]
        }
    };
    [condition.as_slice(), &end].concat()
}
// ANCHOR_END: program

// ANCHOR: instructions
// The instructions. An operation is a class (the lowest three bits) and what is done in it. All compute with
// 32 bits: the numbers of devices have 32, and in 64 an immediate would be extended by its sign.

const BPF_LDX: u8 = 0x01;
const BPF_ALU: u8 = 0x04;
const BPF_JMP: u8 = 0x05;
const BPF_JMP32: u8 = 0x06;
/// The second operand is a register, not the immediate.
const BPF_X: u8 = 0x08;

fn instruction(operation: u8, destination: Register, source: Register) -> Instruction {
    let registers = match cfg!(target_endian = "little") {
        true => source << 4 | destination,
        false => destination << 4 | source,
    };
    Instruction { operation, registers, offset: 0, immediate: 0 }
}

/// `destination = *(u32 *)(source + offset)`
fn load(destination: Register, source: Register, offset: i16) -> Instruction {
    const BPF_MEM_W: u8 = 0x60;
    Instruction { offset, ..instruction(BPF_LDX | BPF_MEM_W, destination, source) }
}

/// `destination = value`
fn set(destination: Register, value: i32) -> Instruction {
    const BPF_MOV: u8 = 0xb0;
    Instruction { immediate: value, ..instruction(BPF_ALU | BPF_MOV, destination, 0) }
}

/// `destination = source`
fn copy(destination: Register, source: Register) -> Instruction {
    const BPF_MOV: u8 = 0xb0;
    instruction(BPF_ALU | BPF_X | BPF_MOV, destination, source)
}

/// `destination &= mask`
fn and(destination: Register, mask: i32) -> Instruction {
    const BPF_AND: u8 = 0x50;
    Instruction { immediate: mask, ..instruction(BPF_ALU | BPF_AND, destination, 0) }
}

/// `destination >>= bits`
fn shift_right(destination: Register, bits: i32) -> Instruction {
    const BPF_RSH: u8 = 0x70;
    Instruction { immediate: bits, ..instruction(BPF_ALU | BPF_RSH, destination, 0) }
}

/// `if (register == value) goto` the instruction behind the `over` next ones
fn jump_if_equal(register: Register, value: u32, over: i16) -> Instruction {
    const BPF_JEQ: u8 = 0x10;
    Instruction { offset: over, immediate: value as i32, ..instruction(BPF_JMP32 | BPF_JEQ, register, 0) }
}

/// `if (register != value) goto` the instruction behind the `over` next ones
fn jump_if_not_equal(register: Register, value: u32, over: i16) -> Instruction {
    const BPF_JNE: u8 = 0x50;
    Instruction { offset: over, immediate: value as i32, ..instruction(BPF_JMP32 | BPF_JNE, register, 0) }
}

/// Ends the program.
fn exit() -> Instruction {
    const BPF_EXIT: u8 = 0x90;
    instruction(BPF_JMP | BPF_EXIT, 0, 0)
}
// ANCHOR_END: instructions
