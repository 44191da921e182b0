//! Units that systemd makes for us, as `systemctl` and the kernel show them.
#![cfg(feature = "systemd")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ch04_cgroups::devices::{self, CONTAINER_RULES, Rule};
use ch04_cgroups::limits::{Bound, Limits};
use ch04_cgroups::systemd::{Manager, Property, Unit, Value};
use testing::{Program, needs, poll};

const LIMIT: Duration = Duration::from_secs(30);

/// systemd, as the one who asks it: root the system's, a plain user that user's.
struct Systemd {
    manager: Manager,
    user: bool,
}

impl Systemd {
    fn system() -> Systemd {
        Systemd { manager: Manager::system().unwrap(), user: false }
    }

    fn user() -> Systemd {
        Systemd { manager: Manager::user().unwrap(), user: true }
    }

    /// The values of properties, one a line, as `systemctl show` has them.
    fn show(&self, unit: &str, properties: &[&str]) -> Vec<String> {
        let mut systemctl = Command::new("systemctl");
        systemctl.args(self.user.then_some("--user")).args(["show", unit, "-p", &properties.join(",")]);
        let output = systemctl.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let value = |name: &&str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{name}=")));
            lines.collect::<Vec<_>>().join(",")
        };
        properties.iter().map(value).collect()
    }
}

/// A process that does nothing, to be put into a scope.
struct Process(Child);

