//! The server's life and death.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use testing::{Program, needs, poll};

use crate::mounted::{Mounted, errno, read, write};

fn server(union: &Mounted) -> i32 {
    let holder = union.holder().pid();
    let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap();
    children.split_whitespace().next().expect("a child").parse().unwrap()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_server_that_was_killed_is_reported_and_its_mount_is_taken_away() {
    needs!(Root, Fuse);
    let mut union = Mounted::new(&[], |directory| write(directory.join("lower/f"), "f"));
    write(union.path("written"), "before");
    kill(server(&union));
    let output = union.take_holder().wait();
    assert_ne!(output.code, Some(0));
    assert!(output.stderr.contains("signal 9"), "{output}");
    assert!(!union.path("f").exists() && fs::metadata(union.root()).is_ok(), "the mount is gone");
    assert_eq!(read(union.top("written")), "before");
}

#[test]
fn the_server_dies_with_who_started_it_and_the_next_mount_takes_the_dead_one_away() {
    needs!(Root, Fuse);
    let mut union = Mounted::new(&[], |directory| write(directory.join("lower/f"), "f"));
    let server = server(&union);
    let holder = union.take_holder();
    holder.signal(libc::SIGKILL);
    holder.wait();
    poll(Duration::from_secs(5), || fs::metadata(format!("/proc/{server}/root")).is_err().then_some(()));
    assert_eq!(errno(fs::metadata(union.path("f"))), libc::ENOTCONN);
    union.mount();
    assert_eq!(read(union.path("f")), "f");
}

#[test]
fn nothing_is_left_in_the_top_branch_after_the_end() {
    needs!(Root, Fuse);
    let mut union = Mounted::new(&[], |directory| write(directory.join("lower/f"), "f"));
    fs::OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(union.path("f")).unwrap();
    assert!(union.top(".wh..wh.work").exists());
    union.unmount();
    assert_eq!(crate::mounted::names(union.top("")), ["f"]);
}

#[test]
fn a_second_writer_of_the_top_branch_is_refused() {
    needs!(Root, Fuse);
    let union = Mounted::new(&[], |directory| write(directory.join("lower/f"), "f"));
    let mut branch = union.top("").into_os_string();
    branch.push("=rw");
    let output = Program::new(env!("CARGO_BIN_EXE_ch05-layers"))
        .args(["mount", "--quiet", "--branch"])
        .arg(branch)
        .arg(union.lower("."))
        .args(["--", "true"])
        .run();
    assert_eq!(output.code, Some(125), "{output}");
    assert!(output.stderr.contains("EBUSY"), "{output}");
}

#[test]
fn a_command_that_leaves_the_mount_in_use_does_not_keep_the_server() {
    needs!(Root, Fuse);
    let directory = tempfile::tempdir().unwrap();
    for name in ["top", "mnt"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let output = Program::new(env!("CARGO_BIN_EXE_ch05-layers"))
        .args(["mount", "--quiet", "--branch", "top=rw", "mnt", "--", "sh", "-c"])
        .arg("cd mnt; (exec >/dev/null 2>&1; sleep 3) & echo started; touch f")
        .current_dir(directory.path())
        .timeout(Duration::from_secs(30))
        .run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "started\n"), "{output}");
    assert!(directory.path().join("top/f").exists());
}
