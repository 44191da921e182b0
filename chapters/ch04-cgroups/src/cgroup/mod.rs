//! A cgroup: one directory in each hierarchy.
//!
//! Version 1 has a hierarchy per controller, so the same container is a directory in each of a dozen trees,
//! and a process has to be moved into every one. Version 2 is one directory, into which a child can be cloned
//! (CLONE_INTO_CGROUP of clone(2)): it is never outside, not even for an instant. In a hybrid both exist; a
//! limit goes to whichever directory has its controller. cgroups(7).
//!
//! A cgroup outlives the processes in it, and the program that made it. So that leftovers can be told from
//! what is in use, the maker holds a lock (flock(2)) on the directories: the kernel lets go of it when the
//! maker dies, however it dies. See [`sweep`](crate::sweep).

mod apply;
mod create;
mod enter;
mod freeze;
mod kill;
mod remove;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::file::Directory;
use crate::{Hierarchies, Limits, Place, Usage, Version, usage, why};

/// How long the kernel may take: to freeze processes, to end those that were killed, to let go of their
/// cgroup.
const DEADLINE: Duration = Duration::from_secs(10);

// ANCHOR: cgroup
/// A cgroup: one directory in each hierarchy. Dropping the value leaves the cgroup where it is.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<Directory>,
    /// Hierarchies in which it is not, and why: to a plain user most of version 1 is closed. That is an error
    /// only for who needs one.
    missing: Vec<Missing>,
}

#[derive(Debug)]
pub(crate) struct Missing {
    place: Place,
    errno: Errno,
}

/// What was done in another way than it was asked for; its text says how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
// ANCHOR_END: cgroup

// ANCHOR: open
impl Cgroup {
    /// A cgroup that exists, at least in one hierarchy. The value is not its owner: it holds no lock.
    ///
    /// # Errors
    ///
    /// When it exists nowhere, or can't be opened.
    pub fn open(place: &Place) -> Result<Cgroup> {
        let mut cgroup = Cgroup { directories: Vec::new(), missing: Vec::new() };
        for (spot, hierarchy, path) in place.on_disk()? {
            match Directory::open(hierarchy, &path) {
                Ok(directory) => cgroup.directories.push(directory),
                Err(errno @ (Errno::ENOENT | Errno::EACCES)) => {
                    cgroup.missing.push(Missing { place: spot, errno });
                }
                Err(errno) => return Err(anyhow!(errno).context(format!("open {path:?}"))),
            }
        }
        cgroup.ensure_somewhere(place)?;
        Ok(cgroup)
    }

    /// The cgroup that a process is in.
    ///
    /// # Errors
    ///
    /// When there is no such process, or its cgroup can't be reached from here.
    pub fn of(hierarchies: &Hierarchies, pid: Pid) -> Result<Cgroup> {
        Cgroup::open(&Place::of(hierarchies, pid)?)
    }

    fn ensure_somewhere(&self, place: &Place) -> Result<()> {
        if let (true, Some(missing)) = (self.directories.is_empty(), self.missing.first()) {
            return Err(anyhow!(missing.errno).context(format!("no hierarchy has the cgroup {place}")));
        }
        Ok(())
    }
}
// ANCHOR_END: open

// ANCHOR: directories
impl Cgroup {
    /// Where it is: a directory in each hierarchy, with the hierarchy's name.
    pub fn paths(&self) -> impl Iterator<Item = (String, &Path)> {
        self.directories.iter().map(|directory| (directory.hierarchy.to_string(), directory.path.as_path()))
    }

    /// Its directory of version 2, into which a child can be cloned.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.unified().map(AsFd::as_fd)
    }

    /// Whether a child that was cloned into [`Cgroup::directory`] is in all of it. Otherwise there are
    /// hierarchies of version 1, and it must be held back until [`Cgroup::enter`] has moved it there too.
    pub fn is_entered_by_clone(&self) -> bool {
        self.directories.iter().all(|directory| directory.version() == Version::V2)
    }

    pub(crate) fn unified(&self) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.version() == Version::V2)
    }

    /// The directory that has a controller, by the controller's name in version 2.
    pub(crate) fn find(&self, controller: &str) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.hierarchy.has(controller))
    }

    /// The same where it is needed.
    pub(crate) fn with(&self, controller: &str) -> Result<&Directory> {
        if let Some(directory) = self.find(controller) {
            return Ok(directory);
        }
        if let Some(missing) = self.missing.iter().find(|missing| missing.place.has(controller)) {
            let text = format!("the controller {controller}: no cgroup was made there, {}", missing.place);
            return Err(anyhow!(missing.errno).context(text));
        }
        Err(why::no_hierarchy(&Hierarchies::find()?, controller))
    }
}
// ANCHOR_END: directories

// ANCHOR: processes
impl Cgroup {
    /// The processes in it and in the cgroups below it, each once.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids = BTreeSet::new();
        self.directories.iter().try_for_each(|directory| add_processes(directory, &mut pids))?;
        Ok(pids.into_iter().map(Pid::from_raw).collect())
    }
}

fn add_processes(directory: &Directory, pids: &mut BTreeSet<i32>) -> Result<()> {
    let text = match directory.try_read("cgroup.procs") {
        // A threaded cgroup tells its threads alone.
        Err(Errno::EOPNOTSUPP) => directory.read("cgroup.threads")?,
        // Removed, and so empty.
        Err(Errno::ENODEV | Errno::ENOENT) => return Ok(()),
        text => text.with_context(|| format!("read {:?}", directory.path.join("cgroup.procs")))?,
    };
    for line in text.lines() {
        let pid: i32 = line.parse().with_context(|| format!("{line:?} is no pid"))?;
        // 0 stands for a process outside of our PID namespace. To kill(2) it would mean ourselves.
        ensure!(pid != 0, "{:?} has a process that can't be seen in this PID namespace", directory.path);
        pids.insert(pid);
    }
    directory.children()?.iter().try_for_each(|child| add_processes(child, pids))
}
// ANCHOR_END: processes

// ANCHOR: readings
impl Cgroup {
    /// The limits as the kernel has them now. Rules of devices are not among them, since version 2 can't tell
    /// them, nor is what only `unified` names.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read.
    pub fn limits(&self) -> Result<Limits> {
        self.read_limits()
    }

    /// What its processes have used.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read.
    pub fn usage(&self) -> Result<Usage> {
        usage::read(self)
    }
}
// ANCHOR_END: readings

impl Cgroup {
    /// Directories of a cgroup that was found rather than asked for.
    pub(crate) fn from_directories(directories: Vec<Directory>) -> Cgroup {
        Cgroup { directories, missing: Vec::new() }
    }
}
