//! Claims about the view: it says what the kernel says, of any process, and names what it may not read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::time::Duration;

use lesson::view::table::{list, table};
use lesson::view::{Unreadable, View, VisibleProcesses};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use testing::{PlainUser, Program, Running, needs, poll};

const VIEW: &str = env!("CARGO_BIN_EXE_view");

/// Starts `unshare` with options; the script in it prints a line when it is ready, which is awaited.
fn unshared(options: &[&str], script: &str) -> Running {
    ready(Program::new("unshare").args(options).args([
        "sh",
        "-c",
        &format!("{script}; echo ready; exec sleep 60"),
    ]))
}

fn ready(program: Program) -> Running {
    let mut running = program.spawn();
    assert_eq!(running.stdout_line().trim(), "ready");
    running
}

fn stop(running: Running) {
    running.signal(libc::SIGKILL);
    running.wait();
}

fn readlink(path: impl AsRef<Path>) -> String {
    fs::read_link(path).expect("readlink").to_string_lossy().into_owned()
}

#[test]
fn a_view_of_oneself_says_what_proc_self_says() {
    let view = View::here().expect("view");
    assert_eq!(view.pid, Ok(id().to_string()));
    let status = fs::read_to_string("/proc/self/status").expect("read status");
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no line {name}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(view.uids, Ok(line("Uid")));
    assert_eq!(view.seccomp, Ok(line("Seccomp")));
    for set in view.capabilities.expect("capabilities") {
        assert_eq!(set.value, Ok(line(&set.name)));
    }
    for namespace in view.namespaces.expect("namespaces") {
        assert_eq!(namespace.value, Ok(readlink(format!("/proc/self/ns/{}", namespace.name))));
    }
    let points = view.mounts.expect("mounts").into_iter().map(|mount| mount.point);
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read mounts");
    let expected: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(points.collect::<Vec<_>>(), expected);
    let root = view.root.expect("root");
    assert!(root.identity.ends_with(&format!(":{}", fs::metadata("/").expect("stat /").ino())), "{root:?}");
    assert_eq!(root.entries, Ok(fs::read_dir("/").expect("read /").count()));
    let Ok(VisibleProcesses::Pids(pids)) = view.processes else { panic!("{:?}", view.processes) };
    assert!(pids.contains(&(id() as i32)));
}

#[test]
fn a_process_in_its_own_namespaces_is_seen_from_outside_with_its_own_eyes() {
    needs!(Root, Tool("unshare"), Tool("ip"));
    // --kill-child: the init of the namespace would outlive its parent, whom the test kills.
    let options = ["--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--net", "--cgroup"];
    let script = "hostname inside; ip link set lo up; ip address add 10.9.8.7/24 dev lo; \
                  ip link add left type veth peer name right; ip link set left up; ip link set right up; \
                  ip address add 10.1.2.3/20 dev left; ip address add fd00:1::2/64 dev left nodad; \
                  ip route add default via 10.1.0.1; ip -6 route add default via fd00:1::1; \
                  ip route add 198.51.100.0/24 dev right";
    let running = unshared(&options, script);
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let child: i32 = fs::read_to_string(children).expect("children").trim().parse().expect("one child");

    let view = View::of(child).expect("view");
    assert_eq!(view.hostname, Ok("inside".to_owned()));
    assert_eq!(view.processes, Ok(VisibleProcesses::Pids(vec![1])));
    assert!(view.pids_in_namespaces.as_ref().expect("NSpid").ends_with(" 1"));
    let links = view.links.clone().expect("links");
    let addresses = |name: &str| links.iter().find(|link| link.name == name).expect("link").addresses.clone();
    assert_eq!(addresses("lo"), ["10.9.8.7/24", "127.0.0.1/8", "::1/128"]);
    assert!(addresses("left").starts_with(&["10.1.2.3/20".to_owned()]), "{:?}", addresses("left"));
    assert!(addresses("left").contains(&"fd00:1::2/64".to_owned()), "{:?}", addresses("left"));
    assert!(links.iter().any(|link| link.name == "right"));
    let routes = list(&view, false, 100);
    for route in [
        "default via 10.1.0.1 dev left",
        "10.1.0.0/20 dev left",
        "198.51.100.0/24 dev right",
        "default via fd00:1::1 dev left",
        "fd00:1::/64 dev left",
    ] {
        assert!(routes.contains(&format!("{route}\n")), "{route}: {routes}");
    }
    // What the kernel keeps for itself is not shown, as by `ip -6 route`.
    assert!(!routes.contains("ff00::") && !routes.contains("::1/128 dev"), "{routes}");
    // Asking for the name has not moved the one who asks.
    assert_ne!(readlink("/proc/self/ns/uts"), readlink(format!("/proc/{child}/ns/uts")));
    stop(running);
}

