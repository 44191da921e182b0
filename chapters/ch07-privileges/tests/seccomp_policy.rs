//! The policy's text, the names of the OCI runtime specification, the table of calls, and Docker's default.

use std::collections::BTreeSet;

use ch07_privileges::capabilities::{Capability, CapabilitySet};
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::policy::{Action, Condition, Flag, Machine, Operator, Policy, Rule, Template};
use ch07_privileges::seccomp::syscalls::{name, number};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "seccomp_policy/moby.rs"]
mod moby;

const NEW: (u32, u32) = (6, 12);

fn machine(architecture: Architecture, kernel: (u32, u32)) -> Machine {
    Machine { architecture: Some(architecture), kernel }
}

fn capabilities(names: &str) -> CapabilitySet {
    names.split_whitespace().map(|name| name.parse::<Capability>().unwrap()).collect()
}

fn read(text: &str) -> Policy {
    text.parse::<Template>().unwrap().policy_on(machine(Architecture::X86_64, NEW), CapabilitySet::EMPTY)
}

// ---- Docker's default ---------------------------------------------------------------------------

/// The profile of the Docker Engine, which has changed since the version that is kept here. Who brings
/// default.policy up to date names the newest by SECCOMP_PROFILE.
fn profile() -> Value {
    if let Ok(path) = std::env::var("SECCOMP_PROFILE") {
        return serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    }
    let mut profile: Value = serde_json::from_str(include_str!("fixtures/moby/default.json")).unwrap();
    // It knows one architecture more.
    let known = profile["archMap"].as_array_mut().unwrap();
    known.push(json!({"architecture": "SCMP_ARCH_LOONGARCH64", "subArchitectures": null}));
    // It lists the families of addresses that are allowed; before it forbade AF_VSOCK (40) alone.
    let calls = profile["syscalls"].as_array_mut().unwrap();
    let place = calls.iter().position(|call| call["names"] == json!(["socket"])).unwrap();
    assert_eq!(calls[place]["args"], json!([{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]));
    let single = (13..=18).chain([21, 22, 24]).chain(26..=33).chain([35, 36, 39]).chain(41..=45);
    let conditions = [(12, "SCMP_CMP_LT")].into_iter().chain(single.map(|family| (family, "SCMP_CMP_EQ")));
    let rule = |(value, op)| {
        let argument = json!({"index": 0, "value": value, "op": op});
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [argument]})
    };
    calls.splice(place..=place, conditions.map(rule));
    profile
}

