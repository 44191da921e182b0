//! What is joined, and a look at processes from outside.

use std::convert::Infallible;
use std::fs::{metadata, read_link, read_to_string, write};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;
use ch01_pid::spawn::exit_now;
use ch01_pid::{Child, Report, Spawn};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_dumpable;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, geteuid, pause, setgroups, setresgid, setresuid};
use testing::PlainUser;

/// The names in /proc/PID/ns.
pub const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

/// All kinds but that of users.
pub fn all_but_user() -> CloneFlags {
    CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::from_bits_retain(0x80)
}

/// A process in new namespaces, after `inside`, that does nothing until it is killed: when it is dropped.
pub fn container(namespaces: CloneFlags, inside: impl FnOnce() -> Result<()>) -> Child {
    let held = Spawn::new().namespaces(namespaces).dies_with_parent().start(|report| {
        inside()?;
        wait_for_ever(report)
    });
    held.unwrap().release(None).unwrap()
}

/// The same with a user namespace, whose root is `root` outside; one number is mapped.
pub fn container_with_users(namespaces: CloneFlags, root: u32, inside: impl FnOnce() -> Result<()>) -> Child {
    let spawn = Spawn::new().namespaces(namespaces | CloneFlags::CLONE_NEWUSER).dies_with_parent();
    let held = spawn.start(|report| {
        become_user(0)?;
        inside()?;
        wait_for_ever(report)
    });
    let held = held.unwrap();
    map(held.pid(), root);
    held.release(None).unwrap()
}

/// Maps 0 inside to `root` outside. Who is no root must give setgroups(2) up for that.
pub fn map(pid: Pid, root: u32) {
    if !geteuid().is_root() {
        write(format!("/proc/{pid}/setgroups"), "deny").unwrap();
    }
    for file in ["uid_map", "gid_map"] {
        write(format!("/proc/{pid}/{file}"), format!("0 {root} 1")).unwrap();
    }
}

/// Tells that all is ready, and does nothing more.
pub fn wait_for_ever(report: &mut Report) -> Result<Infallible> {
    report.close();
    loop {
        pause();
    }
}

fn become_user(id: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    // A plain user's namespace denies it.
    if let Err(errno) = setgroups(&[]) {
        assert_eq!(errno, Errno::EPERM);
    }
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}

/// Runs `test` as the plain user, in a process of its own.
pub fn as_plain_user(test: impl FnOnce()) {
    let user = PlainUser::get();
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let passed = catch_unwind(AssertUnwindSafe(|| {
                if geteuid().is_root() {
                    become_user(user.uid.as_raw()).unwrap();
                    // A change of user takes it away, and with it /proc/PID/uid_map of the children.
                    set_dumpable(true).unwrap();
                }
                test();
                assert_no_child();
            }));
            exit_now(u8::from(passed.is_err()))
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).unwrap();
            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}: see above");
        }
    }
}

/// The namespace of this kind in which a process is, as the kernel writes it: `net:[4026531840]`.
pub fn namespace(pid: Pid, kind: &str) -> String {
    let path = format!("/proc/{pid}/ns/{kind}");
    read_link(&path).unwrap_or_else(|error| panic!("{path}: {error}")).to_str().unwrap().into()
}

/// The kinds in which two processes are in the same namespace.
pub fn shared(one: Pid, other: Pid) -> Vec<&'static str> {
    KINDS.into_iter().filter(|kind| namespace(one, kind) == namespace(other, kind)).collect()
}

/// A line of /proc/PID/status.
pub fn status(pid: Pid, name: &str) -> String {
    testing::process::status(pid.as_raw(), name).unwrap()
}

/// /proc/PID/cgroup.
pub fn cgroup(pid: Pid) -> String {
    read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

/// The root directory of a process: device and inode.
pub fn root(pid: Pid) -> (u64, u64) {
    let directory = metadata(format!("/proc/{pid}/root/")).unwrap();
    (directory.dev(), directory.ino())
}

/// Nothing that was made in this process is left, not even to be waited for.
#[track_caller]
pub fn assert_no_child() {
    let children = testing::process::children(Pid::this().as_raw());
    assert!(children.is_empty(), "left behind: {children:?}");
    assert_eq!(waitpid(Pid::from_raw(-1), None), Err(Errno::ECHILD));
}
