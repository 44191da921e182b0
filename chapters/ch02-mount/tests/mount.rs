//! A mount table of its own, seen from outside.

use std::fs;
use std::time::Duration;

use testing::process::{children, mount_points, runs};
use testing::{Program, Running, Sandbox, needs, poll};

const LESSON: &str = env!("CARGO_BIN_EXE_ch02-mount");
const LIMIT: Duration = Duration::from_secs(30);

fn lesson() -> Program {
    Program::new(LESSON).arg("--quiet")
}

/// The lesson's command, once it is one called `name`.
fn command(lesson: &Running, name: &str) -> i32 {
    poll(LIMIT, || children(*children(lesson.pid()).first()?).into_iter().find(|pid| runs(*pid, name)))
}

/// Runs a shell script in the container.
fn inside(program: Program, script: &str) -> testing::Output {
    program.args(["--", "sh", "-c", script]).run()
}

/// A claim that must hold as root and as a plain user: two tests, each with its own needs.
macro_rules! in_both_worlds {
    (fn $claim:ident($program:ident: Program) $body:block) => {
        mod $claim {
            use super::*;

            fn claim($program: Program) $body

            #[test]
            fn as_root() {
                needs!(Root);
                claim(lesson());
            }

            #[test]
            fn as_a_plain_user() {
                needs!(UserNamespaces);
                claim(lesson().as_plain_user());
            }
        }
    };
}

#[test]
fn without_arguments_it_shows_a_container_and_what_propagation_does() {
    needs!(UserNamespaces);
    let output = Program::new(LESSON).as_plain_user().run();
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(output.stdout.lines().count(), 3, "ps sees its header, init and itself: {output}");
    for answer in [
        "inside, the mounts are / /proc /sys /dev",
        "inside, \"/tmp/private\" is a mount point: true\n       = outside, \"/tmp/private\" is a mount point: false\n",
        "inside, \"/tmp/shared\" is a mount point: true\n       = outside, \"/tmp/shared\" is a mount point: true\n",
    ] {
        assert!(output.stderr.contains(answer), "{answer:?} in {output}");
    }
}

in_both_worlds! {
    fn the_escape_of_chapter_0_fails(program: Program) {
        let quiet = program.clone().args(["--escape", "--", "cat", "/etc/os-release"]).run();
        assert_eq!(quiet.code, Some(0), "{quiet}");
        assert!(quiet.stdout.contains("hull"), "still the container's files: {quiet}");
        // The inode of / is that of the container's root, which is another file than the host's.
        let root = program.args(["--escape", "--", "stat", "-c", "%i", "/"]).run();
        let host = fs::metadata("/").unwrap();
        assert_ne!(root.stdout.trim(), std::os::unix::fs::MetadataExt::ino(&host).to_string(), "{root}");
    }
}

#[test]
fn nothing_of_the_host_s_mount_table_is_left_inside() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let running = lesson().in_sandbox(&sandbox).args(["--", "sleep", "30"]).spawn();
    let expected = ["/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm"];
    let points = mount_points(command(&running, "sleep"));
    let is_mask = |point: &str| point.starts_with("/proc/") || point.starts_with("/sys/");
    let left: Vec<&str> = points.iter().map(String::as_str).filter(|point| !is_mask(point)).collect();
    assert_eq!(left, expected);
    running.signal(libc::SIGTERM);
    running.wait();
    sandbox.check();
}

#[test]
fn a_mount_made_inside_is_not_seen_outside_even_where_the_host_s_mounts_are_shared() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let script = format!(
        "mount --make-rshared / && exec {LESSON} -q -- sh -c 'mount -t tmpfs hull-inside /mnt && exec sleep 30'"
    );
    let running = Program::new("sh").args(["-c", &script]).in_sandbox(&sandbox).spawn();
    let pid = command(&running, "sleep");
    let table = |pid: i32| fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(table(pid).contains(" tmpfs hull-inside "), "{}", table(pid));
    let root = rootfs_builder::default_root().unwrap();
    let outside = table(sandbox.pid());
    assert!(!outside.contains("hull-inside") && !outside.contains(root.to_str().unwrap()), "{outside}");
    running.signal(libc::SIGTERM);
    running.wait();
    sandbox.check();
}

#[test]
fn ps_inside_shows_the_container_s_processes_alone() {
    needs!(UserNamespaces);
    let output = inside(lesson().as_plain_user(), "echo /proc/[0-9]*");
    // Init and the shell, which is the command.
    assert_eq!(output.stdout, "/proc/1 /proc/2\n", "{output}");
}