#[test]
fn the_default_policy_is_dockers() {
    let template = Template::default_policy();
    let profile = profile();
    let mut compared = 0;
    for (native, architecture) in moby::MACHINES {
        for set in [
            CapabilitySet::EMPTY,
            CapabilitySet::DEFAULT,
            capabilities("CAP_SYS_ADMIN"),
            capabilities("CAP_BPF CAP_PERFMON CAP_SYSLOG CAP_SYS_CHROOT"),
            capabilities("CAP_SYS_PTRACE CAP_SYS_TIME CAP_SYS_NICE CAP_DAC_READ_SEARCH"),
            CapabilitySet::from_bits((1 << 41) - 1),
        ] {
            for kernel in [(4, 7), (4, 8), NEW] {
                let docker = moby::policy(&profile, native, architecture, kernel, set);
                let ours = template.policy_on(machine(architecture, kernel), set);
                assert_eq!(ours.default, docker.default);
                assert_eq!(ours.flags, docker.flags);
                assert_eq!(ours.rules, docker.rules, "{native}, Linux {kernel:?}, {set}");
                if !docker.architectures.is_empty() {
                    assert_eq!(ours.architectures, docker.architectures, "{native}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 5 * 6 * 3, "the profile lists the architectures of these machines");
}

#[test]
fn the_default_policy_names_calls_that_there_are() {
    let everything = CapabilitySet::from_bits(u64::MAX);
    for set in [CapabilitySet::EMPTY, everything] {
        for (_, architecture) in moby::MACHINES {
            let policy = Template::default_policy().policy_on(machine(architecture, NEW), set);
            assert_eq!(policy.unknown_names(), [""; 0]);
        }
    }
    let policy = read("default allow\nlog raed write\nlog raed opne cacheflush breakpoint openat3");
    assert_eq!(policy.unknown_names(), ["openat3", "opne", "raed"]);
}

// ---- The text -----------------------------------------------------------------------------------

#[test]
fn a_line_counts_for_its_capabilities_its_machine_and_its_kernel() {
    let template: Template = "
default kill_process
allow mount with CAP_SYS_ADMIN CAP_CHOWN
errno ENOSYS clone3 unless CAP_SYS_ADMIN CAP_KILL
allow arch_prctl on x86_64 x86
allow clone except s390x
trace 7 ptrace since 6.12"
        .parse()
        .unwrap();
    let names = |architecture, kernel, set: &str| -> Vec<String> {
        let policy = template.policy_on(machine(architecture, kernel), capabilities(set));
        policy.rules.iter().flat_map(|rule| rule.names.clone()).collect()
    };
    use Architecture::{Aarch64, S390x, X86_64};
    assert_eq!(names(X86_64, (6, 12), ""), ["clone3", "arch_prctl", "clone", "ptrace"]);
    assert_eq!(names(S390x, (6, 11), "CAP_SYS_ADMIN"), [""; 0]);
    assert_eq!(names(Aarch64, (7, 0), "CAP_SYS_ADMIN CAP_CHOWN"), ["mount", "clone", "ptrace"]);
    assert_eq!(names(Aarch64, (5, 99), "CAP_KILL"), ["clone"]);
}

#[test]
fn native_are_the_machines_own_architecture_and_those_it_also_runs() {
    use Architecture::*;
    let architectures = |text: &str, native| {
        let template: Template = text.parse().unwrap();
        template.policy_on(machine(native, NEW), CapabilitySet::EMPTY).architectures
    };
    assert_eq!(architectures("default allow", X86_64), [X86_64, X86, X32]);
    assert_eq!(architectures("default allow\narchitectures native", Aarch64), [Aarch64, Arm]);
    assert_eq!(architectures("default allow\narchitectures aarch64", X86_64), [Aarch64]);
    assert_eq!(architectures("default allow\narchitectures native mips", Riscv64), [Riscv64, Mips]);
    let own = Architecture::native().expect("this machine has filters");
    assert_eq!(Template::default_policy().policy(CapabilitySet::DEFAULT).architectures[0], own);
}

#[test]
fn values_after_in_are_alternatives() {
    let condition = |argument, value| Condition { argument, operator: Operator::Equal, value, value_two: 0 };
    let policy = read("default errno EPERM\nallow socket when arg0 in 1 0x2 and arg1 in 5 6");
    let conditions: Vec<_> = policy.rules.into_iter().map(|rule| rule.conditions).collect();
    let both = |first, second| vec![condition(0, first), condition(1, second)];
    assert_eq!(conditions, [both(1, 5), both(1, 6), both(2, 5), both(2, 6)]);
}

#[test]
fn a_mistake_is_told_with_its_line_and_its_word() {
    for (text, line, word) in [
        ("allow read", 0, "no line `default"),
        ("default allow\ndefault allow", 2, "\"default\""),
        ("default", 1, "\"default\""),
        ("default allow read", 1, "\"read\""),
        ("default errno", 1, "\"errno\""),
        ("default errno EPREM", 1, "\"EPREM\""),
        ("default errno 4096", 1, "4096"),
        ("default trace -1", 1, "\"-1\""),
        ("# it begins\n\ndefault allow\n\npermit read", 5, "\"permit\""),
        ("default allow\nlog", 2, "\"log\""),
        ("default allow\nlog when arg0 == 1", 2, "\"log\""),
        ("   allow read", 1, "\"allow\""),
        ("default allow\nlog\n  read\n  write wehn\n  when arg0 = 1", 5, "\"=\""),
        ("default allow\nlog read when", 2, "\"when\""),
        ("default allow\nlog read when and", 2, "\"when\""),
        ("default allow\nlog read when arg0 == 1 and", 2, "\"when\""),
        ("default allow\nlog read when arg6 == 1", 2, "\"arg6\""),
        ("default allow\nlog read when arg0==1", 2, "\"arg0==1\""),
        ("default allow\nlog read when arg0 == one", 2, "\"one\""),
        ("default allow\nlog read when arg0 == 0x1FFFFFFFFFFFFFFFF", 2, "\"0x1FFFFFFFFFFFFFFFF\""),
        ("default allow\nlog read when arg0 in", 2, "\"arg0\""),
        ("default allow\nlog read when arg0 & 1", 2, "\"&\""),
        ("default allow\nlog read when arg0 > 1 and arg0 < 3", 2, "\"arg0\""),
        ("default allow\nlog read with CAP_FLY", 2, "CAP_FLY"),
        ("default allow\nlog read with CAP_KILL with CAP_CHOWN", 2, "\"with\""),
        ("default allow\nlog read unless", 2, "\"unless\""),
        ("default allow\nlog read on vax", 2, "\"vax\""),
        ("default allow\nlog read since six", 2, "\"six\""),
        ("default allow\nlog read since 6.1 6.2", 2, "since"),
        ("default allow\nflags tsync quick", 2, "\"quick\""),
        ("default allow\narchitectures x86_64 pdp11", 2, "\"pdp11\""),
    ] {
        let error = format!("{:#}", text.parse::<Template>().expect_err(text));
        assert!(error.contains(word), "{text:?}: {error}");
        assert!(line == 0 || error.starts_with(&format!("line {line}: ")), "{text:?}: {error}");
    }
}

#[test]
fn what_a_template_prints_is_read_as_the_same() {
    let default = Template::default_policy();
    assert_eq!(default.to_string().parse::<Template>().unwrap(), default);
    let text = "default trace 7\narchitectures native mipsel64n32\nflags tsync wait_killable_recv\n\
        errno 4000 read write when arg0 & 0xf0 == 0x10 and arg5 >= 0xffffffffffffffff with CAP_KILL \
        unless CAP_CHOWN CAP_SYSLOG on x86_64 x32 except ppc64le since 5.19\n";
    assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Notify),
        Just(Action::Log),
        Just(Action::Allow),
        (0..=Action::MAX_ERRNO).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

fn any_condition(argument: u8) -> impl Strategy<Value = Condition> {
    let operators = vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let operator =
        proptest::sample::select(operators).prop_map(|name| format!("SCMP_CMP_{name}").parse().unwrap());
    (operator, any::<u64>(), any::<u64>()).prop_map(move |(operator, value, two)| {
        let value_two = if operator == Operator::MaskedEqual { two } else { 0 };
        Condition { argument, operator, value, value_two }
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let arguments = proptest::sample::subsequence(vec![0, 1, 2, 3, 4, 5], 0..=6);
    let conditions =
        arguments.prop_flat_map(|list: Vec<u8>| list.into_iter().map(any_condition).collect::<Vec<_>>());
    (vec("[a-z_][a-z0-9_]{3,20}", 1..4), any_action(), conditions).prop_map(|(names, action, conditions)| {
        let names = names.into_iter().map(|name: String| format!("{name}_")).collect();
        Rule { names, action, conditions }
    })
}

proptest! {
    #[test]
    fn any_policy_is_read_as_it_was_printed(
        default in any_action(),
        architectures in proptest::sample::subsequence(Architecture::all().collect::<Vec<_>>(), 0..=23),
        flags in proptest::sample::subsequence(
            vec![Flag::ThreadSync, Flag::Log, Flag::SpecAllow, Flag::WaitKillable], 0..=4),
        rules in vec(any_rule(), 0..6),
    ) {
        let policy = Policy { default, architectures, flags, rules };
        prop_assert_eq!(read(&policy.to_string()), policy);
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        text in "(default |allow |errno |when |arg0 |== |& |in |and |0x1 |read |\n|  |#|\\PC){0,40}",
    ) {
        let _ = text.parse::<Template>();
    }
}

#[test]
fn a_rule_that_compares_an_argument_twice_is_printed_as_what_it_means() {
    let condition = |argument, value| Condition { argument, operator: Operator::Equal, value, value_two: 0 };
    let rule = Rule {
        names: vec!["socket".into()],
        action: Action::Allow,
        conditions: vec![condition(0, 1), condition(0, 2), condition(1, 3)],
    };
    let policy = Policy {
        default: Action::Errno(1),
        architectures: vec![Architecture::X86_64],
        flags: Vec::new(),
        rules: vec![rule.clone()],
    };
    let one = |condition| Rule { conditions: vec![condition], ..rule.clone() };
    let rules = vec![one(condition(0, 1)), one(condition(0, 2)), one(condition(1, 3))];
    assert_eq!(read(&policy.to_string()), Policy { rules, ..policy });
}

// ---- The specification's names ------------------------------------------------------------------

#[test]
fn all_names_of_the_specification_are_known_and_others_refused_by_name() {
    // config-linux.md of version 1.3: the architectures, actions, operators and flags.
    for architecture in
        "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 \
        PPC PPC64 PPC64LE RISCV64 S390 S390X PARISC PARISC64 SH SHEB"
            .split_whitespace()
    {
        let name = format!("SCMP_ARCH_{architecture}");
        assert_eq!(name.parse::<Architecture>().unwrap().to_string(), name);
    }
    for action in "KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY".split_whitespace() {
        let name = format!("SCMP_ACT_{action}");
        assert_eq!(name.parse::<Action>().unwrap().to_string(), name);
    }
    assert_eq!("SCMP_ACT_KILL".parse::<Action>().unwrap(), Action::KillThread);
    for operator in "NE LT LE EQ GE GT MASKED_EQ".split_whitespace() {
        let name = format!("SCMP_CMP_{operator}");
        assert_eq!(name.parse::<Operator>().unwrap().to_string(), name);
    }
    for flag in "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV".split_whitespace() {
        let name = format!("SECCOMP_FILTER_FLAG_{flag}");
        assert_eq!(name.parse::<Flag>().unwrap().to_string(), name);
    }
    let refused = [
        "SCMP_ARCH_VAX".parse::<Architecture>().unwrap_err(),
        "SCMP_ACT_MAYBE".parse::<Action>().unwrap_err(),
        "SCMP_CMP_LIKE".parse::<Operator>().unwrap_err(),
        "SECCOMP_FILTER_FLAG_NEW_LISTENER".parse::<Flag>().unwrap_err(),
    ];
    for (error, name) in refused.iter().zip(["VAX", "MAYBE", "LIKE", "NEW_LISTENER"]) {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_actions_number_is_refused_where_there_is_none_and_where_it_is_too_large() {
    let action = |name: &str| format!("SCMP_ACT_{name}").parse::<Action>().unwrap();
    assert_eq!(action("ERRNO").with_number(None).unwrap(), Action::Errno(libc::EPERM as u16));
    assert_eq!(action("ERRNO").with_number(Some(38)).unwrap(), Action::Errno(38));
    assert_eq!(action("TRACE").with_number(Some(0xffff)).unwrap(), Action::Trace(0xffff));
    for (name, number) in
        [("ERRNO", 4096), ("TRACE", 0x10000), ("ALLOW", 1), ("KILL_PROCESS", 0), ("NOTIFY", 1)]
    {
        let error = action(name).with_number(Some(number)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(&number.to_string()), "{error}");
    }
}

// ---- Names and numbers --------------------------------------------------------------------------

macro_rules! of_libc {
    ($($name:ident)+) => { [$((stringify!($name), libc::$name)),+] };
}

#[test]
fn the_machines_own_numbers_are_those_of_its_c_library() {
    let own = Architecture::native().unwrap();
    let calls = of_libc! {
        SYS_read SYS_write SYS_close SYS_mmap SYS_munmap SYS_mprotect SYS_brk SYS_ioctl SYS_openat
        SYS_execve SYS_clone SYS_exit SYS_exit_group SYS_kill SYS_mount SYS_umount2 SYS_pivot_root
        SYS_chroot SYS_unshare SYS_setns SYS_ptrace SYS_socket SYS_connect SYS_bind SYS_prctl SYS_seccomp
        SYS_bpf SYS_keyctl SYS_add_key SYS_request_key SYS_init_module SYS_finit_module SYS_delete_module
        SYS_reboot SYS_settimeofday SYS_adjtimex SYS_clock_settime SYS_personality SYS_capset SYS_capget
        SYS_setuid SYS_setgroups SYS_fchownat SYS_mknodat SYS_mkdirat SYS_futex SYS_nanosleep
        SYS_getrandom SYS_memfd_create SYS_execveat SYS_userfaultfd SYS_perf_event_open SYS_syslog
        SYS_open_by_handle_at SYS_process_vm_readv SYS_kcmp SYS_statx SYS_rseq SYS_pidfd_open
        SYS_pidfd_send_signal SYS_clone3 SYS_close_range SYS_openat2 SYS_pidfd_getfd SYS_faccessat2
        SYS_mount_setattr SYS_open_tree SYS_move_mount SYS_fsopen SYS_io_uring_setup
        SYS_landlock_create_ruleset SYS_memfd_secret SYS_futex_waitv SYS_sethostname SYS_setdomainname
        SYS_acct SYS_quotactl SYS_swapon SYS_kexec_load SYS_mbind SYS_getpid
    };
    for (constant, expected) in calls {
        let call = constant.strip_prefix("SYS_").unwrap();
        assert_eq!(number(own, call), u32::try_from(expected).ok(), "{call}");
        assert_eq!(name(own, expected as u32).as_deref(), Some(call));
    }
}

#[test]
fn the_numbers_of_the_other_architectures_are_those_of_libseccomp() {
    // Of scmp_sys_resolver(1), which has tables of its own.
    use Architecture::*;
    for (architecture, calls) in [
        (X86_64, "read 0|openat 257|clone3 435|arch_prctl 158|socketcall -|mmap2 -|open 2"),
        (X32, "read 1073741824|execve 1073742344|ptrace 1073742345|open 1073741826|clone3 1073742259"),
        (X86, "read 3|execve 11|open 5|socketcall 102|ipc 117|mmap2 192|personality 136|clone3 435"),
        (Arm, "open 5|arm_fadvise64_64 270|breakpoint 983041|cacheflush 983042|set_tls 983045|socketcall -"),
        (Aarch64, "open -|openat 56|renameat 38|clone 220|mmap 222|personality 92|cacheflush -"),
        (Mips, "read 4003|mount 4021|clone3 4435|cacheflush 4147|_newselect 4142|reserved221 -"),
        (Mipsel, "read 4003|execve 4011"),
        (Mips64, "read 5000|execve 5057|ptrace 5099|clone3 5435"),
        (Mipsel64n32, "read 6000|execve 6057|ptrace 6099|clone3 6435"),
        (Parisc, "mount 21|ptrace 26|mmap2 89|clone3 435"),
        (Ppc64le, "read 3|swapcontext 249|sync_file_range2 308|mmap2 -"),
        (Ppc, "mmap2 192|fstat64 197"),
        (S390, "mmap2 192|chown32 212|chown 182"),
        (S390x, "s390_runtime_instr 342|chown 212|mmap2 -|clone 120"),
        (Riscv64, "riscv_flush_icache 259|openat 56|renameat -|clone3 435"),
    ] {
        for call in calls.split('|') {
            let (call, expected) = call.split_once(' ').unwrap();
            let expected: Option<u32> = expected.parse().ok();
            assert_eq!(number(architecture, call), expected, "{architecture} {call}");
            if let Some(expected) = expected {
                assert_eq!(name(architecture, expected).as_deref(), Some(call), "{architecture}");
            }
        }
    }
}

#[test]
fn no_two_calls_of_an_architecture_have_the_same_number() {
    for architecture in Architecture::all() {
        // 32-bit ARM's own are beyond these.
        let base = if architecture == Architecture::X32 { 0x4000_0000 } else { 0 };
        let names: Vec<String> = (base..base + 7000).filter_map(|plain| name(architecture, plain)).collect();
        assert!((300..480).contains(&names.len()), "{architecture} has {} calls", names.len());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{architecture}");
        assert!(names.contains(&"execve".to_owned()));
    }
    assert_eq!(name(Architecture::X32, 0), None, "a number of x32 has its bit");
    assert_eq!(number(Architecture::X86_64, &"long_".repeat(10)), None);
    assert_eq!(number(Architecture::X86_64, ""), None);
    assert_eq!(number(Architecture::X86_64, "read\0"), None);
}
