// ANCHOR: imports
//! The lesson of chapter 5: files in layers.

mod commands;
mod experiments;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use ch00_chroot::exec;
use ch00_chroot::exec::clean_environment;
use ch01_pid::{Signals, Spawn, exit_code, init};
use ch02_mount::{Streams, build_root};
use ch05_layers::fuse::Options;
use ch05_layers::layers::Layers;
use ch05_layers::temporary::Temporary;
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges, untold};
use log::info;
use nix::sched::CloneFlags;

use commands::mount::own_mount_table;
use commands::mounted::{Backend, Mounted};
use commands::{Tool, image, mount_table, scratch};
// ANCHOR_END: imports

// ANCHOR: arguments
/// Give a process files of its own, in layers
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    flags: Flags,
    /// Run the command (without one, `ls /`) in a container on a small image. DIR keeps the layers: what the container
    /// has changed is there at the next run; without DIR they go with the command
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    image: Option<Option<PathBuf>>,
    /// Who makes one tree of the layers [default: aufs, where FUSE can be used]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// A command and its arguments, for a container on a small image; without it, the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || {
        let mut arguments: Arguments = parse();
        if let Some(tool) = arguments.tool.take() {
            return tool.run();
        }
        let lesson = arguments.flags.start()?;
        if arguments.image.is_none() && arguments.command.is_empty() {
            privileges::acquire()?;
            // From here on a signal does not end this process before it has removed what it makes.
            let signals = Signals::forwarded()?;
            own_mount_table()?;
            experiments::all(&lesson, &signals, arguments.backend.unwrap_or_else(Backend::choose))?;
            return Ok(0);
        }
        if arguments.command.is_empty() {
            arguments.command = vec!["ls".into(), "/".into()];
        }
        let root = match arguments.flags.rootfs.take() {
            Some(directory) => directory,
            None => rootfs_builder::default_root()?,
        };
        privileges::acquire()?;
        let signals = Signals::forwarded()?;
        own_mount_table()?;
        let (store, scratch) = match arguments.image.take().flatten() {
            Some(directory) => (directory, None),
            None => {
                let scratch = scratch::create()?;
                (scratch.path().join("store"), Some(scratch))
            }
        };
        let layers = image::open(&store, &root)?;
        signals.stop_if_told()?;
        run(&lesson, &arguments, &layers, scratch, &signals)
    })
}
// ANCHOR_END: main

// ANCHOR: run
/// Chapter 2's container, on a union.
fn run(
    lesson: &Lesson,
    arguments: &Arguments,
    layers: &Layers,
    mut scratch: Option<Temporary>,
    signals: &Signals,
) -> Result<u8> {
    let backend = arguments.backend.unwrap_or_else(Backend::choose);
    info!(target: "say", "1. Make a container: a read-write layer on top of the image's.");
    let id = image::container(layers, backend)?;
    let _in_use = layers.hold(id)?;

    info!(target: "say", "2. Mount its layers as one tree.");
    // The users inside are others than the one who mounts.
    let options = Options { allow_other: true, ..Options::default() };
    let mut union = Mounted::container(lesson, layers, id, &options)?;

    info!(target: "say", "3. Make a process whose root is this tree.");
    let streams = Streams::choose()?;
    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .keep(lesson.descriptors())
        .keep(streams.descriptor())
        .dies_with_parent()
        .start(|report| {
            untold(|| build_root(union.path(), &[], false))?;
            info!(target: "kernel", "inside, / is a file system of the type {}", mount_table::type_at("/")?);
            streams.open()?;
            lesson.show_view()?;
            init(report, || {
                streams.take_control()?;
                Ok(exec(&arguments.command, &clean_environment())?)
            })
        })?;
    let child = held.release_or(Some(signals), || drop((union.take(), scratch.take())))?;
    let status = union.attend(child, signals, streams.console()?)?;

    info!(target: "say", "4. Unmount. What the command has changed is in the container's own layer:");
    union.stop()?;
    image::tell_changes(layers, id)?;
    Ok(status)
}
// ANCHOR_END: run
