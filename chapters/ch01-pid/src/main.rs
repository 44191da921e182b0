// ANCHOR: imports
//! The lesson of chapter 1: a process that believes it is the first one.

mod experiments;

use std::ffi::OsString;
use std::io::stdin;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use ch00_chroot::exec::{clean_environment, own_environment};
use ch00_chroot::{enter, exec};
use ch01_pid::attend::Console;
use ch01_pid::terminal::{Input, copy_size, open_pty, take_control, use_as_stdio};
use ch01_pid::{Signals, Spawn, attend, exit_code, init, is_interactive};
use clap::Parser;
use lesson::{Flags, Lesson, parse, privileges};
use log::info;
use nix::sched::CloneFlags;
use nix::unistd::getpid;
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command as the first process of a PID namespace
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// The command itself is PID 1, with no init in front of it
    #[arg(long)]
    no_init: bool,
    /// The command and its arguments; without it, the lesson's experiments
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || {
        let arguments: Arguments = parse();
        let lesson = arguments.flags.start()?;
        privileges::acquire()?;
        if !arguments.command.is_empty() {
            return run(&lesson, &arguments);
        }
        let command = ["sh", "-c", "echo \"sh: my process id is $$\""].map(OsString::from).to_vec();
        let status = run(&lesson, &Arguments { command, ..arguments })?;
        experiments::all(&lesson)?;
        Ok(status)
    })
}
// ANCHOR_END: main

// ANCHOR: run
/// Runs the command in a new PID namespace; returns its exit status.
fn run(lesson: &Lesson, arguments: &Arguments) -> Result<u8> {
    info!(target: "say", "Make a process in a PID namespace of its own.");
    let terminal = if is_interactive() { Some(open_pty(Path::new("/dev/ptmx"))?) } else { None };
    if let Some(terminal) = &terminal {
        // Before the command can ask for it.
        copy_size(stdin().as_fd(), terminal.master.as_fd())?;
    }
    let slave = terminal.as_ref().map(|terminal| &terminal.slave);
    let input = if terminal.is_none() { Input::for_command()? } else { None };

    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWPID)
        .keep(lesson.descriptors())
        .keep(slave.map(AsFd::as_fd))
        .keep(input.as_ref().map(|input| input.read.as_fd()))
        .dies_with_parent()
        .start(|report| {
            info!(target: "kernel", "inside, getpid() is {}", getpid());
            if let Some(root) = &arguments.flags.rootfs {
                enter(root)?;
            }
            lesson.show_view()?;
            if let Some(slave) = slave {
                use_as_stdio(slave)?;
            }
            if let Some(input) = &input {
                input.use_as_stdin()?;
            }
            if arguments.no_init {
                command(arguments, slave.is_some())
            } else {
                init(report, || command(arguments, slave.is_some()))
            }
        })?;

    let pids = experiments::status_line(held.pid(), "NSpid")?;
    info!(target: "kernel", "outside, /proc/{}/status says NSpid: {pids}", held.pid());
    // Before the command can run, or a signal that comes in its first instant would end this process instead.
    let signals = Signals::forwarded()?;
    let child = held.release(Some(&signals))?;
    let console = match (terminal, input.and_then(|input| input.write)) {
        (Some(terminal), _) => Console::Terminal(terminal.master),
        (None, Some(pipe)) => Console::Input(pipe),
        (None, None) => Console::None,
    };
    attend(child, &signals, console)
}
// ANCHOR_END: run

// ANCHOR: command
/// The last thing that the child does.
fn command(arguments: &Arguments, has_terminal: bool) -> Result<std::convert::Infallible> {
    if has_terminal {
        take_control()?;
    }
    let environment = if arguments.flags.rootfs.is_some() { clean_environment() } else { own_environment() };
    Ok(exec(&arguments.command, &environment)?)
}
// ANCHOR_END: command
