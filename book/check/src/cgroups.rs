//! The cgroups of a world, for pages that need version 2 with its controllers: the tree of a laptop under
//! systemd, in a directory of its own at the top of the machine's hierarchy.
//!
//! ```text
//! hull-book-PID-NUMBER/           the world's cgroup namespace begins here, so the page sees it as /
//!   init.scope/                   the world's PID 1
//!   user.slice/user-1000.slice/
//!     session-1.scope/            the shells
//! ```
//!
//! Controllers are enabled from the top down to `user-1000.slice`, whose children then have the files of the
//! limits. A cgroup that hands controllers to its children may hold no process itself, so the processes stand
//! in the leaves: cgroups(7), "No internal processes rule".

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What the pages limit.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// The path that a shell of a world reads in /proc/self/cgroup.
const SESSION: &str = "user.slice/user-1000.slice/session-1.scope";

/// How long the kernel may take to bury the processes of a world.
const REMOVAL: Duration = Duration::from_secs(30);

/// The tree of one world; removed when this value is dropped, which must be after the world's end.
pub struct Cgroups {
    top: PathBuf,
}

/// Where the hierarchy of version 2 is mounted, if it has all controllers that the pages need.
fn hierarchy() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = table.lines().filter(|line| line.contains(" - cgroup2 "));
    let mut points = mounts.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.find(|point| {
        let available = fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
        CONTROLLERS.iter().all(|name| available.split_whitespace().any(|word| word == *name))
    })
}

/// Whether this machine can run the sessions that need cgroup version 2 with its controllers.
pub fn available() -> bool {
    hierarchy().is_some()
}

impl Cgroups {
    /// Makes the tree, without controllers yet: while the world is made, its first process is at the top.
    pub fn new() -> Result<Cgroups> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = hierarchy().context("no cgroup version 2 with the controllers that the pages need")?;
        enable(&root)?;
        let cgroups = Cgroups { top: root.join(format!("hull-book-{}-{number}", std::process::id())) };
        for leaf in ["init.scope", SESSION] {
            let leaf = cgroups.top.join(leaf);
            fs::create_dir_all(&leaf).with_context(|| format!("make the cgroup {leaf:?}"))?;
        }
        Ok(cgroups)
    }

    /// The directory of the world's topmost cgroup, outside of the world.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Enables the controllers, when no process is at the top any more.
    pub fn enable_controllers(&self) -> Result<()> {
        let user = self.top.join("user.slice");
        [&self.top, &user, &user.join("user-1000.slice")].into_iter().try_for_each(|group| enable(group))
    }

    /// The file through which a process moves into the shells' cgroup.
    pub fn session(&self) -> Result<File> {
        let path = self.top.join(SESSION).join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).with_context(|| format!("open {path:?}"))
    }

    fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVAL;
        loop {
            match remove_tree(&self.top) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => bail!("remove {:?}: {error}", self.top),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("the cgroups of a page: {error:#}");
        }
    }
}

/// Hands the controllers on to the children of a cgroup.
fn enable(cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.subtree_control");
    let text = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
    fs::write(&path, &text).with_context(|| format!("write {text:?} to {path:?}"))
}

/// Removes a cgroup and all below it, children first.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
