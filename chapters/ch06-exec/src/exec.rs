//! A process that has what another one has: `docker exec`.
//!
//! What it takes, in this order: the cgroup; the namespaces; root in the user namespace; the root directory
//! ([`Join`]); and a fork, by which the PID namespace takes effect
//! ([`start_through`](ch01_pid::Spawn::start_through)). What it does not take, but has of ours: capabilities, no
//! seccomp filter, security labels, limits of setrlimit(2), the session keyring, umask, oom_score_adj, nice value,
//! the processors of sched_setaffinity(2), standard input and output. It must give up itself what the command is not
//! to have, in the closure that ends in exec.

use std::convert::Infallible;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use ch00_chroot::root::Identity;
use ch01_pid::{Held, Report, Signals, Spawn};
use ch04_cgroups::{Cgroup, Hierarchies, Place};
use log::info;
use nix::sys::stat::fstat;
use nix::unistd::Pid;

use crate::{Join, Kind, Target};

// ANCHOR: exec
/// A process that joins another one; [`Exec::start`] makes it.
#[derive(Debug)]
pub struct Exec<'a> {
    target: &'a Target,
    kinds: Vec<Kind>,
    cgroup: Membership<'a>,
    even_if_frozen: bool,
    keep: Vec<BorrowedFd<'a>>,
    dies_with_parent: bool,
    signals: Option<&'a Signals>,
}

/// In which cgroup it is.
#[derive(Debug)]
enum Membership<'a> {
    Ours,
    OfTarget,
    Given(&'a Cgroup),
}

impl<'a> Exec<'a> {
    /// All namespaces, the cgroup and the root of `target`.
    pub fn new(target: &'a Target) -> Self {
        Exec {
            target,
            kinds: Kind::ALL.to_vec(),
            cgroup: Membership::OfTarget,
            even_if_frozen: false,
            keep: Vec::new(),
            dies_with_parent: false,
            signals: None,
        }
    }

    /// Only these namespaces. The root directory comes along with [`Kind::Mount`], the cgroup with
    /// [`Kind::Cgroup`].
    ///
    /// Beware of PID without mount: the processes inside see this one, and /proc/PID/root is then a way to the
    /// host's root directory for those who may trace it.
    pub fn only(mut self, kinds: &[Kind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// It stays in our cgroup.
    pub fn without_cgroup(mut self) -> Self {
        self.cgroup = Membership::Ours;
        self
    }

    /// It enters this cgroup instead of the one in which `target` is.
    pub fn cgroup(mut self, cgroup: &'a Cgroup) -> Self {
        self.cgroup = Membership::Given(cgroup);
        self
    }

    /// A cgroup that is frozen is no error: the process is made, and stands still at the gate until the cgroup
    /// is thawed. What waits for it waits too. On version 1 even SIGKILL does.
    pub fn even_if_frozen(mut self) -> Self {
        self.even_if_frozen = true;
        self
    }

    /// More descriptors that it keeps, as [`Spawn::keep`].
    pub fn keep(mut self, descriptors: impl IntoIterator<Item = BorrowedFd<'a>>) -> Self {
        self.keep.extend(descriptors);
        self
    }

    /// A signal that asks for the end gives joining up, as [`Join::interrupted_by`].
    pub fn interrupted_by(mut self, signals: &'a Signals) -> Self {
        self.signals = Some(signals);
        self
    }

    /// It is killed when this process dies, as by [`Spawn::dies_with_parent`].
    pub fn dies_with_parent(mut self) -> Self {
        self.dies_with_parent = true;
        self
    }
}
// ANCHOR_END: exec

// ANCHOR: start
impl Exec<'_> {
    /// Makes the process. It waits at the gate, inside; once released, it runs `child`, which ends in exec or in
    /// an error.
    ///
    /// # Errors
    ///
    /// When the process that is joined has ended or is not ours; when its cgroup is frozen; when a namespace or
    /// the cgroup is refused. No process is left then.
    pub fn start<F>(self, child: F) -> Result<Held>
    where
        F: FnOnce(&mut Report) -> Result<Infallible>,
    {
        let mut join = Join::of(self.target, &self.kinds)?;
        if let Some(root) = self.find_root(&join)? {
            join = join.root(root);
        }
        if let Some(signals) = self.signals {
            join = join.interrupted_by(signals);
        }
        let found = self.find_cgroup()?;
        let cgroup = match &self.cgroup {
            Membership::Given(cgroup) => Some(*cgroup),
            _ => found.as_ref(),
        };
        let is_frozen = cgroup.map_or(Ok(false), Cgroup::is_frozen)?;
        ensure!(
            !is_frozen || self.even_if_frozen,
            "the cgroup of {} is frozen: a process that enters it would stand still too; thaw it first",
            self.target.pid()
        );
        // What found out the root and the cgroup by a pid has found those of our process.
        self.target.ensure_alive()?;

        let mut spawn = Spawn::new().keep(self.keep);
        if self.dies_with_parent {
            spawn = spawn.dies_with_parent();
        }
        if let Some(cgroup) = cgroup.filter(|_| !is_frozen) {
            join = join.cgroup(cgroup);
            if let Some(directory) = cgroup.directory().filter(|_| cgroup.is_entered_by_clone()) {
                spawn = spawn.cgroup(directory);
            }
        }
        let held = spawn.start_through(&join, child)?;
        if let Some(cgroup) = cgroup.filter(|_| is_frozen) {
            cgroup.enter(held.pid())?;
        }
        Ok(held)
    }

    /// The root directory, if it is to be entered.
    fn find_root(&self, join: &Join) -> Result<Option<OwnedFd>> {
        if !self.kinds.contains(&Kind::Mount) {
            return Ok(None);
        }
        let root = self.target.root()?;
        // In the same mount namespace it takes CAP_SYS_CHROOT: not to be asked for without need.
        let status = fstat(&root).context("fstat of the root directory of the process that is joined")?;
        let its = Identity { device: status.st_dev, inode: status.st_ino };
        let is_ours = !join.kinds().contains(&Kind::Mount) && its == Identity::of("/")?;
        Ok((!is_ours).then_some(root))
    }

    /// The cgroup of the process that is joined, unless we are in it.
    fn find_cgroup(&self) -> Result<Option<Cgroup>> {
        if !matches!(self.cgroup, Membership::OfTarget) || !self.kinds.contains(&Kind::Cgroup) {
            return Ok(None);
        }
        let hierarchies = Hierarchies::find()?;
        let place = Place::of(&hierarchies, self.target.pid())?;
        if place == Place::of(&hierarchies, Pid::this())? {
            return Ok(None);
        }
        let cgroup = Cgroup::open(&place)?;
        let paths: Vec<_> = cgroup.paths().map(|(_, path)| path).collect();
        let last = paths.last().context("there is no cgroup hierarchy")?;
        let more = match paths.len() - 1 {
            0 => String::new(),
            others => format!(", and one in each of {others} hierarchies more"),
        };
        info!(target: "syscall", "open(\"/proc/{}/cgroup\")  its cgroup: {last:?}{more}", self.target.pid());
        Ok(Some(cgroup))
    }
}
// ANCHOR_END: start
