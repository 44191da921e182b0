// ANCHOR: command
//! A command beside the union: with the host's files, our working directory, our environment.

use std::ffi::OsString;
use std::io::stdin;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Result;
use ch00_chroot::exec;
use ch00_chroot::exec::own_environment;
use ch01_pid::attend::Console;
use ch01_pid::terminal::{Input, copy_size, open_pty, take_control, use_as_stdio};
use ch01_pid::{Signals, Spawn, is_interactive};
use lesson::Lesson;

use super::mounted::Mounted;

/// Runs it as chapter 1 does, but in the PID namespace of this process; returns its status.
pub fn run(lesson: &Lesson, command: &[OsString], signals: &Signals, union: &mut Mounted) -> Result<u8> {
    let terminal = if is_interactive() { Some(open_pty(Path::new("/dev/ptmx"))?) } else { None };
    if let Some(terminal) = &terminal {
        copy_size(stdin().as_fd(), terminal.master.as_fd())?;
    }
    let slave = terminal.as_ref().map(|terminal| &terminal.slave);
    let input = if terminal.is_none() { Input::for_command()? } else { None };
    let held = Spawn::new()
        .keep(lesson.descriptors())
        .keep(slave.map(AsFd::as_fd))
        .keep(input.as_ref().map(|input| input.read.as_fd()))
        .dies_with_parent()
        .start(|_| {
            if let Some(slave) = slave {
                use_as_stdio(slave)?;
                take_control()?;
            }
            if let Some(input) = &input {
                input.use_as_stdin()?;
            }
            Ok(exec(command, &own_environment())?)
        })?;
    // No signal ends this process here: the union has to be unmounted first. One that came meanwhile is passed on.
    let child = held.release(None)?;
    let console = match (terminal, input.and_then(|input| input.write)) {
        (Some(terminal), _) => Console::Terminal(terminal.master),
        (None, Some(pipe)) => Console::Input(pipe),
        (None, None) => Console::None,
    };
    union.attend(child, signals, console)
}
// ANCHOR_END: command
