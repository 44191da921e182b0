//! The containers of others: what runc, podman and Docker have started is joined by its pid.
//!
//! All of it is in a sandbox: with its first process end all daemons, and its network is none of the host's.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{LESSON, LIMIT, NAMESPACES, cgroups, joined, namespace, pids, stop};
use testing::process::{descendants, exists};
use testing::{Program, Running, Sandbox, needs, poll};

/// Runs a shell script in the sandbox; returns what it prints.
fn shell(sandbox: &Sandbox, directory: &Path, script: &str) -> String {
    let program = Program::new("sh").args(["-ec", script]).in_sandbox(sandbox).current_dir(directory);
    let output = program.timeout(LIMIT).run();
    assert_eq!(output.code, Some(0), "{script}: {output}");
    output.stdout.trim().to_owned()
}

/// A root file system of busybox's, owned by root.
fn root() -> PathBuf {
    rootfs_builder::default_root().unwrap()
}

/// Joins the process that has this number in the sandbox, and compares what both have.
fn check_joined(sandbox: &Sandbox, number: &str, extra: &[&str]) {
    let depth = pids(sandbox.pid()).len() - 1;
    let is_it = |pid: &i32| pids(*pid).get(depth) == Some(&number.parse().unwrap());
    let target = descendants(sandbox.pid()).into_iter().find(is_it).expect("the container's first process");
    let lesson = |arguments: &[&str]| {
        Program::new(LESSON).in_sandbox(sandbox).args(["-q", "--pid", number]).args(arguments)
    };

    let running = lesson(&["--", "sleep", "200"]).spawn();
    let process = joined(&running, "sleep");
    for kind in NAMESPACES.iter().chain(extra) {
        assert_eq!(namespace(process, kind), namespace(target, kind), "{kind}");
    }
    for kind in ["mnt", "pid", "net", "ipc", "uts"].iter().chain(extra) {
        assert_ne!(namespace(process, kind), namespace(running.pid(), kind), "{kind}");
    }
    assert_eq!(cgroups(process), cgroups(target));
    let root = |pid: i32| {
        let root = fs::metadata(format!("/proc/{pid}/root")).unwrap();
        (root.dev(), root.ino())
    };
    assert_eq!(root(process), root(target));
    stop(running);

    let output = lesson(&["--", "sh", "-c", "echo $PPID; exit 3"]).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(3), "0\n"), "{output}");
    let mut running = lesson(&["-t", "--", "sh", "-c", "test -t 1 && tty"]).pty().spawn();
    running.expect("/dev/pts/0", LIMIT);
    assert_eq!(running.wait().code, Some(0));
    let output = lesson(&["--only", "net", "--", "sh", "-c", "grep -c : /proc/net/dev"]).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "1\n"), "lo alone: {output}");
    assert!(exists(target), "it is not ours to end");
}

/// A bundle of runc's own example, with another command and root.
const BUNDLE: &str = r#"sed -i 's/"terminal": true/"terminal": false/; s/"sh"$/"sleep", "300"/; s|"path": "rootfs"|"path": "'"$ROOT"'"|' config.json
    runc --root state run -d --pid-file pid hull-test < /dev/null > /dev/null 2> log || { cat log >&2; false; }
    cat pid"#;

#[test]
fn a_container_of_runc_is_joined() {
    needs!(Root, Tool("runc"));
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let script = format!("ROOT={}; runc spec; {BUNDLE}", root().display());
    let pid = shell(&sandbox, directory.path(), &script);
    check_joined(&sandbox, &pid, &[]);
    shell(&sandbox, directory.path(), "runc --root state delete --force hull-test");
}

