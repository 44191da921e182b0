// ANCHOR: imports
//! A container to join: chapters 1 to 4 in short, with a host name and the remaining namespaces.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use ch01_pid::terminal::use_as_stdio;
use ch01_pid::{Child, Signals, Spawn, init};
use ch02_mount::build_root;
use ch03_net::loopback;
use ch04_cgroups::place::{may_make_cgroups, re_execute_delegated};
use ch04_cgroups::{Cgroup, Hierarchies, Owned};
use lesson::{Lesson, privileges, untold};
use log::info;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, geteuid, sethostname};

/// The cgroups of lessons begin like this, so that the next run finds what one that was killed has left.
const PREFIX: &str = "hull-lesson-";

/// Its first process is chapter 1's init, whose child this is. It lives until it is killed.
const COMMAND: [&str; 2] = ["sleep", "100000"];
// ANCHOR_END: imports

// ANCHOR: cgroup
/// The hierarchies, if this user may make a cgroup in them and move processes there. A plain user may below one that
/// systemd has made; this program is executed in one then. Without, `consequence` is told.
pub fn delegated_cgroups(consequence: &str) -> Result<Option<Hierarchies>> {
    let hierarchies = Hierarchies::find()?;
    let Err(refusal) = may_make_cgroups(&hierarchies) else { return Ok(Some(hierarchies)) };
    let refusal = match geteuid().is_root() {
        true => refusal,
        false => match re_execute_delegated(&privileges::own_path()?).context(refusal) {
            Ok(never) => match never {},
            Err(refusal) => refusal,
        },
    };
    info!(target: "say", "{consequence}: {}.", lesson::describe(&refusal));
    Ok(None)
}
// ANCHOR_END: cgroup

// ANCHOR: container
/// A container that runs. Dropped, it is killed, and its cgroup removed.
#[derive(Debug)]
pub struct Container {
    child: Option<Child>,
    cgroup: Option<Owned>,
}

impl Container {
    /// Starts it, in a cgroup of its own where there are `hierarchies` to make one.
    pub fn start(
        lesson: &Lesson,
        root: &Path,
        hierarchies: Option<Hierarchies>,
        signals: &Signals,
    ) -> Result<Container> {
        let cgroup =
            untold(|| hierarchies.map(|hierarchies| Owned::near(&hierarchies, PREFIX, &[])).transpose())?;
        let mut container = Container { child: None, cgroup };
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC;
        let directory = container.cgroup.as_deref().and_then(Cgroup::directory);
        let spawn = Spawn::new().namespaces(namespaces).keep(lesson.descriptors()).dies_with_parent();
        let spawn = match directory {
            Some(directory) => spawn.cgroup(directory),
            None => spawn,
        };
        let held = spawn.start(|report| {
            info!(target: "syscall", "unshare(CLONE_NEWCGROUP)  the last of its namespaces: see chapter 4");
            unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare(CLONE_NEWCGROUP)")?;
            untold(|| build_root(root, &[], false))?;
            untold(loopback::up)?;
            info!(target: "syscall", "sethostname(\"container\")  the host keeps its name: see chapter 7");
            sethostname("container").context("sethostname \"container\"")?;
            // Our own streams are for what joins it.
            let nothing = File::options().read(true).write(true).open("/dev/null");
            use_as_stdio(&nothing.context("open \"/dev/null\"")?.into())?;
            init(report, || Ok(exec(&COMMAND.map(OsString::from), &clean_environment())?))
        })?;
        if let Some(cgroup) = container.cgroup.as_ref().filter(|cgroup| !cgroup.is_entered_by_clone()) {
            untold(|| cgroup.enter(held.pid()))?;
        }
        container.child = Some(held.release_or(Some(signals), || container.clean_up())?);
        Ok(container)
    }

    /// Its first process, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.child.as_ref().expect("it is there until the container ends").pid()
    }

    /// Kills its first process, and with that all.
    pub fn kill(&self) -> Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| child.signal(libc::SIGKILL))
    }

    /// Ends it: nothing of it is left.
    ///
    /// The kernel holds the end of its first process back until all others of its PID namespace have been waited
    /// for; who joined has another parent than those, which must have done that by now.
    pub fn end(mut self) -> Result<()> {
        self.take_down()
    }

    /// The same where no destructor runs.
    pub fn clean_up(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("error: {}", lesson::describe(&error));
        }
    }

    fn take_down(&mut self) -> Result<()> {
        drop(self.child.take());
        self.cgroup.take().map_or(Ok(()), |cgroup| untold(|| cgroup.remove()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.clean_up();
    }
}
// ANCHOR_END: container
