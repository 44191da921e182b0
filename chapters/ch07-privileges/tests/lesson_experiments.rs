//! The lesson's experiments: what the kernel answers, as root and as a plain user.

mod common_lesson;

use std::sync::OnceLock;

use common_lesson::World;
use testing::{Output, needs};

/// What the experiments say. They run once for each who may run them: each claim below is about the same output.
fn output(world: &World) -> &'static Output {
    static OUTPUTS: [OnceLock<Output>; 2] = [const { OnceLock::new() }; 2];
    let is_root = matches!(world, World::Root(_));
    OUTPUTS[usize::from(is_root)].get_or_init(|| {
        let output = world.lesson().run();
        assert_eq!(output.code, Some(0), "{output}");
        world.check();
        output
    })
}

/// The answer on the line that begins with `what`.
#[track_caller]
fn answer<'a>(output: &'a Output, what: &str) -> &'a str {
    let mut lines = output.stderr.lines().filter_map(|line| line.trim_start().strip_prefix("= "));
    lines.find_map(|line| line.strip_prefix(what)).unwrap_or_else(|| panic!("no {what:?} in {output}")).trim()
}

#[test]
fn each_power_of_root_s_is_its_capability_s() {
    needs!(Root);
    let world = World::root();
    let output = output(&world);
    assert_eq!(output.code, Some(0), "{output}");
    for (what, with) in [
        ("mount(\"tmpfs\")", "with CAP_SYS_ADMIN: mounted; without: EPERM"),
        ("fchown(file, 1, 1)", "with CAP_CHOWN: given away; without: EPERM"),
        ("socket(SOCK_RAW)", "with CAP_NET_RAW: made; without: EPERM"),
        ("adjtimex(tick = 0)", "with CAP_SYS_TIME: EINVAL; without: EPERM"),
        ("keyctl(KEYCTL_CHOWN)", "with CAP_SYS_ADMIN: given away; without: EACCES"),
    ] {
        assert_eq!(answer(output, what), with, "{output}");
    }
    let module = answer(output, "finit_module(-1)");
    let answers =
        ["with CAP_SYS_MODULE: EBADF; without: EPERM", "with CAP_SYS_MODULE: ENOSYS; without: ENOSYS"];
    assert!(answers.contains(&module), "{output}");
    assert!(answer(output, "ptrace(PTRACE_SEIZE,").ends_with("with CAP_SYS_PTRACE: traced; without: EPERM"));
    assert!(!output.stderr.contains("no proof"), "{output}");
    world.check();
}

#[test]
fn a_plain_user_is_told_which_proofs_are_none() {
    needs!(UserNamespaces);
    let output = output(&World::PlainUser);
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stderr.contains("what follows is no proof"), "{output}");
    assert_eq!(answer(output, "adjtimex(tick = 0)"), "with CAP_SYS_TIME: EPERM; without: EPERM");
    assert_eq!(answer(output, "mount(\"tmpfs\")"), "with CAP_SYS_ADMIN: mounted; without: EPERM");
}

in_both_worlds! {
    fn ping_takes_a_capability_or_a_group(world: &World) {
        let output = output(world);
        for (socket, expected) in [
            ("SOCK_RAW,    capabilities CAP_NET_RAW,", "answered"),
            ("SOCK_RAW,    capabilities none,", "EPERM"),
            ("SOCK_DGRAM,  capabilities none, ping_group_range \"1 0\":", "EACCES"),
            ("SOCK_DGRAM,  capabilities none, ping_group_range \"0 0\":", "answered"),
        ] {
            assert!(answer(output, socket).ends_with(expected), "{socket} {output}");
        }
    }
}

in_both_worlds! {
    fn a_filter_answers_and_a_supervisor_does(world: &World) {
        let output = output(world);
        assert_eq!(answer(output, "mkdir(\"/tmp/x\")"), "EROFS", "{output}");
        assert_eq!(answer(output, "kill(own pid, 0)"), "done", "{output}");
        assert_eq!(answer(output, "kill(own pid, SIGKILL)"), "EPERM", "{output}");
        assert!(answer(output, "child: mkdir(").ends_with("EDQUOT"), "{output}");
        assert!(answer(output, "child: open(").ends_with("written by the supervisor\""), "{output}");
        assert_eq!(answer(output, "add_key without any capability:"), "made", "{output}");
        let filtered = answer(output, "add_key with all capabilities and the default filter:");
        assert_eq!(filtered, "EPERM", "{output}");
    }
}

#[test]
fn a_set_user_id_program_gives_nothing_without_new_privileges() {
    needs!(Root);
    let world = World::root();
    let output = output(&world);
    let ids =
        |how: &str| answer(output, &format!("{how} no_new_privs, real, effective and saved uid:")).to_owned();
    assert_eq!((ids("without").as_str(), ids("with   ").as_str()), ("1 0 0", "1 1 1"), "{output}");
}

in_both_worlds! {
    fn what_no_container_can_do_is_read_from_both_sides(world: &World) {
        let output = output(world);
        let both = |what: &str| {
            ["outside", "inside "].map(|side| answer(output, &format!("{side} {what}")).to_owned())
        };
        let [outside, inside] = both("uname -r:");
        assert_eq!(outside, inside, "{output}");
        let [outside, inside] = both("CLOCK_REALTIME:").map(|seconds| seconds.parse::<i64>().unwrap());
        assert!((inside - outside).abs() < 60, "{output}");
        for clock in ["CLOCK_MONOTONIC:", "CLOCK_BOOTTIME:"] {
            let [outside, inside] = both(clock).map(|seconds| seconds.parse::<i64>().unwrap());
            assert!(inside < outside, "{output}");
        }
        let second = answer(output, "in the second:");
        assert!(second.ends_with("keyctl(KEYCTL_READ) gives \"a secret\""), "{output}");
        assert!(answer(output, "in a third,").contains("does not have it"), "{output}");
        for (sysctl, expected) in [
            ("net/ipv4/ip_forward", "its own"),
            ("kernel/shmmax", "its own"),
            ("vm/swappiness", "EACCES"),
            ("fs/file-max", "EACCES"),
        ] {
            assert!(answer(output, sysctl).ends_with(expected), "{sysctl}: {output}");
        }
    }
}
