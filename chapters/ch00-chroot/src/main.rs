// ANCHOR: imports
//! The lesson of chapter 0: a process whose files are not the host's, and how it gets out.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ch00_chroot::{Identity, enter, escape, exec, exit_code};
use clap::Parser;
use lesson::{Flags, parse, privileges};
use log::info;
// ANCHOR_END: imports

// ANCHOR: arguments
/// Run a command in a root directory of its own, by chroot(2)
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Once inside, break out again
    #[arg(long)]
    escape: bool,
    /// The command and its arguments; without it, `ls /`
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}
// ANCHOR_END: arguments

// ANCHOR: main
fn main() -> ExitCode {
    lesson::run(exit_code, || tell(parse()))
}

fn tell(arguments: Arguments) -> Result<u8> {
    let lesson = arguments.flags.start()?;
    let root = match arguments.flags.rootfs {
        Some(directory) => directory,
        None => rootfs_builder::default_root()?,
    };
    // ANCHOR_END: main

    // ANCHOR: before
    info!(target: "say", "Before: the root directory is the host's.");
    let host = Identity::of("/")?;
    info!(target: "kernel", "/ is {host}");
    info!(target: "kernel", "/ holds {}", names_in_root()?);
    // ANCHOR_END: before

    // ANCHOR: change
    privileges::acquire()?;
    info!(target: "say", "Change the root directory.");
    enter(&root)?;
    info!(target: "kernel", "/ is {}", Identity::of("/")?);
    info!(target: "kernel", "/ holds {}", names_in_root()?);
    // ANCHOR_END: change

    // ANCHOR: break_out
    if arguments.escape {
        info!(target: "say", "Break out of it.");
        let now = escape()?;
        let verdict =
            if now == host { "the host's root: escaped" } else { "not the host's root: still inside" };
        info!(target: "kernel", "/ is {now}: {verdict}");
    }
    // ANCHOR_END: break_out

    // ANCHOR: run
    lesson.show_view()?;
    info!(target: "say", "Become the command.");
    let mut command = arguments.command;
    if command.is_empty() {
        command = vec!["ls".into(), "/".into()];
    }
    match exec(&command, &ch00_chroot::exec::clean_environment())? {}
}

/// What `ls /` would print, in one line.
fn names_in_root() -> Result<String> {
    let entries = fs::read_dir("/").context("read the directory \"/\"")?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.context("read the directory \"/\"")?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}
// ANCHOR_END: run
