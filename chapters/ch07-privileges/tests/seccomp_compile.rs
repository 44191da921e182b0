//! Compiled filters do what the policy says: run by a machine of our own, against the policy read directly.

mod seccomp_machine;

use ch07_privileges::capabilities::CapabilitySet;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::compile::compile_for;
use ch07_privileges::seccomp::policy::{Action, Condition, Machine, Operator, Rule};
use ch07_privileges::seccomp::program::Instruction;
use ch07_privileges::seccomp::syscalls::name;
use ch07_privileges::seccomp::{Policy, Template};
use seccomp_machine::libseccomp::Libseccomp;
use seccomp_machine::{Call, VALUES, check, decide, is_always_allowed, returned, run};

fn simple(default: Action, architectures: &[Architecture], rules: Vec<Rule>) -> Policy {
    Policy { default, architectures: architectures.to_vec(), flags: Vec::new(), rules }
}

fn rule_for(name: &str, action: Action, conditions: &[Condition]) -> Rule {
    Rule { names: vec![name.to_string()], action, conditions: conditions.to_vec() }
}

fn when(argument: u8, operator: Operator, value: u64) -> Condition {
    Condition { argument, operator, value, value_two: 0 }
}

fn docker(architecture: Architecture) -> Policy {
    let machine = Machine { architecture: Some(architecture), kernel: (6, 12) };
    Template::default_policy().policy_on(machine, CapabilitySet::DEFAULT)
}

/// What happens on x86_64.
fn outcome(policy: &Policy, number: u32, arguments: [u64; 6]) -> u32 {
    let program = compile_for(policy, Architecture::X86_64).unwrap().0;
    run(&program, &Call { number, audit: 0xc000_003e, arguments }, false)
}

#[test]
fn jumps_lead_farther_than_255_instructions() {
    // For each call of the kernel another errno, on a condition of its own.
    for architecture in [Architecture::X86_64, Architecture::S390x] {
        let names: Vec<String> = (0..500).filter_map(|number| name(architecture, number)).collect();
        let rules = names.iter().enumerate().map(|(index, name)| {
            rule_for(
                name,
                Action::Errno(index as u16 + 1),
                &[when(index as u8 % 6, Operator::Greater, index as u64)],
            )
        });
        let policy = simple(Action::KillProcess, &[], rules.collect());
        let program = compile_for(&policy, architecture).unwrap().0;
        assert!(program.len() > 2000, "{}", program.len());
        for number in (0..520).step_by(5) {
            for value in [0, u64::from(number), u64::MAX, 1 << 32] {
                let call = Call { number, audit: architecture.audit(), arguments: [value; 6] };
                check(&policy, architecture, &program, &call);
            }
        }
    }
}

#[test]
fn a_filter_that_is_too_long_for_the_kernel_is_refused() {
    let conditions =
        (0..2000).map(|value| rule_for("read", Action::Allow, &[when(0, Operator::Equal, value)]));
    let policy = simple(Action::Errno(1), &[], conditions.collect());
    let error = compile_for(&policy, Architecture::X86_64).unwrap_err().to_string();
    assert!(error.contains("the kernel takes 4096"), "{error}");
}

#[test]
fn an_argument_that_no_call_has_is_refused() {
    let policy =
        simple(Action::Allow, &[], vec![rule_for("read", Action::Trap, &[when(6, Operator::Equal, 0)])]);
    let error = compile_for(&policy, Architecture::X86_64).unwrap_err().to_string();
    assert!(error.contains("argument 6"), "{error}");
}

#[test]
fn a_rule_without_conditions_decides_wherever_it_stands() {
    let with = rule_for("read", Action::Errno(2), &[when(0, Operator::Equal, 5)]);
    let without = rule_for("read", Action::Errno(3), &[]);
    let last = rule_for("read", Action::Errno(4), &[]);
    let policy = simple(Action::Allow, &[], vec![with, without, last]);
    assert_eq!(outcome(&policy, 0, [5, 0, 0, 0, 0, 0]), 0x5_0003);
}

#[test]
fn of_rules_with_conditions_the_first_that_matches_decides() {
    let wide = rule_for("read", Action::Errno(2), &[when(0, Operator::GreaterOrEqual, 3)]);
    let narrow = rule_for("read", Action::Errno(3), &[when(0, Operator::Equal, 5)]);
    let policy = simple(Action::Allow, &[], vec![wide.clone(), narrow.clone()]);
    assert_eq!(outcome(&policy, 0, [5, 0, 0, 0, 0, 0]), 0x5_0002);
    let policy = simple(Action::Allow, &[], vec![narrow, wide]);
    assert_eq!(outcome(&policy, 0, [5, 0, 0, 0, 0, 0]), 0x5_0003);
}

