//! Make a process, and hold it back until all is ready for it.
//!
//! A container has two sides. The parent, on the host, writes what only the host may write (the maps of a
//! user namespace, a cgroup's list of processes, the other end of a network link), and needs the child's pid
//! for it. The child changes itself, and then becomes the command. So the child must exist before the host's
//! half begins, and must not go on before that half is done:
//!
//! ```text
//!   parent                                child
//!   ------                                -----
//!   Spawn::start   -- clone3 ---------->  waits at the gate
//!   the host's half, with Held::pid
//!   Held::release  -- one byte -------->  closes what it must not inherit
//!                                         runs the closure: the child's half
//!   waits          <- end of file ------  ... which ends in exec
//!   Child::wait    <- pidfd ------------  the command exits
//! ```
//!
//! Manual pages: clone(2), pidfd_open(2), waitid(2), pidfd_send_signal(2).

use std::any::Any;
use std::convert::Infallible;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, pipe2};

use crate::child::Child;
use crate::clone::{Cloned, clone3, is_single_threaded};
use crate::descriptors::close_others;
use crate::report::{self, Report, Reports};
use crate::signals::{Signals, hear_of_children};

// ANCHOR: spawn
/// What the child is to be; [`Spawn::start`] makes it.
#[derive(Debug)]
pub struct Spawn<'a> {
    pub(crate) namespaces: CloneFlags,
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    pub(crate) keep: Vec<RawFd>,
    pub(crate) dies_with_parent: bool,
}
// ANCHOR_END: spawn

impl Default for Spawn<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Spawn<'a> {
    // ANCHOR: builder
    /// A child like one of fork(2): in the same namespaces, with no descriptors but 0, 1 and 2.
    pub fn new() -> Self {
        Spawn { namespaces: CloneFlags::empty(), cgroup: None, keep: Vec::new(), dies_with_parent: false }
    }

    /// New namespaces for the child: any of `CLONE_NEW*`.
    pub fn namespaces(mut self, namespaces: CloneFlags) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// The directory of a cgroup v2 in which the child starts (CLONE_INTO_CGROUP, Linux 5.7).
    pub fn cgroup(mut self, directory: BorrowedFd<'a>) -> Self {
        self.cgroup = Some(directory);
        self
    }

    /// More descriptors that the child inherits. They stay close-on-exec if they are.
    pub fn keep(mut self, descriptors: impl IntoIterator<Item = BorrowedFd<'a>>) -> Self {
        self.keep.extend(descriptors.into_iter().map(|descriptor| descriptor.as_raw_fd()));
        self
    }

    /// The kernel kills the child when this process dies, however it dies (PR_SET_PDEATHSIG in prctl(2)).
    pub fn dies_with_parent(mut self) -> Self {
        self.dies_with_parent = true;
        self
    }
    // ANCHOR_END: builder

    // ANCHOR: start
    /// Makes the child. It waits at the gate; once released, it runs `child`, which ends in exec or in an
    /// error.
    ///
    /// # Errors
    ///
    /// Refuses to run in a process with several threads. Else clone3's errno, with the likely reason.
    pub fn start<F>(self, child: F) -> Result<Held>
    where
        F: FnOnce(&mut Report) -> Result<Infallible>,
    {
        self.check()?;
        let (gate_in_child, gate) = new_gate()?;
        let (reports, report) = report::pipe()?;

        info!(target: "syscall", "{}", describe(self.namespaces, self.cgroup.is_some()));
        // SAFETY: the process has a single thread, and the flags are of namespaces only: both asked above.
        match unsafe { clone3(self.namespaces, self.cgroup) }.map_err(clone_error)? {
            Cloned::Parent(pid, pidfd) => Ok(Held::new(Child::new(pid, pidfd), gate, reports)),
            Cloned::Child => {
                // Our copies of the parent's ends: with the gate's we would wait for ourselves.
                drop((gate, reports));
                live_to_the_end(report, |report| {
                    self.live(gate_in_child, report, |report| {
                        self.close_others(report, &[])?;
                        child(report)
                    })
                })
            }
        }
    }
    // ANCHOR_END: start

    // ANCHOR: check
    /// What must hold before a child is made.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = self.namespaces.difference(namespaces());
        ensure!(refused.is_empty(), "spawn: {refused:?} is no new namespace");
        let is_single = is_single_threaded().context("ask whether this process has a single thread")?;
        ensure!(
            is_single,
            "spawn: this process has several threads; a lock that one holds would stay locked"
        );
        hear_of_children()
    }
    // ANCHOR_END: check

    // ANCHOR: live
    /// The child's life up to exec.
    pub(crate) fn live<F>(&self, gate: OwnedFd, report: &mut Report, child: F) -> Result<Infallible>
    where
        F: FnOnce(&mut Report) -> Result<Infallible>,
    {
        if self.dies_with_parent {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
        }
        wait_at(gate)?;
        // It may have opened the gate and died before we asked for the signal, which then never comes.
        ensure!(!self.dies_with_parent || report.is_awaited()?, "the parent died while the child started");

        // Its terminal stays the parent's alone: through /dev/tty the child could else type commands into
        // the user's shell (the ioctl TIOCSTI; CVE-2017-5226).
        info!(target: "syscall", "setsid()  a session of its own: the user's terminal is out of reach");
        nix::unistd::setsid().context("setsid")?;
        child(report)
    }

    /// Closes all that the child must not inherit; `also` stays open too.
    pub(crate) fn close_others(&self, report: &Report, also: &[RawFd]) -> Result<()> {
        let mut keep = [&self.keep, also].concat();
        keep.extend(report.descriptor().map(|descriptor| descriptor.as_raw_fd()));
        info!(
            target: "syscall",
            "close_range(3, ~0)  close what the parent had open, except {} that the child needs",
            keep.len()
        );
        close_others(&keep)
    }
}

