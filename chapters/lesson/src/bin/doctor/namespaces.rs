//! User namespaces, with which lessons run without sudo, and what they allow. user_namespaces(7),
//! newuidmap(1).

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, getegid};

use crate::distribution::Remedy;
use crate::examine::{Finding, State};
use crate::machine::Machine;
use crate::machine::{find, private_mounts, refusal, sysctl};
use lesson::probe::{Refusal, in_child};

pub(crate) fn user_namespaces(machine: &Machine) -> Finding {
    match &machine.user_namespace {
        Ok(_) => Finding::new(State::Ok, "made one, and mounted in it"),
        Err(refusal) => cause(refusal, machine.root, sysctl),
    }
}

/// The kernel gives one errno for several causes; the sysctls tell them apart.
fn cause(refusal: &Refusal, root: bool, sysctl: impl Fn(&str) -> Option<String>) -> Finding {
    let is = |name: &str, value: &str| sysctl(name).as_deref() == Some(value);
    let restricted = |cause: &str| Finding::new(State::Restricted, format!("{refusal}: {cause}"));
    if refusal.errno == Errno::ENOSPC {
        // Each user namespace has its own limit, and the outer ones count as well.
        return restricted("user.max_user_namespaces is reached, here or in an outer user namespace")
            .mended_by(Remedy::Root("sysctl -w user.max_user_namespaces=15000"));
    }
    if !root && is("kernel.unprivileged_userns_clone", "0") {
        return restricted("kernel.unprivileged_userns_clone is 0")
            .mended_by(Remedy::Root("sysctl -w kernel.unprivileged_userns_clone=1"));
    }
    // Ubuntu: the namespace is made, but AppArmor denies each capability in it, with EACCES or EPERM.
    if !root && is("kernel.apparmor_restrict_unprivileged_userns", "1") {
        return restricted("kernel.apparmor_restrict_unprivileged_userns is 1")
            .mended_by(Remedy::Root("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"));
    }
    match refusal.errno {
        Errno::EINVAL | Errno::ENOSYS => {
            Finding::new(State::Missing, format!("{refusal}: the kernel was built without CONFIG_USER_NS"))
                .mended_by(Remedy::Advice("install a kernel that has it"))
        }
        Errno::EUSERS => restricted("user namespaces are nested too deep"),
        _ => restricted(
            "a seccomp filter or a security module forbids it (in a container), or this is a chroot",
        ),
    }
}

/// mount(2) gives a new procfs in a user namespace only where an old one is visible whole: a container's
/// masks would else be undone.
pub(crate) fn new_proc(machine: &Machine) -> Finding {
    if !machine.can_isolate() {
        return Finding::new(State::Unknown, "not tried: it takes a user namespace");
    }
    let answer = in_child(|| {
        machine.isolate(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
        private_mounts(CloneFlags::empty())?;
        // A procfs shows the PID namespace of who mounts it, and only a child is in the new one.
        in_child(|| {
            mount(Some("proc"), "/tmp", Some("proc"), MsFlags::empty(), None::<&str>)
                .map_err(|errno| Refusal::new("mount a procfs", errno))?;
            Ok(String::new())
        })
    });
    match answer {
        Ok(_) => Finding::new(State::Ok, "mounted one in a new PID namespace"),
        Err(refusal) => Finding::new(
            State::Restricted,
            format!("{refusal}: parts of the present /proc are masked, as in a container"),
        ),
    }
}

/// With newuidmap a user namespace maps many ids; else a single one, so that all files seem to be root's.
pub(crate) fn newuidmap(machine: &Machine) -> Finding {
    if machine.root {
        return Finding::new(State::Ok, "not used: root writes the map itself");
    }
    let (Some(newuidmap), Some(newgidmap)) = (find("newuidmap"), find("newgidmap")) else {
        return Finding::new(State::Missing, "no newuidmap and newgidmap in PATH");
    };
    let uid = machine.user.as_raw();
    // A user without an entry in the user database is known by number alone.
    let name = User::from_uid(machine.user).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let (Some(users), Some(groups)) = (range("/etc/subuid", &name, uid), range("/etc/subgid", &name, uid))
    else {
        return Finding::new(State::Missing, format!("no range for {name} in /etc/subuid and /etc/subgid"))
            .mended_by(Remedy::Root(
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"",
            ));
    };
    if let Err(refusal) = &machine.user_namespace {
        return Finding::new(State::Unknown, format!("not tried: it takes a user namespace ({refusal})"));
    }
    match map_ranges([(&newuidmap, uid, users), (&newgidmap, getegid().as_raw(), groups)]) {
        Ok(()) => {
            Finding::new(State::Ok, format!("mapped {} user ids and {} group ids", users.1 + 1, groups.1 + 1))
        }
        Err(error) => Finding::new(State::Restricted, error),
    }
}

/// The first and the number of the ids that the file gives to a user: `name:first:count`, subuid(5).
fn range(file: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    fs::read_to_string(file).ok()?.lines().find_map(|line| {
        let [owner, first, count] = *line.split(':').collect::<Vec<_>>().as_slice() else { return None };
        let owned = owner == name || owner == uid.to_string();
        owned.then(|| Some((first.parse().ok()?, count.trim().parse().ok()?))).flatten()
    })
}

/// Maps root to the caller's id and the rest to the range, for users and for groups, in a user namespace made
/// for it.
fn map_ranges(maps: [(&Path, u32, (u32, u32)); 2]) -> Result<(), String> {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped());
    // SAFETY: the closure makes one system call, which is all that a forked child may do before it executes a
    // program.
    unsafe { command.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWUSER)?)) };
    // `cat` holds the namespace until its input ends, which is when this function drops the pipe.
    let mut holder =
        command.spawn().map_err(|error| refusal("start cat in a user namespace", &error).to_string())?;
    let result = maps.iter().try_for_each(|(program, id, (first, count))| {
        let numbers = [holder.id(), 0, *id, 1, 1, *first, *count].map(|number| number.to_string());
        let output = Command::new(program).args(numbers).output();
        let output =
            output.map_err(|error| refusal(format!("run {}", program.display()), &error).to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "))
    });
    holder.wait().map_err(|error| refusal("wait for cat", &error).to_string())?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn blames(errno: Errno, setting: (&str, &str), root: bool, cause: &str) {
        let sysctl = |name: &str| (name == setting.0).then(|| setting.1.to_owned());
        let finding = super::cause(&Refusal::new("mount", errno), root, sysctl);
        assert!(finding.detail.contains(cause), "{finding:?}");
    }

    #[test]
    fn the_setting_that_forbids_user_namespaces_is_blamed() {
        let (debian, ubuntu) =
            ("kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns");
        blames(Errno::EPERM, (debian, "0"), false, "kernel.unprivileged_userns_clone is 0");
        blames(Errno::EACCES, (ubuntu, "1"), false, "kernel.apparmor_restrict_unprivileged_userns is 1");
        blames(Errno::ENOSPC, (ubuntu, "1"), false, "user.max_user_namespaces is reached");
        blames(Errno::EPERM, (ubuntu, "1"), true, "a seccomp filter");
        blames(Errno::EPERM, (debian, "1"), false, "a seccomp filter");
        blames(Errno::EINVAL, (debian, "1"), false, "CONFIG_USER_NS");
    }
}
