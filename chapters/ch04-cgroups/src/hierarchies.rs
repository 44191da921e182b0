//! Which cgroup hierarchies this machine has, and where they are mounted.
//!
//! Three layouts are met: version 2 alone; version 1, with a mount for each controller or for a few; and both
//! at once (*hybrid*), where a controller is in one of them. So nothing is looked for at a fixed path.
//! `/proc/self/cgroup` lists the hierarchies, each with the controllers it has and the cgroup this process is
//! in; `/proc/self/mountinfo` tells where each is mounted, and which of its cgroups is seen there: in a
//! container that is not the topmost. cgroups(7), proc_pid_mountinfo(5).

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ch02_mount::unescape;
use nix::sys::stat::{major, minor};
use nix::unistd::Pid;

use crate::file::words;

// ANCHOR: types
/// Which of the two designs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, or for a few.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// A tree of cgroups that is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// The controllers that it has; for version 2 those that its topmost cgroup here can hand down.
    pub controllers: Vec<String>,
    /// The name of a hierarchy of version 1 without controllers, which a manager keeps for itself: `systemd`.
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which of its cgroups is mounted there, as /proc/PID/cgroup names it: `/` for the whole tree.
    pub root: PathBuf,
}

/// All hierarchies that this process can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}
// ANCHOR_END: types

// ANCHOR: find
impl Hierarchies {
    /// Finds what is mounted. A hierarchy that is mounted nowhere is left out; of several mounts the one that
    /// shows most of the tree is taken.
    ///
    /// # Errors
    ///
    /// When /proc can't be read, or no hierarchy is mounted.
    pub fn find() -> Result<Hierarchies> {
        let mounts = read("/proc/self/mountinfo")?;
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).filter(Mount::is_on_top).collect();
        let mut list = Vec::new();
        for membership in memberships(None)? {
            let candidates = mounts.iter().filter(|mount| mount.is_of(&membership));
            let Some(mount) = candidates.min_by_key(|mount| mount.root.components().count()) else {
                continue;
            };
            list.push(mount.hierarchy(membership)?);
        }
        ensure!(
            !list.is_empty(),
            "no cgroup file system is mounted here: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        );
        // Those with controllers first: the first is what stands for all where they are told of.
        list.sort_by_key(|hierarchy: &Hierarchy| hierarchy.controllers.is_empty());
        Ok(Hierarchies { list })
    }

    /// The hierarchy that has a controller, by the controller's name in version 2: `io`, which is `blkio` in
    /// version 1.
    pub fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// The hierarchy of version 2; in a hybrid it may be without controllers.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.list.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.list.iter()
    }

    /// In which cgroup of a hierarchy a process is: a path from the hierarchy's root.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn path_of(&self, pid: Pid, hierarchy: &Hierarchy) -> Result<PathBuf> {
        let mut memberships = memberships(Some(pid))?.into_iter();
        let found = memberships.find(|membership| hierarchy.is_of(membership));
        let found = found.with_context(|| format!("/proc/{pid}/cgroup has no line for {hierarchy}"))?;
        Ok(found.path)
    }
}
// ANCHOR_END: find

// ANCHOR: hierarchy
impl Hierarchy {
    /// Whether it has a controller, by the controller's name in version 2.
    pub fn has(&self, controller: &str) -> bool {
        let name = if self.version == Version::V1 && controller == "io" { "blkio" } else { controller };
        self.controllers.iter().any(|one| one == name)
    }

    /// Where the cgroup `path` of this hierarchy is on disk.
    ///
    /// # Errors
    ///
    /// When that cgroup is not below the one that is mounted.
    pub fn directory(&self, path: &Path) -> Result<PathBuf> {
        // `/..` is how the kernel names a cgroup outside of the reader's cgroup namespace:
        // cgroup_namespaces(7).
        let below = path.strip_prefix(&self.root).ok().filter(|below| is_plain(below));
        let below = below.with_context(|| {
            format!(
                "the cgroup {path:?} of {self} can't be reached: at {:?} only what is below {:?} is mounted \
                 (in a cgroup namespace of its own, a process needs a mount of its own)",
                self.mount_point, self.root
            )
        })?;
        // Without a slash at the end, where `below` is empty.
        Ok(self.mount_point.components().chain(below.components()).collect())
    }