/// The two ends of a gate: the child waits at the first, the parent opens it by the second.
pub(crate) fn new_gate() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context("pipe2 for the gate")
}

/// Opens a gate. A child that was killed meanwhile can't read (EPIPE): its end is told by waiting for it.
pub(crate) fn open_gate(gate: OwnedFd) -> Result<()> {
    if let Err(error) = File::from(gate).write_all(b"!") {
        ensure!(error.kind() == ErrorKind::BrokenPipe, "write to the gate: {error}");
    }
    Ok(())
}

/// Waits at a gate. The parent may give up meanwhile: it closes the gate, and there is nothing left to do.
pub(crate) fn wait_at(gate: OwnedFd) -> Result<()> {
    let read = File::from(gate).read(&mut [0]).context("wait at the gate")?;
    ensure!(read == 1, "the parent gave up");
    Ok(())
}

/// Runs the child's `life`. It never returns into the parent's code, which it has a copy of.
pub(crate) fn live_to_the_end<F>(mut report: Report, life: F) -> !
where
    F: FnOnce(&mut Report) -> Result<Infallible>,
{
    // A panic must not unwind into the parent's frames: here it would run the parent's destructors.
    let ended = catch_unwind(AssertUnwindSafe(|| life(&mut report)));
    let Err(error) = ended.unwrap_or_else(|panic| Err(anyhow!("the child panicked: {}", text_of(&*panic))));
    let code = report::exit_code(&error);
    report.send(&error);
    exit_now(code)
}
// ANCHOR_END: live

// ANCHOR: exit_now
/// Ends a child without running the exit handlers, which belong to the parent's copy of the program.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) ends the process and touches no memory of it.
    unsafe { libc::_exit(code.into()) }
}
// ANCHOR_END: exit_now

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

// ANCHOR: namespaces
/// The flags that ask for a new namespace. Others change what the child shares with us: with CLONE_VM it
/// would run on our stack.
fn namespaces() -> CloneFlags {
    // CLONE_NEWTIME of linux/sched.h, which nix does not name.
    const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
    CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CLONE_NEWTIME
}
// ANCHOR_END: namespaces

/// The flags of clone3 as one would write them in C.
pub(crate) fn describe(namespaces: CloneFlags, into_cgroup: bool) -> String {
    let mut flags: Vec<&str> = namespaces.iter_names().map(|(name, _)| name).collect();
    flags.push("CLONE_PIDFD");
    if into_cgroup {
        flags.push("CLONE_INTO_CGROUP");
    }
    format!("clone3({})  a copy of this process", flags.join(" | "))
}

