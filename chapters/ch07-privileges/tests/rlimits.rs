//! Limits of a process, by its `/proc/PID/limits`.

#[macro_use]
mod forked;
mod subject;

use std::collections::BTreeMap;
use std::fs;

use ch07_privileges::rlimits::{INFINITY, Limit, Resource, set};
use nix::unistd::Pid;
use subject::{Subject, Who};

tests! {
    each_name_sets_the_limit_of_that_name_and_no_other,
    a_limit_is_set_for_another_process,
    limits_are_read_as_people_write_them,
    a_plain_user_does_not_raise_a_hard_limit,
    root_of_a_user_namespace_does_not_raise_a_hard_limit,
    no_limit_on_open_files_is_more_than_the_kernel_gives_anyone,
    another_users_process_and_none_are_told_apart,
}

/// What `/proc/PID/limits` calls each (proc_pid_limits(5)).
const LINES: [(&str, &str); 16] = [
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_STACK", "Max stack size"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
];

/// Soft and hard limit of each, as the kernel prints them.
fn limits(pid: i32) -> BTreeMap<&'static str, (String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let of = |line: &str| {
        let values = text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        let mut values = values.split_whitespace().map(String::from);
        (values.next().unwrap(), values.next().unwrap())
    };
    LINES.iter().map(|(name, line)| (*name, of(line))).collect()
}

/// A soft and a hard limit below the present hard one, which no process of a test comes near.
fn lower(resource: Resource, index: u64) -> Limit {
    let hard = Limit::own(resource).unwrap().hard;
    let hard = if hard == INFINITY { (1 << 40) + index } else { hard - hard / 8 };
    Limit { resource, soft: hard - hard / 8, hard }
}

fn each_name_sets_the_limit_of_that_name_and_no_other() {
    assert_eq!(Resource::ALL.len(), LINES.len());
    for (index, (name, _)) in LINES.iter().enumerate() {
        let limit = lower(name.parse().unwrap(), index as u64);
        let mut subject = Subject::start(Who::Ourselves, |_| set(limit).map(|()| "set".into()));
        assert_eq!(subject.word(), "set", "{limit}");
        let mut expected = limits(std::process::id() as i32);
        expected.insert(name, (limit.soft.to_string(), limit.hard.to_string()));
        assert_eq!(limits(subject.pid), expected, "{limit}");
    }
}

fn a_limit_is_set_for_another_process() {
    let mut subject = Subject::start(Who::Ourselves, |_| Ok("there".into()));
    assert_eq!(subject.word(), "there");
    let limit = Limit { resource: Resource::OpenFiles, soft: 100, hard: 200 };
    let pid = Pid::from_raw(subject.pid);
    limit.set_for(pid).unwrap();
    assert_eq!(limits(subject.pid)["RLIMIT_NOFILE"], ("100".into(), "200".into()));
    assert_eq!(Limit::of(pid, Resource::OpenFiles).unwrap(), limit);
    assert_ne!(Limit::own(Resource::OpenFiles).unwrap(), limit);
}

fn limits_are_read_as_people_write_them() {
    let limit = |resource, soft, hard| Limit { resource, soft, hard };
    for (text, expected, shown) in [
        ("nofile=1024:2048", limit(Resource::OpenFiles, 1024, 2048), "RLIMIT_NOFILE=1024:2048"),
        ("nofile=1024", limit(Resource::OpenFiles, 1024, 1024), "RLIMIT_NOFILE=1024:1024"),
        ("core=unlimited", limit(Resource::Core, INFINITY, INFINITY), "RLIMIT_CORE=unlimited:unlimited"),
        ("core=0:-1", limit(Resource::Core, 0, INFINITY), "RLIMIT_CORE=0:unlimited"),
        ("RLIMIT_CPU=1", limit(Resource::Cpu, 1, 1), "RLIMIT_CPU=1:1"),
    ] {
        assert_eq!(text.parse::<Limit>().unwrap(), expected);
        assert_eq!(expected.to_string(), shown);
        assert_eq!(shown.parse::<Limit>().unwrap(), expected);
    }
    for (text, refusal) in [
        ("nofile", r#""nofile": NAME=SOFT[:HARD] is expected"#),
        ("files=1", r#""RLIMIT_FILES" is no rlimit; getrlimit(2) lists them"#),
        ("nofile=many", r#""nofile=many": "many" is no number, and not "unlimited""#),
        ("nofile=1:", r#""nofile=1:": "" is no number, and not "unlimited""#),
        ("nofile=-2", r#""nofile=-2": "-2" is no number, and not "unlimited""#),
        ("nofile=2:1", "RLIMIT_NOFILE=2:1: the soft limit is above the hard one"),
        ("nofile=unlimited:1", "RLIMIT_NOFILE=unlimited:1: the soft limit is above the hard one"),
    ] {
        assert_eq!(text.parse::<Limit>().unwrap_err().to_string(), refusal);
    }
    for name in ["nofile", "RLIMIT_nofile", "NOFILE", "RLIMIT_FILES", ""] {
        assert!(name.parse::<Resource>().is_err(), "{name}");
    }
}

fn a_hard_limit_is_not_raised(who: Who) {
    let limit = |hard| Limit { resource: Resource::Core, soft: 0, hard };
    let mut subject = Subject::start(who, |_| {
        set(limit(10))?;
        set(limit(20))?;
        Ok("raised".into())
    });
    assert_eq!(
        subject.word(),
        "failed: prlimit64 RLIMIT_CORE=0:20 (the hard limit is 10; to raise it needs CAP_SYS_RESOURCE in the first \
         user namespace): EPERM: Operation not permitted"
    );
    assert_eq!(limits(subject.pid)["RLIMIT_CORE"], ("0".into(), "10".into()));
}

fn a_plain_user_does_not_raise_a_hard_limit() {
    testing::needs!(PlainUser);
    a_hard_limit_is_not_raised(Who::PlainUser);
}

fn root_of_a_user_namespace_does_not_raise_a_hard_limit() {
    testing::needs!(UserNamespaces);
    a_hard_limit_is_not_raised(Who::RootOfNamespace);
}

fn no_limit_on_open_files_is_more_than_the_kernel_gives_anyone() {
    let limit = "nofile=unlimited".parse().unwrap();
    let mut subject = Subject::start(Who::Ourselves, |_| set(limit).map(|()| "set".into()));
    let word = subject.word();
    assert!(word.contains("/proc/sys/fs/nr_open"), "{word}");
    assert!(word.ends_with("EPERM: Operation not permitted"), "{word}");
}

fn another_users_process_and_none_are_told_apart() {
    testing::needs!(Root, PlainUser);
    let own = Pid::this();
    let mut subject = Subject::start(Who::PlainUser, |_| {
        Limit { resource: Resource::Core, soft: 0, hard: 0 }.set_for(own).map(|()| "set".into())
    });
    assert_eq!(
        subject.word(),
        format!(
            "failed: prlimit64 RLIMIT_CORE=0:0 of process {own} (the process is another user's): \
             EPERM: Operation not permitted"
        )
    );
    let error = Limit::of(Pid::from_raw(i32::MAX), Resource::Core).unwrap_err();
    assert!(format!("{error:#}").ends_with("ESRCH: No such process"), "{error:#}");
}
