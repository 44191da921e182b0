//! The process in the middle: what it can be seen to have, and how it ends.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ch01_pid::spawn::exit_now;
use ch01_pid::{ChildError, Passage, Signals, Spawn, exit_code};
use ch06_exec::{Exec, Join, Kind, Target};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, geteuid};
use testing::{needs, poll, process};

use super::container::{all_but_user, as_plain_user, container, container_with_users, wait_for_ever};
use super::joined::{descriptors, join};

crate::tests![
    before_it_joins_it_has_closed_what_it_does_not_need,
    no_process_inside_can_look_into_what_joins,
    an_error_on_the_way_comes_back_with_its_chain,
    a_middle_that_is_killed_is_an_error,
    a_child_outlives_a_middle_that_is_killed_after_its_birth,
    who_gives_up_leaves_no_child_either,
    a_signal_gives_joining_up,
    without_close_range_the_same_is_closed,
    what_the_host_refuses_leaves_no_process,
    a_panic_on_the_way_is_an_error,
    where_sigchld_was_ignored_the_child_is_waited_for_too,
    the_child_dies_with_its_parent,
    the_child_dies_with_its_parent_at_the_gate,
];

/// A way that the test looks at while the middle is on it: `check` is called a second after it has begun.
struct Observed<'a, F: Fn(Pid)> {
    join: Join<'a>,
    middle: Cell<i32>,
    wait: UnixStream,
    go: UnixStream,
    look: F,
}

impl<'a, F: Fn(Pid)> Observed<'a, F> {
    fn new(join: Join<'a>, look: F) -> Self {
        let (wait, go) = UnixStream::pair().unwrap();
        Observed { join, middle: Cell::new(0), wait, go, look }
    }
}

impl<F: Fn(Pid)> Passage for Observed<'_, F> {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.join.descriptors().into_iter().chain([self.wait.as_fd()]).collect()
    }

    fn prepare(&self, middle: Pid, _: bool) -> Result<()> {
        self.middle.set(middle.as_raw());
        Ok(())
    }

    fn enter(&self) -> Result<()> {
        self.join.enter()?;
        (&self.wait).read_exact(&mut [0]).context("wait for the test")
    }

    fn check(&self) -> Result<()> {
        (self.look)(Pid::from_raw(self.middle.get()));
        (&self.go).write_all(b"!").context("let the middle go")
    }
}

fn before_it_joins_it_has_closed_what_it_does_not_need() {
    needs!(Root);
    let host = File::open("/").unwrap();
    let container = container(all_but_user(), || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    let way = Observed::new(Join::of(&target, &Kind::ALL).unwrap(), |middle| {
        let open = descriptors(middle);
        // Those of the way, the gate, and the pipe for an error.
        let known = ["anon_inode:[pidfd]", "/proc/", "socket:", "pipe:"];
        let is_known = |link: &&String| known.iter().any(|known| link.starts_with(known));
        assert!(open.len() == 5 && open.iter().filter(is_known).count() == 5, "{open:?}");
    });
    drop(Spawn::new().start_through(&way, wait_for_ever).unwrap());
    drop(host);
}

/// The files of a process that can't be looked into belong to root, whose process it may be: proc(5).
fn is_hidden(pid: Pid) -> bool {
    let uid = process::status(pid.as_raw(), "Uid").unwrap();
    assert_eq!(uid.split(' ').next(), Some(geteuid().to_string().as_str()));
    std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid() == 0
}

fn no_process_inside_can_look_into_what_joins() {
    needs!(UserNamespaces);
    as_plain_user(|| {
        let user = geteuid().as_raw();
        let container = container_with_users(all_but_user(), user, || Ok(()));
        assert!(!is_hidden(container.pid()));
        let target = Target::open(container.pid()).unwrap();
        let join = Join::of(&target, &Kind::ALL).unwrap();
        let way = Observed::new(join, |middle| assert!(is_hidden(middle)));
        let held = Spawn::new().dies_with_parent().start_through(&way, wait_for_ever).unwrap();
        assert!(is_hidden(held.pid()));

        // The same, asked inside by one that has all capabilities there.
        let numbers = process::status(held.pid().as_raw(), "NSpid").unwrap();
        let number = numbers.split(' ').next_back().unwrap().to_string();
        let spy = Exec::new(&target).dies_with_parent().start(|_| {
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)?;
            let link = |pid: &str| match std::fs::read_link(format!("/proc/{pid}/root")) {
                Ok(path) => format!("{path:?}"),
                Err(error) => format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0))),
            };
            // PID 1 is what any process inside is to it.
            bail!("{} and {}", link("1"), link(&number))
        });
        let answer = spy.unwrap().release(None).map(drop).unwrap_err().to_string();
        assert_eq!(answer, "\"/\" and EACCES");
    });
}

