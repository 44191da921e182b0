//! Claims about the library that no lesson shows. `spawn` needs a process with a single thread, so this file
//! is a program of its own instead of tests of libtest's; it reports as they do.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ch01_pid::spawn::exit_now;
use ch01_pid::{Spawn, exit_code};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal, signal};
use testing::{poll, process};

fn main() -> ExitCode {
    testing::run_tests!(
        a_child_starts_in_its_cgroup,
        a_panic_of_the_child_is_an_error_of_the_parent,
        a_child_that_is_not_released_is_killed_and_reaped,
        a_child_that_is_detached_lives_on,
        flags_that_share_memory_are_refused,
        an_errno_keeps_its_place,
        a_status_is_not_lost_where_sigchld_was_ignored,
    )
}

/// Leaves a trace where it is dropped.
struct Trace<'a>(&'a Path);

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        std::fs::write(self.0, std::process::id().to_string()).unwrap();
    }
}

fn a_child_starts_in_its_cgroup() {
    testing::needs!(Root, CgroupV2);
    let directory = format!("/sys/fs/cgroup/hull-test-{}", std::process::id());
    std::fs::create_dir(&directory).unwrap();
    let cgroup = std::fs::File::open(&directory).unwrap();
    let held = Spawn::new().cgroup(cgroup.as_fd()).start(|_| exit_now(0)).unwrap();
    // It waits at the gate: it has not run an instruction of its own half yet.
    let line = std::fs::read_to_string(format!("/proc/{}/cgroup", held.pid())).unwrap();
    assert!(line.trim().ends_with(directory.strip_prefix("/sys/fs/cgroup").unwrap()), "{line}");
    drop(held);
    std::fs::remove_dir(&directory).unwrap();
}

fn a_panic_of_the_child_is_an_error_of_the_parent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let trace = Trace(&file);
    let held = Spawn::new().start(|_| panic!("of the test")).unwrap();
    let error = held.release(None).map(drop).unwrap_err();
    assert_eq!((error.to_string().as_str(), exit_code(&error)), ("the child panicked: of the test", 125));
    assert!(!file.exists(), "the child has run the parent's destructor");
    drop(trace);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), std::process::id().to_string());
}

fn a_child_that_is_not_released_is_killed_and_reaped() {
    let held = Spawn::new().start(|_| exit_now(0)).unwrap();
    let pid = held.pid().as_raw();
    assert!(process::exists(pid));
    drop(held);
    assert!(!process::exists(pid));
}

fn a_child_that_is_detached_lives_on() {
    let (mut there, here) = std::os::unix::net::UnixStream::pair().unwrap();
    let held = Spawn::new().keep([here.as_fd()]).start(|report| {
        report.close();
        let end = (&here).read(&mut [0]);
        exit_now(u8::from(end.is_err()))
    });
    let child = held.unwrap().release(None).unwrap();
    let pid = child.pid().as_raw();
    let pidfd = child.detach().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(process::status(pid, "State").unwrap().starts_with('S'));
    std::io::Write::write_all(&mut there, b"x").unwrap();
    poll(Duration::from_secs(10), || process::status(pid, "State")?.starts_with('Z').then_some(()));
    let status = nix::sys::wait::waitid(
        nix::sys::wait::Id::PIDFd(pidfd.as_fd()),
        nix::sys::wait::WaitPidFlag::WEXITED,
    );
    assert!(matches!(status, Ok(nix::sys::wait::WaitStatus::Exited(_, 0))), "{status:?}");
}

fn flags_that_share_memory_are_refused() {
    let refusal =
        Spawn::new().namespaces(CloneFlags::CLONE_VM | CloneFlags::CLONE_FILES).start(|_| exit_now(0));
    assert!(refusal.map(drop).unwrap_err().to_string().contains("is no new namespace"));
}

fn an_errno_keeps_its_place() {
    let held = Spawn::new().start(|_| {
        ch00_chroot::enter(Path::new("/no/such/root"))?;
        exit_now(0)
    });
    let error = held.unwrap().release(None).map(drop).unwrap_err();
    assert_eq!(error.root_cause().downcast_ref(), Some(&nix::errno::Errno::ENOENT));
    assert!(error.to_string().contains("/no/such/root"));
}

fn a_status_is_not_lost_where_sigchld_was_ignored() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    let mut child = Spawn::new().start(|_| exit_now(7)).unwrap().release(None).unwrap();
    assert_eq!(child.wait().unwrap(), 7);
}
