//! What a process may do, read from its `/proc/PID/status` and from the kernel's answers.

#[macro_use]
mod forked;
mod subject;

use std::fs;
use std::io::Write;
use std::time::Duration;

use ch07_privileges::capabilities::{Capability, CapabilitySet, NotGranted, Sets};
use ch07_privileges::no_new_privs;
use ch07_privileges::seccomp::{Template, compile, install};
use ch07_privileges::user::{User, become_user};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::{Pid, chroot, gettid};
use subject::{Subject, Who, answer};
use testing::Program;

tests! {
    names_and_numbers_are_the_kernels,
    an_unknown_name_is_refused_with_the_nearest,
    the_last_capability_is_the_kernels,
    the_sets_of_a_process_are_read_as_the_kernel_writes_them,
    a_process_is_read_whatever_name_it_has_taken,
    where_a_filter_forbids_to_ask_nothing_is_taken_for_dropped,
    root_is_given_five_sets_separately,
    a_plain_user_in_a_user_namespace_is_given_five_sets_separately,
    the_change_of_user_takes_all_that_is_not_kept,
    the_bounding_set_is_never_passed_over_in_silence,
    what_has_left_the_bounding_set_already_needs_no_right_to_be_dropped,
    what_root_cannot_have_is_told_and_the_rest_is_given,
    what_root_of_a_user_namespace_cannot_have_is_told_and_the_rest_is_given,
    an_inherited_ambient_set_does_not_stay,
    a_call_that_needs_a_dropped_capability_gets_eperm_as_root,
    a_call_that_needs_a_dropped_capability_gets_eperm_in_a_user_namespace,
}

/// Docker's 14, as the kernel prints them in a container of Docker's.
const DOCKER: u64 = 0xa804_25fb;
const NOBODY: u32 = 65534;

fn nobody() -> User {
    User { uid: NOBODY, gid: NOBODY, ..User::default() }
}

/// As an own `CapabilitySet` is of no use to check one: the bits by their numbers.
fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |bits, number| bits | 1 << number)
}

fn names_and_numbers_are_the_kernels() {
    testing::needs!(Tool("capsh"));
    // libcap's names are the kernel's in lower case: it makes its list from the same header.
    let output = Program::new("capsh").arg("--decode=1ffffffffff").run();
    let names = output.stdout.trim().split_once('=').unwrap().1.to_uppercase();
    let names: Vec<&str> = names.split(',').collect();
    assert_eq!(names.len(), 41, "{names:?}");
    for (number, name) in names.iter().enumerate() {
        let capability: Capability = name.parse().unwrap();
        assert_eq!((usize::from(capability.number()), capability.to_string()), (number, name.to_string()));
    }
}