in_both_worlds! {
    fn the_devices_are_the_ones_that_every_program_may_expect(program: Program) {
        let script = "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done;
            echo x > /dev/null && head -c 2 /dev/zero | wc -c && head -c 2 /dev/urandom | wc -c;
            echo x > /dev/full || echo full; for l in ptmx fd stdin; do readlink /dev/$l; done; touch /dev/shm/x && echo shm";
        let output = inside(program, script);
        let devices = "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n\
            /dev/urandom 1:9 666\n/dev/tty 5:0 666\n2\n2\nfull\npts/ptmx\n/proc/self/fd\n/proc/self/fd/0\nshm\n";
        assert_eq!(output.stdout, devices, "{output}");
    }
}

in_both_worlds! {
    fn what_tells_of_the_host_is_masked_and_what_changes_it_is_read_only(program: Program) {
        let script = "wc -c < /proc/interrupts; ls /sys/firmware | wc -l;
            echo 1 > /proc/sys/vm/swappiness; echo 1 > /proc/irq/default_smp_affinity; mkdir /sys/fs/x; touch /sys/firmware/x";
        let output = inside(program, script);
        assert_eq!(output.stdout, "0\n0\n", "{output}");
        assert_eq!(output.stderr.matches("Read-only file system").count(), 4, "{output}");
    }
}

in_both_worlds! {
    fn a_read_only_root_can_t_be_changed_but_dev_can(program: Program) {
        let output = inside(
            program.arg("--read-only"),
            "touch /x; mkdir /tmp/x; echo x > /dev/null && touch /dev/shm/x && echo ok",
        );
        assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output}");
        assert_eq!(output.stdout, "ok\n");
    }
}

#[test]
fn statuses_and_errors_pass_through() {
    needs!(UserNamespaces);
    assert_eq!(inside(lesson().as_plain_user(), "exit 7").code, Some(7));
    assert_eq!(inside(lesson().as_plain_user(), "kill -KILL $$").code, Some(137));
    let output = lesson().as_plain_user().args(["--", "no-such-command"]).run();
    assert_eq!(output.code, Some(127), "{output}");
    let output = lesson().as_plain_user().args(["--rootfs", "/no/such/root", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("\"/no/such/root\": No such file or directory (ENOENT)"), "{output}");
    let output = lesson().as_plain_user().args(["--rootfs", "/etc/passwd", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("\"/etc/passwd\": Not a directory (ENOTDIR)"), "{output}");
}

#[test]
fn nothing_is_left_of_a_lesson_that_is_killed() {
    needs!(Root);
    let sandbox = Sandbox::new();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let running = lesson().in_sandbox(&sandbox).args(["--", "sleep", "300"]).spawn();
        command(&running, "sleep");
        running.signal(signal);
        running.wait();
        sandbox.check();
    }
}

#[test]
fn ctrl_c_at_any_moment_leaves_nothing_behind() {
    needs!(Root);
    let home = tempfile::tempdir().unwrap();
    // Outside of cargo's target directory, the lesson makes its root file system in the cache directory.
    let lesson = home.path().join("lesson");
    fs::copy(LESSON, &lesson).unwrap();
    let sandbox = Sandbox::new();
    for milliseconds in (0..200).step_by(10) {
        let cache = home.path().join(format!("cache-{milliseconds}"));
        let program = Program::new(&lesson).in_sandbox(&sandbox).env("XDG_CACHE_HOME", &cache);
        let running = program.args(["-q", "--", "sleep", "300"]).spawn();
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal(libc::SIGINT);
        let output = running.wait();
        assert!(
            output.code == Some(130) || output.signal == Some(libc::SIGINT),
            "after {milliseconds} ms: {output}"
        );
        sandbox.check();
        let names: Vec<_> = fs::read_dir(cache.join("hull/rootfs"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            names.iter().all(|name| name == "busybox" || name == "host"),
            "after {milliseconds} ms: {names:?}"
        );
    }
}

in_both_worlds! {
    fn the_shell_s_terminal_comes_from_the_container_s_own_devpts(program: Program) {
        let mut running = program.pty().args(["--", "sh", "-i"]).spawn();
        running.expect("# ", LIMIT);
        running.type_line("tty; ls /dev/pts; test -c /dev/console && echo console");
        running.expect("/dev/pts/0", LIMIT);
        running.expect("\r\nconsole", LIMIT);
        running.type_line("exit 3");
        assert_eq!(running.wait().code, Some(3));
    }
}
