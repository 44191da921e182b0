//! Claims about the sandbox's cgroups.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testing::{PlainUser, Program, Sandbox, needs};

/// The cgroup of the sandbox in some hierarchy.
fn some_cgroup(sandbox: &Sandbox) -> PathBuf {
    sandbox.cgroup("pids").or(sandbox.cgroup_v2()).expect("a cgroup hierarchy")
}

/// The hierarchy of each line, and whether it says that the process is in a sandbox's cgroup.
fn memberships(text: &str) -> Vec<(String, bool)> {
    let lines = text.lines().filter_map(|line| line.split_once(":/"));
    lines.map(|(hierarchy, path)| (hierarchy.to_string(), path.contains("hull-test-"))).collect()
}

#[test]
fn a_program_is_in_a_cgroup_of_the_sandbox_in_every_hierarchy() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let output = Program::new("cat").args(["/proc/self/cgroup"]).in_sandbox(&sandbox).run();
    let expected: Vec<(String, bool)> = memberships(&fs::read_to_string("/proc/self/cgroup").unwrap())
        .into_iter()
        .map(|(hierarchy, _)| (hierarchy, true))
        .collect();
    assert_eq!(memberships(&output.stdout), expected, "{output}");
}

#[test]
fn the_processes_of_a_program_are_listed_in_the_sandboxes_cgroup() {
    needs!(Root, CgroupController("memory"));
    let sandbox = Sandbox::new();
    let running = Program::new("sleep").args(["1000"]).in_sandbox(&sandbox).spawn();
    let cgroup = sandbox.cgroup("memory").unwrap();
    let leaf = if cgroup.join("cgroup.controllers").exists() { cgroup.join("programs") } else { cgroup };
    let processes = fs::read_to_string(leaf.join("cgroup.procs")).unwrap();
    assert_eq!(processes.trim(), running.pid().to_string());
}

#[test]
fn a_program_can_make_a_cgroup_with_a_limit_beside_its_own() {
    needs!(Root, CgroupController("pids"));
    let sandbox = Sandbox::new();
    let cgroup = sandbox.cgroup("pids").unwrap();
    let script = "mkdir $1/limited; echo 7 > $1/limited/pids.max; echo $$ > $1/limited/cgroup.procs
        cat $1/limited/pids.max /proc/self/cgroup";
    let output = Program::new("sh").args(["-ec", script, "sh"]).arg(&cgroup).in_sandbox(&sandbox).run();
    assert!(output.stdout.starts_with("7\n") && output.stdout.contains("/limited\n"), "{output}");
    fs::remove_dir(cgroup.join("limited")).unwrap();
}

#[test]
fn a_plain_user_can_divide_a_cgroup_that_was_delegated() {
    needs!(Root, PlainUser, CgroupV2);
    let sandbox = Sandbox::new();
    let cgroup = sandbox.cgroup_v2().unwrap();
    let script = "mkdir $1/own; echo $$ > $1/own/cgroup.procs; cat /proc/self/cgroup";
    let program = Program::new("sh").args(["-ec", script, "sh"]).arg(&cgroup).in_sandbox(&sandbox);
    let refused = program.clone().as_plain_user().run();
    assert!(refused.stderr.contains("Permission denied"), "{refused}");

    sandbox.delegate_cgroups();
    let output = program.as_plain_user().run();
    assert!(output.stdout.contains("/own\n"), "{output}");
    fs::remove_dir(cgroup.join("own")).unwrap();
}

#[test]
fn a_leaked_cgroup_is_found_with_its_processes() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let leaked = some_cgroup(&sandbox).join("any-name");
    fs::create_dir(&leaked).unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| sandbox.check_within(Duration::from_millis(100))));
    fs::remove_dir(&leaked).unwrap();
    let complaint = *result.expect_err("check found nothing").downcast::<String>().unwrap();
    let expected = format!("cgroup {}: 0 processes are in it", leaked.display());
    assert!(complaint.contains(&expected), "{complaint}");
}

#[test]
fn at_its_end_the_sandbox_removes_its_cgroups_and_what_was_left_in_them() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let cgroup = some_cgroup(&sandbox);
    fs::create_dir_all(cgroup.join("left/below")).unwrap();
    let script = "echo $$ > $1/left/below/cgroup.procs; sleep 1000 > /dev/null 2>&1 &";
    Program::new("sh").args(["-ec", script, "sh"]).arg(&cgroup).in_sandbox(&sandbox).run();
    assert_ne!(fs::read_to_string(cgroup.join("left/below/cgroup.procs")).unwrap(), "");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(sandbox))).is_err(), "a leak must fail the test");
    assert!(!cgroup.exists());
}

#[test]
fn the_cgroups_of_a_test_that_was_killed_are_swept_by_the_next_sandbox() {
    needs!(Root);
    // A process that has ended and is reaped: nobody has its pid.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let parent = some_cgroup(&Sandbox::new()).parent().map(Path::to_path_buf).unwrap();
    let left = parent.join(format!("hull-test-{}-0", child.id()));
    fs::create_dir_all(left.join("below")).unwrap();
    drop(Sandbox::new());
    assert!(!left.exists());
}

#[test]
fn a_program_of_the_plain_users_systemd_stands_in_a_cgroup_of_that_user() {
    needs!(DelegatedCgroup);
    let arguments = ["--user", "--scope", "--quiet", "-p", "Delegate=yes"];
    let script =
        "cgroup=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); stat -c %u $cgroup; mkdir $cgroup/own";
    let program = Program::new("systemd-run").args(arguments).args(["sh", "-ec", script]);
    let output = program.with_user_manager().run();
    assert_eq!(output.stdout, format!("{}\n", PlainUser::get().uid), "{output}");
    assert_eq!(output.code, Some(0), "{output}");
}