#[test]
fn who_made_a_user_namespace_sees_the_host_name_in_it() {
    needs!(UserNamespaces, Tool("unshare"));
    let options =
        ["--user", "--map-root-user", "--uts", "sh", "-c", "hostname inner; echo ready; exec sleep 60"];
    let running = ready(Program::new("unshare").args(options).as_plain_user());
    let output = Program::new(VIEW).arg(running.pid().to_string()).as_plain_user().run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stdout.contains("hostname      inner\n"), "{}", output.stdout);
    assert!(
        output.stdout.contains(&format!("uid_map       0 {} 1\n", PlainUser::get().uid)),
        "{}",
        output.stdout
    );
    stop(running);
}

#[test]
fn another_users_process_is_shown_and_what_may_not_be_read_is_named() {
    needs!(Root, PlainUser);
    let running = unshared(&["--uts"], "true");
    let output = Program::new(VIEW).arg(running.pid().to_string()).as_plain_user().run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    for refused in ["hostname      not readable: readlink ns/uts", "root          not readable: open root"] {
        let refused = format!("{refused}: Permission denied (EACCES); needs ptrace rights over it");
        assert!(output.stdout.contains(&refused), "{}", output.stdout);
    }
    assert!(output.stdout.contains("Uid           0 0 0 0\n"), "{}", output.stdout);
    assert!(output.stdout.contains("links         lo"), "{}", output.stdout);
    stop(running);
}

#[test]
fn a_process_whose_proc_is_covered_sees_no_processes() {
    needs!(Root, Tool("unshare"));
    let running = unshared(&["--mount"], "mount -t tmpfs none /proc");
    let view = View::of(running.pid()).expect("view");
    assert_eq!(view.processes, Ok(VisibleProcesses::NoProc));
    assert!(list(&view, false, 100).contains("sees pids     none: no /proc is mounted\n"));
    stop(running);
}

#[test]
fn in_a_root_without_proc_a_process_reads_its_view_through_the_hosts_proc() {
    needs!(Root);
    let empty = tempfile::tempdir().expect("temporary directory");
    let inode = fs::metadata(empty.path()).expect("stat").ino();
    let proc = fs::File::open("/proc").expect("open /proc");
    let path: PathBuf = empty.path().to_owned();
    // A thread may have a root of its own; `thread-self` is to it what `self` is to a process.
    let view = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS).expect("unshare(CLONE_FS)");
        nix::unistd::chroot(&path).expect("chroot");
        assert!(View::here().is_err(), "there is no /proc in here");
        View::through(&proc, "thread-self").expect("view")
    });
    let view = view.join().expect("join");
    let root = view.root.expect("root");
    assert!(root.identity.ends_with(&format!(":{inode}")), "{root:?}");
    assert_eq!(root.entries, Ok(0));
    assert_eq!(view.processes, Ok(VisibleProcesses::NoProc));
}

#[test]
fn the_limit_of_a_cgroup_is_shown_for_the_process_in_it() {
    needs!(Root);
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read mounts");
    let mount = |kind: &str, option: &str| {
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find_map(|fields| {
            let matches = fields[2] == kind && fields[3].split(',').any(|word| word == option);
            matches.then(|| PathBuf::from(fields[1]))
        })
    };
    let pids = mount("cgroup", "pids").or_else(|| mount("cgroup2", "rw")).expect("a cgroup mount with pids");
    let cgroup = pids.join(format!("hull-view-test-{}", id()));
    // In version 2 a cgroup has the files of a controller only if its parent passes the controller on.
    if pids.join("cgroup.subtree_control").exists() {
        fs::write(pids.join("cgroup.subtree_control"), "+pids").expect("enable pids");
    }
    fs::create_dir(&cgroup).expect("mkdir cgroup");
    fs::write(cgroup.join("pids.max"), "7").expect("write pids.max");
    let running = ready(Program::new("sh").args(["-c", "echo ready; exec sleep 60"]));
    fs::write(cgroup.join("cgroup.procs"), running.pid().to_string()).expect("write cgroup.procs");

    let limits = View::of(running.pid()).expect("view").limits;
    stop(running);
    poll(Duration::from_secs(5), || fs::remove_dir(&cgroup).ok());
    let limits = limits.expect("limits");
    let limit = limits.iter().find(|limit| limit.name == "pids.max").expect("pids.max");
    assert_eq!(limit.value, Ok("7".to_owned()));
}

