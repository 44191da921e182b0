//! Prints the view of a process, or of two side by side.

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lesson::view::View;
use lesson::view::table::{list, table, terminal_width};

/// Shows what a process sees: pids, host name, root, mounts, network, ids, cgroups, namespaces.
///
/// All of it is the kernel's own text, read from /proc. What may not be read is said, with the kernel's
/// reason.
///
/// Exit status: 0; 1 where there is no such process, or it ended meanwhile.
#[derive(Parser)]
#[command(name = "view", version)]
struct Arguments {
    /// The process to look at; without it, this program itself
    #[arg(value_name = "PID")]
    left: Option<i32>,
    /// A second process, shown beside the first: `|` differs, `<` only the first, `>` only the second
    #[arg(value_name = "PID2")]
    right: Option<i32>,
}

fn main() -> ExitCode {
    match show(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("view: {}", lesson::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn show(arguments: &Arguments) -> Result<()> {
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let width = terminal_width(&stdout()).unwrap_or(120);
    let left = match arguments.left {
        Some(pid) => View::of(pid)?,
        None => View::here()?,
    };
    let text = match arguments.right {
        Some(right) => {
            let names = [arguments.left, Some(right)]
                .map(|pid| pid.map(|pid| format!("pid {pid}")).unwrap_or_default());
            table((&names[0], &left), (&names[1], &View::of(right)?), None, colour, width)
        }
        None => list(&left, colour, width),
    };
    match stdout().write_all(text.as_bytes()) {
        // The reader has seen enough: `view 1 | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
