//! A cgroup of a sandbox's own in every hierarchy, of version 1 and 2: cgroups(7).
//!
//! On version 1 it is made below the test's own cgroup, and the sandbox's programs stand right in it. On
//! version 2 it is made at the hierarchy's root, and they stand in a leaf of it: a cgroup with processes
//! can't hand controllers to its children there (the "no internal processes" rule), so that without the leaf
//! a program in the sandbox could make no cgroup with limits anywhere.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::plain_user::PlainUser;
use crate::poll_until;

/// The start of the names of all sandboxes' cgroups; then come the test's pid, and a number.
const PREFIX: &str = "hull-test-";

/// The leaf for programs on version 2.
const LEAF: &str = "programs";

/// A mounted hierarchy of cgroups.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    mount_point: PathBuf,
    is_v2: bool,
    /// What it controls; `name=systemd` for a hierarchy of version 1 without controllers.
    pub(crate) controllers: Vec<String>,
    /// The test's own cgroup.
    own: PathBuf,
}

impl Hierarchy {
    /// All hierarchies, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup`.
    pub(crate) fn all() -> Vec<Hierarchy> {
        let read = |path| fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path}: {error}"));
        let memberships = read("/proc/self/cgroup");
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in read("/proc/self/mountinfo").lines() {
            // The same hierarchy may be mounted in several places.
            if let Some(hierarchy) = Hierarchy::parse(line, &memberships)
                && !found
                    .iter()
                    .any(|known| known.controllers == hierarchy.controllers && known.is_v2 == hierarchy.is_v2)
            {
                found.push(hierarchy);
            }
        }
        found
    }

    /// `31 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu`, and a line `4:cpu:/path` of the other
    /// file.
    fn parse(mount: &str, memberships: &str) -> Option<Hierarchy> {
        let (place, file_system) = mount.split_once(" - ")?;
        let (root, mount_point) = (place.split(' ').nth(3)?, PathBuf::from(place.split(' ').nth(4)?));
        let mut file_system = file_system.split(' ');
        let is_v2 = match file_system.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = file_system.nth(1)?;
        let (controllers, path) = memberships.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            let is_this = match is_v2 {
                true => names.is_empty(),
                false => {
                    !names.is_empty()
                        && names.split(',').all(|name| options.split(',').any(|option| option == name))
                }
            };
            is_this.then_some((names, path))
        })?;
        // The mount may show a part of the hierarchy only, as in a container.
        let below = path.strip_prefix(root.trim_end_matches('/'))?;
        let own = mount_point.join(below.trim_start_matches('/'));
        let controllers = match is_v2 {
            true => words(&mount_point.join("cgroup.controllers")),
            false => controllers.split(',').map(str::to_string).collect(),
        };
        Some(Hierarchy { mount_point, is_v2, controllers, own })
    }

    /// Whether it is of version 1, and controls something.
    pub(crate) fn is_v1_with_controllers(&self) -> bool {
        !self.is_v2 && !self.controllers.iter().any(|name| name.starts_with("name="))
    }

    /// Where the cgroups of sandboxes are made.
    fn parent(&self) -> &Path {
        if self.is_v2 { &self.mount_point } else { &self.own }
    }
}

/// The cgroups of one sandbox: one in each hierarchy. Removed, with all that is in them, when dropped.
#[derive(Debug)]
pub(crate) struct Cgroups {
    members: Vec<(Hierarchy, PathBuf)>,
}

impl Cgroups {
    #[track_caller]
    pub(crate) fn new() -> Cgroups {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let members = Hierarchy::all().into_iter().map(|hierarchy| {
            sweep(hierarchy.parent());
            let directory = hierarchy.parent().join(&name);
            create(&hierarchy, &directory)
                .unwrap_or_else(|error| panic!("make the cgroup {}: {error}", directory.display()));
            (hierarchy, directory)
        });
        Cgroups { members: members.collect() }
    }