#[test]
fn a_container_of_runc_in_a_user_namespace_is_joined() {
    needs!(Root, Tool("runc"));
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    // As --rootless has it, but for the network, which stays the host's there.
    let script = format!(
        r#"ROOT={}; runc spec --rootless
        sed -i 's/"namespaces": \[/&{{"type": "network"}}, /; s/"type": "mount"/"type": "mount"/' config.json; {BUNDLE}"#,
        root().display()
    );
    let pid = shell(&sandbox, directory.path(), &script);
    check_joined(&sandbox, &pid, &["user"]);
    shell(&sandbox, directory.path(), "runc --root state delete --force hull-test");
}

#[test]
fn a_container_of_podman_is_joined() {
    needs!(Root, Tool("podman"), Tool("runc"));
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let parent = Parent::new("podman");
    // The limits that podman takes by default may be more than root has in a container of its own.
    let podman = "podman --root $PWD/root --runroot $PWD/run --tmpdir $PWD/tmp --cgroup-manager=cgroupfs --events-backend=none --runtime=runc";
    let script = format!(
        "{podman} run -d --name hull-test --network=none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 \
         --cgroup-parent {} --rootfs {} sleep 300 > /dev/null; {podman} inspect hull-test --format '{{{{.State.Pid}}}}'",
        parent.0,
        root().display()
    );
    let pid = shell(&sandbox, directory.path(), &script);
    check_joined(&sandbox, &pid, &[]);
    shell(&sandbox, directory.path(), &format!("{podman} rm --force --time 0 hull-test"));
}

#[test]
fn a_container_of_docker_is_joined() {
    needs!(Root, Tool("dockerd"), Tool("docker"), Tool("unshare"));
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    let parent = Parent::new("docker");
    let daemon = dockerd(&sandbox, directory.path());
    let docker = "docker -H unix://$PWD/socket";
    let ready = format!("{docker} version > /dev/null 2>&1 && echo yes || echo no");
    poll(LIMIT, || (shell(&sandbox, directory.path(), &ready) == "yes").then_some(()));
    let script = format!(
        "tar -C {} -c . | {docker} import - hull-test > /dev/null
         {docker} run -d --name hull-test --network=none --cgroup-parent {} hull-test sleep 300 > /dev/null
         {docker} inspect hull-test --format '{{{{.State.Pid}}}}'",
        root().display(),
        parent.0
    );
    let pid = shell(&sandbox, directory.path(), &script);
    check_joined(&sandbox, &pid, &[]);
    shell(&sandbox, directory.path(), &format!("{docker} rm --force hull-test"));
    daemon.signal(libc::SIGTERM);
    daemon.wait();
}

/// A daemon that leaves the machine's network alone, with all that it has in `directory`.
fn dockerd(sandbox: &Sandbox, directory: &Path) -> Running {
    // In a mount table of its own: containerd and its shims meet in /run, which is the machine's.
    let script = "mount -t tmpfs tmpfs /run; exec dockerd --data-root $PWD/data --exec-root $PWD/exec --pidfile $PWD/pid -H unix://$PWD/socket \
        --bridge=none --iptables=false --ip6tables=false --ip-forward=false --exec-opt native.cgroupdriver=cgroupfs";
    let program = Program::new("unshare").args(["--mount", "sh", "-ec", script]);
    let program = program.in_sandbox(sandbox).current_dir(directory);
    program.timeout(4 * LIMIT).spawn()
}

/// A cgroup below which an engine makes its own, at the top of each hierarchy. Dropped, it is removed: the sandbox sees
/// only what is below its own.
struct Parent(String);

impl Parent {
    fn new(engine: &str) -> Parent {
        Parent(format!("/hull-test-{engine}-{}", std::process::id()))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        let script = "find /sys/fs/cgroup -depth -type d -path \"*$0*\" -exec rmdir {} + 2> /dev/null
            test -z \"$(find /sys/fs/cgroup -type d -path \"*$0*\" -print -quit)\"";
        let is_gone = || Program::new("sh").args(["-c", script, &self.0]).run().code == Some(0);
        if !std::thread::panicking() {
            poll(LIMIT, || is_gone().then_some(()));
        }
    }
}
