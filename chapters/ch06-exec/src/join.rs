//! What is joined: namespaces by setns(2), in an order that works; and the cgroup and the root directory with them.
//!
//! setns takes a process into a namespace: one by the descriptor of a file in /proc/PID/ns, or, given a pidfd,
//! several kinds at once (Linux 5.8). The one call is all or nothing, and checks against the rights that the
//! caller has before it. Taken one by one, the order matters: the right to join a namespace is CAP_SYS_ADMIN in
//! the user namespace that owns it. Who joins a user namespace has all rights over what belongs to it, and none
//! any more over what belongs to the host's. Manual page: setns(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, anyhow, ensure};
use ch01_pid::{Passage, Signals};
use ch04_cgroups::Cgroup;
use log::info;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use crate::credentials::{become_root, drop_groups};
use crate::root::enter_root;
use crate::{Kind, Namespace, Target};

// ANCHOR: join
/// What is joined: the namespaces of a process, or some that were given by path, or both; and more of it.
#[derive(Debug, Default)]
pub struct Join<'a> {
    target: Option<(&'a Target, Vec<Kind>)>,
    files: Vec<Namespace>,
    root: Option<OwnedFd>,
    cgroup: Option<&'a Cgroup>,
    signals: Option<&'a Signals>,
}

impl<'a> Join<'a> {
    /// Those of `kinds` in which `target` is elsewhere than this process. To join one's own is useless, and with
    /// the user namespace an error (EINVAL): it would give back capabilities that were dropped.
    ///
    /// A plain user joins what is theirs from the host's user namespace, where they have all rights over the user
    /// namespaces that they have made; and not from one of those, where they have none over the others.
    ///
    /// # Errors
    ///
    /// When the process has ended, or can't be looked at.
    pub fn of(target: &'a Target, kinds: &[Kind]) -> Result<Join<'a>> {
        let mut differing = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
            let identity = target.identity(kind)?;
            if identity.is_some() && identity != Some(Namespace::own(kind)?.identity()?) {
                differing.push(kind);
            }
        }
        Ok(Join { target: Some((target, differing)), ..Join::default() })
    }

    /// Namespaces that were given by path; without those in which this process is already.
    ///
    /// # Errors
    ///
    /// stat(2)'s errno.
    pub fn paths(namespaces: Vec<Namespace>) -> Result<Join<'a>> {
        Join::default().and(namespaces)
    }

    /// These too; each takes the place of one of the same kind.
    ///
    /// # Errors
    ///
    /// stat(2)'s errno.
    pub fn and(mut self, namespaces: Vec<Namespace>) -> Result<Join<'a>> {
        for namespace in namespaces {
            let kind = namespace.kind();
            self.files.retain(|other| other.kind() != kind);
            if let Some((_, kinds)) = &mut self.target {
                kinds.retain(|other| *other != kind);
            }
            if namespace.identity()? != Namespace::own(kind)?.identity()? {
                self.files.push(namespace);
            }
        }
        Ok(self)
    }

    /// This root directory too, after the namespaces.
    pub fn root(mut self, directory: OwnedFd) -> Join<'a> {
        self.root = Some(directory);
        self
    }

    /// This cgroup too, before all else: by the host's right to it, and so that no process inside meets one that
    /// its limits do not hold.
    pub fn cgroup(mut self, cgroup: &'a Cgroup) -> Join<'a> {
        self.cgroup = Some(cgroup);
        self
    }

    /// A signal that asks for the end gives joining up. It may take for ever: a root directory may be of a FUSE file
    /// system whose server, a process of the container's, does not answer.
    pub fn interrupted_by(mut self, signals: &'a Signals) -> Join<'a> {
        self.signals = Some(signals);
        self
    }

    /// Which kinds of namespaces are joined.
    pub fn kinds(&self) -> Vec<Kind> {
        let is_joined = |kind: &Kind| {
            self.of_target().contains(kind) || self.files.iter().any(|namespace| namespace.kind() == *kind)
        };
        Kind::ALL.into_iter().filter(is_joined).collect()
    }

    /// Whether it takes a fork before all of it holds: a PID namespace is that of the children.
    pub fn needs_fork(&self) -> bool {
        self.kinds().contains(&Kind::Pid)
    }

    fn of_target(&self) -> &[Kind] {
        self.target.as_ref().map_or(&[], |(_, kinds)| kinds)
    }
}
// ANCHOR_END: join

// ANCHOR: enter
impl Join<'_> {
    /// Joins all but the cgroup. After a user namespace, this process is root there. A process with several
    /// threads can't.
    ///
    /// # Errors
    ///
    /// setns(2)'s errno, with the likely reason. Of note: EPERM, ESRCH (the process has ended), EINVAL. Some
    /// may be joined then: the caller must end.
    pub fn enter(&self) -> Result<()> {
        self.leave_groups()?;
        self.enter_namespaces()?;
        self.root.as_ref().map_or(Ok(()), enter_root)
    }

    /// With a user namespace, while it is still allowed.
    fn leave_groups(&self) -> Result<()> {
        if self.kinds().contains(&Kind::User) { drop_groups() } else { Ok(()) }
    }

    fn enter_namespaces(&self) -> Result<()> {
        let Some((target, kinds)) = self.target.as_ref().filter(|_| self.files.is_empty()) else {
            return self.enter_each();
        };
        if kinds.is_empty() {
            return Ok(());
        }
        let flags = kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
        let names: Vec<&str> = kinds.iter().map(|kind| kind.flag_name()).collect();
        info!(target: "syscall", "setns(pidfd, {})  all of them or none", names.join(" | "));
        match setns(target, flags) {
            Ok(()) if kinds.contains(&Kind::User) => become_root(),
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(refusal(Errno::ESRCH, None)),
            // EINVAL: Linux before 5.8. Or one is refused: then the other way finds out which, and why.
            Err(errno) => {
                info!(target: "syscall", "setns: {errno:?}  then one by one");
                self.enter_each()
            }
        }
    }

    /// As [`Join::enter`], with a call for each namespace, as kernels before 5.8 want it.
    ///
    /// # Errors
    ///
    /// As for [`Join::enter`].
    pub fn enter_one_by_one(&self) -> Result<()> {
        self.leave_groups()?;
        self.enter_each()?;
        self.root.as_ref().map_or(Ok(()), enter_root)
    }

    fn enter_each(&self) -> Result<()> {
        // All are opened before the first is joined: /proc is another one afterwards, or none.
        let mut opened = Vec::new();
        if let Some((target, kinds)) = &self.target {
            for kind in kinds {
                opened.push(Namespace::of(target, *kind)?);
            }
        }
        let all = || opened.iter().chain(&self.files);
        let (users, mut others): (Vec<_>, Vec<_>) =
            all().partition(|namespace| namespace.kind() == Kind::User);

        // As who we are outside, as far as that goes; then as the user namespace's root.
        let mut refused = Vec::new();
        for namespace in others.drain(..) {
            match set(namespace) {
                Err(Errno::EPERM) if !users.is_empty() => refused.push(namespace),
                result => result.map_err(|errno| refusal(errno, Some(namespace)))?,
            }
        }
        for namespace in users.iter().copied().chain(refused) {
            set(namespace).map_err(|errno| refusal(errno, Some(namespace)))?;
        }
        if users.is_empty() { Ok(()) } else { become_root() }
    }
}

