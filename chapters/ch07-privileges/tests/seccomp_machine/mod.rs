//! The kernel's classic BPF machine, and what a policy means, both written anew: against them the compiler is
//! held.
#![allow(dead_code)] // Each test uses a part of it.

pub mod libseccomp;

use ch07_privileges::seccomp::Policy;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::policy::{Action, Rule};
use ch07_privileges::seccomp::program::Instruction;
use ch07_privileges::seccomp::syscalls::number;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: u32,
    pub audit: u32,
    pub arguments: [u64; 6],
}

/// What the program returns for the call, on a kernel with this order of bytes.
///
/// # Panics
/// Where the kernel would not take the program: a jump over its end, an instruction that seccomp doesn't
/// have.
pub fn run(program: &[Instruction], call: &Call, is_big_endian: bool) -> u32 {
    let halves = |value: u64| {
        let (upper, lower) = ((value >> 32) as u32, value as u32);
        if is_big_endian { [upper, lower] } else { [lower, upper] }
    };
    let mut data = vec![call.number, call.audit, 0x1234, 0x5678];
    data.extend(call.arguments.into_iter().flat_map(halves));
    let (mut a, mut at) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |is_true: bool| usize::from(if is_true { jt } else { jf });
        match code {
            0x20 => {
                assert_eq!(k % 4, 0);
                a = data[k as usize / 4];
            }
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x06 => return k,
            other => panic!("code {other:#x}"),
        }
    }
}

/// What the kernel's `seccomp_is_const_allow` says of the call: whether it will not run the filter for it.
pub fn is_always_allowed(program: &[Instruction], number: u32, audit: u32) -> bool {
    let (mut a, mut at) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |is_true: bool| usize::from(if is_true { jt } else { jf });
        match (code, k) {
            (0x20, 0) => a = number,
            (0x20, 4) => a = audit,
            (0x06, _) => return k == 0x7fff_0000,
            (0x05, _) => at += k as usize,
            (0x15, _) => at += jump(a == k),
            (0x35, _) => at += jump(a >= k),
            (0x25, _) => at += jump(a > k),
            (0x45, _) => at += jump(a & k != 0),
            (0x54, _) => a &= k,
            _ => return false,
        }
    }
}

/// What the kernel gets for an action: seccomp(2).
pub fn returned(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Notify => 0x7fc0_0000,
        Action::Trace(number) => 0x7ff0_0000 | u32::from(number),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

/// What the policy says of the call, on a machine whose own architecture is `native`.
pub fn decide(policy: &Policy, native: Architecture, call: &Call) -> Action {
    const BIT: u32 = 0x4000_0000;
    let x86_64 = Architecture::X86_64.audit();
    let listed: Vec<Architecture> = policy.architectures.iter().copied().chain([native]).collect();
    let is_through = |architecture: &&Architecture| {
        let is_x32 = **architecture == Architecture::X32;
        architecture.audit() == call.audit
            && (call.audit != x86_64 || is_x32 == (call.number >= BIT))
            && !(is_x32 && call.number == u32::MAX && listed.contains(&Architecture::X86_64))
    };
    let through = listed.iter().find(is_through);
    let no_call = (call.audit, call.number) == (x86_64, u32::MAX) && listed.contains(&Architecture::X86_64);
    let Some(architecture) = through.or(no_call.then_some(&Architecture::X86_64)) else {
        return Action::KillProcess;
    };
    let rules: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.action != policy.default).collect();
    let has = |rule: &Rule| rule.names.iter().any(|name| number(*architecture, name) == Some(call.number));
    if let Some(action) = first(rules.iter().copied().filter(|rule| has(rule)), *architecture, call) {
        return action;
    }
    if let Some(action) = behind(policy, *architecture, call) {
        return action;
    }
    let multiplexed = |name: &str| match name {
        name if SOCKETS.split_whitespace().any(|known| known == name) => Some("socketcall"),
        name if IPC.split_whitespace().any(|known| known == name) => Some("ipc"),
        _ => None,
    };
    let names = policy.rules.iter().flat_map(|rule| &rule.names).map(String::as_str);
    let names = names.clone().chain(names.filter_map(multiplexed));
    let numbers = names.filter_map(|name| number(*architecture, name));
    let newest = numbers.filter(|number| *number < 0xf_0000 || *architecture != Architecture::Arm).max();
    let is_mild = matches!(policy.default, Action::Allow | Action::Log | Action::Trace(_));
    let is_s390s_zero = matches!(architecture, Architecture::S390 | Architecture::S390x) && call.number == 0;
    match newest {
        Some(newest) if !is_mild && (call.number > newest || is_s390s_zero) => {
            Action::Errno(libc::ENOSYS as u16)
        }
        _ => policy.default,
    }
}

