//! Which cgroup of version 2 may get children with controllers: what was delegated, and the way out of the
//! rule of no internal processes. See [`place`](crate::place).

use std::convert::Infallible;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use log::info;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, Pid, access, geteuid};

use crate::file::{Directory, words};
use crate::{Hierarchies, Hierarchy, Version};

/// The cgroup into which the processes of a delegated one move, so that it can hand controllers down.
const LEAF: &str = "leaf";

/// Set for the second execution of a program, so that there is no third.
const IS_DELEGATED: &str = "HULL_CGROUP_IS_DELEGATED";

// ANCHOR: parent_for
/// Below which cgroup one with `controllers` is to be made, for a process in the cgroup `own`.
pub(crate) fn parent_for(hierarchy: &Hierarchy, own: &Path, controllers: &[&str]) -> Result<PathBuf> {
    let wanted: Vec<&str> = controllers.iter().copied().filter(|one| hierarchy.has(one)).collect();
    // Without controllers there is no rule either: a hybrid, where they are in version 1.
    if wanted.is_empty() {
        return Ok(own.into());
    }
    let base = without_leaf(own);
    let directory = open(hierarchy, base)?;
    if is_delegated(&directory) {
        if has_type(&directory) && !hands_down(&directory, &wanted)? {
            empty(&directory, &wanted)?;
        }
        return Ok(base.into());
    }
    nearest(hierarchy, base, &wanted)
}

/// A leaf is where an earlier call has put us: the delegated cgroup is above it.
fn without_leaf(own: &Path) -> &Path {
    own.parent().filter(|_| own.file_name().is_some_and(|name| name == LEAF)).unwrap_or(own)
}

/// The nearest at or above `base` that hands all `wanted` down already; else the nearest at which the most
/// can be handed down.
fn nearest(hierarchy: &Hierarchy, base: &Path, wanted: &[&str]) -> Result<PathBuf> {
    let mut paths: Vec<&Path> = base.ancestors().filter(|path| path.starts_with(&hierarchy.root)).collect();
    paths.reverse();
    let mut best: Option<(usize, &Path)> = None;
    let mut reaches: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    // From the top down: what one does not hand down, no cgroup below it can have.
    for path in paths {
        let directory = open(hierarchy, path)?;
        if hands_down(&directory, wanted)? {
            best = Some((usize::MAX, path));
            continue;
        }
        let enabled = words(&directory.read("cgroup.subtree_control")?);
        reaches.retain(|one| enabled.contains(one) || may_hand_down(&directory));
        if may_make_below(&directory) && best.is_none_or(|(count, _)| reaches.len() >= count) {
            best = Some((reaches.len(), path));
        }
    }
    let (_, path) =
        best.with_context(|| format!("below no cgroup at or above {base:?} can one be made by us"))?;
    Ok(path.into())
}
// ANCHOR_END: parent_for

// ANCHOR: rules
fn hands_down(directory: &Directory, wanted: &[&str]) -> Result<bool> {
    let enabled = words(&directory.read("cgroup.subtree_control")?);
    Ok(may_make_below(directory) && wanted.iter().all(|one| enabled.iter().any(|enabled| enabled == one)))
}

/// The rule of no internal processes, of which the topmost cgroup of all is free.
fn may_hand_down(directory: &Directory) -> bool {
    let has_processes = directory.try_read("cgroup.procs").is_ok_and(|text| !text.is_empty());
    is_writable(&directory.path.join("cgroup.subtree_control")) && !(has_processes && has_type(directory))
}

/// A process is moved only by who may write to both cgroups' common parent.
fn may_make_below(directory: &Directory) -> bool {
    is_writable(&directory.path) && is_writable(&directory.path.join("cgroup.procs"))
}

/// The topmost cgroup of all has no type.
fn has_type(directory: &Directory) -> bool {
    directory.has("cgroup.type")
}

/// Whether the cgroup was given to us: systemd marks it so; or it is the topmost that a container can see; or
/// we may write to it, but not to the one above.
fn is_delegated(directory: &Directory) -> bool {
    if !may_make_below(directory) {
        return false;
    }
    let marked = ["user.delegate", "trusted.delegate"].iter().any(|name| has_mark(&directory.path, name));
    let is_top = directory.path == directory.hierarchy.mount_point;
    let above = directory.path.parent().unwrap_or(&directory.path).join("cgroup.procs");
    // A user's own systemd may leave no mark (257 does not): then only who asked for the cgroup knows.
    let was_asked_for = std::env::var_os(IS_DELEGATED).is_some();
    // What belongs to a user's systemd as a whole is not ours to arrange.
    let is_manager = directory.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"user@"));
    !is_manager && (marked || is_top || !is_writable(&above) || was_asked_for)
}

/// Whether an extended attribute of a cgroup is 1: what systemd writes where it delegates.
fn has_mark(path: &Path, name: &str) -> bool {
    let (Ok(path), Ok(name)) = (CString::new(path.as_os_str().as_bytes()), CString::new(name)) else {
        return false;
    };
    let mut value = [0_u8; 2];
    // SAFETY: both names are C strings; the kernel writes at most as many bytes as it is told that there are.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    length == 1 && value[0] == b'1'
}

