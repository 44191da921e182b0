//! A program that executes itself anew, from where it can't be written to.

use std::process::ExitCode;

use ch06_exec::executable::protect;
use nix::errno::Errno;
use testing::{Program, needs};

/// The program `protected`: says how it is protected, and what it was started with.
pub fn protected() -> ExitCode {
    match protect() {
        Ok(protection) => {
            println!("{protection:?}");
            println!("{:?}", std::env::args_os().collect::<Vec<_>>());
            println!("{:?}", std::env::var_os("PROOF"));
            println!("{:?}", std::fs::read_link("/proc/self/exe").unwrap());
            println!("{}", std::fs::read_to_string("/proc/self/comm").unwrap().trim());
            let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            println!("{:?}", descriptors.flat_map(|entry| entry.path().read_link()).collect::<Vec<_>>());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Copy {
    _directory: tempfile::TempDir,
    program: std::path::PathBuf,
}

impl Copy {
    fn new() -> Copy {
        let directory = testing::plain_user_directory();
        let program = directory.path().join("protected");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        Copy { _directory: directory, program }
    }
}

pub fn arguments_and_environment_are_kept() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let copy = Copy::new();
    let odd = OsStr::from_bytes(b"no \xff UTF-8");
    for denied in [None, Some(libc::SYS_open_tree)] {
        let mut program = Program::new(&copy.program).args([OsStr::new("a b"), OsStr::new(""), odd]);
        program = program.env("PROOF", odd);
        if let Some(call) = denied {
            program = program.deny(call, Errno::EPERM);
        }
        let output = program.run();
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines[1], format!("[{:?}, \"a b\", \"\", {odd:?}]", copy.program), "{output}");
        assert_eq!(lines[2], format!("Some({odd:?})"), "{output}");
        assert_eq!(lines[4], "protected", "{output}");
        assert!(!lines[5].contains("\"/\"") && !lines[5].contains("memfd"), "a descriptor is open: {output}");
    }
}

pub fn a_protected_program_starts_anew_once() {
    needs!(Root, Tool("strace"));
    let copy = Copy::new();
    for (denied, way, link) in [
        (None, "ReadOnlyClone", "\"/\""),
        (Some(libc::SYS_open_tree), "SealedCopy", "\"/memfd:program (deleted)\""),
    ] {
        let program = Program::new("strace").args(["-f", "-e", "trace=execve,execveat"]).arg(&copy.program);
        let program = denied.into_iter().fold(program, |program, call| program.deny(call, Errno::ENOSYS));
        let output = program.run();
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!((lines[0], lines[3]), (way, link), "{output}");
        assert_eq!(output.stderr.matches("execve(").count(), 1, "{output}");
        assert_eq!(output.stderr.matches("execveat(").count(), 1, "{output}");
    }
}

pub fn a_plain_user_runs_from_a_sealed_copy() {
    needs!(PlainUser);
    let copy = Copy::new();
    let output = Program::new(&copy.program).as_plain_user().run();
    assert_eq!(output.stdout.lines().next(), Some("SealedCopy"), "{output}");
}

pub fn a_user_namespace_is_enough_for_a_read_only_clone() {
    needs!(UserNamespaces, Tool("unshare"));
    let copy = Copy::new();
    let program = Program::new("unshare").args(["--user", "--map-root-user", "--mount"]).arg(&copy.program);
    let output = program.as_plain_user().run();
    assert_eq!(output.stdout.lines().next(), Some("ReadOnlyClone"), "{output}");
}

pub fn a_kernel_without_mount_setattr_gives_a_sealed_copy() {
    needs!(Root);
    let copy = Copy::new();
    // Linux 5.2 to 5.11: the clone can be made, and not be made read-only.
    let output = Program::new(&copy.program).deny(libc::SYS_mount_setattr, Errno::ENOSYS).run();
    assert_eq!(output.stdout.lines().next(), Some("SealedCopy"), "{output}");
}

pub fn what_cannot_be_protected_says_why() {
    needs!(Root, Tool("unshare"), Tool("umount"));
    let copy = Copy::new();
    let script = format!("umount -l /proc && exec {}", copy.program.display());
    let output = Program::new("unshare").args(["--mount", "sh", "-c", &script]).run();
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("open /proc/self/exe") && output.stderr.contains("procfs"), "{output}");

    let neither = Program::new(&copy.program).deny(libc::SYS_execveat, Errno::EACCES).run();
    assert_eq!(neither.code, Some(1), "{neither}");
    let [clone, copy] = ["a read-only clone", "a sealed copy"].map(|way| neither.stderr.contains(way));
    assert!(clone && copy && neither.stderr.contains("execveat"), "{neither}");
}
