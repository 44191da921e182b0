// ANCHOR: mechanism
//! What can be taken from the finished container.

use std::fmt;

use ch07_privileges::capabilities::CapabilitySet;
use nix::sched::CloneFlags;

use crate::container::{Container, Files};

/// A mechanism that stops escapes, with the chapter that builds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Its process numbers are its own.
    PidNamespace,
    /// The user's terminal is not its session's.
    Session,
    /// What the lesson has open is closed.
    ClosedDescriptors,
    /// The root of its mount namespace is its root directory.
    OwnRoot,
    /// Its /proc shows its own processes.
    OwnProc,
    /// Its links, addresses and ports are its own.
    NetworkNamespace,
    /// It writes to a layer of its own.
    Layer,
    /// The runtime runs from where nobody can write.
    ProtectedProgram,
    /// Its users are others than the host's.
    UserNamespace,
    /// Its name is its own.
    UtsNamespace,
    /// It sees its own part of the tree of cgroups.
    CgroupNamespace,
    /// Most of root's powers are gone.
    Capabilities,
    /// Some system calls are refused.
    Seccomp,
}

impl Mechanism {
    /// The container without it.
    pub fn remove(self, mut container: Container) -> Container {
        match self {
            // Without it no /proc can be mounted, and the files that this is about are not needed.
            Mechanism::PidNamespace => {
                container.namespaces -= CloneFlags::CLONE_NEWPID;
                container.files = Files::Host;
            }
            Mechanism::OwnRoot => container.files = Files::Chroot,
            Mechanism::OwnProc => container.files = Files::Host,
            Mechanism::Layer => container.files = Files::Shared,
            Mechanism::NetworkNamespace => container.namespaces -= CloneFlags::CLONE_NEWNET,
            Mechanism::UserNamespace => {
                container.namespaces -= CloneFlags::CLONE_NEWUSER;
                container.maps = None;
            }
            Mechanism::UtsNamespace => container.namespaces -= CloneFlags::CLONE_NEWUTS,
            Mechanism::CgroupNamespace => container.namespaces -= CloneFlags::CLONE_NEWCGROUP,
            Mechanism::Capabilities => {
                container.capabilities = CapabilitySet::all().unwrap_or(container.capabilities)
            }
            Mechanism::Seccomp => container.policy = None,
            // No part of the container: see what `container.careless` does.
            Mechanism::Session | Mechanism::ClosedDescriptors | Mechanism::ProtectedProgram => {
                container.careless = true
            }
        }
        container
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::PidNamespace => "PID namespace",
            Mechanism::Session => "session",
            Mechanism::ClosedDescriptors => "close_range",
            Mechanism::OwnRoot => "pivot_root",
            Mechanism::OwnProc => "/proc",
            Mechanism::NetworkNamespace => "network namespace",
            Mechanism::Layer => "layer",
            Mechanism::ProtectedProgram => "read-only clone",
            Mechanism::UserNamespace => "user namespace",
            Mechanism::UtsNamespace => "UTS namespace",
            Mechanism::CgroupNamespace => "cgroup namespace",
            Mechanism::Capabilities => "capabilities",
            Mechanism::Seccomp => "seccomp",
        }
    }

    /// The chapter that builds it.
    fn chapter(self) -> u8 {
        match self {
            Mechanism::PidNamespace | Mechanism::Session | Mechanism::ClosedDescriptors => 1,
            Mechanism::OwnRoot | Mechanism::OwnProc => 2,
            Mechanism::NetworkNamespace => 3,
            Mechanism::Layer => 5,
            Mechanism::ProtectedProgram => 6,
            _ => 7,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} ({:02})", self.name(), self.chapter())
    }
}
// ANCHOR_END: mechanism
