//! What a process sees: its *view*.
//!
//! A container is a process for which the kernel answers some questions differently: which processes are
//! there, what is mounted, what is the host called. The view asks these questions of one process and keeps
//! the kernel's own text, without a word about its meaning: that is the chapters' work.
//!
//! Almost all of it is read from `/proc/PID` (proc(5)), where the kernel shows a process to the others. What
//! the reader may not see is kept as an [`Unreadable`] beside the rest, since a view with a hole in it still
//! teaches something, and a hole without a reason teaches something wrong.

mod cgroups;
mod lines;
mod mounts;
mod network;
mod process;
mod root;
mod routes;
pub mod table;
mod uts;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

pub use cgroups::own_cgroups;
pub use mounts::Mount;
pub use network::Link;
use process::Process;
pub use root::{Root, VisibleProcesses};
pub use routes::Route;

/// One thing that the view asks for: the kernel's answer, or why there is none.
pub type Field<T> = std::result::Result<T, Unreadable>;

/// Why a field of the view is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// The kernel, or this process, has no such thing; the text says what is absent.
    Absent(String),
    /// The kernel refused, for example `EACCES` for a process of another user.
    Refused {
        /// What was asked of the kernel, for example `readlink ns/net` (a path inside of `/proc/PID`).
        operation: String,
        /// The kernel's answer.
        errno: Errno,
    },
}

impl Unreadable {
    fn refused(operation: impl Into<String>, errno: Errno) -> Self {
        Unreadable::Refused { operation: operation.into(), errno }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Absent(what) => write!(formatter, "none: {what}"),
            Unreadable::Refused { operation, errno } => {
                write!(formatter, "not readable: {operation}: {} ({errno:?})", errno.desc())?;
                if matches!(errno, Errno::EACCES | Errno::EPERM) {
                    write!(formatter, "; needs ptrace rights over it")?;
                }
                Ok(())
            }
        }
    }
}

/// A line of the kernel that has a name: a namespace, a capability set, a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The kernel's name for it, for example `mnt`, `CapEff`, `memory.max`.
    pub name: String,
    /// The kernel's text.
    pub value: Field<String>,
}

/// What one process sees, as the kernel's own text. Paths below are relative to `/proc/PID`.
#[derive(Debug, Clone)]
pub struct View {
    /// The program's name, at most 15 bytes: `status`, line `Name`.
    pub name: Field<String>,
    /// The process's id as the reader counts: `status`, line `Pid`.
    pub pid: Field<String>,
    /// Its ids from the PID namespace of the procfs inwards, separated by spaces: `status`, line `NSpid`.
    pub pids_in_namespaces: Field<String>,
    /// The processes that it can see: the directories of the procfs at `root/proc`.
    pub processes: Field<VisibleProcesses>,
    /// The name of its UTS namespace, uname(2): no file of `/proc` shows another process's one, see
    /// [`View::through`].
    pub hostname: Field<String>,
    /// Its root directory: the link `root`.
    pub root: Field<Root>,
    /// Its mount table, in the kernel's order: `mountinfo`.
    pub mounts: Field<Vec<Mount>>,
    /// Its network links with their addresses: `net/dev`, `net/fib_trie`, `net/route`, `net/if_inet6`.
    pub links: Field<Vec<Link>>,
    /// Where packets go: `net/route`, `net/ipv6_route`.
    pub routes: Field<Vec<Route>>,
    /// Real, effective, saved and file system user id, as the reader's user namespace counts: `status`, line
    /// `Uid`.
    pub uids: Field<String>,
    /// The same four for the group: `status`, line `Gid`.
    pub gids: Field<String>,
    /// The supplementary groups, separated by spaces: `status`, line `Groups`.
    pub groups: Field<String>,
    /// A line for each range: first id inside, first id outside, length. `uid_map`, user_namespaces(7).
    pub uid_map: Field<Vec<String>>,
    /// As `uid_map`, for groups: `gid_map`.
    pub gid_map: Field<Vec<String>>,
    /// The capability sets as hexadecimal masks: `status`, lines `CapInh` to `CapAmb`.
    pub capabilities: Field<Vec<Named>>,
    /// Its cgroup in each hierarchy, `id:controllers:path`: `cgroup`, cgroups(7).
    pub cgroups: Field<Vec<String>>,
    /// The limits of its own cgroups, by file name (`memory.max`, `pids.max` ...); an ancestor's may be
    /// lower.
    pub limits: Field<Vec<Named>>,
    /// The seccomp mode, 0 to 2: `status`, line `Seccomp`.
    pub seccomp: Field<String>,
    /// 1 where no execve(2) can add privileges: `status`, line `NoNewPrivs`.
    pub no_new_privs: Field<String>,
    /// Its namespaces by name with their inode numbers, `net:[4026531840]`: the links in `ns`.
    pub namespaces: Field<Vec<Named>>,
}

impl View {
    /// The view of the process with this id, seen from here through `/proc/PID`.
    ///
    /// Fails only where there is no such process, or it ended meanwhile.
    pub fn of(pid: i32) -> Result<View> {
        View::through(&open_proc()?, &pid.to_string())
    }

    /// The view of the calling process, through `/proc/self`.
    pub fn here() -> Result<View> {
        View::through(&open_proc()?, "self")
    }

    /// The view of `process`, a pid or `self`, through an open directory of any procfs.
    ///
    /// A process that has lost its `/proc`, say by a chroot, can still read its own view when it has kept the
    /// host's `/proc` open: `self` there leads to whoever asks.
    ///
    /// The host name of another process is asked by a child that joins its UTS namespace, where the kernel
    /// allows it.
    pub fn through(proc: &impl AsFd, process: &str) -> Result<View> {
        let process = Process::open(proc, process)?;
        let status = process.text("status");
        let line = |name: &str| process::line(&status, name);
        let mounts = process.text("mountinfo").map(|text| mounts::parse(&text));
        let root = process.directory("root");
        let cgroups = process.lines("cgroup");
        let view = View {
            name: line("Name"),
            pid: line("Pid"),
            pids_in_namespaces: line("NSpid"),
            processes: root::visible_processes(&root),
            hostname: uts::hostname(&process),
            root: root::identify(&process, &root),
            links: network::links(&process),
            routes: routes::routes(&process),
            uids: line("Uid"),
            gids: line("Gid"),
            groups: line("Groups"),
            uid_map: process.lines("uid_map"),
            gid_map: process.lines("gid_map"),
            capabilities: process::lines_with_prefix(&status, "Cap"),
            limits: cgroups::limits(&process, &cgroups, &mounts, &root),
            cgroups,
            mounts,
            seccomp: line("Seccomp"),
            no_new_privs: line("NoNewPrivs"),
            namespaces: process.namespaces(),
        };
        // A process that ended half-way leaves half a view, whose holes look like refusals.
        process.check_alive()?;
        Ok(view)
    }
}

fn open_proc() -> Result<OwnedFd> {
    nix::fcntl::open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open \"/proc\", from which a view is read")
}
