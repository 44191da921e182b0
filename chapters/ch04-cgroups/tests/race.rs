//! No process of the command ever runs outside of its cgroup.

mod common;

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use common::{LESSON, World, inside};
use testing::{Program, Running, Sandbox, needs};

/// Where a process is, in each hierarchy: the lines of /proc/PID/cgroup. None once it is gone.
fn cgroups(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(text.lines().map(str::to_string).collect()).filter(|lines: &Vec<String>| !lines.is_empty())
}

/// Which program a process runs; none while it is gone or going.
fn program(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Whether a process is on its way out, or gone: PF_EXITING of linux/sched.h, among the flags that are the ninth field
/// of /proc/PID/stat (proc_pid_stat(5)).
fn is_ending(pid: i32) -> bool {
    const PF_EXITING: u64 = 4;
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let after_name = stat.rsplit_once(") ").unwrap().1;
    after_name.split(' ').nth(6).unwrap().parse::<u64>().unwrap() & PF_EXITING != 0
}

/// Looks at all processes below the lesson, and panics where one that is no longer the lesson's own program is in
/// another cgroup. Returns how many it has seen.
fn look(running: &Running) -> usize {
    let own = program(running.pid());
    let mut seen = 0;
    for pid in inside(running) {
        // The program is asked for first: a process that has become the command was in its place before.
        let Some(its) = program(pid).filter(|its| Some(its) != own.as_ref()) else { continue };
        let Some(cgroups) = cgroups(pid) else { continue };
        // Of a process that is ending, version 1 says `/`, wherever it was.
        if is_ending(pid) {
            continue;
        }
        let is_inside = |line: &String| line.contains("/hull-lesson-");
        assert!(cgroups.iter().all(is_inside), "{its:?} was in {cgroups:?}");
        seen += 1;
    }
    seen
}

in_both_worlds! {
    fn a_process_of_the_command_is_always_seen_inside(world: &World) {
        // Short processes, one after the other and side by side, from the first moment on.
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do true & (true; true) & sleep 0.02; done; wait";
        let mut seen = 0;
        for _ in 0..5 {
            let running = world.lesson().args(["--", "sh", "-c", script]).spawn();
            while fs::read_to_string(format!("/proc/{}/stat", running.pid())).is_ok_and(|stat| !stat.contains(") Z")) {
                seen += look(&running);
            }
            assert_eq!(running.wait().code, Some(0));
        }
        assert!(seen > 5, "seen {seen} times");
    }
}

in_both_worlds! {
    fn the_first_act_of_the_command_finds_it_in_its_cgroup(world: &World) {
        // The root of the command's cgroup namespace is where it was when it made that namespace, before exec. Had it
        // been moved later, in any hierarchy, there would be a path here.
        for _ in 0..10 {
            let output = world.lesson().args(["--", "cat", "/proc/self/cgroup"]).run();
            assert_eq!(output.code, Some(0), "{output}");
            assert!(output.stdout.lines().count() > 0, "{output}");
            assert!(output.stdout.lines().all(|line| line.ends_with(":/")), "{output}");
        }
    }
}

in_both_worlds! {
    fn even_the_first_fork_of_the_command_counts(world: &World) {
        // Init and the shell are two, and there is room for no third.
        for _ in 0..10 {
            let output = world.lesson().args(["--pids", "2", "--", "sh", "-c", "true & true"]).run();
            assert_ne!(output.code, Some(0), "{output}");
            assert!(output.stderr.contains("can't fork"), "{output}");
        }
    }
}

#[test]
fn at_each_step_no_process_has_become_the_command_outside() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let program = Program::new(LESSON).in_sandbox(&sandbox).pty().timeout(Duration::from_secs(120));
    let mut running = program.args(["--step", "--pids", "20", "--", "sleep", "1"]).spawn();
    let (mut seen, mut steps) = (0, 0);
    while steps < 200 {
        sleep(Duration::from_millis(50));
        if testing::process::status(running.pid(), "State").is_some_and(|status| status.starts_with('Z')) {
            break;
        }
        // Both sides wait for Enter now, so this is a look at a moment that stands still.
        seen += look(&running);
        steps += 1;
        running.type_line("");
    }
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{output}");
    assert!(seen > 0 && steps > 10, "{output}");
}

#[test]
fn on_version_2_the_child_is_made_in_its_cgroup() {
    needs!(Root, CgroupV2, Tool("strace"));
    let sandbox = Sandbox::new();
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let strace = Program::new("strace").args(["-f", "-e", "trace=clone3,write", "-o"]).arg(&trace);
    let output = strace.in_sandbox(&sandbox).args([LESSON, "--quiet", "--pids", "20", "--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("CLONE_INTO_CGROUP"), "{trace}");
}
