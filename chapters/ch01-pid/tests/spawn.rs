//! What the child inherits, and what it must not.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use testing::process::children;
use testing::{Program, needs, poll};

const LESSON: &str = env!("CARGO_BIN_EXE_ch01-pid");

/// Runs the lesson from a shell that holds a directory and a file open.
fn with_leaky_parent(flags: &str, command: &str) -> Program {
    let script = format!("exec 7</ 8</etc/passwd; exec {LESSON} --quiet {flags} -- {command}");
    Program::new("sh").args(["-c", &script])
}

#[test]
fn no_descriptor_of_the_parent_reaches_the_command() {
    needs!(Root);
    let output = with_leaky_parent("", "ls /proc/self/fd").run();
    assert_eq!(output.code, Some(0), "{output}");
    // 0, 1, 2, and the one with which ls reads the directory.
    assert_eq!(output.stdout, "0\n1\n2\n3\n");
}

#[test]
fn no_descriptor_of_the_parent_stays_open_in_init() {
    needs!(Root);
    let running = with_leaky_parent("--view", "sleep 30").spawn();
    let init = poll(Duration::from_secs(30), || {
        let init = *children(running.pid()).first()?;
        // Once the command runs, init has closed what it does not need.
        let command = *children(init).first()?;
        (fs::read_to_string(format!("/proc/{command}/comm")).ok()?.trim() == "sleep").then_some(init)
    });
    let leaks = || -> Vec<String> {
        let open = fs::read_dir(format!("/proc/{init}/fd")).unwrap().flatten();
        let links = open.filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()));
        links.filter(|link| link.starts_with('/') && link != "/dev/null").collect()
    };
    poll(Duration::from_secs(10), || leaks().is_empty().then_some(()));
}

#[test]
fn descriptors_are_closed_one_by_one_where_close_range_is_missing() {
    needs!(Root);
    let output = with_leaky_parent("", "ls /proc/self/fd").deny(libc::SYS_close_range, Errno::ENOSYS).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "0\n1\n2\n3\n"), "{output}");
}

#[test]
fn a_kernel_without_clone3_is_named() {
    needs!(Root);
    let output = Program::new(LESSON).args(["-q", "--", "true"]).deny(libc::SYS_clone3, Errno::ENOSYS).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("clone3 (it needs Linux 5.3"), "{output}");
    assert!(output.stderr.contains("Function not implemented (ENOSYS)"), "{output}");
}

#[test]
fn a_refused_namespace_is_named() {
    needs!(Root);
    let output = Program::new(LESSON).args(["-q", "--", "true"]).deny(libc::SYS_clone3, Errno::EPERM).run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("CAP_SYS_ADMIN") && output.stderr.contains("EPERM"), "{output}");
}
