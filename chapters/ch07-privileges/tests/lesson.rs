//! The finished container, seen from outside.

mod common_lesson;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common_lesson::{LIMIT, World, end, inside, map, status};
use testing::process::exists;
use testing::{Output, PlainUser, Program, Running, needs, poll};

/// Docker's default: what it leaves of root's power.
const DEFAULT: u64 = 0xa804_25fb;

/// To start a container takes an emulated machine a second, so these claims share one.
fn a_container_that_runs(world: &World) {
    let (running, command) = world.sleep(&["--ulimit", "nofile=100:200", "--ulimit", "core=0"]);
    match world {
        World::Root(_) => root_inside_is_a_number_that_nobody_has_outside(&running),
        World::PlainUser => {
            root_inside_is_the_plain_user_outside_and_others_are_of_the_user_s_ranges(command);
        }
    }
    powers_are_gone_from_the_command_and_from_init(&running);
    each_namespace_is_its_own(command);
    limits_are_set(command);
    a_killed_lesson_takes_its_container_along(running, command);
}

fn root_inside_is_a_number_that_nobody_has_outside(running: &Running) {
    let processes = inside(running);
    assert_eq!(processes.len(), 2, "init and the command");
    for pid in processes {
        for (ids, file) in [("Uid", "uid_map"), ("Gid", "gid_map")] {
            let outside = status(pid, ids).unwrap();
            let outside = outside.split(' ').next().unwrap();
            assert_ne!(outside, "0");
            assert_eq!(map(pid, file), [format!("0 {outside} 65536")]);
            for table in ["/etc/passwd", "/etc/group", "/etc/subuid"] {
                let text = fs::read_to_string(table).unwrap_or_default();
                assert!(!text.contains(&format!(":{outside}:")), "{table} has {outside}");
            }
        }
        assert_eq!(status(pid, "Groups").unwrap(), "");
    }
}

fn root_inside_is_the_plain_user_outside_and_others_are_of_the_user_s_ranges(command: i32) {
    let uid = PlainUser::get().uid.to_string();
    assert_eq!(status(command, "Uid").unwrap(), [&*uid; 4].join(" "));
    assert_eq!(map(command, "uid_map")[0], format!("0 {uid} 1"));
}

fn powers_are_gone_from_the_command_and_from_init(running: &Running) {
    for pid in inside(running) {
        for (set, expected) in
            [("CapInh", 0), ("CapPrm", DEFAULT), ("CapEff", DEFAULT), ("CapBnd", DEFAULT), ("CapAmb", 0)]
        {
            let found = u64::from_str_radix(&status(pid, set).unwrap(), 16).unwrap();
            assert_eq!(found, expected, "{set} of {pid}");
        }
        assert_eq!(status(pid, "NoNewPrivs").unwrap(), "1");
        assert_eq!(status(pid, "Seccomp").unwrap(), "2");
    }
}

fn each_namespace_is_its_own(command: i32) {
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let inode = |pid: &str| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            link.unwrap_or_else(|error| panic!("the namespace {kind} of {pid}: {error}"))
        };
        assert_ne!(inode(&command.to_string()), inode("self"), "{kind}");
    }
}

fn limits_are_set(command: i32) {
    let limits = fs::read_to_string(format!("/proc/{command}/limits")).unwrap();
    let line = |name: &str| -> Vec<String> {
        let rest = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        rest.split_whitespace().take(2).map(String::from).collect()
    };
    assert_eq!(line("Max open files"), ["100", "200"]);
    assert_eq!(line("Max core file size"), ["0", "0"]);
}

fn a_killed_lesson_takes_its_container_along(running: Running, command: i32) {
    running.signal(libc::SIGKILL);
    running.wait();
    poll(LIMIT, || (!exists(command)).then_some(()));
}