/// The rule that decides, of those for this call.
fn first<'a>(rules: impl Iterator<Item = &'a Rule>, of: Architecture, call: &Call) -> Option<Action> {
    let rules: Vec<&Rule> = rules.collect();
    let whole = rules.iter().find(|rule| rule.conditions.is_empty());
    let matching = rules.iter().find(|rule| matches(rule, of, call));
    whole.or(matching).map(|rule| rule.action)
}

fn matches(rule: &Rule, architecture: Architecture, call: &Call) -> bool {
    let mut arguments: Vec<u8> = rule.conditions.iter().map(|condition| condition.argument).collect();
    arguments.sort();
    arguments.dedup();
    let mut hold = rule.conditions.iter().map(|condition| {
        let mut condition = *condition;
        let mut argument = call.arguments[usize::from(condition.argument)];
        if !architecture.is_64_bit() {
            argument &= 0xffff_ffff;
            condition.value &= 0xffff_ffff;
            condition.value_two &= 0xffff_ffff;
        }
        condition.holds(argument)
    });
    match arguments.len() == rule.conditions.len() {
        true => hold.all(|holds| holds),
        false => hold.any(|holds| holds),
    }
}

/// The names behind socketcall and ipc, in the order of their numbers from 1; `-` where there is none.
const SOCKETS: &str = "socket bind connect listen accept getsockname getpeername socketpair send recv sendto \
    recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
const IPC: &str = "semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - shmat \
    shmdt shmget shmctl";

fn behind(policy: &Policy, architecture: Architecture, call: &Call) -> Option<Action> {
    let what = call.arguments[0] as u32;
    let (names, what) = match Some(call.number) {
        number if number == self::number(architecture, "socketcall") => (SOCKETS, what),
        number if number == self::number(architecture, "ipc") => (IPC, what & 0xffff),
        _ => return None,
    };
    let name = names.split_whitespace().nth((what as usize).checked_sub(1)?)?;
    let rules = policy.rules.iter().filter(|rule| rule.action != policy.default);
    let rules: Vec<&Rule> = rules.filter(|rule| rule.names.iter().any(|other| other == name)).collect();
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return Some(rule.action);
    }
    // From the mildest to the strictest, as seccomp(2) has them the other way round.
    let strictness = |action: Action| match action {
        Action::KillProcess => 7,
        Action::KillThread => 6,
        Action::Trap => 5,
        Action::Errno(_) => 4,
        Action::Notify => 3,
        Action::Trace(_) => 2,
        Action::Log => 1,
        Action::Allow => 0,
    };
    let stricter = rules.iter().map(|rule| rule.action);
    let stricter = stricter.filter(|action| strictness(*action) > strictness(policy.default));
    stricter.reduce(|one, other| if strictness(other) > strictness(one) { other } else { one })
}

/// Around the ends of the halves.
pub const VALUES: [u64; 14] = [
    0,
    1,
    2,
    40,
    0x7e02_0000,
    0xffff,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 40,
    0x1234_5678_9abc_def0,
    u64::MAX - 1,
    u64::MAX,
];

/// Holds the program against the policy, for this call.
#[track_caller]
pub fn check(policy: &Policy, native: Architecture, program: &[Instruction], call: &Call) {
    let is_big_endian = call.audit & 0x4000_0000 == 0;
    let (is, should_be) = (run(program, call, is_big_endian), decide(policy, native, call));
    assert_eq!(is, returned(should_be), "{call:x?}: {is:#x}, not {should_be:?}");
    if is_always_allowed(program, call.number, call.audit) {
        assert_eq!(is, returned(Action::Allow));
    }
}
