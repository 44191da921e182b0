//! The limits of a process: files in the directories of its cgroups. cgroups(7).
//!
//! `/proc/PID/cgroup` names a cgroup in each hierarchy by a path within it; where the hierarchy is mounted,
//! only a mount table tells. The reader's own is tried first, as it needs no right over the process; then the
//! process's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};

use super::mounts::{self, Mount};
use super::process::{Process, open_at, text_at};
use super::{Field, Named, Unreadable};

/// The files that hold a limit, of cgroup v2 and v1; a cgroup has those of its controllers.
const FILES: [&str; 7] = [
    "cpu.max",
    "memory.max",
    "pids.max", // the same name in both versions
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
];

/// The limits in the process's own cgroups.
pub fn limits(
    process: &Process,
    cgroups: &Field<Vec<String>>,
    its_mounts: &Field<Vec<Mount>>,
    its_root: &Field<OwnedFd>,
) -> Field<Vec<Named>> {
    let cgroups = cgroups.as_ref().map_err(Clone::clone)?;
    let trees = [readers_tree(process), tree(its_mounts, its_root)];
    let directories: Vec<OwnedFd> = cgroups
        .iter()
        .filter_map(|cgroup| trees.iter().flatten().find_map(|tree| tree.directory(cgroup)))
        .collect();
    if directories.is_empty() {
        return Err(Unreadable::Absent("no mounted cgroup file system shows its cgroup".to_owned()));
    }
    let values = directories.iter().flat_map(|directory| FILES.map(|file| (file, text_at(directory, file))));
    Ok(values
        .filter(|(_, text)| {
            !matches!(text, Err(Unreadable::Refused { errno: nix::errno::Errno::ENOENT, .. }))
        })
        .map(|(file, text)| Named { name: file.to_owned(), value: text.map(|text| text.trim().to_owned()) })
        .collect())
}

/// The reader's own cgroup in each hierarchy whose mount it can reach: the controllers, and the directory.
pub fn own_cgroups() -> Vec<(String, OwnedFd)> {
    let lines = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map(|text| mounts::parse(&text));
    let Some(tree) = mounts.ok().and_then(own_tree) else { return Vec::new() };
    let own =
        lines.lines().filter_map(|line| Some((line.split(':').nth(1)?.to_owned(), tree.directory(line)?)));
    own.collect()
}

/// A mount table and the directory at which its paths begin.
struct Tree {
    mounts: Vec<Mount>,
    root: OwnedFd,
}

fn readers_tree(process: &Process) -> Option<Tree> {
    own_tree(mounts::parse(&text_at(process.reader()?, "mountinfo").ok()?))
}

fn own_tree(mounts: Vec<Mount>) -> Option<Tree> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    Some(Tree { mounts, root })
}

fn tree(mounts: &Field<Vec<Mount>>, root: &Field<OwnedFd>) -> Option<Tree> {
    let root = root.as_ref().ok()?.as_fd().try_clone_to_owned().ok()?;
    Some(Tree { mounts: mounts.as_ref().ok()?.clone(), root })
}

impl Tree {
    /// Opens the directory of a cgroup, given as a line of `/proc/PID/cgroup`: `id:controllers:path`.
    fn directory(&self, cgroup: &str) -> Option<OwnedFd> {
        let mut fields = cgroup.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        self.mounts
            .iter()
            .filter(|mount| shows(mount, controllers))
            .filter_map(|mount| below(mount, path))
            .find_map(|path| self.open_cgroup(&path))
    }

    fn open_cgroup(&self, path: &Path) -> Option<OwnedFd> {
        let path = path.strip_prefix("/").ok()?;
        let directory = open_at(&self.root, path.to_str()?, OFlag::O_PATH | OFlag::O_DIRECTORY).ok()?;
        // Another mount may hide the place, and then has its own files there.
        let kind = fstatfs(&directory).ok()?.filesystem_type();
        (kind == CGROUP_SUPER_MAGIC || kind == CGROUP2_SUPER_MAGIC).then_some(directory)
    }
}

/// Whether a mount shows the hierarchy of these controllers; that of version 2 has none in its line.
fn shows(mount: &Mount, controllers: &str) -> bool {
    match mount.kind.as_str() {
        "cgroup2" => controllers.is_empty(),
        "cgroup" => {
            !controllers.is_empty()
                && controllers
                    .split(',')
                    .all(|name| mount.super_options.split(',').any(|option| option == name))
        }
        _ => false,
    }
}

/// Where a cgroup's directory stands if `mount` shows it. The mount may begin at a cgroup further down (its
/// root), and a path with `..` leads out of the reader's cgroup namespace, to where no mount of it reaches.
fn below(mount: &Mount, path: &str) -> Option<PathBuf> {
    let below = Path::new(path).strip_prefix(mounts::unescape(&mount.root)).ok()?.to_owned();
    let leads_out = below.components().any(|component| component == Component::ParentDir);
    (!leads_out).then(|| mounts::unescape(&mount.point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(root: &str, kind: &str, super_options: &str) -> Mount {
        let line = format!("1 2 0:3 {root} /sys/fs/cgroup/x rw - {kind} {kind} {super_options}");
        mounts::parse(&line).remove(0)
    }

    #[test]
    fn a_mount_that_begins_at_a_lower_cgroup_shows_only_what_is_below_it() {
        let docker = mount("/docker/1", "cgroup2", "rw");
        assert_eq!(below(&docker, "/docker/1/a"), Some("/sys/fs/cgroup/x/a".into()));
        assert_eq!(below(&docker, "/docker/12"), None);
        assert_eq!(below(&mount("/", "cgroup2", "rw"), "/../sibling"), None);
        assert_eq!(
            below(&mount("/..", "cgroup2", "rw"), "/../sibling"),
            Some("/sys/fs/cgroup/x/sibling".into())
        );
    }

    #[test]
    fn each_hierarchy_is_found_at_its_own_mount() {
        assert!(shows(&mount("/", "cgroup", "rw,cpu,cpuacct"), "cpu,cpuacct"));
        assert!(shows(&mount("/", "cgroup", "rw,xattr,name=systemd"), "name=systemd"));
        assert!(!shows(&mount("/", "cgroup", "rw,cpuset"), "cpu"));
        assert!(!shows(&mount("/", "cgroup", "rw,cpu"), ""));
        assert!(!shows(&mount("/", "cgroup2", "rw"), "cpu"));
    }
}
