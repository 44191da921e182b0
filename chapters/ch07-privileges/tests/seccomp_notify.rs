//! A supervisor answers calls; what the filtered process gets is told by that process.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use ch07_privileges::seccomp::install::install_and_send;
use ch07_privileges::seccomp::notify::{Answer, Notification};
use ch07_privileges::seccomp::policy::{Action, Flag, Rule};
use ch07_privileges::seccomp::{Listener, Policy, compile, install};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use testing::poll;

/// One after the other, in a process with a single thread: a child would have the listeners of tests that run
/// beside it.
fn main() -> ExitCode {
    testing::run_tests(&[
        ("the_call_returns_what_the_supervisor_answers", the_call_returns_what_the_supervisor_answers),
        ("the_listener_ends_with_the_last_process", the_listener_ends_with_the_last_process),
        (
            "a_call_that_nobody_waits_for_any_more_is_not_answered",
            a_call_that_nobody_waits_for_any_more_is_not_answered,
        ),
        ("a_path_is_read_from_the_memory_of_the_caller", a_path_is_read_from_the_memory_of_the_caller),
        (
            "a_descriptor_of_the_supervisor_is_what_open_returns",
            a_descriptor_of_the_supervisor_is_what_open_returns,
        ),
        (
            "a_descriptor_takes_the_place_of_another_while_the_call_waits",
            a_descriptor_takes_the_place_of_another_while_the_call_waits,
        ),
        (
            "the_listener_is_sent_though_each_call_waits_for_the_supervisor",
            the_listener_is_sent_though_each_call_waits_for_the_supervisor,
        ),
        ("the_process_does_not_keep_its_listener", the_process_does_not_keep_its_listener),
        ("who_sends_its_own_listener_waits_for_ever", who_sends_its_own_listener_waits_for_ever),
        ("an_error_of_the_sending_reaches_the_process", an_error_of_the_sending_reaches_the_process),
    ])
}

const SECOND: Duration = Duration::from_secs(10);

/// A supervisor is asked for these calls; all others are allowed.
fn notify_of(names: &[&str]) -> Policy {
    let names = names.iter().map(|name| name.to_string()).collect();
    let rule = Rule { names, action: Action::Notify, conditions: Vec::new() };
    Policy { default: Action::Allow, architectures: Vec::new(), flags: Vec::new(), rules: vec![rule] }
}

/// A process that has the filter, and the filter's listener. It is killed when it is dropped.
struct Filtered {
    pid: Pid,
    listener: Option<Listener>,
    /// What it says.
    socket: UnixStream,
}

impl Filtered {
    /// Runs `body` in a child under the policy. The listener is sent by `install_and_send`.
    fn start(policy: &Policy, body: impl FnOnce(&mut UnixStream)) -> Filtered {
        Filtered::start_with(&[], policy, body)
    }

    fn start_with(flags: &[Flag], policy: &Policy, body: impl FnOnce(&mut UnixStream)) -> Filtered {
        let program = compile(policy).unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        let pid = child(|| {
            install_and_send(&program, flags, there.as_fd(), b"the state").unwrap();
            body(&mut there);
        });
        drop(there);
        let (text, listener) = receive(&here);
        assert_eq!(text, b"the state");
        Filtered { pid, listener: Some(Listener::from(listener)), socket: here }
    }

    fn listener(&self) -> &Listener {
        self.listener.as_ref().unwrap()
    }

    fn notification(&self) -> Notification {
        self.listener().receive().unwrap().expect("a call")
    }

    /// What it says next: 8 bytes.
    fn number(&mut self) -> i64 {
        let mut bytes = [0; 8];
        self.socket.read_exact(&mut bytes).unwrap();
        i64::from_ne_bytes(bytes)
    }
}

impl Drop for Filtered {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// Runs `body` in a child.
fn child(body: impl FnOnce()) -> Pid {
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // It dies with a test that fails, and its death wakes a supervisor that waits in vain.
            // SAFETY: numbers only.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(30);
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            }
            let panicked = catch_unwind(AssertUnwindSafe(body)).is_err();
            // SAFETY: _exit(2) ends the process and touches no memory of it.
            unsafe { libc::_exit(i32::from(panicked)) }
        }
    }
}

