//! A program for the kernel's classic BPF machine: what a filter is.
//!
//! The machine is the one of tcpdump: an accumulator of 32 bits, instructions of 8 bytes, jumps that lead
//! forward only (so each program ends). At each call the kernel runs the program on this
//! (`<linux/seccomp.h>`), 32 bits at a time:
//!
//! ```c
//! struct seccomp_data {
//!     int   nr;                   /* the call's number */
//!     __u32 arch;                 /* AUDIT_ARCH_*: whose number it is */
//!     __u64 instruction_pointer;
//!     __u64 args[6];              /* as they stand in the registers: a pointer can't be followed */
//! };
//! ```
//!
//! What the program returns is the action, with 16 bits of data below it. A program never learns anything
//! else: no path, no user, no earlier call. seccomp(2); kernel documentation: [Seccomp
//! BPF](https://docs.kernel.org/userspace-api/seccomp_filter.html), [the
//! machine](https://docs.kernel.org/networking/filter.html).

use std::fmt;

use super::policy::Action;

// ANCHOR: program
/// One instruction: `code`, what it compares with or computes with (`k`), and for a conditional jump how many
/// instructions are jumped over if true (`jt`) and if false (`jf`).
pub type Instruction = libc::sock_filter;

/// A filter: [`super::compile`] makes one, [`super::install`] gives it to the kernel.
#[derive(Clone, Debug)]
pub struct Program(pub Vec<Instruction>);

/// The kernel takes no longer one (BPF_MAXINSNS).
pub const MOST_INSTRUCTIONS: usize = 4096;
// ANCHOR_END: program

/// Where the number stands in `seccomp_data`.
pub(super) const NUMBER: u32 = 0;
/// Where the architecture stands.
pub(super) const ARCHITECTURE: u32 = 4;
/// Where the arguments stand: six of 8 bytes.
pub(super) const ARGUMENTS: u32 = 16;

// ANCHOR: instructions
/// An instruction's code: its class, and what is done in it. These are all that a filter of ours has. The
/// kernel keeps a bitmap of the calls that a filter always allows, so that it need not run for them (Linux
/// 5.11); to find them it follows these instructions, as long as they load nothing but number and
/// architecture, and gives up at any other.
pub(super) mod code {
    const BPF_LD_W_ABS: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    /// `A = seccomp_data[k]`
    pub const LOAD: u16 = BPF_LD_W_ABS as u16;
    /// `A &= k`
    pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    /// Over the next `k` instructions.
    pub const GOTO: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
    /// `A == k`
    pub const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    /// `A > k`, without sign
    pub const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    /// `A >= k`, without sign
    pub const GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    /// The action `k`.
    pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
}

/// What a program returns for this action.
pub(super) fn returned(action: Action) -> u32 {
    match action {
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Trace(number) => libc::SECCOMP_RET_TRACE | u32::from(number),
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Allow => libc::SECCOMP_RET_ALLOW,
    }
}
// ANCHOR_END: instructions

// ANCHOR: disassembly
impl fmt::Display for Program {
    /// One instruction on a line; jumps are shown with the number of the line to which they lead.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        for (index, instruction) in self.0.iter().enumerate() {
            let Instruction { code, jt, jf, k } = *instruction;
            let after = |over: u32| index as u32 + 1 + over;
            let comparison = match code {
                code::EQUAL => "==",
                code::GREATER => ">",
                code::GREATER_OR_EQUAL => ">=",
                _ => "",
            };
            write!(formatter, "{index:4}  ")?;
            match code {
                code::LOAD => writeln!(formatter, "A = {}", field(k)),
                code::AND => writeln!(formatter, "A &= {k:#x}"),
                code::GOTO => writeln!(formatter, "goto {}", after(k)),
                code::RETURN => writeln!(formatter, "return {}", action_name(k)),
                _ if !comparison.is_empty() => {
                    let (yes, no) = (after(jt.into()), after(jf.into()));
                    writeln!(formatter, "if A {comparison} {k:#x} goto {yes} else {no}")
                }
                _ => writeln!(formatter, "code {code:#x} jt {jt} jf {jf} k {k:#x}"),
            }?;
        }
        Ok(())
    }
}

/// What stands at this place of `seccomp_data`.
fn field(offset: u32) -> String {
    match offset {
        NUMBER => "nr".to_string(),
        ARCHITECTURE => "arch".to_string(),
        ARGUMENTS.. => {
            let argument = (offset - ARGUMENTS) / 8;
            let is_upper = (offset % 8 == 0) == cfg!(target_endian = "big");
            format!("args[{argument}] {}", if is_upper { "upper half" } else { "lower half" })
        }
        _ => format!("data[{offset}]"),
    }
}

/// As the kernel names the action that is returned.
fn action_name(returned: u32) -> String {
    let data = returned & libc::SECCOMP_RET_DATA;
    let name = match returned & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_KILL_PROCESS => "KILL_PROCESS",
        libc::SECCOMP_RET_KILL_THREAD => "KILL_THREAD",
        libc::SECCOMP_RET_TRAP => "TRAP",
        libc::SECCOMP_RET_ERRNO => return format!("ERRNO({data})"),
        libc::SECCOMP_RET_USER_NOTIF => "USER_NOTIF",
        libc::SECCOMP_RET_TRACE => return format!("TRACE({data})"),
        libc::SECCOMP_RET_LOG => "LOG",
        libc::SECCOMP_RET_ALLOW => "ALLOW",
        _ => return format!("{returned:#x}"),
    };
    name.to_string()
}
// ANCHOR_END: disassembly