#[test]
fn its_cgroup_holds_it_and_is_swept_by_the_next_lesson_where_it_was_killed() {
    needs!(Root, CgroupController("pids"));
    let world = World::root();
    let World::Root(sandbox) = &world else { unreachable!() };
    let (running, command) = world.sleep(&["--pids", "7"]);
    let cgroups = fs::read_dir(sandbox.cgroup("pids").unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut cgroups = cgroups.filter(|path| path.to_string_lossy().contains("/hull-lesson-"));
    let cgroup = cgroups.next().expect("a cgroup of the lesson's");
    let read = |file: &str| fs::read_to_string(cgroup.join(file)).unwrap();
    assert_eq!(read("pids.max"), "7\n");
    let members: Vec<i32> = read("cgroup.procs").lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(members.len(), 2, "init and the command");
    assert!(members.contains(&command));
    running.signal(libc::SIGKILL);
    running.wait();
    assert!(cgroup.exists(), "a killed lesson can't clean up");

    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 9 & done; wait";
    let output = world.run(&["--pids", "7"], &["sh", "-c", script]);
    assert!(output.stderr.contains("fork"), "{output}");
    assert!(!cgroup.exists());
    world.check();
}

in_both_worlds! {
    fn what_a_running_container_has_and_lacks(world: &World) {
        a_container_that_runs(world);
    }
}

in_both_worlds! {
    fn what_its_command_sees_and_leaves(world: &World) {
        // /proc/uptime is the kernel's boottime, as this process's time namespace has it.
        let script = "hostname; ls /sys/class/net; cut -d. -f1 /proc/uptime
            stat -c %u:%g / /etc/passwd /bin
            set -- $(cat /proc/sys/net/ipv4/ping_group_range)
            while read group _ count; do highest=$((group + count - 1)); done < /proc/self/gid_map
            echo $1 $(($2 - highest)) $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)
            cat /proc/1/environ
            echo x > /etc/left-behind && rm /etc/passwd && ls /etc/left-behind
            exit 7";
        let output = world.run(&["--hostname", "box", "--view"], &["sh", "-c", script]);
        let lines: Vec<&str> = output.stdout.lines().collect();
        let [name, link, uptime, owners @ .., network, left] = &lines[..] else { panic!("{output}") };
        its_name_its_network_and_its_clocks_are_its_own(name, link, uptime);
        // Files of the image have the owners that they have on the disk.
        assert_eq!(owners, ["0:0", "0:0", "0:0"], "{output}");
        assert_eq!(*network, "0 0 0", "every group may ping, and every user listen at any port: {output}");
        assert_eq!(*left, "/etc/left-behind", "{output}");
        // Init is a copy of the lesson, with the lesson's memory.
        assert!(output.stderr.contains("Permission denied"), "{output}");
        the_view_shows_what_is_gone(&output);

        let script = "ls /etc/left-behind; ls /etc/passwd; kill -KILL $$";
        let second = world.run(&[], &["sh", "-c", script]);
        assert_eq!(second.stdout, "/etc/passwd\n", "what the first wrote is gone with it: {second}");

        // Statuses pass through.
        let third = world.run(&[], &["no-such-command"]);
        assert_eq!([output.code, second.code, third.code], [Some(7), Some(137), Some(127)]);
    }
}

fn its_name_its_network_and_its_clocks_are_its_own(name: &str, link: &str, uptime: &str) {
    assert_eq!((name, link), ("box", "lo"));
    assert!(uptime.parse::<u64>().unwrap() < 60, "{uptime}");
}

fn the_view_shows_what_is_gone(output: &Output) {
    let lines = || output.stderr.lines();
    let row = |title: &str| lines().find(|line| line.starts_with(title)).unwrap().to_owned();
    assert!(row("hostname").ends_with("box"), "{output}");
    assert!(row("Seccomp").ends_with("| 2"), "{output}");
    assert!(row("NoNewPrivs").ends_with("| 1"), "{output}");
    assert!(output.stderr.contains("| CapEff 00000000a80425fb"), "{output}");
    assert!(lines().any(|line| line.contains("user:[")), "{output}");
}

/// What the kernel says of a command that was started with these flags.
struct Flagged {
    output: Output,
}

impl Flagged {
    fn start(world: &World, flags: &[&str]) -> Flagged {
        Flagged { output: world.run(flags, &["cat", "/proc/self/status"]) }
    }

    fn line(&self, name: &str) -> &str {
        let mut lines = self.output.stdout.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.output)).trim()
    }

    /// Its effective and its bounding set, which are to be the same.
    fn check_capabilities(&self, expected: u64) {
        for set in ["CapEff", "CapBnd"] {
            assert_eq!(self.line(set), format!("{expected:016x}"), "{set}: {}", self.output);
        }
    }
}

