//! Claims about the sandbox: it is what it says, and it finds what is left behind.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use testing::{Program, Sandbox, needs};

/// Enough to look twice. What a test plants stays there for good.
const SHORT: Duration = Duration::from_millis(100);

/// What `check` says about the sandbox, which must not be clean.
fn complaint(sandbox: &Sandbox) -> String {
    match catch_unwind(AssertUnwindSafe(|| sandbox.check_within(SHORT))) {
        Ok(()) => panic!("check found nothing"),
        Err(panic) => *panic.downcast::<String>().expect("a formatted message"),
    }
}

fn shell(sandbox: &Sandbox, script: &str) -> Program {
    Program::new("sh").args(["-ec", script]).in_sandbox(sandbox)
}

/// Runs a script that must succeed.
#[track_caller]
fn run(sandbox: &Sandbox, script: &str) -> String {
    let output = shell(sandbox, script).run();
    assert_eq!(output.code, Some(0), "{output}");
    output.stdout
}

#[test]
fn a_program_is_in_the_namespaces_of_the_sandbox() {
    needs!(Root);
    let sandbox = Sandbox::new();
    for name in ["mnt", "net", "pid"] {
        let holder = fs::read_link(format!("/proc/{}/ns/{name}", sandbox.pid())).unwrap();
        let program = run(&sandbox, &format!("readlink /proc/self/ns/{name}"));
        assert_eq!(program.trim(), holder.to_str().unwrap());
        assert_ne!(fs::read_link(format!("/proc/self/ns/{name}")).unwrap(), holder);
    }
    let status = run(&sandbox, "cat /proc/1/status");
    assert!(status.contains("Name:\tcat\n") && status.contains("NSpid:\t1\n"), "{status}");
    let links = run(&sandbox, "cat /proc/self/net/dev");
    assert_eq!(links.lines().count(), 3, "two lines of heading, and lo: {links}");
}

#[test]
fn a_program_in_the_sandbox_keeps_exit_status_signals_and_working_directory() {
    needs!(Root);
    let sandbox = Sandbox::new();
    assert_eq!(shell(&sandbox, "exit 42").run().code, Some(42));
    let directory = tempfile::tempdir().unwrap();
    let output = shell(&sandbox, "pwd").current_dir(directory.path()).run();
    assert_eq!(output.stdout.trim(), directory.path().to_str().unwrap());

    let mut running =
        shell(&sandbox, "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.01; done").spawn();
    running.stdout_line();
    running.signal(libc::SIGTERM);
    let output = running.wait();
    assert_eq!((output.code, output.stdout.ends_with("caught\n")), (Some(5), true), "{output}");
}

#[test]
fn a_plain_user_in_the_sandbox_is_both() {
    needs!(Root, PlainUser);
    let sandbox = Sandbox::new();
    let output = shell(&sandbox, "id -u; readlink /proc/self/ns/pid").as_plain_user().run();
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", sandbox.pid())).unwrap();
    let uid = testing::PlainUser::get().uid;
    assert_eq!(output.stdout, format!("{uid}\n{}\n", namespace.display()), "{output}");
}

#[test]
fn mounts_of_the_sandbox_are_not_seen_outside() {
    needs!(Root);
    let sandbox = Sandbox::new();
    run(&sandbox, "mount -t tmpfs only-in-the-sandbox /mnt; mount --make-shared /mnt");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("only-in-the-sandbox"));
    run(&sandbox, "umount /mnt");
}

#[test]
fn a_changed_mount_is_no_leak() {
    needs!(Root);
    let sandbox = Sandbox::new();
    run(&sandbox, "mount --make-rshared /");
    sandbox.check();
}

#[test]
fn a_leaked_mount_is_found() {
    needs!(Root);
    let sandbox = Sandbox::new();
    run(&sandbox, "mount -t tmpfs leaked-mount /mnt");
    let complaint = complaint(&sandbox);
    assert!(complaint.contains("leaked-mount") && complaint.lines().count() == 2, "{complaint}");
    run(&sandbox, "umount /mnt");
}

#[test]
fn a_leaked_namespace_is_found() {
    needs!(Root, Tool("unshare"));
    let sandbox = Sandbox::new();
    // A bind mount keeps a network namespace that has no process.
    run(&sandbox, "mount -t tmpfs none /mnt; touch /mnt/kept; unshare --net=/mnt/kept true");
    let complaint = complaint(&sandbox);
    assert!(complaint.contains("nsfs"), "{complaint}");
    run(&sandbox, "umount /mnt/kept /mnt");
}

#[test]
fn a_leaked_process_is_found_with_its_namespaces() {
    needs!(Root, Tool("unshare"));
    let sandbox = Sandbox::new();
    let pid = run(&sandbox, "unshare --uts sleep 1000 > /dev/null 2>&1 & echo $!");
    let complaint = complaint(&sandbox);
    assert!(complaint.contains(&format!("process {}: (sleep) S", pid.trim())), "{complaint}");
    assert!(complaint.contains("uts:["), "{complaint}");
    run(&sandbox, &format!("kill -KILL {pid}"));
}

#[test]
fn a_zombie_that_nobody_reaps_is_found() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let running = shell(&sandbox, "true & exec sleep 1000").spawn();
    let complaint = complaint(&sandbox);
    assert!(complaint.contains(") Z"), "{complaint}");
    drop(running);
}

#[test]
fn a_leaked_link_is_found() {
    needs!(Root, Tool("ip"));
    let sandbox = Sandbox::new();
    run(&sandbox, "ip link add leaked type veth peer name leaked-peer");
    let complaint = complaint(&sandbox);
    assert!(complaint.contains("link leaked:") && complaint.contains("link leaked-peer:"), "{complaint}");
    run(&sandbox, "ip link delete leaked");
}

#[test]
fn the_sandbox_checks_itself_at_its_end_and_kills_what_is_left() {
    needs!(Root);
    let sandbox = Sandbox::new();
    // $$ in the sandbox's PID namespace is not the pid that we see.
    run(&sandbox, "sleep 1000 > /dev/null 2>&1 &");
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", sandbox.pid())).unwrap();
    assert!(
        catch_unwind(AssertUnwindSafe(|| drop(sandbox))).is_err(),
        "a leak at the end must fail the test"
    );
    testing::poll(std::time::Duration::from_secs(5), || {
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let left = processes
            .filter(|entry| fs::read_link(entry.path().join("ns/pid")).is_ok_and(|ns| ns == namespace));
        (left.count() == 0).then_some(())
    });
}