    fn is_of(&self, membership: &Membership) -> bool {
        match self.version {
            Version::V2 => membership.is_v2,
            Version::V1 => {
                !membership.is_v2
                    && self.name == membership.name
                    && self.controllers == membership.controllers
            }
        }
    }
}

impl std::fmt::Display for Hierarchy {
    /// `v2`, or what version 1 calls it: `memory`, `cpu,cpuacct`, `name=systemd`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match (self.version, &self.name) {
            (Version::V2, _) => formatter.write_str("v2"),
            (Version::V1, Some(name)) => write!(formatter, "name={name}"),
            (Version::V1, None) => formatter.write_str(&self.controllers.join(",")),
        }
    }
}
// ANCHOR_END: hierarchy

fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

// ANCHOR: membership
/// A line of /proc/PID/cgroup: `4:cpu,cpuacct:/path`, `9:name=systemd:/path`, or `0::/path` for version 2.
struct Membership {
    is_v2: bool,
    controllers: Vec<String>,
    name: Option<String>,
    path: PathBuf,
}

fn memberships(pid: Option<Pid>) -> Result<Vec<Membership>> {
    let file = pid.map_or("/proc/self/cgroup".into(), |pid| format!("/proc/{pid}/cgroup"));
    let lines = read(&file)?;
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(what), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            bail!("{file}: what is {line:?}?")
        };
        let name = what.split(',').find_map(|word| word.strip_prefix("name=")).map(String::from);
        let controllers = what.split(',').filter(|word| !word.is_empty() && !word.starts_with("name="));
        Ok(Membership {
            is_v2: id == "0",
            controllers: controllers.map(String::from).collect(),
            name,
            path: path.into(),
        })
    };
    lines.lines().map(parse).collect()
}
// ANCHOR_END: membership

// ANCHOR: mount
/// A line of /proc/self/mountinfo about a cgroup file system.
struct Mount {
    device: String,
    root: PathBuf,
    mount_point: PathBuf,
    is_v2: bool,
    /// Those of the file system, not of the mount: for version 1 they name the controllers.
    options: Vec<String>,
}

impl Mount {
    /// `36 35 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`: the fields after
    /// the sixth vary in number, up to the dash.
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let is_v2 = match *file_system.first()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        Some(Mount {
            device: (*mount.get(2)?).into(),
            root: unescape(mount.get(3)?),
            mount_point: unescape(mount.get(4)?),
            is_v2,
            options: file_system.get(2)?.split(',').map(String::from).collect(),
        })
    }

    /// Whether its path still leads to it: something else may be mounted over it.
    fn is_on_top(&self) -> bool {
        std::fs::metadata(&self.mount_point).is_ok_and(|metadata| {
            let device = metadata.dev();
            format!("{}:{}", major(device), minor(device)) == self.device
        })
    }

    fn is_of(&self, membership: &Membership) -> bool {
        let has = |option: &str| self.options.iter().any(|one| one == option);
        match &membership.name {
            _ if membership.is_v2 => self.is_v2,
            Some(name) => !self.is_v2 && has(&format!("name={name}")),
            None => !self.is_v2 && membership.controllers.iter().all(|controller| has(controller)),
        }
    }

    fn hierarchy(&self, membership: Membership) -> Result<Hierarchy> {
        let controllers = match self.is_v2 {
            true => words(&read(self.mount_point.join("cgroup.controllers"))?),
            false => membership.controllers,
        };
        Ok(Hierarchy {
            version: if self.is_v2 { Version::V2 } else { Version::V1 },
            controllers,
            name: membership.name,
            mount_point: self.mount_point.clone(),
            root: self.root.clone(),
        })
    }
}
// ANCHOR_END: mount

fn read(file: impl AsRef<Path>) -> Result<String> {
    let file = file.as_ref();
    std::fs::read_to_string(file).with_context(|| format!("read {file:?}"))
}
