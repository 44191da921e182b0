//! A child that is born into what another process has.
//!
//! A process can't move into another PID namespace: setns(2) changes only where its *children* are born. And
//! once it has joined what is a container's, it is among processes that may be hostile to it. So the parent
//! joins nothing itself. A process in the middle does, makes the child, and ends:
//!
//! ```text
//!   parent                                 middle                             child
//!   ------                                 ------                             -----
//!   start_through  -- clone3 ----------->  waits
//!   Passage::prepare
//!                  -- one byte --------->  closes what it must not carry in
//!                                          can't be looked into any more
//!                                          Passage::enter: setns...
//!                                          -- clone3(CLONE_PARENT) -------->  waits at the gate
//!   waits          <- ends --------------  _exit(0)
//!   Held::release  -- one byte --------------------------------------------->  its half, then exec
//! ```
//!
//! By CLONE_PARENT the child is the parent's, not the middle's: the parent waits for it, is told of its end,
//! and takes it along when it dies. To leave nobody waiting for it would be worse than untidy: a PID namespace
//! whose PID 1 has ended is not gone before each process in it has been waited for. Manual pages: clone(2),
//! setns(2), PR_SET_DUMPABLE(2const).

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use log::info;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::CloneFlags;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::child::{Child, SECOND, pidfd_open};
use crate::clone::{Cloned, clone_sibling, clone3};
use crate::report::{self, Report, Reports};
use crate::spawn::{
    Held, Spawn, clone_error, describe, exit_now, live_to_the_end, new_gate, open_gate, wait_at,
};

// ANCHOR: passage
/// What lies between the parent and the child of [`Spawn::start_through`].
pub trait Passage {
    /// The descriptors that [`enter`](Passage::enter) needs. The middle closes all others before, and these
    /// after.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// The host's half: called in the parent, while the middle waits and has joined nothing. `in_cgroup` says
    /// whether it stands in the cgroup that [`Spawn::cgroup`] names.
    ///
    /// # Errors
    ///
    /// Any: it becomes that of `start_through`.
    fn prepare(&self, middle: Pid, in_cgroup: bool) -> Result<()>;

    /// The middle's half: joins.
    ///
    /// # Errors
    ///
    /// Any: it becomes that of `start_through`, as a [`ChildError`](crate::ChildError).
    fn enter(&self) -> Result<()>;

