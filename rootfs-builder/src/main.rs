//! `rootfs-builder`: makes, lists and checks root file systems. The library does the work.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use rootfs_builder::{Interrupted, Source};

/// Makes the root file systems that lessons run in.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds a root file system and prints its path; does nothing if it is already there.
    Build {
        /// Where the programs come from: auto (busybox, else host), busybox, host, debian.
        #[arg(long, value_name = "SOURCE", default_value = "auto")]
        from: Source,
        /// Where to build it: a directory that is empty or does not exist [default: where lessons look for
        /// it].
        directory: Option<PathBuf>,
    },
    /// Lists those that lessons find without being told: source, size, path.
    List,
    /// Says what is wrong with the root file system in a directory. Status 1 if there is anything.
    Check {
        /// The root file system, one of ours or any other.
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Build { from, directory } => build(from, directory),
        Command::List => list(),
        Command::Check { directory } => check(directory),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("rootfs-builder: {error:#}");
        match error.downcast_ref::<Interrupted>() {
            Some(Interrupted(signal)) => ExitCode::from(128 + *signal as u8),
            None => ExitCode::FAILURE,
        }
    })
}

fn build(source: Source, directory: Option<PathBuf>) -> Result<ExitCode> {
    let built = match directory {
        Some(directory) => rootfs_builder::build(source, &directory)?,
        None => rootfs_builder::build_default(source)?,
    };
    for left_out in &built.left_out {
        eprintln!("left out {}: {}", left_out.program, left_out.reason);
    }
    eprintln!("{} from {}", if built.is_new { "built" } else { "already there," }, built.source);
    print(&format!("{}\n", built.directory.display()))
}

fn list() -> Result<ExitCode> {
    let found = rootfs_builder::list()?;
    let lines = found.iter().map(|root| {
        format!("{:8} {:5} MiB  {}\n", root.source, root.size.div_ceil(1 << 20), root.directory.display())
    });
    print(&lines.collect::<String>())
}

fn check(directory: PathBuf) -> Result<ExitCode> {
    let problems = rootfs_builder::check(&directory)?;
    print(&problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Unlike `println!` this fails without a panic, as when the output is a closed pipe.
fn print(text: &str) -> Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).context("write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
