// ANCHOR: imports
//! The lesson of chapter 2: a process with files of its own, and nothing else.

mod experiments;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::stdin;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ch00_chroot::exec::clean_environment;
use ch00_chroot::{Identity, escape, exec};
use ch01_pid::attend::Console;
use ch01_pid::terminal::{
    Input, copy_size, open_pty, receive_master, send_master, take_control, use_as_stdio,
};
use ch01_pid::{Report, Signals, Spawn, attend, exit_code, init, is_interactive};
use ch02_mount::{Propagation, Root, Volume, dev, mask, pivot, proc, propagation, sysfs};
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges};
use log::info;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, umask};
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
        if !arguments.command.is_empty() || arguments.escape {
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
    let socket = if is_interactive() {
        Some(UnixStream::pair().context("socketpair for the terminal")?)
    } else {
        None
    };

    let input = if socket.is_none() { Input::for_command()? } else { None };

    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .keep(lesson.descriptors())
        .keep(socket.as_ref().map(|(_, child)| child.as_fd()))
        .keep(input.as_ref().map(|input| input.read.as_fd()))
        .dies_with_parent()
        .start(|report| {
            build_root(root, arguments)?;
            let slave = socket.as_ref().map(|(_, socket)| terminal(socket.as_fd())).transpose()?;
            if let Some(input) = &input {
                input.use_as_stdin()?;
            }
            lesson.show_view()?;
            if arguments.escape {
                try_to_escape(host)?;
            }
            become_command(report, &arguments.command, slave)
        })?;

    // Before the command can run, or a signal that comes in its first instant would end this process instead.
    let signals = Signals::forwarded()?;
    let child = held.release(Some(&signals))?;
    let console = match (socket, input.and_then(|input| input.write)) {
        (Some((socket, _)), _) => Console::Terminal(receive_master(socket.as_fd())?),
        (None, Some(pipe)) => Console::Input(pipe),
        (None, None) => Console::None,
    };
    attend(child, &signals, console)
}
// ANCHOR_END: run

// ANCHOR: build_root
/// The child's half: private mounts, the new root and what belongs in it, and then nothing of the host's is
/// left.
fn build_root(path: &Path, arguments: &Arguments) -> Result<()> {
    // Modes are meant as they are written, whatever the user's umask.
    umask(Mode::empty());
    propagation::set(Path::new("/"), Propagation::Private, true)?;

    info!(target: "say", "Put a root together.");
    let root = pivot::make_mount_point(path)?;
    let proc = proc::mount(&root)?;
    let sys = sysfs::mount(&root)?;
    dev::mount(&root)?;
    for volume in &arguments.volume {
        volume.attach(&volume.take()?, &root)?;
    }
    mask::apply_defaults(&proc, &sys)?;

    info!(target: "say", "Let it take the old root's place.");
    pivot::pivot(&root)?;
    if arguments.read_only {
        pivot::make_root_read_only()?;
    }
    umask(Mode::from_bits_truncate(0o022));

    info!(target: "kernel", "inside, / is {}", Identity::of("/")?);
    info!(target: "kernel", "inside, the mounts are {}", experiments::mount_points()?);
    Ok(())
}
// ANCHOR_END: build_root

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

// ANCHOR: terminal
/// Makes a terminal from the container's own devpts, and sends its master to the parent.
fn terminal(socket: BorrowedFd) -> Result<OwnedFd> {
    let pty = open_pty(Path::new("/dev/ptmx"))?;
    dev::console(&Root::open(Path::new("/"))?, &pty.slave)?;
    // Standard input is still the user's terminal.
    copy_size(stdin().as_fd(), pty.master.as_fd())?;
    send_master(socket, &pty.master)?;
    Ok(pty.slave)
}
// ANCHOR_END: terminal

// ANCHOR: become_command
fn become_command(
    report: &mut Report,
    command: &[OsString],
    terminal: Option<OwnedFd>,
) -> Result<Infallible> {
    if let Some(slave) = &terminal {
        use_as_stdio(slave)?;
    }
    let command: Vec<OsString> =
        if command.is_empty() { vec!["ls".into(), "/".into()] } else { command.to_vec() };
    init(report, || {
        if terminal.is_some() {
            take_control()?;
        }
        Ok(exec(&command, &clean_environment())?)
    })
}
// ANCHOR_END: become_command