    /// Asked in the parent, once a second, while the middle is on its way.
    ///
    /// # Errors
    ///
    /// That there is no point in waiting any more: the middle is killed then.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}
// ANCHOR_END: passage

/// What clone3 says where it is the cgroup that does not take a child: it hands controllers down to cgroups
/// below (EBUSY), is threaded (EOPNOTSUPP), is not ours (EACCES), or Linux is older than 5.7 (E2BIG).
const NOT_BY_CLONE: [Errno; 4] = [Errno::EBUSY, Errno::EOPNOTSUPP, Errno::EACCES, Errno::E2BIG];

impl Spawn<'_> {
    // ANCHOR: start_through
    /// Makes the child by a process in the middle, which goes through `passage` first. The child waits at the
    /// gate like one of [`Spawn::start`].
    ///
    /// The child gets the new namespaces, the middle the cgroup, in which the child is born then. A cgroup that
    /// can't be cloned into is no error: [`Passage::prepare`] is told.
    ///
    /// Up to its exec the child can't be looked into: its files in /proc belong to root, so a parent that is a
    /// plain user can't write its maps, nor read its namespaces.
    ///
    /// # Errors
    ///
    /// As for [`Spawn::start`], and those of the passage. No process is left then.
    pub fn start_through<F>(self, passage: &impl Passage, child: F) -> Result<Held>
    where
        F: FnOnce(&mut Report) -> Result<Infallible>,
    {
        self.check()?;
        let (gate_in_child, gate) = new_gate()?;
        let mut cgroup = self.cgroup;
        loop {
            let (start, started) = new_gate()?;
            let (reports, report) = report::pipe()?;
            let born = Born::new()?;
            let call = describe(CloneFlags::empty(), cgroup.is_some());
            info!(target: "syscall", "{call}: it joins, and makes the child");
            // SAFETY: the process has a single thread, as `check` has found, and there are no flags.
            match unsafe { clone3(CloneFlags::empty(), cgroup) } {
                Ok(Cloned::Parent(pid, pidfd)) => {
                    drop(report);
                    let middle = Child::new(pid, pidfd);
                    passage.prepare(pid, cgroup.is_some())?;
                    open_gate(started)?;
                    match see_through(middle, &born, reports, passage)? {
                        Outcome::Born(child, reports) => return Ok(Held::new(child, gate, reports)),
                        // A fault of some kernels (6.18): a child that is cloned into a cgroup is killed at its
                        // birth, where `cgroup.kill` was written to this one and its parent's not equally often.
                        Outcome::Killed(status) if status == KILLED && cgroup.take().is_some() => {}
                        Outcome::Killed(status) => bail!("the process that joins was ended: status {status}"),
                    }
                }
                Ok(Cloned::Child) => {
                    // Our copies of the parent's ends.
                    drop((gate, reports, started));
                    live_to_the_end(report, |report| {
                        self.go_through(passage, start, gate_in_child.as_raw_fd(), report)?;
                        self.make_child(&born, gate_in_child, report, child)
                    })
                }
                Err(errno) if cgroup.is_some() && NOT_BY_CLONE.contains(&errno) => cgroup = None,
                Err(errno) => return Err(clone_error(errno)),
            }
        }
    }
    // ANCHOR_END: start_through

    // ANCHOR: go_through
    /// The middle's life up to the child's birth.
    fn go_through(&self, passage: &impl Passage, start: OwnedFd, gate: RawFd, report: &Report) -> Result<()> {
        if self.dies_with_parent {
            // For the time that it takes to join. It is not inherited: the child asks for its own.
            set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
        }
        wait_at(start)?;

        // All of it before the first namespace is joined. From then on the processes there may see this one,
        // and a descriptor of the host's in /proc/PID/fd would be their way out (CVE-2016-9962).
        let mut keep: Vec<RawFd> = passage.descriptors().iter().map(AsRawFd::as_raw_fd).collect();
        let needed = keep.clone();
        keep.push(gate);
        self.close_others(report, &keep)?;
        hide()?;
        passage.enter()?;
        // Who changes its user is made dumpable again where fs.suid_dumpable is 1.
        set_dumpable(false).context("prctl(PR_SET_DUMPABLE, 0)")?;

        // One by one: there may be no /proc in here, or a false one, to find out what else is open.
        let report = report.descriptor().map(|descriptor| descriptor.as_raw_fd());
        let stays = |fd: RawFd| fd <= 2 || self.keep.contains(&fd) || report == Some(fd);
        for fd in needed.into_iter().filter(|fd| !stays(*fd)) {
            // SAFETY: this process never returns to code that uses the owner of the descriptor.
            unsafe { libc::close(fd) };
        }
        Ok(())
    }

    /// The end of the middle, and the child's beginning.
    fn make_child<F>(&self, born: &Born, gate: OwnedFd, report: &mut Report, child: F) -> Result<Infallible>
    where
        F: FnOnce(&mut Report) -> Result<Infallible>,
    {
        let names = self.namespaces.iter_names().map(|(name, _)| name);
        let flags: Vec<&str> = names.chain(["CLONE_PARENT", "CLONE_PARENT_SETTID"]).collect();
        info!(target: "syscall", "clone3({})  the child: born inside, and our parent's", flags.join(" | "));
        // SAFETY: this process is a copy with a single thread; the flags are of namespaces only, as `check` has
        // found; the memory is mapped and ours to write.
        match unsafe { clone_sibling(self.namespaces, born.address()) }.map_err(clone_error)? {
            true => exit_now(0),
            false => self.live(gate, report, child),
        }
    }
    // ANCHOR_END: go_through
}

