// ANCHOR: imports
//! The lesson of chapter 7: what a process may do.

mod container;
mod escapes;
mod experiments;
mod flags;
mod inside;
mod network;
mod own_cgroup;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use ch01_pid::spawn::Held;
use ch01_pid::{Report, Signals, Spawn, attend, exit_code, init};
use ch02_mount::Streams;
use ch04_cgroups::{Cgroup, Hierarchies};
use ch06_exec::executable;
use ch07_privileges::capabilities::Sets;
use ch07_privileges::user::{User, become_user};
use ch07_privileges::{cgroup, keyring, no_new_privs, rlimits, seccomp, time, uts};
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges, untold};
use log::info;
use nix::sched::CloneFlags;
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use userns::map;

use container::Container;
use flags::ContainerFlags;
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command in a finished container: root in it is nobody outside, and may do little
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    container: ContainerFlags,
    /// Try the escapes of the chapters before this one, against the finished container and without what stops
    /// them
    #[arg(long, conflicts_with = "command")]
    escapes: bool,
    /// A cgroup of the container's own, with so many processes and threads at the same time
    #[arg(long, value_name = "NUMBER", requires = "command")]
    pids: Option<u64>,
    /// The command and its arguments; without it, the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || {
        // First of all, since it may execute this program anew: from a copy that no container can write to.
        executable::protect()?;
        let arguments: Arguments = parse();
        let lesson = arguments.flags.start()?;
        let root = match &arguments.flags.rootfs {
            Some(directory) => directory.clone(),
            None => rootfs_builder::default_root()?,
        };
        let root = root.canonicalize().with_context(|| format!("the root file system {root:?}"))?;
        let cgroups = arguments.pids.map(|pids| anyhow::Ok((own_cgroup::find()?, pids))).transpose()?;
        let powers = privileges::acquire()?;
        let container = arguments.container.container(root, powers)?;
        if arguments.escapes {
            return escapes::all(&lesson, &container, powers);
        }
        if arguments.command.is_empty() {
            return experiments::all(&lesson, &container, powers);
        }
        run(&lesson, &container, cgroups, &arguments.command)
    })
}
// ANCHOR_END: main

// ANCHOR: run
/// Runs the command in the container; returns its exit status. With `cgroups`, it gets one of its own that
/// holds so many processes.
fn run(
    lesson: &Lesson,
    container: &Container,
    cgroups: Option<(Hierarchies, u64)>,
    command: &[OsString],
) -> Result<u8> {
    // Blocked from here on: one that ended this process now would leave the cgroup behind.
    let signals = Signals::forwarded()?;
    let mut cgroup = cgroups.map(|(hierarchies, pids)| own_cgroup::make(&hierarchies, pids)).transpose()?;
    let streams = Streams::choose()?;
    let keep: Vec<BorrowedFd> = streams.descriptor().into_iter().collect();
    let held = start(
        lesson,
        container,
        cgroup.as_deref(),
        &keep,
        || streams.open(),
        |report| {
            lesson.show_view()?;
            // What is in init's memory is a copy of the lesson's, and not for the container's processes.
            set_dumpable(false).context("prctl(PR_SET_DUMPABLE, 0)")?;
            init(report, || {
                streams.take_control()?;
                Ok(exec(command, &clean_environment())?)
            })
        },
    )?;
    let child = held.release_or(Some(&signals), || drop(cgroup.take()))?;
    let status = attend(child, &signals, streams.console()?)?;
    cgroup.map_or(Ok(()), |cgroup| untold(|| cgroup.remove()))?;
    Ok(status)
}
// ANCHOR_END: run

