//! The IPC namespace: what processes share without a common file.
//!
//! Three kinds of System V objects (message queues, sets of semaphores, segments of shared memory), which
//! have numbers and no path, and POSIX message queues, which have names in a file system of their own,
//! `mqueue`. Neither is reached by a path of the container's, so no other namespace takes the host's away:
//! without an IPC namespace, a container's process finds and opens those of the host that its uid allows.
//! They die with the namespace. (POSIX shared memory and semaphores are files in /dev/shm: a tmpfs of the
//! container's own is enough.) Manual pages: ipc_namespaces(7), sysvipc(7), mq_overview(7).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use ch02_mount::{Attributes, Root, Tree};
use nix::errno::Errno;

// ANCHOR: sysctls
/// The entries of /proc/sys that belong to an IPC namespace: limits on its objects, of which each namespace
/// starts with the kernel's defaults. All of `fs.mqueue.` does as well.
pub const SYSCTLS: [&str; 12] = [
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Whether the entry `name` of /proc/sys, with dots as in sysctl(8), is one of the IPC namespace's own.
pub fn has_sysctl(name: &str) -> bool {
    SYSCTLS.contains(&name) || name.starts_with("fs.mqueue.")
}
// ANCHOR_END: sysctls

// ANCHOR: contents
/// How many System V objects an IPC namespace has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Message queues: msgget(2).
    pub message_queues: usize,
    /// Sets of semaphores: semget(2).
    pub semaphores: usize,
    /// Segments of shared memory: shmget(2).
    pub shared_memory: usize,
}

impl Contents {
    /// Those of the IPC namespace in which this process is, whoever may use them.
    ///
    /// # Errors
    ///
    /// ENOENT: this kernel has no System V IPC, or /proc is not mounted.
    pub fn here() -> Result<Contents> {
        let count = |kind: &str| {
            let file = format!("/proc/sysvipc/{kind}");
            let text = fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
            // The first line has the names of the columns.
            anyhow::Ok(text.lines().skip(1).count())
        };
        Ok(Contents {
            message_queues: count("msg")?,
            semaphores: count("sem")?,
            shared_memory: count("shm")?,
        })
    }
}
// ANCHOR_END: contents

// ANCHOR: mqueue
/// Mounts the POSIX message queues of this process's IPC namespace at /dev/mqueue inside `root`. The C
/// library does not need it: mq_open(3) is a system call. It is there for those who list queues, or remove
/// them.
///
/// # Errors
///
/// EPERM: the IPC namespace is not one of this user namespace's. ENODEV: the kernel has no POSIX message
/// queues.
pub fn mount_mqueue(root: &Root) -> Result<()> {
    let path = Path::new("/dev/mqueue");
    let place = root.mount_point(path)?;
    let attributes = Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let tree =
        Tree::new("mqueue", &[], attributes).map_err(|error| match error.root_cause().downcast_ref() {
            // The file system belongs to the IPC namespace, so it is that one's user namespace which counts.
            Some(Errno::EPERM) => anyhow!(Errno::EPERM)
                .context(format!("{error} (the IPC namespace is the host's: make one, CLONE_NEWIPC)")),
            _ => error,
        })?;
    tree.attach(&place, path)
}
// ANCHOR_END: mqueue