#[test]
fn one_of_two_conditions_on_the_same_argument_is_enough() {
    let both = [when(0, Operator::Equal, 5), when(1, Operator::Equal, 6)];
    let policy = simple(Action::Errno(1), &[], vec![rule_for("read", Action::Allow, &both)]);
    assert_eq!(outcome(&policy, 0, [5, 7, 0, 0, 0, 0]), 0x5_0001);
    assert_eq!(outcome(&policy, 0, [5, 6, 0, 0, 0, 0]), 0x7fff_0000);
    let same = [when(0, Operator::Equal, 5), when(0, Operator::Equal, 8), when(1, Operator::Equal, 6)];
    let policy = simple(Action::Errno(1), &[], vec![rule_for("read", Action::Allow, &same)]);
    for first in [5, 8] {
        assert_eq!(outcome(&policy, 0, [first, 0, 0, 0, 0, 0]), 0x7fff_0000);
    }
    assert_eq!(outcome(&policy, 0, [4, 6, 0, 0, 0, 0]), 0x7fff_0000);
    assert_eq!(outcome(&policy, 0, [4, 0, 0, 0, 0, 0]), 0x5_0001);
}

#[test]
fn a_rule_whose_action_is_the_default_is_none() {
    let denied = rule_for("read", Action::Errno(1), &[when(0, Operator::Equal, 5)]);
    let allowed = rule_for("read", Action::Allow, &[when(0, Operator::GreaterOrEqual, 3)]);
    let policy = simple(Action::Errno(1), &[], vec![denied, allowed]);
    assert_eq!(outcome(&policy, 0, [5, 0, 0, 0, 0, 0]), 0x7fff_0000);
}

#[test]
fn a_call_newer_than_the_policy_returns_enosys() {
    // The newest is named by a rule that is none, since its action is the default.
    let rules = vec![rule_for("read", Action::Allow, &[]), rule_for("faccessat2", Action::Errno(1), &[])];
    let policy = simple(Action::Errno(1), &[], rules.clone());
    assert_eq!(outcome(&policy, 439, [0; 6]), 0x5_0001);
    assert_eq!(outcome(&policy, 440, [0; 6]), 0x5_0026);
    assert_eq!(outcome(&policy, u32::MAX, [0; 6]), 0x5_0026);
    for (default, result) in
        [(Action::KillProcess, 0x5_0026), (Action::Trap, 0x5_0026), (Action::Log, 0x7ffc_0000)]
    {
        assert_eq!(outcome(&simple(default, &[], rules.clone()), 440, [0; 6]), result);
    }
    assert_eq!(outcome(&simple(Action::Errno(1), &[], Vec::new()), 440, [0; 6]), 0x5_0001);
}

#[test]
fn x32_is_told_from_x86_64_by_a_bit_of_the_number() {
    let allow = vec![rule_for("read", Action::Allow, &[])];
    let policy = simple(Action::Errno(1), &[], allow.clone());
    assert_eq!(outcome(&policy, 0x4000_0000, [0; 6]), 0x8000_0000);
    assert_eq!(
        outcome(&policy, u32::MAX, [0; 6]),
        0x5_0026,
        "a tracer's mark that the call is to be skipped"
    );
    let policy = simple(Action::Errno(1), &[Architecture::X32], allow);
    assert_eq!(outcome(&policy, 0x4000_0000, [0; 6]), 0x7fff_0000);
    assert_eq!(outcome(&policy, 0x4000_0001, [0; 6]), 0x5_0026);
}

#[test]
fn a_call_behind_socketcall_is_refused_where_its_arguments_would_decide() {
    let call = |number, what| Call { number, audit: 0x4000_0003, arguments: [what, 0xbfff_0000, 0, 0, 0, 0] };
    let x86 = [Architecture::X86];
    let socket = 359;
    let socketcall = 102;
    // Mild: allowed for AF_UNIX alone; behind socketcall, not at all.
    let mild = rule_for("socket", Action::Allow, &[when(0, Operator::Equal, 1)]);
    let policy = simple(Action::Errno(1), &x86, vec![mild, rule_for("bind", Action::Allow, &[])]);
    let program = compile_for(&policy, Architecture::X86_64).unwrap().0;
    assert_eq!(run(&program, &call(socket, 1), false), 0x7fff_0000);
    assert_eq!(run(&program, &call(socketcall, 1), false), 0x5_0001);
    assert_eq!(run(&program, &call(socketcall, 2), false), 0x7fff_0000, "bind hangs on nothing");
    // Strict: refused for AF_VSOCK; behind socketcall, for all.
    let strict = rule_for("socket", Action::Errno(97), &[when(0, Operator::Equal, 40)]);
    let program = compile_for(&simple(Action::Allow, &x86, vec![strict]), Architecture::X86_64).unwrap().0;
    assert_eq!(run(&program, &call(socket, 1), false), 0x7fff_0000);
    assert_eq!(run(&program, &call(socketcall, 1), false), 0x5_0061);
    assert_eq!(run(&program, &call(socketcall, 2), false), 0x7fff_0000);
    // Of a 64-bit register the kernel takes an int.
    let strict = rule_for("socket", Action::Errno(97), &[]);
    let program = compile_for(&simple(Action::Allow, &[], vec![strict]), Architecture::S390x).unwrap().0;
    for what in [1, 1 + (1 << 32)] {
        let call =
            Call { number: socketcall, audit: Architecture::S390x.audit(), arguments: [what, 0, 0, 0, 0, 0] };
        assert_eq!(run(&program, &call, true), 0x5_0061);
    }
}

