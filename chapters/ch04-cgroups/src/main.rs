// ANCHOR: imports
//! The lesson of chapter 4: what a process may use.

mod block_device;
mod experiments;
mod limit_flags;
mod network;
mod plot;
mod record;
mod report;
mod size;

use std::ffi::OsString;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use ch01_pid::{Signals, Spawn, attend, exit_code, init};
use ch02_mount::{Streams, build_root};
use ch03_net::Rate;
use ch04_cgroups::place::{may_make_cgroups, re_execute_delegated};
use ch04_cgroups::{Hierarchies, Limits, Owned, Place, sweep};
use clap::Parser;
use lesson::privileges::{self, Powers};
use lesson::{Flags, Lesson, parse, untold};
use log::info;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use experiments::Stage;
use limit_flags::LimitFlags;
use network::Cable;
use record::Record;
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command that may use so much and no more
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    limits: LimitFlags,
    /// A network of the command's own, with so much in a second in each direction, such as 10mbit; else the
    /// command has the host's network
    #[arg(long, value_name = "RATE", requires = "command")]
    net_rate: Option<Rate>,
    /// Without a command: the samples of the experiments go to this file, as comma-separated values
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    record: Option<PathBuf>,
    /// The command and its arguments; without it, the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
/// The cgroups of lessons begin like this, so that the next run finds what one that was killed has left.
const PREFIX: &str = "hull-lesson-";

fn main() -> ExitCode {
    lesson::run(exit_code, || {
        let arguments: Arguments = parse();
        let lesson = arguments.flags.start()?;
        let hierarchies = Hierarchies::find()?;
        if let Err(refusal) = may_make_cgroups(&hierarchies) {
            if geteuid().is_root() {
                return Err(refusal);
            }
            info!(target: "say", "Ask systemd for a cgroup: {refusal:#}.");
            match re_execute_delegated(&privileges::own_path()?).context(refusal)? {}
        }
        if arguments.command.is_empty() {
            privileges::acquire()?;
            let signals = Signals::forwarded()?;
            let place = place(&hierarchies, &["memory", "cpu", "pids", "io"])?;
            let output = plot::Output::find(arguments.flags.quiet);
            let record = arguments.record.as_deref().map(Record::create).transpose()?;
            let mut stage = Stage { lesson: &lesson, place: &place, signals: &signals, output, record };
            experiments::all(&mut stage)?;
            return Ok(0);
        }
        let root = match &arguments.flags.rootfs {
            Some(directory) => directory.clone(),
            None => rootfs_builder::default_root()?,
        };
        let root = root.canonicalize().with_context(|| format!("the root file system {root:?}"))?;
        let powers = privileges::acquire()?;
        ensure!(
            arguments.net_rate.is_none() || powers == Powers::Host,
            "--net-rate needs a bridge on the host, and that takes root: use sudo"
        );
        run(&lesson, &arguments, &root, &hierarchies)
    })
}

/// Where the lesson's cgroup goes, once what a killed lesson has left there is gone.
fn place(hierarchies: &Hierarchies, controllers: &[&str]) -> Result<Place> {
    let place = Place::near(hierarchies, &name(), controllers)?;
    sweep::sweep(&place, PREFIX)?;
    Ok(place)
}

/// A name that no other lesson has. Two may have the same pid, in two PID namespaces, so the time is in it too.
fn name() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{PREFIX}{}-{:x}", std::process::id(), now.as_micros() & 0xff_ffff)
}
// ANCHOR_END: main

// ANCHOR: run
/// The four steps of a container runtime: a cgroup, a process in it, its namespaces, and in the end no trace of
/// them.
fn run(lesson: &Lesson, arguments: &Arguments, root: &Path, hierarchies: &Hierarchies) -> Result<u8> {
    info!(target: "say", "1. Make a cgroup, and set its limits.");
    // Blocked from here on: one that ended this process now would leave the cgroup behind.
    let signals = Signals::forwarded()?;
    let limits = arguments.limits.limits(root, hierarchies)?;
    let controllers: Vec<&str> = limits.controllers().into_iter().collect();
    let mut cgroup = limited_cgroup(&limits, &place(hierarchies, &controllers)?)?;

    info!(target: "say", "2. Make a process in it.");
    let streams = Streams::choose()?;
    let mut cable = arguments.net_rate.map(|rate| untold(|| Cable::new(rate))).transpose()?;
    let network = if cable.is_some() { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() };
    let spawn = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | network)
        .keep(lesson.descriptors())
        .keep(streams.descriptor())
        .dies_with_parent();
    let spawn = match cgroup.directory() {
        Some(directory) => spawn.cgroup(directory),
        None => spawn,
    };
    let held = spawn.start(|report| {
        info!(target: "say", "3. Give it namespaces: mount and PID it has; now the one of cgroups.");
        own_cgroup_namespace()?;
        untold(|| build_root(root, &[], false))?;
        cable.as_ref().map_or(Ok(()), |cable| untold(|| cable.configure()))?;
        streams.open()?;
        lesson.show_view()?;
        init(report, || {
            streams.take_control()?;
            Ok(exec(&arguments.command, &clean_environment())?)
        })
    })?;
    if !cgroup.is_entered_by_clone() {
        info!(target: "say", "Version 1 can't be cloned into: the child waits at the gate until it is in.");
        cgroup.enter(held.pid())?;
    }
    if let Some(cable) = &mut cable {
        untold(|| cable.connect(held.pid()))?;
    }

    let child = held.release_or(Some(&signals), || drop((cable.take(), cgroup.take())))?;
    let status = attend(child, &signals, streams.console()?)?;

    report::usage(&cgroup.usage()?);
    info!(target: "say", "4. Clean up.");
    cable.map_or(Ok(()), |cable| untold(|| cable.remove()))?;
    cgroup.remove()?;
    Ok(status)
}
// ANCHOR_END: run

// ANCHOR: limited_cgroup
fn limited_cgroup(limits: &Limits, place: &Place) -> Result<Owned> {
    let cgroup = Owned::create(place)?;
    for warning in cgroup.apply(limits)? {
        info!(target: "say", "Warning: {warning}.");
    }
    report::limits(limits, &cgroup.limits()?);
    Ok(cgroup)
}
// ANCHOR_END: limited_cgroup

// ANCHOR: cgroup_namespace
/// A cgroup namespace hides where on the host the cgroup is. Its root is the cgroup in which the process is when
/// it makes the namespace: so not by clone3, but now.
fn own_cgroup_namespace() -> Result<()> {
    let file = "/proc/self/cgroup";
    let read = || read_to_string(file).with_context(|| format!("read {file:?}"));
    let in_one_line = |text: String| text.trim_end().replace('\n', " ");
    info!(target: "kernel", "{file} says {}", in_one_line(read()?));
    info!(target: "syscall", "unshare(CLONE_NEWCGROUP)  from here on, this cgroup is the root of what it sees");
    unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare(CLONE_NEWCGROUP)")?;
    info!(target: "kernel", "{file} says {}", in_one_line(read()?));
    Ok(())
}
// ANCHOR_END: cgroup_namespace