#[test]
fn a_zombie_has_a_view() {
    let mut child = Command::new("true").spawn().expect("spawn");
    let pid = child.id() as i32;
    poll(Duration::from_secs(10), || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.contains("State:\tZ").then_some(())
    });
    let view = View::of(pid).expect("view of a zombie");
    assert_eq!(view.pid, Ok(pid.to_string()));
    assert!(view.root.is_err() && view.links.is_err(), "{view:?}");
    child.wait().expect("wait");
    assert!(View::of(pid).is_err());
}

#[test]
fn a_kernel_thread_has_a_view() {
    needs!(Root);
    // In a PID namespace of its own (a container) the machine's kernel threads have no id, and 2 may be
    // anything.
    let Ok(view) = View::of(2) else { return };
    assert!(view.root.is_ok() && view.mounts.is_ok(), "{view:?}");
}

#[test]
fn no_such_process_is_an_error_that_names_it() {
    let output = Program::new(VIEW).arg("4194305").run(); // one more than the kernel's largest pid
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.starts_with("view: no process 4194305"), "{}", output.stderr);
    assert!(
        output.stderr.ends_with("open \"/proc/4194305\": No such file or directory (ENOENT)\n"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout, "");
}

#[test]
fn the_table_marks_what_differs_without_colour() {
    let left = View::here().expect("view");
    let mut right = left.clone();
    right.hostname = Ok("other".to_owned());
    let mut mounts = right.mounts.clone().expect("mounts");
    mounts[0].options = "changed".to_owned();
    mounts.push(lesson::view::Mount { point: "/only/right".to_owned(), ..mounts[0].clone() });
    right.mounts = Ok(mounts);
    right.seccomp = Err(Unreadable::Refused { operation: "open status".to_owned(), errno: Errno::EACCES });
    let text = table(("host", &left), ("inside", &right), None, false, 160);
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{text}"));
    assert!(line("hostname").contains(" | other"));
    assert!(line("changed").contains(" | "));
    assert!(line("/only/right").contains(" > /only/right"));
    assert!(line("Seccomp").contains(" | not readable"));
    assert!(!line("Uid").contains(" | "));
    assert!(!text.contains('\x1b'));
    assert!(table(("host", &left), ("inside", &right), None, true, 160).contains("\x1b["));
}

#[test]
fn of_the_table_some_rows_can_be_shown_alone() {
    let view = View::here().expect("view");
    let rows = table(("host", &view), ("inside", &view), Some(&["hostname", "routes"]), false, 160);
    let titles: Vec<&str> =
        rows.lines().map(|line| &line[..14]).filter(|title| !title.trim().is_empty()).collect();
    assert_eq!(titles, ["hostname      ", "routes        "], "{rows}");
}

#[test]
fn a_long_list_is_shortened_with_a_count() {
    let left = View::here().expect("view");
    let mut right = left.clone();
    let mount = left.mounts.clone().expect("mounts")[0].clone();
    let many =
        (0..100).map(|number| lesson::view::Mount { point: format!("/many/{number}"), ..mount.clone() });
    let mut mounts = left.mounts.clone().expect("mounts");
    mounts.extend(many);
    right.mounts = Ok(mounts);
    let text = table(("host", &left), ("inside", &right), None, false, 120);
    assert_eq!(text.matches("> /many/").count(), 12, "{text}");
    assert!(text.contains("> ... and 88 more only here"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

#[test]
fn a_process_cannot_send_commands_to_the_readers_terminal() {
    let mut view = View::here().expect("view");
    view.hostname = Ok("\x1b[2J\u{9b}evil\n".to_owned());
    let text = list(&view, false, 100);
    assert!(text.contains("hostname      \\u{1b}[2J\\u{9b}evil\\n\n"), "{text}");
}

#[test]
fn two_pids_are_shown_side_by_side() {
    let running = ready(Program::new("sh").args(["-c", "echo ready; exec sleep 60"]));
    let (one, two) = (id().to_string(), running.pid().to_string());
    let output = Program::new(VIEW).args([OsStr::new(&one), OsStr::new(&two)]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let heading = output.stdout.lines().next().expect("a heading");
    assert!(heading.contains(&format!("pid {one}")) && heading.contains(&format!("pid {two}")), "{heading}");
    assert!(output.stdout.lines().nth(1).expect("a line").contains("| "), "{}", output.stdout);
    stop(running);
}

#[test]
fn a_reader_that_closes_early_is_no_error() {
    let output = Program::new("sh").args(["-c", &format!("{VIEW:?} | true; {VIEW:?} | head -n 1")]).run();
    assert_eq!(output.code, Some(0));
    assert_eq!(output.stderr, "");
    assert!(output.stdout.starts_with("process"), "{}", output.stdout);
}