// ANCHOR: start
/// Makes the container, and holds its first process back until the host's half is done. In the child, once it
/// has its files, runs `prepare`; once it has lost its powers, `command`.
fn start<'a>(
    lesson: &'a Lesson,
    container: &'a Container,
    cgroup: Option<&'a Cgroup>,
    keep: &[BorrowedFd<'a>],
    prepare: impl FnOnce() -> Result<()>,
    command: impl FnOnce(&mut Report) -> Result<Infallible>,
) -> Result<Held> {
    let files = container.take_files()?;

    info!(target: "say", "A process with namespaces of its own.");
    // The cgroup namespace and that of time come later: the one begins at the cgroup in which the process is,
    // and the other's clocks must be set before anybody is in it.
    let spawn = Spawn::new()
        .namespaces(container.namespaces & !CloneFlags::CLONE_NEWCGROUP)
        .keep(lesson.descriptors())
        .keep(files.as_ref().map(AsFd::as_fd))
        .keep(keep.iter().copied())
        .dies_with_parent();
    let held = match cgroup.and_then(Cgroup::directory) {
        Some(directory) => spawn.cgroup(directory),
        None => spawn,
    }
    .start(|report| {
        if container.maps.is_some() {
            info!(
                target: "say",
                "Inside: become root of the user namespace. The process was nobody in it."
            );
            become_user(&User::default())?;
            // A change of user makes the files of /proc/self root's: the host's root, who is nobody here.
            // The process still has to write some, and nobody else is in the container yet.
            set_dumpable(true).context("prctl(PR_SET_DUMPABLE, 1)")?;
        }
        info!(target: "say", "With the powers of that root, put its world together.");
        own_world(container)?;
        container.enter_files(files.as_ref())?;
        prepare()?;

        info!(
            target: "say",
            "Take the powers away again, in an order in which each step still has the right to be done."
        );
        give_up_powers(container)?;
        die_with_parent(report)?;
        command(report)
    })?;

    if let Some(maps) = &container.maps {
        info!(target: "say", "On the host: who is who. Only somebody outside may write more than one line.");
        map::write_for(held.pid(), maps, maps)?;
    }
    if let Some(cgroup) = cgroup.filter(|cgroup| !cgroup.is_entered_by_clone()) {
        untold(|| cgroup.enter(held.pid()))?;
    }
    Ok(held)
}
// ANCHOR_END: start

// ANCHOR: die_with_parent
/// A change of user makes the kernel forget that this process was to die with its parent (prctl(2)).
fn die_with_parent(report: &Report) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
    ensure!(report.is_awaited()?, "the parent died while the container was made");
    Ok(())
}
// ANCHOR_END: die_with_parent

// ANCHOR: own_world
/// The small namespaces: a name, a network, clocks, and where its cgroup is.
fn own_world(container: &Container) -> Result<()> {
    let has = |namespace: CloneFlags| container.namespaces.contains(namespace);
    if has(CloneFlags::CLONE_NEWUTS) {
        uts::set_hostname(&container.hostname)?;
    }
    if has(CloneFlags::CLONE_NEWNET) {
        network::configure()?;
    }
    if has(CloneFlags::CLONE_NEWCGROUP) {
        cgroup::unshare()?;
    }
    if let Some(offsets) = container.clocks {
        time::unshare(offsets)?;
    }
    Ok(())
}
// ANCHOR_END: own_world

// ANCHOR: give_up_powers
/// The last things that the child does as root of its user namespace. Afterwards it can do none of them.
fn give_up_powers(container: &Container) -> Result<()> {
    // The session keyring is inherited, with the keys of whoever started this.
    keyring::join_new()?;
    // A hard limit is raised by CAP_SYS_RESOURCE, which will be gone.
    for limit in &container.limits {
        rlimits::set(*limit)?;
    }
    let install = || -> Result<()> {
        let Some(policy) = &container.policy else { return Ok(()) };
        seccomp::install(&seccomp::compile(policy)?, &policy.flags, false)?;
        Ok(())
    };
    if !container.no_new_privs {
        // Then a filter takes CAP_SYS_ADMIN, or a set-user-id program could be led astray by it.
        install()?;
    }
    let sets = Sets::bounded_by(container.capabilities);
    // The bounding set takes CAP_SETPCAP, the user CAP_SETUID; and the change of user would take the rest
    // along.
    sets.before_user_change()?;
    become_user(&container.user)?;
    for refused in sets.apply()? {
        info!(target: "say", "Warning: {refused}.");
    }
    if container.no_new_privs {
        no_new_privs::set()?;
        // Last: from here on the filter judges each call of ours, too.
        install()?;
    }
    Ok(())
}
// ANCHOR_END: give_up_powers