impl Process {
    fn new() -> Process {
        let sleep = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn();
        Process(sleep.unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Its cgroup in the hierarchy of version 2.
    fn cgroup(&self) -> String {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).unwrap();
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn directory(cgroup: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/cgroup{cgroup}"))
}

fn read(cgroup: &str, file: &str) -> String {
    fs::read_to_string(directory(cgroup).join(file)).unwrap().trim().to_string()
}

/// A name that no other test uses.
fn name(what: &str) -> String {
    format!("hull-test-{what}-{}.scope", std::process::id())
}

fn unit<'a>(name: &'a str, processes: &'a [i32], limits: &'a Limits) -> Unit<'a> {
    Unit { name, description: "a test of hull", slice: None, processes, limits, properties: Vec::new() }
}

/// Runs the test with this name again, in the surroundings that `program` makes for it, which gets the path of this
/// test's binary.
fn again(test: &str, program: impl FnOnce(PathBuf) -> Program) {
    let program = program(std::env::current_exe().unwrap());
    let output = program.args(["--exact", test, "--nocapture"]).env(WITHIN, "1").run();
    assert!(output.code == Some(0) && output.stdout.contains("test result: ok. 1 passed"), "{output}");
}

const WITHIN: &str = "HULL_TEST_WITHIN";

/// A claim that must hold of the system's systemd and of a user's: two tests, each with its own needs.
macro_rules! of_both_managers {
    (fn $claim:ident($systemd:ident: Systemd) $body:block) => {
        mod $claim {
            use super::*;

            fn claim(mut $systemd: Systemd) $body

            #[test]
            fn of_the_system() {
                needs!(Root, Systemd);
                claim(Systemd::system());
            }

            #[test]
            fn of_a_user() {
                if std::env::var_os(WITHIN).is_some() {
                    return claim(Systemd::user());
                }
                needs!(DelegatedCgroup);
                let test = concat!(stringify!($claim), "::of_a_user");
                again(test, |binary| Program::new(binary).with_user_manager());
            }
        }
    };
}

of_both_managers! {
    fn a_scope_has_its_processes_and_limits(systemd: Systemd) {
        let mut limits = Limits::default();
        limits.memory.max = Some(Bound::At(64 << 20));
        limits.memory.high = Some(Bound::At(48 << 20));
        limits.memory.low = Some(Bound::At(1 << 20));
        limits.memory.swap = Some(Bound::At(0));
        limits.pids = Some(Bound::At(20));
        limits.cpu.quota = Some(Bound::At(25_500));
        limits.cpu.period = Some(50_000);
        limits.cpu.shares = Some(2000);
        limits.io.weight = Some(50);
        limits.cpuset.cpus = Some("0".to_string());
        let process = Process::new();
        let name = name("limits");
        let cgroup = systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();

        let above = if systemd.user { "/user.slice/user-" } else { "/system.slice/" };
        assert!(cgroup.starts_with(above) && cgroup.ends_with(&name), "{cgroup}");
        assert_eq!(process.cgroup(), cgroup);
        assert_eq!(read(&cgroup, "cgroup.procs"), process.pid().to_string());
        assert_eq!(read(&cgroup, "memory.max"), (64 << 20).to_string());
        assert_eq!(read(&cgroup, "memory.high"), (48 << 20).to_string());
        assert_eq!(read(&cgroup, "pids.max"), "20");
        let shown = [
            ("Description", "a test of hull"),
            ("MemoryMax", "67108864"),
            ("MemoryHigh", "50331648"),
            ("MemoryLow", "1048576"),
            ("MemorySwapMax", "0"),
            ("TasksMax", "20"),
            ("CPUQuotaPerSecUSec", "510ms"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("CPUWeight", "170"),
            ("IOWeight", "50"),
            ("AllowedCPUs", "0"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("CollectMode", "inactive-or-failed"),
            ("MemoryAccounting", "yes"),
            ("TasksAccounting", "yes"),
            ("ControlGroup", &cgroup),
        ];
        let (names, values): (Vec<&str>, Vec<&str>) = shown.into_iter().unzip();
        assert_eq!(systemd.show(&name, &names), values);
        systemd.manager.stop(&name).unwrap();
    }
}

of_both_managers! {
    fn limits_of_a_scope_change_and_no_others_do(systemd: Systemd) {
        let mut limits = Limits::default();
        limits.memory.max = Some(Bound::At(64 << 20));
        limits.pids = Some(Bound::At(20));
        let process = Process::new();
        let name = name("change");
        let cgroup = systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();

        let mut limits = Limits::default();
        limits.memory.max = Some(Bound::Max);
        systemd.manager.set(&name, &limits).unwrap();
        assert_eq!(systemd.show(&name, &["MemoryMax", "TasksMax"]), ["infinity", "20"]);
        poll(LIMIT, || (read(&cgroup, "memory.max") == "max").then_some(()));
        assert_eq!(read(&cgroup, "pids.max"), "20");
        systemd.manager.stop(&name).unwrap();
    }
}

of_both_managers! {
    fn limits_by_the_names_of_files_are_properties_too(systemd: Systemd) {
        let unified = [
            ("memory.max", "33554432"),
            ("pids.max", "max"),
            ("cpu.max", "max 20000"),
            ("cpu.weight", "42"),
            ("cpuset.cpus", "0,8-9"),
            ("memory.oom.group", "1"),
        ];
        let unified = unified.map(|(file, value)| (file.to_string(), value.to_string())).into();
        let limits = Limits { unified, ..Limits::default() };
        let process = Process::new();
        let name = name("unified");
        systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();
        let names = [
            "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "CPUWeight", "AllowedCPUs", "OOMPolicy",
        ];
        let values = ["33554432", "infinity", "infinity", "20ms", "42", "0 8-9", "kill"];
        assert_eq!(systemd.show(&name, &names), values);
        systemd.manager.stop(&name).unwrap();
    }
}

of_both_managers! {
    fn a_stopped_scope_is_gone_with_its_processes(systemd: Systemd) {
        let mut process = Process::new();
        let name = name("stop");
        let limits = Limits::default();
        let cgroup = systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();
        systemd.manager.stop(&name).unwrap();
        assert_eq!(systemd.show(&name, &["LoadState"]), ["not-found"]);
        assert!(!directory(&cgroup).exists());
        poll(LIMIT, || process.0.try_wait().unwrap());
        systemd.manager.stop(&name).unwrap();
    }
}

of_both_managers! {
    fn a_scope_that_is_there_already_is_an_error(systemd: Systemd) {
        let (process, other) = (Process::new(), Process::new());
        let name = name("twice");
        let limits = Limits::default();
        systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();
        let error = systemd.manager.start(&unit(&name, &[other.pid()], &limits)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with(&format!("ask systemd to start {name}: ")), "{error}");
        assert!(error.ends_with("(org.freedesktop.systemd1.UnitExists)"), "{error}");
        systemd.manager.stop(&name).unwrap();
    }
}

of_both_managers! {
    fn a_slice_can_be_shared_and_a_scope_can_be_in_it(systemd: Systemd) {
        let slice = format!("hull-test{}.slice", std::process::id());
        let limits = Limits { pids: Some(Bound::At(50)), ..Limits::default() };
        let cgroup = systemd.manager.start(&unit(&slice, &[], &limits)).unwrap();
        assert!(cgroup.ends_with(&format!("/hull.slice/{slice}")), "{cgroup}");
        assert_eq!(systemd.manager.start(&unit(&slice, &[], &limits)).unwrap(), cgroup);
        assert_eq!(read(&cgroup, "pids.max"), "50");

        let process = Process::new();
        let name = name("in-a-slice");
        let limits = Limits::default();
        let processes = [process.pid()];
        let scope = Unit { slice: Some(&slice), ..unit(&name, &processes, &limits) };
        assert_eq!(systemd.manager.start(&scope).unwrap(), format!("{cgroup}/{name}"));
        systemd.manager.stop(&slice).unwrap();
        poll(LIMIT, || (!directory(&cgroup).exists()).then_some(()));
    }
}

of_both_managers! {
    fn a_property_that_systemd_does_not_take_is_an_error_with_its_words(systemd: Systemd) {
        let process = Process::new();
        let name = name("wrong");
        let limits = Limits::default();
        let wrong = Property::new("NoSuchProperty", Value::Strings(vec!["a".to_string()]));
        let processes = [process.pid()];
        let wrong = Unit { properties: vec![wrong], ..unit(&name, &processes, &limits) };
        let error = format!("{:#}", systemd.manager.start(&wrong).unwrap_err());
        assert!(error.contains("NoSuchProperty"), "{error}");
        assert_eq!(systemd.show(&name, &["LoadState"]), ["not-found"]);
    }
}

/// What podman's containers are started by: root of a user namespace, a plain user outside.
#[test]
fn root_of_a_user_namespace_reaches_the_users_systemd() {
    const TEST: &str = "root_of_a_user_namespace_reaches_the_users_systemd";
    match std::env::var(WITHIN).as_deref() {
        Err(_) => {
            needs!(DelegatedCgroup, UserNamespaces, Tool("unshare"));
            again(TEST, |binary| Program::new(binary).with_user_manager());
        }
        Ok("1") => {
            let mut unshare = Command::new("unshare");
            unshare.args(["--user", "--map-root-user"]).arg(std::env::current_exe().unwrap());
            let status = unshare.args(["--exact", TEST, "--nocapture"]).env(WITHIN, "2").status().unwrap();
            assert!(status.success());
        }
        Ok(_) => {
            assert!(nix::unistd::geteuid().is_root());
            let mut systemd = Systemd::user();
            let process = Process::new();
            let name = name("namespace");
            let limits = Limits::default();
            let cgroup = systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();
            assert_eq!(process.cgroup(), cgroup);
            systemd.manager.stop(&name).unwrap();
        }
    }
}

/// Whether a process that joins the cgroup can open `/dev/null`, and `/dev/zero`.
fn null_and_zero(cgroup: &str) -> [bool; 2] {
    let script = "echo 0 > \"$1\"/cgroup.procs
        (true < /dev/null) && echo null
        (true < /dev/zero) && echo zero";
    let output = Program::new("sh").args(["-c", script, "sh"]).arg(directory(cgroup)).run();
    ["null", "zero"].map(|device| output.stdout.contains(device))
}

fn rules(lines: &[&str]) -> Vec<Rule> {
    let rule = |line: &&str| {
        let (verb, rest) = line.split_once(' ').unwrap();
        let (devices, access) = rest.rsplit_once(' ').unwrap();
        Rule { allow: verb == "allow", devices: devices.parse().unwrap(), access: access.parse().unwrap() }
    };
    lines.iter().map(rule).collect()
}

#[test]
fn systemd_is_told_of_the_rules_about_devices() {
    needs!(Root, Systemd, CgroupV2);
    let mut systemd = Systemd::system();
    let process = Process::new();
    let name = name("devices");
    let limits = Limits { devices: CONTAINER_RULES.to_vec(), ..Limits::default() };
    let cgroup = systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();
    let shown = systemd.show(&name, &["DevicePolicy", "DeviceAllow"]);
    assert_eq!(shown[0], "strict");
    for entry in ["block-* m", "char-* m", "/dev/char/1:3 rwm", "char-136 rwm"] {
        assert!(shown[1].contains(entry), "{entry} in {shown:?}");
    }
    assert_eq!(null_and_zero(&cgroup), [true, true]);

    let limits = Limits { devices: rules(&["allow c 1:3 rw"]), ..Limits::default() };
    systemd.manager.set(&name, &limits).unwrap();
    assert_eq!(systemd.show(&name, &["DevicePolicy", "DeviceAllow"]), ["strict", "/dev/char/1:3 rw"]);
    assert_eq!(null_and_zero(&cgroup), [true, false]);
    systemd.manager.stop(&name).unwrap();
}

#[test]
fn our_program_and_systemds_hold_together() {
    needs!(Root, Systemd, CgroupV2);
    let mut systemd = Systemd::system();
    let process = Process::new();
    let name = name("programs");
    let limits = Limits { devices: rules(&["allow c 1:* rwm"]), ..Limits::default() };
    let cgroup = systemd.manager.start(&unit(&name, &[process.pid()], &limits)).unwrap();
    let attach = |lines: &[&str]| {
        let directory = File::open(directory(&cgroup)).unwrap();
        devices::v2::attach(directory.as_fd(), &rules(lines)).unwrap();
    };
    attach(&["allow c 1:3 rwm"]);
    assert_eq!(null_and_zero(&cgroup), [true, false]);
    // Ours is replaced, systemd's is not.
    attach(&["allow c 1:5 rwm"]);
    assert_eq!(null_and_zero(&cgroup), [false, true]);
    let limits = Limits { devices: rules(&["allow c 1:3 rwm"]), ..Limits::default() };
    systemd.manager.set(&name, &limits).unwrap();
    assert_eq!(null_and_zero(&cgroup), [false, false]);

    // Rules that systemd has no properties for are ours alone.
    let holes = ["allow a *:* rwm", "deny c 1:5 rwm"];
    systemd.manager.set(&name, &Limits { devices: rules(&holes), ..Limits::default() }).unwrap();
    attach(&holes);
    assert_eq!(systemd.show(&name, &["DevicePolicy", "DeviceAllow"]), ["auto", ""]);
    assert_eq!(null_and_zero(&cgroup), [true, false]);
    systemd.manager.stop(&name).unwrap();
}

#[test]
fn where_there_is_no_systemd_it_says_so() {
    const TEST: &str = "where_there_is_no_systemd_it_says_so";
    if std::env::var_os(WITHIN).is_some() {
        for manager in [Manager::system(), Manager::user()] {
            let error = manager.err().unwrap().to_string();
            assert!(error.starts_with("there is no systemd to ask for a cgroup: "), "{error}");
        }
        return;
    }
    needs!(Root, Tool("unshare"));
    let script = "mkdir -p /run && mount -t tmpfs none /run && exec \"$@\"";
    again(TEST, |binary| Program::new("unshare").args(["--mount", "sh", "-c", script, "sh"]).arg(binary));
}