pub(crate) fn clone_error(errno: Errno) -> anyhow::Error {
    let hint = match errno {
        Errno::ENOSYS => "it needs Linux 5.3, and hull 5.6; a container without CAP_SYS_ADMIN hides it too",
        Errno::EPERM => "new namespaces need CAP_SYS_ADMIN, or a user namespace of your own",
        Errno::E2BIG => "to start in a cgroup needs Linux 5.7",
        Errno::ENOSPC => "a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces",
        Errno::EAGAIN => "a limit on processes is reached: see ulimit -u and pids.max",
        Errno::EINVAL => "this kernel does not know one of the flags",
        Errno::ENOMEM => "there is no memory, or the PID namespace has no PID 1 any more",
        _ => "clone(2) lists the reasons",
    };
    anyhow!(errno).context(format!("clone3 ({hint})"))
}

// ANCHOR: held
/// A child that waits at the gate. Dropped without a release, it is killed.
#[derive(Debug)]
pub struct Held {
    child: Child,
    gate: OwnedFd,
    reports: Reports,
}

impl Held {
    pub(crate) fn new(child: Child, gate: OwnedFd, reports: Reports) -> Held {
        Held { child, gate, reports }
    }

    /// The child's pid, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Opens the gate, and waits until the child runs the command.
    ///
    /// With `signals`, one that comes while the child is still at its half ends this process, as it would if it
    /// were not blocked; the child is killed first.
    ///
    /// # Errors
    ///
    /// A [`ChildError`](crate::ChildError) where the child's half failed; the child is gone then.
    pub fn release(self, signals: Option<&Signals>) -> Result<Child> {
        self.release_or(signals, || ())
    }

    /// As [`Held::release`]; where a signal ends this process, it calls `clean_up` before, since no destructor
    /// runs then.
    ///
    /// # Errors
    ///
    /// As for [`Held::release`].
    pub fn release_or(mut self, signals: Option<&Signals>, clean_up: impl FnOnce()) -> Result<Child> {
        open_gate(self.gate)?;
        while let Some(signal) = wait_for_report(&self.reports, signals)? {
            if signal == libc::SIGTSTP {
                // Ctrl-Z stops both, or the child would go on, and with `--step` read what is typed to the shell.
                self.child.signal(libc::SIGSTOP)?;
                raise(Signal::SIGSTOP).context("raise SIGSTOP")?;
                self.child.signal(libc::SIGCONT)?;
            } else if ends_this_process(signal)? {
                drop(self.child);
                clean_up();
                end_by(signal);
            }
        }
        match self.reports.receive()? {
            None => Ok(self.child),
            Some(error) => {
                self.child.wait()?;
                Err(error.into())
            }
        }
    }
}
// ANCHOR_END: held

// ANCHOR: interrupted
/// Waits until the child has reported, or a signal is there: then returns its number.
fn wait_for_report(reports: &Reports, signals: Option<&Signals>) -> Result<Option<i32>> {
    let Some(signals) = signals else { return Ok(None) };
    let mut sources =
        [PollFd::new(reports.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    while let Err(errno) = poll(&mut sources, PollTimeout::NONE) {
        ensure!(errno == Errno::EINTR, anyhow!(errno).context("poll for the child's report"));
    }
    let has_reported = sources[0].any().unwrap_or(true);
    if has_reported { Ok(None) } else { signals.next().map(Some) }
}

/// Whether the signal would end this process if it were not blocked: not where the parent has had it ignored, as
/// nohup(1) does, nor for a new size of the terminal and the like (signal(7), "Ign" and "Cont").
fn ends_this_process(signal: i32) -> Result<bool> {
    // SAFETY: the structure is plain data, of which zero is a value; a null action means that none is set, and the
    // call only writes the present one.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        Errno::result(libc::sigaction(signal, std::ptr::null(), &mut action)).context("sigaction")?;
        action.sa_sigaction
    };
    Ok(action != libc::SIG_IGN && ![libc::SIGWINCH, libc::SIGCONT, libc::SIGURG].contains(&signal))
}

/// Ends this process as the signal would have done.
fn end_by(signal: i32) -> ! {
    // SAFETY: the set is plain data, which sigemptyset fills in; the calls take it and a number.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
    // Where it has a handler, that has run now.
    std::process::exit(128 + signal)
}
// ANCHOR_END: interrupted
