//! Claims about the doctor: it finds what really is forbidden or missing, says what mends it, and leaves
//! nothing behind.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use testing::{Output, PlainUser, Program, Sandbox, needs};

/// What the lessons need, as the doctor calls it.
const NEEDS: &[&str] = &[
    "kernel",
    "user namespaces",
    "newuidmap",
    "static busybox",
    "room on disk",
    "clone3",
    "a new /proc",
    "veth, bridge, tbf",
    "ip_forward",
    "nft",
    "pasta",
    "cgroups",
    "cgroup delegation",
    "overlayfs",
    "overlayfs in a user namespace",
    "/dev/fuse",
    "fusermount3",
    "setns of a pidfd",
    "own program protected",
    "seccomp filters",
    "capabilities dropped",
    "time namespaces",
];

const DOCTOR: &str = env!("CARGO_BIN_EXE_doctor");

/// Runs a script as root of new namespaces; the doctor is its `$0`.
fn unshared(options: &[&str], script: &str) -> Output {
    Program::new("unshare").args(options).args(["sh", "-c", script, DOCTOR]).run()
}

/// The line of a need: its state, and the rest from the detail on.
fn line<'a>(output: &'a Output, need: &str) -> (&'a str, &'a str) {
    let found = output.stdout.lines().find_map(|line| {
        let (before, after) = line.split_once(&format!(" {need}  "))?;
        Some((before.split_whitespace().next()?, after.trim()))
    });
    found.unwrap_or_else(|| panic!("no line for {need:?} in\n{}\n{}", output.stdout, output.stderr))
}

#[test]
fn as_root_every_need_has_a_line_and_nothing_is_left_behind() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let output = Program::new(DOCTOR).in_sandbox(&sandbox).run();
    sandbox.check();
    for need in NEEDS {
        line(&output, need);
    }
    assert_eq!(line(&output, "clone3").0, "ok");
    assert_eq!(output.stderr, "");
}

#[test]
fn a_plain_user_is_told_what_holds_for_a_plain_user() {
    needs!(UserNamespaces);
    let output = Program::new(DOCTOR).as_plain_user().run();
    assert_eq!(line(&output, "user namespaces"), ("ok", "made one, and mounted in it"));
    assert_ne!(line(&output, "newuidmap").1, "not used: root writes the map itself");
    let broken =
        output.stdout.lines().filter(|line| line.starts_with("missing") || line.starts_with("restricted"));
    for line in broken {
        assert!(line.contains("; to mend it: "), "{line}");
    }
}

#[test]
fn user_namespaces_that_a_sysctl_forbids_are_found_and_the_sysctl_is_named() {
    needs!(UserNamespaces, Tool("unshare"));
    // The sysctl belongs to the user namespace of who writes it: the machine's own stays as it is.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\"";
    let before = fs::read_to_string("/proc/sys/user/max_user_namespaces").expect("read the sysctl");
    let output = unshared(&["--user", "--map-root-user"], script);
    assert_eq!(fs::read_to_string("/proc/sys/user/max_user_namespaces").expect("read the sysctl"), before);
    let (state, detail) = line(&output, "user namespaces");
    assert_eq!(state, "restricted");
    assert!(detail.starts_with("unshare(CLONE_NEWNS|CLONE_NEWUSER): "), "{detail}");
    assert!(detail.contains("(ENOSPC): user.max_user_namespaces is reached"), "{detail}");
    assert!(detail.ends_with("; to mend it: sysctl -w user.max_user_namespaces=15000"), "{detail}");
    assert_eq!(line(&output, "overlayfs in a user namespace").0, "unknown");
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert!(output.stdout.contains("for want of: user namespaces"), "{}", output.stdout);
}

#[test]
fn a_masked_proc_is_found() {
    needs!(Root, UserNamespaces, Tool("unshare"));
    let inner = "exec unshare --user --map-root-user --mount \"$0\"";
    assert_eq!(line(&unshared(&["--mount"], inner), "a new /proc").0, "ok");
    // The mask must come from outside of the user namespace: only there can it not be taken off.
    let masked = unshared(&["--mount"], &format!("mount -t tmpfs none /proc/irq && {inner}"));
    let (state, detail) = line(&masked, "a new /proc");
    assert_eq!(state, "restricted");
    assert!(detail.starts_with("mount a procfs: Operation not permitted (EPERM)"), "{detail}");
}