/// A text and a descriptor, received without the code under test.
fn receive(socket: &UnixStream) -> (Vec<u8>, OwnedFd) {
    let mut text = [0; 100];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let length = message.bytes;
    let descriptor = match message.cmsgs().unwrap().next() {
        // SAFETY: the kernel has just made it for us.
        Some(ControlMessageOwned::ScmRights(list)) => unsafe { OwnedFd::from_raw_fd(list[0]) },
        other => panic!("{other:?} and {length} bytes"),
    };
    (text[..length].to_vec(), descriptor)
}

/// What getppid returns, or its errno below 0.
fn getppid() -> i64 {
    // SAFETY: no arguments.
    match Errno::result(unsafe {
        libc::syscall(libc::SYS_getppid, 11_u64, 22_u64, 33_u64, 44_u64, 55_u64, 66_u64)
    }) {
        Ok(value) => value,
        Err(errno) => -(errno as i64),
    }
}

fn say(socket: &mut UnixStream, number: i64) {
    let _ = socket.write_all(&number.to_ne_bytes());
}

fn the_call_returns_what_the_supervisor_answers() {
    let mut filtered = Filtered::start(&notify_of(&["getppid"]), |socket| {
        for _ in 0..3 {
            say(socket, getppid());
        }
    });
    let answers = [
        (Answer::Value(4242), 4242),
        (Answer::Errno(Errno::E2BIG), -(Errno::E2BIG as i64)),
        (Answer::Continue, std::process::id().into()),
    ];
    for (answer, result) in answers {
        let notification = filtered.notification();
        assert_eq!(notification.pid, filtered.pid);
        assert_eq!(i64::from(notification.number), libc::SYS_getppid);
        assert_eq!(notification.arguments, [11, 22, 33, 44, 55, 66]);
        assert!(filtered.listener().respond(notification.id, answer).unwrap());
        assert_eq!(filtered.number(), result);
    }
}

fn the_listener_ends_with_the_last_process() {
    let filtered = Filtered::start(&notify_of(&["getppid"]), |_| ());
    assert_eq!(filtered.listener().receive().unwrap(), None);
}

fn a_call_that_nobody_waits_for_any_more_is_not_answered() {
    let filtered = Filtered::start(&notify_of(&["getppid"]), |socket| say(socket, getppid()));
    let notification = filtered.notification();
    let listener = filtered.listener();
    assert!(listener.is_waiting(notification.id).unwrap());
    assert!(!listener.is_waiting(notification.id + 1).unwrap());
    kill(filtered.pid, Signal::SIGKILL).unwrap();
    poll(SECOND, || (!listener.is_waiting(notification.id).unwrap()).then_some(()));
    assert!(!listener.respond(notification.id, Answer::Value(1)).unwrap());
    let null = File::open("/dev/null").unwrap();
    assert_eq!(listener.add_fd(notification.id, null.as_fd(), true).unwrap(), None);
    assert_eq!(listener.read_path(&notification, 0).ok().flatten(), None);
}

fn a_path_is_read_from_the_memory_of_the_caller() {
    let long = format!("/{}", "component/".repeat(100));
    for path in ["/nowhere/at all", "/", &long] {
        let text = CString::new(path).unwrap();
        let filtered = Filtered::start(&notify_of(&["mkdirat"]), |socket| {
            // SAFETY: the path is a string that lives through the call.
            let result = unsafe { libc::mkdirat(libc::AT_FDCWD, text.as_ptr(), 0o755) };
            say(socket, result.into());
        });
        let notification = filtered.notification();
        let read = filtered.listener().read_path(&notification, 1).unwrap();
        assert_eq!(read.as_deref(), Some(Path::new(path)));
        // An argument that is no address of the process.
        assert!(filtered.listener().read_path(&notification, 0).is_err());
    }
}