#[test]
fn the_kernel_need_not_run_dockers_policy_for_what_it_always_allows() {
    for architecture in Architecture::all() {
        let policy = docker(architecture);
        let program = compile_for(&policy, architecture).unwrap().0;
        let audit = architecture.audit();
        let mut always = 0;
        for number in
            (0..1000).map(|number| number + if architecture == Architecture::X32 { 0x4000_0000 } else { 0 })
        {
            let named = name(architecture, number);
            let rules = policy
                .rules
                .iter()
                .filter(|rule| named.as_ref().is_some_and(|name| rule.names.contains(name)));
            let is_allowed =
                rules.clone().any(|rule| rule.conditions.is_empty() && rule.action == Action::Allow);
            assert_eq!(is_always_allowed(&program, number, audit), is_allowed, "{architecture} {named:?}");
            always += usize::from(is_allowed);
        }
        assert!(always > 250 || architecture.to_string().contains("MIPS"), "{architecture}: {always}");
    }
}

#[test]
fn each_line_of_the_disassembly_is_an_instruction_in_words() {
    let clone = Condition { argument: 0, operator: Operator::MaskedEqual, value: 0x7e02_0000, value_two: 0 };
    let policy = simple(Action::Errno(1), &[], vec![rule_for("clone", Action::Allow, &[clone])]);
    let text = compile_for(&policy, Architecture::X86_64).unwrap().to_string();
    println!("{text}");
    assert!(text.starts_with("   0  A = arch\n   1  if A == 0xc000003e goto "), "{text}");
    assert!(text.contains("A = args[0] lower half\n"), "{text}");
    assert!(text.contains("A &= 0x7e020000\n") && text.contains("return ERRNO(1)\n"), "{text}");
}

#[test]
fn libseccomp_decides_the_same_for_dockers_policy() {
    testing::needs!(Library(seccomp_machine::libseccomp::LIBRARY));
    let libseccomp = Libseccomp::load().unwrap();
    let Some(native) = Architecture::native() else { return };
    let mut policy = docker(native);
    // What an older libseccomp doesn't know, it leaves to the default.
    policy.rules.iter_mut().for_each(|rule| rule.names.retain(|name| libseccomp.knows(name)));
    let ours = compile_for(&policy, native).unwrap().0;
    let conditions = |number: u32, architecture| {
        let name = name(architecture, number).unwrap_or_default();
        let of = |rule: &Rule| rule.names.contains(&name) && !rule.conditions.is_empty();
        policy.rules.iter().any(of) || ["socketcall", "ipc"].contains(&name.as_str())
    };
    for theirs in [libseccomp.compile(&policy, false), libseccomp.compile(&policy, true)] {
        let (mut compared, mut other_numbers) = (0, Vec::new());
        for architecture in &policy.architectures {
            let first = if *architecture == Architecture::X32 { 0x4000_0000 } else { 0 };
            for number in first..first + 600 {
                if let Some(name) = name(*architecture, number)
                    && !libseccomp.agrees(*architecture, &name, number)
                {
                    other_numbers.push(name);
                    continue;
                }
                let values: Vec<u64> = match conditions(number, *architecture) {
                    true => {
                        VALUES.into_iter().chain(0..64).chain([0x2_0000, 0x2_0008, 0x1000_0000]).collect()
                    }
                    false => vec![0, u64::MAX],
                };
                for value in values {
                    // Of x32's arguments libseccomp looks at the lower half alone; the kernel's x32 calls
                    // take both.
                    let value = if first == 0 { value } else { value & 0xffff_ffff };
                    let arguments = [value, value ^ 1, 0, 0, 0, 0];
                    let call = Call { number, audit: architecture.audit(), arguments };
                    let run = |program: &[Instruction]| run(program, &call, architecture.is_big_endian());
                    let (our, their) = (run(&ours), run(&theirs));
                    // runc's addition: libseccomp itself has the default there.
                    let newer = returned(Action::Errno(38));
                    let is_newer = || our == newer && decide(&policy, native, &call) == Action::Errno(38);
                    assert!(our == their || is_newer(), "{call:x?}: {our:#x}, libseccomp {their:#x}");
                    compared += 1;
                }
            }
        }
        let lengths = format!("{} instructions, libseccomp's {}", ours.len(), theirs.len());
        println!("{lengths}; {compared} calls compared; not those with other numbers: {other_numbers:?}");
    }
}