    /// The directory in the hierarchy that has the controller.
    pub(crate) fn directory(&self, controller: &str) -> Option<&Path> {
        let has = |hierarchy: &Hierarchy| hierarchy.controllers.iter().any(|name| name == controller);
        self.members.iter().find(|(hierarchy, _)| has(hierarchy)).map(|(_, directory)| directory.as_path())
    }

    /// The directory in the hierarchy of version 2, which may have no controllers.
    pub(crate) fn directory_v2(&self) -> Option<&Path> {
        self.members.iter().find(|(hierarchy, _)| hierarchy.is_v2).map(|(_, directory)| directory.as_path())
    }

    /// `cgroup.procs` of each cgroup for the sandbox's programs: who writes `0` there, moves in.
    #[track_caller]
    pub(crate) fn doors(&self) -> Vec<OwnedFd> {
        let doors = self.members.iter().map(|(hierarchy, directory)| {
            let leaf = if hierarchy.is_v2 { directory.join(LEAF) } else { directory.clone() };
            let path = leaf.join("cgroup.procs");
            let file = OpenOptions::new().write(true).open(&path);
            OwnedFd::from(file.unwrap_or_else(|error| panic!("open {}: {error}", path.display())))
        });
        doors.collect()
    }

    /// Gives the cgroups to the plain user, as systemd does with `Delegate=yes`: cgroups(7), "Delegation". On
    /// version 1 the user gets the directory and the file of the processes, but not the files of the limits.
    #[track_caller]
    pub(crate) fn delegate(&self) {
        let user = PlainUser::get();
        let owned = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
        for (hierarchy, directory) in &self.members {
            let directories = [Some(directory.clone()), hierarchy.is_v2.then(|| directory.join(LEAF))];
            for directory in directories.into_iter().flatten() {
                for path in owned.map(|name| directory.join(name)).iter().filter(|path| path.exists()) {
                    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                        .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
                }
            }
        }
    }

    /// All cgroups below those of the sandbox, but the leaves: what programs have made.
    pub(crate) fn descendants(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (_, directory) in &self.members {
            let made = below(directory).into_iter().filter(|path| *path != directory.join(LEAF));
            found.extend(made.map(|path| {
                let processes = words(&path.join("cgroup.procs")).len();
                (format!("cgroup {}", path.display()), format!("{processes} processes are in it"))
            }));
        }
        found
    }

    /// Removes all of it. The processes must have been killed; the kernel takes them out of a cgroup late.
    pub(crate) fn remove(&self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        for (_, directory) in &self.members {
            let mut last = Ok(());
            poll_until(deadline, || {
                last = remove_tree(directory);
                last.is_ok().then_some(())
            });
            last?;
        }
        Ok(())
    }
}

fn create(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    if hierarchy.is_v2 {
        enable_controllers(hierarchy.parent());
        fs::create_dir(directory)?;
        enable_controllers(directory);
        return fs::create_dir(directory.join(LEAF));
    }
    fs::create_dir(directory)?;
    // A cpuset of version 1 starts without processors, and no process can enter that.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if directory.join(file).exists() {
            fs::write(directory.join(file), fs::read(hierarchy.parent().join(file))?)?;
        }
    }
    Ok(())
}

/// Enables each controller for the children, one at a time: one that can't be had must not cost the others.
/// A test that needs a certain one says so: [`Need::CgroupController`](crate::Need::CgroupController).
fn enable_controllers(directory: &Path) {
    for controller in words(&directory.join("cgroup.controllers")) {
        let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Removes the cgroups of tests that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse::<i32>().ok());
        if pid.is_some_and(|pid| !crate::process::exists(pid)) {
            // Another test may be doing the same.
            let _ = remove_tree(&entry.path());
        }
    }
}

/// Removes a cgroup and those below it. One that is gone already is no error.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let mut all = below(directory);
    all.push(directory.to_owned());
    for path in all {
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("rmdir {}: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The cgroups below one, children first.
fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
            found.push(entry.path());
        }
    }
    found
}

fn words(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(str::to_string).collect()
}