// ANCHOR: hide
/// Makes this process one that others may not look into: by ptrace(2), /proc/PID/mem, fd, root, environ.
///
/// It holds against all that have not CAP_SYS_PTRACE in the user namespace in which this program was executed:
/// so against each container with a user namespace of its own, and with Docker's capabilities; not against one
/// that has the host's CAP_SYS_PTRACE. Exec ends it: by then there is nothing left to see.
fn hide() -> Result<()> {
    info!(target: "syscall", "prctl(PR_SET_DUMPABLE, 0)  those inside can't look into this process");
    set_dumpable(false).context("prctl(PR_SET_DUMPABLE, 0)")
}
// ANCHOR_END: hide

/// The status of a process that SIGKILL has ended.
const KILLED: u8 = 128 + libc::SIGKILL as u8;

// ANCHOR: see_through
enum Outcome {
    Born(Child, Reports),
    /// The middle has ended without a child and without a word; its status.
    Killed(u8),
}

/// The parent's half: waits for the middle's end, and reaps it.
fn see_through(mut middle: Child, born: &Born, reports: Reports, passage: &impl Passage) -> Result<Outcome> {
    loop {
        let mut sources =
            [PollFd::new(middle.as_fd(), PollFlags::POLLIN), PollFd::new(reports.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sources, SECOND) {
            Ok(0) => {
                if let Err(error) = passage.check() {
                    middle.abandon()?;
                    // It may have made the child, and be held on its last steps.
                    return match born.child()? {
                        Some(mut child) => child.abandon().and(Err(error)),
                        None => Err(error),
                    };
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(anyhow!(errno).context("poll for the process that joins")),
            Ok(_) => break,
        }
    }
    // The kernel has written the pid before the child could run, let alone report anything.
    match born.child()? {
        Some(child) => {
            middle.wait()?;
            Ok(Outcome::Born(child, reports))
        }
        None => {
            // First: what does not fit into the pipe keeps the middle from its end.
            let failure = reports.receive()?;
            let status = middle.wait()?;
            failure.map_or(Ok(Outcome::Killed(status)), |error| Err(error.into()))
        }
    }
}
// ANCHOR_END: see_through

// ANCHOR: born
/// Where the kernel writes the child's pid: memory that the middle shares with the parent, where clone makes a
/// copy of all other. The middle could send the pid instead; but it may be killed between the two calls, and
/// then nobody would wait for the child.
struct Born(NonNull<AtomicI32>);

impl Born {
    const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<AtomicI32>()).expect("a number has a size");

    fn new() -> Result<Born> {
        let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping, at an address that the kernel chooses, disturbs no memory that is in use.
        let page = unsafe { mmap_anonymous(None, Self::SIZE, protection, flags) };
        Ok(Born(page.context("mmap of the child's pid")?.cast()))
    }

    /// For the kernel. The page is touched, so that the kernel finds it there.
    fn address(&self) -> *mut libc::pid_t {
        self.number().store(0, Ordering::SeqCst);
        self.0.as_ptr().cast()
    }

    /// The child, once it is born.
    fn child(&self) -> Result<Option<Child>> {
        let pid = Pid::from_raw(self.number().load(Ordering::SeqCst));
        if pid.as_raw() == 0 {
            return Ok(None);
        }
        // No other process can have this pid: the child is ours, and nobody has waited for it.
        let pidfd = pidfd_open(pid).with_context(|| format!("pidfd_open({pid})"))?;
        Ok(Some(Child::new(pid, pidfd)))
    }

    fn number(&self) -> &AtomicI32 {
        // SAFETY: the page is zeroed, aligned, and mapped as long as this value lives.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone, and nothing points to it any more.
        unsafe { munmap(self.0.cast(), Self::SIZE.get()) }.expect("a page that we mapped");
    }
}
// ANCHOR_END: born