/// A way that ends as the test wants it.
struct Way<P: Fn(Pid) -> Result<()>, E: Fn() -> Result<()>>(P, E);

impl<P: Fn(Pid) -> Result<()>, E: Fn() -> Result<()>> Passage for Way<P, E> {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn prepare(&self, middle: Pid, _: bool) -> Result<()> {
        (self.0)(middle)
    }

    fn enter(&self) -> Result<()> {
        (self.1)()
    }
}

fn refusal(way: &impl Passage) -> anyhow::Error {
    Spawn::new().dies_with_parent().start_through(way, wait_for_ever).map(drop).unwrap_err()
}

fn an_error_on_the_way_comes_back_with_its_chain() {
    // More than a pipe takes at once: the parent must read before it waits.
    let long = "x".repeat(200_000);
    let way = Way(|_| Ok(()), || Err(Errno::EXDEV).context("inner").context(long.clone()));
    let error = refusal(&way);
    let error = error.downcast_ref::<ChildError>().unwrap();
    assert_eq!((error.errno, error.exit_code), (Some(Errno::EXDEV), 125));
    assert_eq!(error.messages, [long.as_str(), "inner"]);
    let way = Way(|_| Ok(()), || ch00_chroot::enter(Path::new("/no/such/root")));
    assert_eq!(exit_code(&refusal(&way)), 125);
}

fn a_middle_that_is_killed_is_an_error() {
    let way = Way(|_| Ok(()), || Ok(nix::sys::signal::raise(Signal::SIGKILL)?));
    assert_eq!(refusal(&way).to_string(), "the process that joins was ended: status 137");
    // Before it has begun.
    let way = Way(|middle| Ok(kill(middle, Signal::SIGKILL)?), || Ok(()));
    assert_eq!(refusal(&way).to_string(), "the process that joins was ended: status 137");
}

/// The pid does not come from the middle but from the kernel. Here exit_group(2) kills, so that the middle ends in the
/// last moment that there is.
fn a_child_outlives_a_middle_that_is_killed_after_its_birth() {
    needs!(Root);
    let way = Way(|_| Ok(()), || Ok(answer(libc::SYS_exit_group, libc::SECCOMP_RET_KILL_PROCESS)?));
    let held = Spawn::new().dies_with_parent().start_through(&way, wait_for_ever);
    let mut child = held.unwrap().release(None).unwrap();
    assert_eq!(process::children(Pid::this().as_raw()), [child.pid().as_raw()]);
    assert_eq!(process::status(child.pid().as_raw(), "Seccomp").unwrap(), "2");
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap(), 128 + libc::SIGTERM as u8);
}

/// A way that is given up while the middle stands between the child's birth and its own end: its exit_group(2) waits
/// for an answer that nobody gives.
struct HeldAtItsEnd;

impl Passage for HeldAtItsEnd {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn prepare(&self, _: Pid, _: bool) -> Result<()> {
        Ok(())
    }

    fn enter(&self) -> Result<()> {
        Ok(answer_by(
            libc::SYS_exit_group,
            libc::SECCOMP_RET_USER_NOTIF,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        )?)
    }

    fn check(&self) -> Result<()> {
        assert_eq!(
            process::children(Pid::this().as_raw()).len(),
            2,
            "the child is born, and the middle not gone"
        );
        bail!("given up")
    }
}