pub(crate) fn is_writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}
// ANCHOR_END: rules

// ANCHOR: empty
/// Moves all processes of a delegated cgroup into a leaf, and enables the controllers. The leaf stays, with
/// them.
fn empty(directory: &Directory, wanted: &[&str]) -> Result<()> {
    let leaf = directory.path.join(LEAF);
    info!(target: "syscall", "mkdir({leaf:?})  no internal processes: those above it move here");
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("mkdir {leaf:?}"));
        }
        _ => (),
    }
    let leaf = Directory::open(&directory.hierarchy, &leaf).with_context(|| format!("open {leaf:?}"))?;
    let available = words(&directory.read("cgroup.controllers")?);
    for controller in wanted.iter().filter(|one| available.iter().any(|available| available == *one)) {
        hand_down(directory, &leaf, controller)?;
    }
    Ok(())
}

fn hand_down(directory: &Directory, leaf: &Directory, controller: &str) -> Result<()> {
    let value = format!("+{controller}");
    // A process that forks while it is moved leaves a child behind: then all of them once more.
    for _ in 0..100 {
        for pid in directory.read("cgroup.procs")?.lines() {
            info!(target: "syscall", "write({:?}, \"{pid}\")  into the leaf", leaf.path.join("cgroup.procs"));
            match leaf.try_write("cgroup.procs", pid) {
                // ESRCH: it has ended.
                Ok(()) | Err(Errno::ESRCH) => (),
                Err(errno) => return Err(leaf.refusal(errno, "cgroup.procs", pid)),
            }
        }
        match directory.try_write("cgroup.subtree_control", &value) {
            Ok(()) => {
                let file = directory.path.join("cgroup.subtree_control");
                info!(target: "syscall", "write({file:?}, {value:?})  hand the controller down");
                return Ok(());
            }
            Err(Errno::EBUSY) => (),
            Err(errno) => return Err(directory.refusal(errno, "cgroup.subtree_control", &value)),
        }
    }
    bail!("{:?} always has a process again", directory.path)
}
// ANCHOR_END: empty

// ANCHOR: check
/// See [`place::may_make_cgroups`](crate::place::may_make_cgroups).
pub(crate) fn check(hierarchies: &Hierarchies) -> Result<()> {
    let own = |hierarchy: &Hierarchy| hierarchies.path_of(Pid::this(), hierarchy);
    let mut refusals = Vec::new();
    for hierarchy in hierarchies.iter().filter(|hierarchy| !hierarchy.controllers.is_empty()) {
        let path = own(hierarchy)?;
        let allowed = match hierarchy.version {
            Version::V1 => is_writable(&hierarchy.directory(&path)?),
            Version::V2 if geteuid().is_root() => is_writable(&hierarchy.mount_point),
            Version::V2 => is_delegated(&open(hierarchy, without_leaf(&path))?),
        };
        if allowed {
            return Ok(());
        }
        refusals.push(format!("{:?}", hierarchy.directory(&path)?));
    }
    ensure!(!refusals.is_empty(), "no hierarchy that is mounted here has a controller: see /proc/cgroups");
    let unified = hierarchies.unified().is_some_and(|hierarchy| !hierarchy.controllers.is_empty());
    let is_read_only =
        |hierarchy: &Hierarchy| access(&hierarchy.mount_point, AccessFlags::W_OK) == Err(Errno::EROFS);
    let way_out = if hierarchies.iter().any(is_read_only) {
        "is mounted read-only, as in a container that has no right to it: see `docker run --privileged`"
    } else if unified {
        "was not delegated to this user"
    } else {
        "belongs to root, and version 1 is not delegated to users: use sudo"
    };
    bail!("no cgroup can be made here: our own, {}, {way_out}", refusals.join(", "))
}
// ANCHOR_END: check

// ANCHOR: re_execute
/// See [`place::re_execute_delegated`](crate::place::re_execute_delegated).
pub(crate) fn re_execute(program: &Path) -> Result<Infallible> {
    ensure!(
        std::env::var_os(IS_DELEGATED).is_none(),
        "systemd-run gave us a cgroup, but did not delegate it: see `stat -fc %T /sys/fs/cgroup`"
    );
    // sd_booted(3): this is how systemd says that it runs the machine.
    ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "there is no systemd here to delegate a cgroup: use sudo"
    );
    ensure!(
        std::env::var_os("XDG_RUNTIME_DIR").is_some()
            || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some(),
        "there is no systemd of this user's (XDG_RUNTIME_DIR is not set): log in, not by su; or use sudo"
    );
    info!(
        target: "syscall",
        "execve(\"systemd-run\", --user --scope -p Delegate=yes -- {program:?} ...)  a cgroup of our own"
    );
    let error = Command::new("systemd-run")
        .args(["--user", "--scope", "--quiet", "-p", "Delegate=yes", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(IS_DELEGATED, "1")
        .exec();
    Err(anyhow!(error).context("execute systemd-run"))
}
// ANCHOR_END: re_execute

fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Directory> {
    let path = hierarchy.directory(path)?;
    Directory::open(hierarchy, &path).with_context(|| format!("open {path:?}"))
}
