//! A namespace as an object.
//!
//! A namespace has no name. It lives while a process is in it, or somebody holds a descriptor of it, or has it
//! mounted somewhere (`ip netns` does); a descriptor is got by opening `/proc/PID/ns/KIND`, or such a mount.
//! Two descriptors with the same device and inode mean the same namespace. Manual pages: namespaces(7),
//! ioctl_ns(2).

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};

use crate::Target;

/// The ioctls of ioctl_ns(2), as functions.
mod ioctl {
    #![allow(missing_docs)]
    nix::ioctl_none!(get_owner, 0xb7, 0x1);
    nix::ioctl_none!(get_type, 0xb7, 0x3);
}

/// NSFS_MAGIC of linux/magic.h: the file system whose files are the namespaces.
const NSFS: FsType = FsType(0x6e73_6673);

// ANCHOR: kind
/// The eight kinds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Users, groups and capabilities: user_namespaces(7).
    User,
    /// The table of mounts: mount_namespaces(7).
    Mount,
    /// Process numbers: pid_namespaces(7).
    Pid,
    /// Links, addresses, routes, sockets: network_namespaces(7).
    Network,
    /// Message queues and shared memory: ipc_namespaces(7).
    Ipc,
    /// The host's name: uts_namespaces(7).
    Uts,
    /// Which cgroup is seen as the topmost: cgroup_namespaces(7). Linux 4.6.
    Cgroup,
    /// The monotonic clock and the time since boot: time_namespaces(7). Linux 5.6.
    Time,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] =
        [Kind::User, Kind::Mount, Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::Time];

    /// The flag by which clone(2), unshare(2) and setns(2) know it.
    pub fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Network => CloneFlags::CLONE_NEWNET,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            // CLONE_NEWTIME of linux/sched.h, which nix does not name.
            Kind::Time => CloneFlags::from_bits_retain(0x80),
        }
    }

    /// The name of the flag.
    pub(crate) fn flag_name(self) -> &'static str {
        match self {
            Kind::User => "CLONE_NEWUSER",
            Kind::Mount => "CLONE_NEWNS",
            Kind::Pid => "CLONE_NEWPID",
            Kind::Network => "CLONE_NEWNET",
            Kind::Ipc => "CLONE_NEWIPC",
            Kind::Uts => "CLONE_NEWUTS",
            Kind::Cgroup => "CLONE_NEWCGROUP",
            Kind::Time => "CLONE_NEWTIME",
        }
    }

    /// The name of its file in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// By the name of its file, or by that of the OCI runtime specification: `mnt` or `mount`, `net` or
    /// `network`.
    fn from_str(text: &str) -> Result<Kind> {
        match text {
            "mount" => return Ok(Kind::Mount),
            "network" => return Ok(Kind::Network),
            _ => {}
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.file() == text);
        kind.with_context(|| {
            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.file()).collect();
            format!("{text:?} is no kind of namespace: {} are", known.join(", "))
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.file())
    }
}
// ANCHOR_END: kind

// ANCHOR: namespace
/// A namespace, held by a descriptor: it lives as long as this value does.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    file: OwnedFd,
}

impl Namespace {
    /// The one in which a process is.
    ///
    /// # Errors
    ///
    /// open(2)'s errno: ENOENT where the kernel has none of this kind, or the process has ended.
    pub fn of(target: &Target, kind: Kind) -> Result<Namespace> {
        let file = target.open_below(&format!("ns/{}", kind.file()), OFlag::O_RDONLY)?;
        Ok(Namespace { kind, file })
    }

    /// The one in which this process is.
    ///
    /// # Errors
    ///
    /// open(2)'s errno.
    pub fn own(kind: Kind) -> Result<Namespace> {
        let path = format!("/proc/self/ns/{}", kind.file());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = open(path.as_str(), flags, Mode::empty()).with_context(|| format!("open {path:?}"))?;
        Ok(Namespace { kind, file })
    }

    /// The one that is at a path, which must be of this kind: `linux.namespaces` of the OCI runtime
    /// specification.
    ///
    /// # Errors
    ///
    /// open(2)'s errno; or that it is no namespace, or one of another kind, which is named.
    pub fn open(kind: Kind, path: &Path) -> Result<Namespace> {
        // What is there may be anything: without O_NONBLOCK, the opening of a FIFO would wait for a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = open(path, flags, Mode::empty())
            .with_context(|| format!("open {path:?}, which should be a {kind} namespace"))?;
        let file_system = fstatfs(&file).with_context(|| format!("fstatfs {path:?}"))?;
        ensure!(
            file_system.filesystem_type() == NSFS,
            "{path:?} is no namespace, and should be one of {kind}"
        );
        // SAFETY: the ioctl takes no argument.
        let flag = unsafe { ioctl::get_type(file.as_raw_fd()) };
        let flag = flag.with_context(|| format!("ioctl({path:?}, NS_GET_NSTYPE)"))?;
        let found = Kind::ALL.into_iter().find(|kind| kind.flag().bits() == flag);
        match found {
            Some(found) if found == kind => Ok(Namespace { kind, file }),
            Some(found) => bail!("{path:?} is a namespace of {found}, and should be one of {kind}"),
            None => bail!("{path:?} is of a kind that is not known here ({flag:#x}), and should be {kind}"),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Device and inode: what tells it from others.
    ///
    /// # Errors
    ///
    /// fstat(2)'s errno.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let status = fstat(&self.file).with_context(|| format!("fstat of a {} namespace", self.kind))?;
        Ok((status.st_dev, status.st_ino))
    }

    /// The user namespace that owns it: who has CAP_SYS_ADMIN there may join this one.
    ///
    /// # Errors
    ///
    /// The errno of the ioctl: EPERM where the owner is neither our own user namespace nor one below.
    pub fn owner(&self) -> Result<Namespace> {
        // SAFETY: the ioctl takes no argument.
        let owner = unsafe { ioctl::get_owner(self.file.as_raw_fd()) }.map_err(|errno| {
            let hint = match errno {
                Errno::EPERM => " (its owner is a user namespace outside of ours)",
                _ => "",
            };
            anyhow!(errno).context(format!("ioctl(NS_GET_USERNS) of a {} namespace{hint}", self.kind))
        })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Namespace { kind: Kind::User, file: unsafe { OwnedFd::from_raw_fd(owner) } })
    }
}

impl fmt::Display for Namespace {
    /// As the kernel writes it: `net:[4026531840]`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (_, inode) = self.identity().map_err(|_| fmt::Error)?;
        write!(formatter, "{}:[{inode}]", self.kind)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
// ANCHOR_END: namespace