fn set(namespace: &Namespace) -> Result<(), Errno> {
    info!(target: "syscall", "setns({namespace}, {})", namespace.kind().flag_name());
    setns(namespace, namespace.kind().flag())
}
// ANCHOR_END: enter

// ANCHOR: refusal
fn refusal(errno: Errno, namespace: Option<&Namespace>) -> anyhow::Error {
    let kind = namespace.map(Namespace::kind);
    let hint = match (errno, kind) {
        (Errno::ESRCH, _) => "the process has ended",
        (Errno::EPERM, Some(Kind::User)) => "it is not ours: another user made it, or it is above our own",
        (Errno::EPERM, _) => "it takes CAP_SYS_ADMIN in the user namespace that owns it, and in our own",
        (Errno::EINVAL, Some(Kind::User)) => "it is our own, or this process has several threads",
        (Errno::EINVAL, Some(Kind::Pid)) => "it is not below our own: one can go down only",
        (Errno::EINVAL, Some(Kind::Mount)) => "this process shares its root directory with another one",
        (Errno::EUSERS, Some(Kind::Time)) => "this process has several threads",
        _ => "setns(2) lists the reasons",
    };
    let what = namespace.map_or("of the pidfd".into(), |namespace| format!("{namespace}"));
    anyhow!(errno).context(format!("setns {what} ({hint})"))
}
// ANCHOR_END: refusal

// ANCHOR: passage
/// A child can be born into all of it: [`Spawn::start_through`](ch01_pid::Spawn::start_through).
impl Passage for Join<'_> {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let of_target = self.target.iter().flat_map(|(target, _)| [target.as_fd(), target.proc()]);
        let others = self.files.iter().map(AsFd::as_fd).chain(self.root.as_ref().map(AsFd::as_fd));
        of_target.chain(others).collect()
    }

    fn prepare(&self, middle: Pid, in_cgroup: bool) -> Result<()> {
        match self.cgroup {
            Some(cgroup) if !in_cgroup => cgroup.enter(middle),
            _ => Ok(()),
        }
    }

    fn enter(&self) -> Result<()> {
        Join::enter(self)
    }

    fn check(&self) -> Result<()> {
        // By somebody who pauses the container at this very moment.
        let is_frozen = self.cgroup.map_or(Ok(false), Cgroup::is_frozen)?;
        ensure!(!is_frozen, "the cgroup was frozen while a process entered it: thaw it, and try again");
        self.signals.map_or(Ok(()), Signals::stop_if_told)
    }
}
// ANCHOR_END: passage
