//! Why a controller refuses a limit.
//!
//! A controller that is not there shows itself only as a file that is missing (ENOENT). Where it got lost is
//! seen on the way from the root of the hierarchy down to the cgroup.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::file::{Directory, words};
use crate::{Hierarchies, Hierarchy, Version};

// ANCHOR: refused
/// What an errno says of a file, where it says more than its own words.
pub(crate) fn refused(directory: &Directory, file: &str, errno: Errno) -> Option<String> {
    let controller = file.split('.').next().unwrap_or_default();
    let is_unified = directory.version() == Version::V2;
    Some(match (errno, file) {
        (Errno::ENOENT, _) if is_unified && controller != "cgroup" => missing_in_v2(directory, controller)?,
        (Errno::ENOENT, _) => format!("this kernel's controller {controller} has no such file"),
        (Errno::EROFS, _) => "the cgroup file system is mounted read-only here".into(),
        (Errno::EACCES | Errno::EPERM, "cgroup.procs") => {
            "that takes the right to write to cgroup.procs of the cgroup above its old and its new one".into()
        }
        (Errno::EACCES, _) => "this cgroup was not delegated to us: it belongs to another user".into(),
        (Errno::EBUSY, "cgroup.procs") => {
            "it hands controllers down, so it may have no process itself: the rule of no internal processes"
                .into()
        }
        (Errno::EBUSY, "cgroup.subtree_control") => {
            "it has processes of its own: the rule of no internal processes".into()
        }
        (Errno::EOPNOTSUPP, "cgroup.procs") => {
            "its type is \"domain invalid\", or it is threaded: see cgroup.type".into()
        }
        (Errno::EBUSY, "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes") => {
            "more than that is in use, and can't be reclaimed".into()
        }
        (Errno::ENOSPC, "cgroup.procs") => "cpuset.cpus or cpuset.mems is empty".into(),
        (Errno::ENODEV, file) if file.starts_with("io.") || file.starts_with("blkio.") => {
            "no such device, or a partition: it must be a whole disk, as in /sys/block/*/dev".into()
        }
        (Errno::ENODEV, _) => "the cgroup is gone".into(),
        (Errno::EINVAL, "cpu.weight" | "cpu.shares") => "an idle cgroup has no weight: cpu.idle is 1".into(),
        (Errno::EINVAL | Errno::ERANGE, _) => {
            "out of range, or more than the cgroup above has: see the kernel's cgroup-v1 or cgroup-v2".into()
        }
        _ => return None,
    })
}
// ANCHOR_END: refused

// ANCHOR: missing
/// Why no file of `controller` is in a cgroup of version 2: from the top, the first cgroup that does not hand
/// it down.
fn missing_in_v2(directory: &Directory, controller: &str) -> Option<String> {
    let hierarchy = &directory.hierarchy;
    if !hierarchy.has(controller) {
        return Some(absent(controller, Some(hierarchy)));
    }
    let mut ancestors: Vec<&Path> = directory.path.ancestors().skip(1).collect();
    ancestors.retain(|path| path.starts_with(&hierarchy.mount_point));
    for path in ancestors.into_iter().rev() {
        let ancestor = Directory::open(hierarchy, path).ok()?;
        let handed_down = words(&ancestor.try_read("cgroup.subtree_control").ok()?);
        if !handed_down.iter().any(|one| one == controller) {
            return Some(not_handed_down(&ancestor, controller));
        }
    }
    Some(format!("this kernel's controller {controller} has no such file"))
}

fn not_handed_down(ancestor: &Directory, controller: &str) -> String {
    let file = ancestor.path.join("cgroup.subtree_control");
    let has_processes = ancestor.try_read("cgroup.procs").is_ok_and(|text| !text.is_empty());
    // The topmost cgroup of all has no type, and is free of the rule.
    let reason = if access(&file, AccessFlags::W_OK).is_err() {
        "and may not be written by us: it was not delegated".to_string()
    } else if has_processes && ancestor.has("cgroup.type") {
        "and can't be, since that cgroup has processes: the rule of no internal processes".to_string()
    } else {
        format!("try: echo +{controller} > {}", file.display())
    };
    format!("the controller {controller} is not enabled in {file:?}, {reason}")
}
// ANCHOR_END: missing

// ANCHOR: absent
/// Why no hierarchy, or not `hierarchy`, has a controller.
pub(crate) fn absent(controller: &str, hierarchy: Option<&Hierarchy>) -> String {
    if let Some(hierarchy) = hierarchy.filter(|hierarchy| is_part(hierarchy)) {
        return format!(
            "the controller {controller} was not delegated to {:?}, the topmost cgroup to be seen here",
            hierarchy.mount_point
        );
    }
    let name = if controller == "io" { "blkio" } else { controller };
    // Columns: the name, the hierarchy of version 1 (0: none), how many cgroups, whether it is enabled.
    let table = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let row = table.lines().map(words).find(|row| row.first().is_some_and(|first| first == name));
    match row.as_ref().and_then(|row| Some((row.get(1)?.as_str(), row.get(3)?.as_str()))) {
        None => format!("this kernel has no controller {controller}: see /proc/cgroups"),
        Some((_, "0")) => {
            format!("the controller {controller} is disabled: see cgroup_disable= in /proc/cmdline")
        }
        Some(("0", _)) => format!("no hierarchy with the controller {controller} is mounted"),
        Some(_) if hierarchy.is_none() => {
            format!("the hierarchy of the controller {controller} is not mounted here")
        }
        Some(_) => format!("the controller {controller} is in use by a hierarchy of version 1"),
    }
}

/// Whether only a part of the hierarchy is mounted, as in a container: its topmost cgroup has a parent.
fn is_part(hierarchy: &Hierarchy) -> bool {
    hierarchy.version == Version::V2 && hierarchy.mount_point.join("cgroup.type").exists()
}
// ANCHOR_END: absent

/// The error for a controller that no hierarchy has.
pub(crate) fn no_hierarchy(hierarchies: &Hierarchies, controller: &str) -> anyhow::Error {
    anyhow::anyhow!("{}", absent(controller, hierarchies.unified()))
}
