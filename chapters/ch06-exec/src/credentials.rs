//! Become root of the user namespace that was joined.
//!
//! setns(2) gives all capabilities in the user namespace, but leaves the user and groups as they were: numbers
//! of the host's, which most likely are not mapped in there. To the files of the container this process would
//! be `nobody`, and to those of the host that are mounted there still the host's root. Manual pages:
//! user_namespaces(7), setresuid(2), setgroups(2).

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgroups, setgroups, setresgid, setresuid};

// ANCHOR: drop_groups
/// Takes no other groups than the own one, as far as that is allowed: asked before a user namespace is joined, and
/// inside.
///
/// Many a user namespace denies setgroups(2): a plain user who maps groups must give it up. Who joins one as the host's
/// root must have done it before, or the groups stay: a process inside would have those of the host, such as `disk`.
pub(crate) fn drop_groups() -> Result<()> {
    if getgroups().context("getgroups")?.is_empty() {
        return Ok(());
    }
    info!(target: "syscall", "setgroups(0, NULL)  the host's groups mean nothing in there");
    match setgroups(&[]) {
        // A plain user has not the right to it here. Inside they stay as they do for the container's own processes.
        Err(Errno::EPERM) => info!(target: "syscall", "setgroups: EPERM  we are not allowed to"),
        result => result.context("setgroups(0, NULL)")?,
    }
    Ok(())
}
// ANCHOR_END: drop_groups

// ANCHOR: become_root
/// Takes the user and the group 0 of this process's user namespace, and no other groups.
///
/// # Errors
///
/// EINVAL where the user namespace maps no 0.
pub(crate) fn become_root() -> Result<()> {
    drop_groups()?;
    info!(target: "syscall", "setresgid(0, 0, 0), setresuid(0, 0, 0)  root of this user namespace");
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).map_err(|errno| refusal(errno, "setresgid", "group"))?;
    setresuid(user, user, user).map_err(|errno| refusal(errno, "setresuid", "user"))
}

fn refusal(errno: Errno, call: &str, what: &str) -> anyhow::Error {
    let hint = match errno {
        Errno::EINVAL => format!(" (the user namespace maps no {what} 0)"),
        _ => String::new(),
    };
    anyhow!(errno).context(format!("{call}(0, 0, 0){hint}"))
}
// ANCHOR_END: become_root
