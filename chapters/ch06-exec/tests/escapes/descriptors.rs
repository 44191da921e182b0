//! CVE-2024-21626: a directory of the host's that the joined process holds.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use ch01_pid::spawn::exit_now;
use ch06_exec::root::working_directory;
use ch06_exec::{Exec, Target};
use nix::unistd::Pid;
use testing::{Program, needs};

use crate::container::{Hostile, SECRET, idle};

const LESSON: &str = env!("CARGO_BIN_EXE_ch06-exec");

pub fn a_directory_that_is_left_open_leads_out_of_the_careless_alone() {
    needs!(Root);
    let hostile = Hostile::new();
    hostile.write_look();
    let container = hostile.start(idle);
    let careless = hostile.copy_of(std::env::current_exe().unwrap(), "careless");

    let output = Program::new(careless).args([&container.pid(), "/", "/bin/look"]).run();
    assert!(output.stdout.contains(SECRET), "{output}");

    let output = Program::new(LESSON).args(["-q", "--pid", &container.pid(), "--", "/bin/look"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    // The third is that of the directory which ls(1) reads.
    assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{output}");
}

pub fn a_working_directory_in_proc_self_fd_leads_out_of_the_careless_alone() {
    needs!(Root);
    let hostile = Hostile::new();
    hostile.write_look();
    let container = hostile.start(idle);
    let careless = hostile.copy_of(std::env::current_exe().unwrap(), "careless");
    let run_careless = |directory: &str| {
        Program::new(&careless).args([&container.pid(), directory, "/bin/look"]).run().stdout.contains(SECRET)
    };
    // The number depends on what the program was started with; the attacker tries some.
    let numbers: Vec<String> = (3..30).map(|fd| format!("/proc/self/fd/{fd}")).collect();
    let way_out = numbers.iter().find(|directory| run_careless(directory)).expect("a way out");
    // The path is resolved in the container, where it may be a link as well.
    std::os::unix::fs::symlink(way_out, hostile.root.join("work")).unwrap();
    assert!(run_careless("/work"));

    for directory in numbers.iter().map(String::as_str).chain(["/work"]) {
        let ours = Program::new(LESSON).args(["-q", "--pid", &container.pid(), "--workdir", directory]);
        let output = ours.args(["--", "/bin/look"]).run();
        assert!(output.code == Some(125) && output.stdout.is_empty(), "{directory}: {output}");
        assert!(output.stderr.contains(directory), "{output}");
    }
}

pub fn a_working_directory_out_of_the_root_is_refused_even_by_an_open_descriptor() {
    needs!(Root);
    let hostile = Hostile::new();
    let container = hostile.start(idle);
    let target = Target::open(Pid::from_raw(container.pid().parse().unwrap())).unwrap();
    let directory = File::open("/").unwrap();
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let held = Exec::new(&target).keep([directory.as_fd()]).start(|_| {
        working_directory(Path::new(&path))?;
        exit_now(0)
    });
    let error = held.unwrap().release(None).map(drop).unwrap_err();
    assert!(format!("{error:#}").contains(&path), "{error:#}");
}