fn who_gives_up_leaves_no_child_either() {
    needs!(Root);
    // That no process is left, not even to be waited for, is asked after every test here.
    assert_eq!(refusal(&HeldAtItsEnd).to_string(), "given up");
}

/// A middle that never arrives, as with a root directory that a FUSE server of the container's does not answer for.
struct Stuck<'a>(Join<'a>);

impl Passage for Stuck<'_> {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn prepare(&self, _: Pid, _: bool) -> Result<()> {
        Ok(())
    }

    fn enter(&self) -> Result<()> {
        loop {
            nix::unistd::pause();
        }
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

fn a_signal_gives_joining_up() {
    let signals = Signals::forwarded().unwrap();
    nix::sys::signal::raise(Signal::SIGINT).unwrap();
    let join = Join::paths(Vec::new()).unwrap().interrupted_by(&signals);
    let error = refusal(&Stuck(join));
    assert_eq!(exit_code(&error), 128 + libc::SIGINT as u8, "{error:#}");
}

/// A seccomp filter that does this with whoever calls, and his children: seccomp(2).
fn answer(number: libc::c_long, action: u32) -> nix::Result<()> {
    answer_by(number, action, 0)
}

fn answer_by(number: libc::c_long, action: u32, flags: libc::c_ulong) -> nix::Result<()> {
    let statement = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, action, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the call takes numbers, and a pointer to a program that lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    Errno::result(result).map(drop)
}

/// As on a kernel before 5.9. After joining there may be no /proc in which to find out what is open.
fn without_close_range_the_same_is_closed() {
    needs!(Root);
    let host = File::open("/").unwrap();
    let container = container(all_but_user(), || {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        Ok(mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
    });
    let target = Target::open(container.pid()).unwrap();
    // SAFETY: this process has a single thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            answer(libc::SYS_close_range, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32).unwrap();
            let joined = join(Exec::new(&target));
            exit_now(u8::from(!descriptors(joined.pid()).is_empty()))
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    drop(host);
}

fn what_the_host_refuses_leaves_no_process() {
    let way = Way(|_| bail!("not today"), || Ok(()));
    assert_eq!(refusal(&way).to_string(), "not today");
}

fn a_panic_on_the_way_is_an_error() {
    let way = Way(|_| Ok(()), || panic!("of the test"));
    assert_eq!(refusal(&way).to_string(), "the child panicked: of the test");
}

fn where_sigchld_was_ignored_the_child_is_waited_for_too() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    let held = Spawn::new().start_through(&Way(|_| Ok(()), || Ok(())), |_| exit_now(7));
    assert_eq!(held.unwrap().release(None).unwrap().wait().unwrap(), 7);
}

/// The parent is killed when `at_gate` or later; returns when its child has ended.
fn kill_the_parent(at_gate: bool) {
    let container = container(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS, || Ok(()));
    let target = Target::open(container.pid()).unwrap();
    let (mut here, there) = UnixStream::pair().unwrap();
    // SAFETY: this process has a single thread.
    let parent = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let exec = Exec::new(&target).dies_with_parent();
            let (held, joined);
            let pid = if at_gate {
                held = exec.start(wait_for_ever).unwrap();
                held.pid()
            } else {
                joined = join(exec);
                joined.pid()
            };
            (&there).write_all(&pid.as_raw().to_ne_bytes()).unwrap();
            loop {
                nix::unistd::pause();
            }
        }
    };
    let mut pid = [0; 4];
    here.read_exact(&mut pid).unwrap();
    let pid = i32::from_ne_bytes(pid);
    assert!(process::exists(pid));
    kill(parent, Signal::SIGKILL).unwrap();
    waitpid(parent, None).unwrap();
    // Whoever adopts it may be slow to wait for it.
    let has_ended = || process::status(pid, "State").is_none_or(|state| state.starts_with('Z'));
    poll(Duration::from_secs(10), || has_ended().then_some(()));
}

fn the_child_dies_with_its_parent() {
    needs!(Root);
    kill_the_parent(false);
}

fn the_child_dies_with_its_parent_at_the_gate() {
    needs!(Root);
    kill_the_parent(true);
}