#[test]
fn the_ranges_of_newuidmap_are_really_mapped() {
    needs!(Root, UserNamespaces, Tool("newuidmap"), Tool("setpriv"), Tool("unshare"));
    let user = PlainUser::get();
    let directory = testing::plain_user_directory();
    let doctor = directory.path().join("doctor");
    fs::copy(DOCTOR, &doctor).expect("copy the doctor");
    let as_user =
        format!("exec setpriv --reuid {} --regid {} --clear-groups {}", user.uid, user.gid, doctor.display());
    // newuidmap refuses a user whom the user database does not know.
    let mut users = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    users += &format!("student:x:{}:{}::/:/bin/sh\n", user.uid, user.gid);
    let run = |ranges: &str| {
        let mounts = [("/etc/passwd", &*users), ("/etc/subuid", ranges), ("/etc/subgid", ranges)].map(
            |(target, text)| {
                let file = directory.path().join(target.trim_start_matches("/etc/"));
                fs::write(&file, text).expect("write a file to mount");
                format!("mount --bind {} {target} && ", file.display())
            },
        );
        unshared(&["--mount"], &(mounts.concat() + &as_user))
    };
    let output = run(&format!("{}:200000:1000\n", user.uid));
    assert_eq!(line(&output, "newuidmap"), ("ok", "mapped 1001 user ids and 1001 group ids"));
    let output = run("somebody:200000:1000\n");
    let (state, detail) = line(&output, "newuidmap");
    assert_eq!(state, "missing");
    assert!(detail.contains("sudo usermod --add-subuids"), "{detail}");
}

#[test]
fn a_missing_device_and_a_full_disk_stop_a_lesson_and_the_exit_status_says_so() {
    needs!(Root, Tool("unshare"));
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().display();
    let script = format!(
        "mount -t tmpfs -o size=64m none {path} && cp \"$0\" {path}/doctor && mount -t tmpfs none /dev && exec {path}/doctor"
    );
    let output = unshared(&["--mount"], &script);
    let (state, detail) = line(&output, "/dev/fuse");
    assert_eq!(state, "missing");
    assert!(detail.starts_with("open /dev/fuse: No such file or directory (ENOENT)"), "{detail}");
    let (state, detail) = line(&output, "room on disk");
    assert_eq!(state, "restricted");
    assert!(detail.contains(&format!("MiB free at {path} ")), "{detail}");
    assert_eq!(output.code, Some(1));
    let last = output.stdout.lines().last().expect("a last line");
    assert!(last.contains("room on disk") && last.contains("/dev/fuse"), "{last}");
}

#[test]
fn ip_forward_is_that_of_the_network_namespace_and_has_to_be_writable_for_root() {
    needs!(Root, Tool("unshare"));
    let file = "/proc/sys/net/ipv4/ip_forward";
    let with = |value: &str, more: &str| {
        unshared(&["--net", "--mount"], &format!("echo {value} > {file}; {more} exec \"$0\""))
    };
    assert_eq!(line(&with("1", ""), "ip_forward"), ("ok", "on"));
    let off = with("0", "");
    assert_eq!(line(&off, "ip_forward"), ("ok", "off; a lesson that needs it switches it on and off again"));
    // As in a container whose /proc/sys is read-only.
    let masked = with("0", "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys;");
    let (state, detail) = line(&masked, "ip_forward");
    assert_eq!(state, "restricted");
    assert!(detail.contains("is not to be written: Read-only file system (EROFS)"), "{detail}");
    assert!(detail.ends_with("to mend it: sysctl -w net.ipv4.ip_forward=1"), "{detail}");
}