fn a_descriptor_of_the_supervisor_is_what_open_returns() {
    let mut filtered = Filtered::start(&notify_of(&["openat"]), |socket| {
        // SAFETY: the path is a string.
        let descriptor = unsafe { libc::openat(libc::AT_FDCWD, c"/no/such/file".as_ptr(), libc::O_RDONLY) };
        say(socket, descriptor.into());
        let _ = socket.read(&mut [0]);
    });
    let notification = filtered.notification();
    let zero = File::open("/dev/zero").unwrap();
    let given = filtered.listener().add_fd(notification.id, zero.as_fd(), true).unwrap().unwrap();
    assert_eq!(filtered.number(), i64::from(given));
    let link = format!("/proc/{}/fd/{given}", filtered.pid);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/dev/zero"));
    let information = fs::read_to_string(format!("/proc/{}/fdinfo/{given}", filtered.pid)).unwrap();
    let flags = information.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
    assert_ne!(flags & libc::O_CLOEXEC, 0, "{information}");
}

fn a_descriptor_takes_the_place_of_another_while_the_call_waits() {
    let filtered = Filtered::start(&notify_of(&["getppid"]), |socket| say(socket, getppid()));
    let notification = filtered.notification();
    let zero = File::open("/dev/zero").unwrap();
    assert_eq!(filtered.listener().replace_fd(notification.id, zero.as_fd(), 0).unwrap(), Some(0));
    let link = format!("/proc/{}/fd/0", filtered.pid);
    assert_eq!(fs::read_link(link).unwrap(), Path::new("/dev/zero"));
    assert!(filtered.listener().is_waiting(notification.id).unwrap());
}

fn the_listener_is_sent_though_each_call_waits_for_the_supervisor() {
    let all = Policy { default: Action::Notify, ..notify_of(&[]) };
    for flags in [&[][..], &[Flag::ThreadSync], &[Flag::WaitKillable]] {
        let mut filtered = Filtered::start_with(flags, &all, |socket| say(socket, getppid()));
        let mut numbers = Vec::new();
        while let Some(notification) = filtered.listener().receive().unwrap() {
            let number = i64::from(notification.number);
            numbers.push(number);
            let answer = if number == libc::SYS_getppid { Answer::Value(4242) } else { Answer::Continue };
            filtered.listener().respond(notification.id, answer).unwrap();
            if number == libc::SYS_exit_group {
                break;
            }
        }
        assert_eq!(filtered.number(), 4242);
        // Not one call between the installation and the process's own first.
        assert_eq!(numbers[0], libc::SYS_getppid, "{numbers:?}");
    }
}

fn the_process_does_not_keep_its_listener() {
    let mut filtered = Filtered::start(&notify_of(&["getppid"]), |socket| {
        say(socket, 1);
        let _ = socket.read(&mut [0]);
    });
    assert_eq!(filtered.number(), 1);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", filtered.pid)).unwrap();
    let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert!(!links.any(|link| link.to_string_lossy().contains("seccomp")));
    // And the thread that sent it is gone.
    let tasks = format!("/proc/{}/task", filtered.pid);
    poll(SECOND, || (fs::read_dir(&tasks).unwrap().count() == 1).then_some(()));
}

fn who_sends_its_own_listener_waits_for_ever() {
    let program = compile(&notify_of(&["sendmsg"])).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let pid = child(|| {
        let listener = install(&program, &[], true).unwrap().unwrap();
        let _ = listener.send(&there, b"x");
    });
    let status = format!("/proc/{pid}/syscall");
    if Path::new(&status).exists() {
        let in_sendmsg = |text: String| text.starts_with(&format!("{} ", libc::SYS_sendmsg)).then_some(());
        poll(SECOND, || fs::read_to_string(&status).ok().and_then(in_sendmsg));
    }
    sleep(Duration::from_millis(200));
    here.set_nonblocking(true).unwrap();
    assert_eq!((&here).read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    kill(pid, Signal::SIGKILL).unwrap();
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
}

fn an_error_of_the_sending_reaches_the_process() {
    let program = compile(&notify_of(&["getppid"])).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    drop(here);
    let (mut report, mut reporter) = UnixStream::pair().unwrap();
    let pid = child(|| {
        let error = install_and_send(&program, &[], there.as_fd(), b"x").unwrap_err();
        let kept = error.root_cause().downcast_ref() == Some(&Errno::EPIPE);
        let _ = reporter.write_all(format!("{error:#}; errno kept: {kept}").as_bytes());
    });
    drop(reporter);
    let mut text = String::new();
    report.read_to_string(&mut text).unwrap();
    assert_eq!(text, "send the seccomp listener: EPIPE: Broken pipe; errno kept: true");
    waitpid(pid, None).unwrap();
}
