//! Says what this machine lacks for the lessons, and what mends it.

mod cgroups;
mod distribution;
mod examine;
mod files;
mod joining;
mod kernel;
mod machine;
mod namespaces;
mod network;
mod powers;

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use examine::{Report, examine};

/// Checks what the lessons need: a line for each thing, with its state and the command that mends it.
///
/// The checks try the real thing, in child processes with namespaces of their own; nothing is changed or left
/// behind. They tell what holds for the user who runs them: root and a plain user may get different answers.
///
/// Exit status: 0 if all lessons can run (some may do less, and say so); 1 if something is missing or
/// restricted without which a lesson cannot run. On a terminal such a line is red, and one without which a
/// lesson does less is yellow.
#[derive(Parser)]
#[command(name = "doctor", version)]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match examine(colour).and_then(print) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("doctor: {}", lesson::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn print(report: Report) -> Result<bool> {
    match stdout().write_all(report.text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(report.all_lessons_run),
    }
}