#[test]
fn flags_change_capabilities_the_filter_and_what_exec_gives() {
    needs!(Root);
    let world = World::root();
    // A new user namespace has all that the kernel knows, whatever its parent lacks.
    let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let all = u64::MAX >> (63 - last);
    let net_admin = 1 << 12;
    for (flags, capabilities, filter, no_new_privs) in [
        (&["--cap-add", "net_admin"][..], DEFAULT | net_admin, "2", "1"),
        (&["--cap-drop", "ALL", "--seccomp", "unconfined"], 0, "0", "1"),
        (&["--cap-drop", "ALL", "--cap-add", "CAP_NET_ADMIN"], net_admin, "2", "1"),
        (&["--cap-add", "ALL", "--cap-drop", "net_admin"], all & !net_admin, "2", "1"),
        (&["--privileged"], all, "0", "1"),
        // With new privileges there is a filter all the same.
        (&["--new-privileges"], DEFAULT, "2", "0"),
    ] {
        let command = Flagged::start(&world, flags);
        command.check_capabilities(capabilities);
        assert_eq!(command.line("Seccomp"), filter, "{flags:?}");
        assert_eq!(command.line("NoNewPrivs"), no_new_privs, "{flags:?}");
    }
    world.check();
}

#[test]
fn flags_change_the_same_for_a_plain_user() {
    needs!(UserNamespaces);
    let flags = ["--new-privileges", "--cap-drop", "ALL", "--cap-add", "net_admin"];
    let command = Flagged::start(&World::PlainUser, &flags);
    command.check_capabilities(1 << 12);
    assert_eq!((command.line("Seccomp"), command.line("NoNewPrivs")), ("2", "0"));
}

#[test]
fn a_capability_that_does_not_exist_is_refused_by_name() {
    needs!(Root);
    let output = World::root().run(&["--cap-add", "SYS_ADMON"], &["true"]);
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("SYS_ADMON"), "{output}");
}

fn another_user_has_no_capabilities(world: &World) {
    let (running, command) = world.sleep(&["--user", "1"]);
    let outside = map(command, "uid_map");
    let root = outside[0].split(' ').nth(1);
    assert_ne!(status(command, "Uid").unwrap().split(' ').next(), root);
    assert_eq!(status(command, "CapEff").unwrap(), format!("{:016x}", 0));
    assert_eq!(status(command, "CapBnd").unwrap(), format!("{DEFAULT:016x}"));
    end(running);
}

#[test]
fn another_user_has_no_capabilities_as_root() {
    needs!(Root);
    another_user_has_no_capabilities(&World::root());
}

#[test]
fn another_user_has_no_capabilities_as_a_plain_user() {
    needs!(UserNamespaces, Newuidmap);
    another_user_has_no_capabilities(&World::PlainUser);
}

#[test]
fn a_policy_of_one_s_own_decides_what_a_call_returns() {
    needs!(Root);
    let world = World::root();
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, "default allow\nerrno EROFS mkdir mkdirat\n").unwrap();
    let output = world.run(&["--seccomp", policy.to_str().unwrap()], &["mkdir", "/tmp/x"]);
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    assert_eq!(output.code, Some(1), "{output}");
    fs::write(&policy, "default allow\nerrno EROFS mkdirr\nallow\n").unwrap();
    let output = world.run(&["--seccomp", policy.to_str().unwrap()], &["true"]);
    assert_eq!(output.code, Some(125), "{output}");
}

#[test]
fn a_root_file_system_behind_a_closed_directory_works_for_a_root_that_is_nobody() {
    needs!(Root);
    let world = World::root();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let root = directory.path().join("root");
    let from = rootfs_builder::default_root().unwrap();
    assert_eq!(Program::new("cp").arg("-a").args([&from, &root]).run().code, Some(0));
    let output = world.run(&["--rootfs", root.to_str().unwrap()], &["sh", "-c", "id -u && touch /etc/x"]);
    assert_eq!((output.stdout.as_str(), output.code), ("0\n", Some(0)), "{output}");
    assert!(!root.join("etc/x").exists());
}
