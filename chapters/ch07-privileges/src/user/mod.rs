//! Become another user.
//!
//! A process has a real, an effective, a saved and a file system user, the same four for the group, and a
//! list of additional groups. All must change: who keeps one of them keeps a way back. The order is fixed:
//! with uid 0 goes the right to change groups, so they come first. Numbers count, not names; a name is looked
//! up in the container's own files, see [`lookup`]. Manual pages:
//! [credentials(7)](https://man7.org/linux/man-pages/man7/credentials.7.html), setgroups(2), setresgid(2),
//! setresuid(2), umask(2).

pub mod lookup;
mod table;

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid, fchown, getgroups, setgroups, setresgid, setresuid};

use crate::capabilities::{Capability, Sets};

pub use lookup::{Account, group, look_up};

// ANCHOR: user
/// Whom a process is to be; by numbers, as they are inside its user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// The umask, if it is to change.
    pub umask: Option<u32>,
}
// ANCHOR_END: user

// ANCHOR: become_user
/// Becomes it: groups, then the user.
///
/// From root to another user the kernel clears the effective set of capabilities, and without
/// [`Sets::before_user_change`] the permitted one too.
///
/// # Errors
///
/// EPERM: it needs CAP_SETGID and CAP_SETUID; or setgroups(2) is denied in this user namespace and additional
/// groups were asked for. EINVAL: the number is not mapped in this user namespace. EAGAIN: the user has too
/// many processes (before Linux 3.1).
pub fn become_user(user: &User) -> Result<()> {
    for id in [user.uid, user.gid].iter().chain(&user.additional_gids) {
        // To the kernel this is -1, "leave it as it is": a process that asks to become it would stay root.
        ensure!(
            *id != u32::MAX,
            "{id} is no number of a user or group: to the kernel it means \"no change\""
        );
    }
    set_additional_groups(&user.additional_gids)?;

    let (gid, uid) = (Gid::from_raw(user.gid), Uid::from_raw(user.uid));
    info!(target: "syscall", "setresgid({gid}, {gid}, {gid})  real, effective, saved: there is no way back");
    setresgid(gid, gid, gid)
        .map_err(|errno| refusal(errno, format!("setresgid to {gid}"), Capability::SETGID))?;
    info!(target: "syscall", "setresuid({uid}, {uid}, {uid})  last: it takes the right to change groups");
    setresuid(uid, uid, uid)
        .map_err(|errno| refusal(errno, format!("setresuid to {uid}"), Capability::SETUID))?;

    if let Some(mask) = user.umask {
        info!(target: "syscall", "umask({mask:#o})  the modes that new files do not get");
        umask(Mode::from_bits_truncate(mask));
    }
    Ok(())
}

fn refusal(errno: Errno, what: String, needed: Capability) -> anyhow::Error {
    let hint = match errno {
        Errno::EINVAL => {
            " (this number is not mapped in this user namespace: see /proc/self/uid_map and gid_map)".into()
        }
        Errno::EPERM => format!(" (it needs {needed})"),
        _ => String::new(),
    };
    anyhow!(errno).context(what + &hint)
}
// ANCHOR_END: become_user

// ANCHOR: groups
/// Makes the additional groups these, and no others: those of whoever started us go.
fn set_additional_groups(gids: &[u32]) -> Result<()> {
    let groups: Vec<Gid> = gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    info!(target: "syscall", "setgroups({gids:?})  the groups of whoever started us must not stay");
    let errno = match setgroups(&groups) {
        Err(errno) => errno,
        Ok(()) => return Ok(()),
    };
    if errno != Errno::EPERM {
        return Err(refusal(errno, format!("setgroups to {gids:?}"), Capability::SETGID));
    }
    // EPERM has two reasons: no capability, or a user namespace whose /proc/PID/setgroups says "deny". The
    // second is the rule for a namespace that a plain user has made without newgidmap(1): the kernel keeps
    // the groups, for a file's mode may hold something back from a group. They show as 65534 there, and
    // nothing can be done about it.
    let is_denied = Sets::own()?.effective.contains(Capability::SETGID);
    let own = getgroups().context("getgroups")?;
    let has_them_already =
        own.iter().all(|group| groups.contains(group)) && groups.iter().all(|group| own.contains(group));
    match (is_denied, gids) {
        _ if has_them_already => Ok(()),
        (true, []) => {
            info!(target: "kernel", "EPERM: denied in this user namespace; the groups stay as they were");
            Ok(())
        }
        (true, _) => Err(anyhow!(errno).context(format!(
            "setgroups to {gids:?} (denied in this user namespace: its groups were mapped without privilege)"
        ))),
        (false, _) => Err(refusal(errno, format!("setgroups to {gids:?}"), Capability::SETGID)),
    }
}
// ANCHOR_END: groups

// ANCHOR: give
/// Gives a pipe or a terminal to the user who is to use it. Its command could read and write the descriptor
/// anyhow, but not open `/dev/stdout` or `/dev/pts/0` again, which many programs do. Anything else keeps its
/// owner: it may be a file of the host's. To be called for a process's own streams, before [`become_user`]; and
/// for a terminal that was made for it: one that is somebody's own would stay the container's afterwards.
///
/// # Errors
///
/// fchown(2)'s errno. Where the owner can't be changed (EPERM: not ours; EINVAL: the user is not mapped for
/// that file system; EROFS), the stream stays as it is, which is no error.
pub fn give(stream: impl AsFd, uid: u32) -> Result<()> {
    let stream = stream.as_fd();
    let status = fstat(stream).context("fstat a stream")?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    let is_terminal = kind == SFlag::S_IFCHR && nix::unistd::isatty(stream).unwrap_or(false);
    if status.st_uid == uid || !(is_terminal || kind == SFlag::S_IFIFO) {
        return Ok(());
    }
    info!(target: "syscall", "fchown({stream:?}, {uid})  so that the user can open it again by its name");
    // The group stays: that of a terminal is set by its file system.
    match fchown(stream, Some(Uid::from_raw(uid)), None) {
        Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => Ok(()),
        result => result.with_context(|| format!("fchown {stream:?} to {uid}")),
    }
}
// ANCHOR_END: give
