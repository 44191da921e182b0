// ANCHOR: imports
//! The lesson of chapter 6: a process joins what another one has.

mod container;
mod experiments;
mod joined;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ch00_chroot::exec;
use ch00_chroot::exec::{clean_environment, own_environment};
use ch01_pid::{Signals, attend, exit_code};
use ch06_exec::executable::protect;
use ch06_exec::root::working_directory;
use ch06_exec::{Exec, Kind, Target};
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges};
use log::info;
use nix::unistd::Pid;

use container::Container;
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command in a container that runs already
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// The process to join, of whichever container; without it, one that the lesson starts
    #[arg(long, value_name = "PID", requires = "command", conflicts_with = "rootfs")]
    pid: Option<i32>,
    /// Which of its namespaces: user, mnt, pid, net, ipc, uts, cgroup, time; without it, all that are not ours
    #[arg(long, value_name = "KIND", value_delimiter = ',', requires = "command")]
    only: Vec<Kind>,
    /// A terminal for the command, made inside
    #[arg(long, short, requires = "command")]
    tty: bool,
    /// The command's working directory, inside
    #[arg(long, short, value_name = "DIR", requires = "command")]
    workdir: Option<PathBuf>,
    /// The command and its arguments; without it, the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Arguments {
    /// Whether the command joins the namespace of this kind, and what goes with it.
    fn joins(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || {
        let protection = protect()?;
        let arguments: Arguments = parse();
        let lesson = arguments.flags.start()?;
        info!(target: "kernel", "this program runs from {protection}");
        match arguments.pid {
            Some(pid) => in_any_container(&lesson, &arguments, Pid::from_raw(pid)),
            None => in_own_container(lesson, &arguments),
        }
    })
}

/// The process exists, and whoever may trace it may join it: for a container of this user's, no powers are needed.
fn in_any_container(lesson: &Lesson, arguments: &Arguments, pid: Pid) -> Result<u8> {
    let target = Target::open(pid)?;
    if arguments.joins(Kind::Cgroup) && !joined::may_enter_cgroup(pid)? {
        container::delegated_cgroups("This process stays in its cgroup")?;
    }
    // It looks at directories that others serve, and has nothing to clean up: a signal may end it.
    lesson.show_beside(pid.as_raw(), &["namespaces"])?;
    let signals = Signals::forwarded()?;
    run(lesson, arguments, &target, &signals, || ())
}

fn in_own_container(lesson: Lesson, arguments: &Arguments) -> Result<u8> {
    let root = match &arguments.flags.rootfs {
        Some(directory) => directory.clone(),
        None => rootfs_builder::default_root()?,
    };
    let root = root.canonicalize().with_context(|| format!("the root file system {root:?}"))?;
    let cgroups = container::delegated_cgroups("The container has no cgroup of its own")?;
    privileges::acquire()?;
    // Blocked from here on: one that ended this process now would leave the cgroup behind.
    let signals = Signals::forwarded()?;
    let lesson = lesson.look()?;
    info!(target: "say", "Start a container.");
    let mut container = Container::start(&lesson, &root, cgroups, &signals)?;
    let status = if arguments.command.is_empty() {
        experiments::all(&lesson, &mut container, &signals)?
    } else {
        let target = Target::open(container.pid())?;
        run(&lesson, arguments, &target, &signals, || container.clean_up())?
    };
    container.end()?;
    Ok(status)
}
// ANCHOR_END: main

// ANCHOR: run
/// Runs the command in what `target` has; returns its exit status. `clean_up` is called where a signal ends this
/// process.
fn run(
    lesson: &Lesson,
    arguments: &Arguments,
    target: &Target,
    signals: &Signals,
    clean_up: impl FnOnce(),
) -> Result<u8> {
    info!(target: "say", "Join process {}.", target.pid());
    let streams = joined::streams(arguments.tty)?;
    // Nothing of the host's that is in the environment is for the container.
    let environment = if arguments.joins(Kind::Mount) { clean_environment() } else { own_environment() };
    let join = Exec::new(target).keep(lesson.descriptors()).keep(streams.descriptor()).dies_with_parent();
    let join = join.interrupted_by(signals);
    let join = if arguments.only.is_empty() { join } else { join.only(&arguments.only) };
    let join = if joined::may_enter_cgroup(target.pid())? { join } else { join.without_cgroup() };
    let held = join.start(|_| {
        joined::tell_pids();
        if let Some(directory) = &arguments.workdir {
            working_directory(directory)?;
        }
        joined::open(&streams)?;
        lesson.show_view()?;
        streams.take_control()?;
        Ok(exec(&arguments.command, &environment)?)
    })?;
    joined::tell(held.pid(), target.pid())?;
    let child = held.release_or(Some(signals), clean_up)?;
    attend(child, signals, streams.console()?)
}
// ANCHOR_END: run