fn an_unknown_name_is_refused_with_the_nearest() {
    for (name, answer) in [
        ("CAP_SYS_ADMN", r#""CAP_SYS_ADMN" is no capability; did you mean CAP_SYS_ADMIN?"#),
        ("cap_chown", r#""cap_chown" is no capability; did you mean CAP_CHOWN?"#),
        ("NET_RAW", r#""NET_RAW" is no capability; did you mean CAP_NET_RAW?"#),
        ("CAP_TEA", r#""CAP_TEA" is no capability; capabilities(7) lists them"#),
        ("CAP_41", r#""CAP_41" is no capability; capabilities(7) lists them"#),
        ("", r#""" is no capability; capabilities(7) lists them"#),
    ] {
        let error = name.parse::<Capability>().unwrap_err();
        assert_eq!(error.to_string(), answer);
        assert_eq!(error.downcast_ref(), Some(&Errno::EINVAL));
    }
    for name in ["net_raw", "NET_RAW", "cap_net_raw", "CAP_NET_RAW"] {
        assert_eq!(Capability::from_flag(name).unwrap(), Capability::NET_RAW);
    }
    assert!(Capability::from_flag("net_rwa").unwrap_err().to_string().ends_with("did you mean CAP_NET_RAW?"));
}

fn the_last_capability_is_the_kernels() {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    assert_eq!(Capability::last().unwrap().number().to_string(), last.trim());
}

fn the_sets_of_a_process_are_read_as_the_kernel_writes_them() {
    let own = Sets::own().unwrap();
    assert_eq!(own, Sets::of(gettid()).unwrap());
    let status =
        |key: &str| u64::from_str_radix(&testing::process::status(own_pid(), key).unwrap(), 16).unwrap();
    assert_eq!(own.effective.bits(), status("CapEff"));
    assert_eq!(own.permitted.bits(), status("CapPrm"));
    assert_eq!(own.bounding.bits(), status("CapBnd"));
}

fn a_process_is_read_whatever_name_it_has_taken() {
    let mut process = Subject::start(Who::Ourselves, |_| {
        nix::sys::prctl::set_name(c"\xff\nCapEff:\t7")?;
        no_new_privs::set()?;
        Ok("named".into())
    });
    assert_eq!(process.word(), "named");
    let pid = Pid::from_raw(process.pid);
    assert_eq!(Sets::of(pid).unwrap(), Sets::own().unwrap());
    assert!(no_new_privs::of(pid).unwrap());
}

fn where_a_filter_forbids_to_ask_nothing_is_taken_for_dropped() {
    testing::needs!(Root);
    let mut process = Subject::start(Who::Ourselves, |_| {
        // PR_CAPBSET_READ is 23.
        let policy: Template = "default allow\nerrno EPERM prctl when arg0 == 23".parse()?;
        install(&compile(&policy.policy(CapabilitySet::EMPTY))?, &[], false)?;
        Sets::default().before_user_change()?;
        Ok("dropped".into())
    });
    assert_eq!(process.word(), "failed: prctl(PR_CAPBSET_READ): EPERM: Operation not permitted");
    assert_ne!(process.set("CapBnd"), 0);
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// The five sets in `who`'s hands, each with a different content.
fn five_sets_are_given_separately(who: Who) {
    let set = |numbers: &[u32]| CapabilitySet::from_bits(bits(numbers));
    let sets = Sets {
        effective: set(&[0]),
        permitted: set(&[0, 5, 6, 13]),
        inheritable: set(&[5, 6, 7]),
        bounding: set(&[0, 5, 6, 7, 18]),
        ambient: set(&[5]),
    };
    let mut process = Subject::start(who, |_| {
        sets.before_user_change()?;
        Ok(format!("{:?}", sets.apply()?))
    });
    assert_eq!(process.word(), "[]");
    // 13 is permitted and not in the bounding set: that bounds what exec gives, not what is there.
    let expected = [bits(&[5, 6, 7]), bits(&[0, 5, 6, 13]), bits(&[0]), bits(&[0, 5, 6, 7, 18]), bits(&[5])];
    assert_eq!(process.sets(), expected);
}

fn root_is_given_five_sets_separately() {
    testing::needs!(Root);
    five_sets_are_given_separately(Who::Ourselves);
}

fn a_plain_user_in_a_user_namespace_is_given_five_sets_separately() {
    testing::needs!(UserNamespaces);
    five_sets_are_given_separately(Who::RootOfNamespace);
}

fn the_change_of_user_takes_all_that_is_not_kept() {
    testing::needs!(Root);
    // Without the first half.
    let mut process = Subject::start(Who::Ourselves, |_| {
        become_user(&nobody())?;
        Ok("there".into())
    });
    assert_eq!(process.word(), "there");
    assert_eq!((process.set("CapPrm"), process.set("CapEff")), (0, 0));

    // With it, the permitted set stays, and the effective one goes all the same.
    let sets = Sets::bounded_by(CapabilitySet::DEFAULT);
    let mut process = Subject::start(Who::Ourselves, |words| {
        sets.before_user_change()?;
        become_user(&nobody())?;
        writeln!(words, "between")?;
        // Until the test has looked.
        raise(Signal::SIGSTOP)?;
        sets.apply()?;
        Ok("there".into())
    });
    assert_eq!(process.word(), "between");
    assert_eq!((process.set("CapPrm") & DOCKER, process.set("CapEff")), (DOCKER, 0));
    let pid = Pid::from_raw(process.pid);
    testing::poll(Duration::from_secs(10), || process.status("State").starts_with('T').then_some(()));
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(process.word(), "there");
    assert_eq!((process.set("CapPrm"), process.set("CapEff")), (DOCKER, DOCKER));
    // And a second change of user would take them: keepcaps is not left behind.
    let mut process = Subject::start(Who::Ourselves, |_| {
        sets.before_user_change()?;
        sets.apply()?;
        become_user(&nobody())?;
        Ok("there".into())
    });
    assert_eq!(process.word(), "there");
    assert_eq!(process.set("CapPrm"), 0);
}

fn the_bounding_set_is_never_passed_over_in_silence() {
    testing::needs!(PlainUser);
    let sets = Sets::bounded_by(CapabilitySet::DEFAULT);
    let mut process = Subject::start(Who::PlainUser, |_| sets.before_user_change().map(|()| "done".into()));
    let word = process.word();
    assert!(
        word.starts_with("failed: prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH) (it needs CAP_SETPCAP"),
        "{word}"
    );
    assert!(word.ends_with("EPERM: Operation not permitted"), "{word}");
}

fn what_has_left_the_bounding_set_already_needs_no_right_to_be_dropped() {
    testing::needs!(UserNamespaces);
    let mut process = Subject::start(Who::RootOfNamespace, |_| {
        let sets = Sets::bounded_by(CapabilitySet::DEFAULT.without(Capability::SETPCAP));
        sets.before_user_change()?;
        sets.apply()?;
        sets.before_user_change()?;
        Ok("twice".into())
    });
    assert_eq!(process.word(), "twice");
}

fn what_cannot_be_had_is_told_and_the_rest_is_given(who: Who) {
    let beyond = CapabilitySet::from_bits(1 << 62);
    let mut process = Subject::start(who, |_| {
        let without = Sets::bounded_by(CapabilitySet::all()?.without(Capability::SYS_TIME));
        without.before_user_change()?;
        without.apply()?;
        let asked = CapabilitySet::of(&[Capability::CHOWN, Capability::KILL, Capability::SYS_TIME]) | beyond;
        let asked = Sets {
            effective: asked.with(Capability::SETUID),
            ambient: CapabilitySet::of(&[Capability::KILL]),
            ..Sets::bounded_by(asked)
        };
        asked.before_user_change()?;
        Ok(asked.apply()?.iter().map(NotGranted::to_string).collect::<Vec<_>>().join("; "))
    });
    assert_eq!(
        process.word(),
        "CAP_KILL is not granted: ambient, it must be permitted and inheritable too; \
         CAP_SETUID is not granted: effective, it must be permitted too; \
         CAP_SYS_TIME is not granted: this process does not have it itself; \
         CAP_62 is not granted: this kernel does not know it"
    );
    let left = bits(&[0, 5]);
    assert_eq!(process.sets(), [0, left, left, left, 0]);
}

fn what_root_cannot_have_is_told_and_the_rest_is_given() {
    testing::needs!(Root);
    what_cannot_be_had_is_told_and_the_rest_is_given(Who::Ourselves);
}

fn what_root_of_a_user_namespace_cannot_have_is_told_and_the_rest_is_given() {
    testing::needs!(UserNamespaces);
    what_cannot_be_had_is_told_and_the_rest_is_given(Who::RootOfNamespace);
}

fn an_inherited_ambient_set_does_not_stay() {
    testing::needs!(UserNamespaces);
    let mut process = Subject::start(Who::RootOfNamespace, |_| {
        let all = CapabilitySet::all()?;
        Sets { inheritable: all, ambient: all, ..Sets::bounded_by(all) }.apply()?;
        anyhow::ensure!(!Sets::own()?.ambient.is_empty(), "the ambient set is empty from the start");
        Sets { inheritable: all, ..Sets::bounded_by(all) }.apply()?;
        Ok("there".into())
    });
    assert_eq!(process.word(), "there");
    assert_eq!(process.set("CapAmb"), 0);
}

/// The kernel's answers, with a capability and without it.
fn forbidden_calls_are_refused(who: Who) {
    let mut process = Subject::start(who, |_| {
        let tries = || {
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            let mounts = mount(None::<&str>, "/", None::<&str>, private, None::<&str>);
            format!("{} {}", answer(chroot("/")), answer(mounts))
        };
        unshare(CloneFlags::CLONE_NEWNS)?;
        let mut answers = vec![tries()];
        for capability in [Capability::SYS_CHROOT, Capability::SYS_ADMIN] {
            let own = Sets::own()?;
            let left = Sets { effective: own.effective.without(capability), ..own };
            left.apply()?;
            answers.push(tries());
        }
        Ok(answers.join(", "))
    });
    assert_eq!(process.word(), "ok ok, EPERM ok, EPERM EPERM");
}

fn a_call_that_needs_a_dropped_capability_gets_eperm_as_root() {
    testing::needs!(Root);
    forbidden_calls_are_refused(Who::Ourselves);
}

fn a_call_that_needs_a_dropped_capability_gets_eperm_in_a_user_namespace() {
    testing::needs!(UserNamespaces);
    forbidden_calls_are_refused(Who::RootOfNamespace);
}
