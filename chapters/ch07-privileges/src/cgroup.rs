//! The cgroup namespace: where the tree of cgroups begins.
//!
//! A process may read in /proc/self/cgroup where in the host's tree it stands:
//! `/system.slice/docker-4f1c...`. That tells it things about the host, and a path that does not exist in its
//! own /sys/fs/cgroup. In a cgroup namespace, paths begin at its root: the cgroup in which the process was
//! *when the namespace was made*. A cgroup file system that is mounted from inside starts there too. Manual
//! page: cgroup_namespaces(7).
//!
//! From that follows when it is made. A runtime makes the child first, and moves it into its cgroup while it
//! waits at the gate. With CLONE_NEWCGROUP in clone3(2), the namespace would be there by then, and its root
//! would be the *parent's* cgroup: the container would see where below that it stands, and could climb. So
//! the child calls unshare(2) itself, once it stands in its cgroup. (There is one exception: where clone3(2)
//! is also told to put the child into a cgroup of version 2, CLONE_INTO_CGROUP, the kernel makes that one the
//! root. In hierarchies of version 1, into which nothing can be cloned, the root is the parent's still.
//! unshare(2) is right in all cases.)

use anyhow::{Result, anyhow};
use log::info;
use nix::errno::Errno;
use nix::sched::CloneFlags;

// ANCHOR: unshare
/// Makes the cgroup in which this process stands the root of what it sees of cgroups, in each hierarchy.
///
/// # Errors
///
/// EPERM without CAP_SYS_ADMIN in its user namespace. EINVAL: a kernel before 4.6, or one without cgroups.
/// ENOSPC: the limit user.max_cgroup_namespaces.
pub fn unshare() -> Result<()> {
    info!(target: "syscall", "unshare(CLONE_NEWCGROUP)  from here on, this cgroup is the root of what it sees");
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|errno| {
        let hint = match errno {
            Errno::EPERM => " (it takes CAP_SYS_ADMIN, or a user namespace of one's own)",
            Errno::EINVAL => " (this kernel has no cgroup namespaces)",
            Errno::ENOSPC => " (the limit user.max_cgroup_namespaces is reached)",
            _ => "",
        };
        anyhow!(errno).context(format!("unshare(CLONE_NEWCGROUP){hint}"))
    })
}
// ANCHOR_END: unshare
