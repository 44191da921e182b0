//! Random policies and random calls: the compiled filter does what the policy says, read directly.

mod seccomp_machine;

use ch07_privileges::seccomp::Policy;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::compile::compile_for;
use ch07_privileges::seccomp::policy::{Action, Condition, Operator, Rule};
use ch07_privileges::seccomp::syscalls::number;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use seccomp_machine::{Call, VALUES, check};

/// Calls of all kinds: with and without a number of their own, behind others, of one architecture, new,
/// unknown.
const NAMES: [&str; 26] = [
    "read",
    "write",
    "open",
    "openat",
    "close",
    "clone",
    "clone3",
    "socket",
    "bind",
    "sendmsg",
    "accept4",
    "send",
    "socketcall",
    "ipc",
    "semop",
    "semget",
    "shmat",
    "msgsnd",
    "personality",
    "arch_prctl",
    "exit",
    "getppid",
    "cachestat",
    "cacheflush",
    "set_tls",
    "no_such_call",
];

const ACTIONS: [Action; 10] = [
    Action::KillProcess,
    Action::KillThread,
    Action::Trap,
    Action::Errno(1),
    Action::Errno(38),
    Action::Notify,
    Action::Trace(7),
    Action::Log,
    Action::Allow,
    Action::Allow,
];

const OPERATORS: [Operator; 7] = [
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Equal,
    Operator::GreaterOrEqual,
    Operator::Greater,
    Operator::MaskedEqual,
];

prop_compose! {
    fn condition()(
        argument in prop_oneof![3 => Just(0_u8), 1 => 0_u8..6],
        operator in select(&OPERATORS),
        value in select(&VALUES),
        value_two in select(&VALUES),
    ) -> Condition {
        Condition { argument, operator, value, value_two }
    }
}

prop_compose! {
    fn rule()(
        names in prop::collection::vec(select(&NAMES), 1..5),
        action in select(&ACTIONS),
        conditions in prop_oneof![Just(Vec::new()), prop::collection::vec(condition(), 0..4)],
    ) -> Rule {
        Rule { names: names.into_iter().map(str::to_string).collect(), action, conditions }
    }
}

prop_compose! {
    fn policy()(
        default in select(&ACTIONS),
        architectures in subsequence(Architecture::all().collect::<Vec<_>>(), 0..6),
        rules in prop::collection::vec(rule(), 0..12),
    ) -> Policy {
        Policy { default, architectures, flags: Vec::new(), rules }
    }
}

/// An argument at or beside a boundary.
fn argument() -> impl Strategy<Value = u64> {
    let near = (select(&VALUES), -1_i64..=1).prop_map(|(value, step)| value.wrapping_add_signed(step));
    prop_oneof![3 => near, 1 => any::<u64>(), 1 => 0_u64..32]
}

/// A number at or beside one that has a name, or at an end.
fn near_a_number(architecture: Architecture) -> impl Strategy<Value = u32> {
    let numbers: Vec<u32> = NAMES.iter().filter_map(|name| number(architecture, name)).collect();
    let numbers = if numbers.is_empty() { vec![0] } else { numbers };
    let near = (select(numbers), -1_i32..=1).prop_map(|(number, step)| number.wrapping_add_signed(step));
    let ends = select(vec![0, 0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x7fff_ffff, u32::MAX - 1, u32::MAX]);
    prop_oneof![8 => near, 1 => ends, 1 => any::<u32>()]
}

prop_compose! {
    fn call()(
        architecture in select(Architecture::all().collect::<Vec<_>>()),
    )(
        number in near_a_number(architecture),
        arguments in prop::array::uniform6(argument()),
        audit in prop_oneof![20 => Just(architecture.audit()), 1 => any::<u32>()],
    ) -> Call {
        Call { number, audit, arguments }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_does_what_its_policy_says(
        policy in policy(),
        native in select(Architecture::all().collect::<Vec<_>>()),
        calls in prop::collection::vec(call(), 32),
    ) {
        let program = compile_for(&policy, native).unwrap().0;
        for mut call in calls {
            check(&policy, native, &program, &call);
            // Most architectures are not in the policy: once more through one that is.
            for architecture in [native].iter().chain(&policy.architectures) {
                call.audit = architecture.audit();
                check(&policy, native, &program, &call);
            }
        }
    }
}