#[test]
fn links_that_can_be_made_are_found_and_those_that_cannot_are_named() {
    needs!(Root, Tool("unshare"), Tool("ip"), Tool("tc"));
    let output = unshared(&["--net", "--mount"], "exec \"$0\"");
    assert_eq!(
        line(&output, "veth, bridge, tbf"),
        ("ok", "made a veth pair and a bridge, and limited a rate")
    );
    // A tc that finds no tbf.
    let script = "mount -t tmpfs none /mnt && printf '#!/bin/sh\\necho no tbf >&2; exit 1\\n' > /mnt/tc && \
                  chmod 755 /mnt/tc && PATH=/mnt:$PATH exec \"$0\"";
    let output = unshared(&["--net", "--mount"], script);
    let (state, detail) = line(&output, "veth, bridge, tbf");
    assert_eq!(state, "restricted");
    assert!(detail.starts_with("tc qdisc add dev doctor root tbf "), "{detail}");
    assert!(detail.ends_with(": no tbf; to mend it: modprobe -a veth bridge sch_tbf"), "{detail}");
}

/// A seccomp filter that answers clone3 with ENOSYS, as that of a Docker container does. seccomp(2)
fn deny_clone3() -> std::io::Result<()> {
    let instruction = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the system call
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_clone3 as u32, 1),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, and the filter to which it points, before prctl returns.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_seccomp_filter_that_hides_clone3_is_found() {
    let mut command = Command::new(DOCTOR);
    // SAFETY: the closure makes two system calls and allocates nothing, as a forked child must.
    unsafe { command.pre_exec(deny_clone3) };
    let output = command.output().expect("run the doctor");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let line = stdout.lines().find(|line| line.contains(" clone3 ")).expect("a line for clone3");
    assert!(line.starts_with("restricted ch01 "), "{line}");
    assert!(
        line.contains("clone3: Function not implemented (ENOSYS): a seccomp filter forbids it"),
        "{line}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_kernel_that_lacks_what_chapters_6_and_7_use_is_found() {
    needs!(Root);
    let denied = |call, errno| Program::new(DOCTOR).deny(call, errno).run();
    let output = denied(libc::SYS_setns, Errno::EINVAL);
    let (state, detail) = line(&output, "setns of a pidfd");
    assert_eq!(state, "missing");
    assert!(detail.contains("namespaces are joined one by one"), "{detail}");

    let output = denied(libc::SYS_open_tree, Errno::EPERM);
    let (state, detail) = line(&output, "own program protected");
    assert_eq!(state, "ok");
    assert!(detail.starts_with("a copy in memory (open_tree: "), "{detail}");

    let output = denied(libc::SYS_seccomp, Errno::ENOSYS);
    let (state, detail) = line(&output, "seccomp filters");
    assert_eq!(state, "missing");
    assert!(detail.contains("CONFIG_SECCOMP_FILTER"), "{detail}");
    assert_eq!(output.code, Some(1), "{output}");
}

#[test]
fn a_container_without_cap_setpcap_is_found() {
    needs!(Root, Tool("setpriv"));
    let output = Program::new("setpriv").args(["--bounding-set", "-setpcap", DOCTOR]).run();
    let (state, detail) = line(&output, "capabilities dropped");
    assert_eq!(state, "restricted");
    assert!(detail.starts_with("prctl(PR_CAPBSET_DROP): Operation not permitted (EPERM)"), "{detail}");
}

#[test]
fn colour_is_for_terminals_only_and_no_color_is_obeyed() {
    assert!(!Program::new(DOCTOR).env_remove("NO_COLOR").run().stdout.contains('\x1b'));
    let terminal = Program::new(DOCTOR).pty();
    assert!(terminal.clone().env_remove("NO_COLOR").run().stdout.contains("\x1b[32mok"));
    assert!(!terminal.run().stdout.contains('\x1b'));
}

#[test]
fn help_explains_the_exit_status() {
    let output = Program::new(DOCTOR).arg("--help").run();
    assert_eq!(output.code, Some(0));
    assert!(output.stdout.contains("Exit status: 0 if all lessons can run"), "{}", output.stdout);
}
