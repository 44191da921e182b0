// ANCHOR: imports
//! The lesson of chapter 2: a process with files of its own, and nothing else.

mod experiments;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ch00_chroot::exec::clean_environment;
use ch00_chroot::{Identity, escape, exec};
use ch01_pid::{Signals, Spawn, attend, exit_code, init};
use ch02_mount::{Streams, Volume, build_root};
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges};
use log::info;
use nix::sched::CloneFlags;
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command with a root, a /proc and a mount table of its own
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// A directory or file of the host's that appears inside
    #[arg(long, short, value_name = "SRC:DST[:ro]")]
    volume: Vec<Volume>,
    /// The root file system can't be changed from inside
    #[arg(long)]
    read_only: bool,
    /// Once inside, try chapter 0's way out
    #[arg(long)]
    escape: bool,
    /// The command and its arguments; without it, `ps` and the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || {
        let mut arguments: Arguments = parse();
        let lesson = arguments.flags.start()?;
        let root = match arguments.flags.rootfs.take() {
            Some(directory) => directory,
            None => rootfs_builder::default_root()?,
        };
        let root = root.canonicalize().with_context(|| format!("the root file system {root:?}"))?;
        privileges::acquire()?;
        if arguments.command.is_empty() && arguments.escape {
            arguments.command = vec!["ls".into(), "/".into()];
        }
        if !arguments.command.is_empty() {
            return run(&lesson, &arguments, &root);
        }
        arguments.command = vec!["ps".into()];
        let status = run(&lesson, &arguments, &root)?;
        experiments::propagation(&lesson)?;
        Ok(status)
    })
}
// ANCHOR_END: main

// ANCHOR: run
/// The host's half: make the child, let it go, and attend to it.
fn run(lesson: &Lesson, arguments: &Arguments, root: &Path) -> Result<u8> {
    info!(target: "say", "Make a process with a mount table and a PID namespace of its own.");
    let host = Identity::of("/")?;
    info!(target: "kernel", "outside, / is {host}");
    info!(target: "kernel", "outside, the mounts are {}", experiments::mount_points()?);
    let streams = Streams::choose()?;

    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .keep(lesson.descriptors())
        .keep(streams.descriptor())
        .dies_with_parent()
        .start(|report| {
            build_root(root, &arguments.volume, arguments.read_only)?;
            info!(target: "kernel", "inside, / is {}", Identity::of("/")?);
            info!(target: "kernel", "inside, the mounts are {}", experiments::mount_points()?);
            streams.open()?;
            lesson.show_view()?;
            if arguments.escape {
                try_to_escape(host)?;
            }
            init(report, || {
                streams.take_control()?;
                Ok(exec(&arguments.command, &clean_environment())?)
            })
        })?;

    // Before the command can run, or a signal that comes in its first instant would end this process instead.
    let signals = Signals::forwarded()?;
    let child = held.release(Some(&signals))?;
    attend(child, &signals, streams.console()?)
}
// ANCHOR_END: run

// ANCHOR: escape
/// Chapter 0's escape, from in here.
fn try_to_escape(host: Identity) -> Result<()> {
    info!(target: "say", "Try chapter 0's way out.");
    let now = escape()?;
    let verdict = if now == host { "the host's root: escaped" } else { "not the host's root: still inside" };
    info!(target: "kernel", "/ is {now}: {verdict}");
    Ok(())
}
// ANCHOR_END: escape
