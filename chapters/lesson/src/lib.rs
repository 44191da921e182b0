//! What every lesson's main shares: narration, the view, privileges, doctor.
//!
//! A lesson's `main` reads as the lesson is told. This crate holds what all of them need and none of them
//! teaches. It knows no chapter, and no library uses it.

mod narration;
pub mod privileges;
pub mod probe;
pub mod view;

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nix::errno::Errno;

use narration::Narration;
use view::View;

/// The exit status where the lesson itself failed. 126 and 127 are for a command that can't be executed or
/// found.
const FAILED: u8 = 125;

// ANCHOR: flags
/// The flags that every lesson has.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// The root file system to use; without it, a small one under target/rootfs (chapter 1: the host's)
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// No narration: only what the command itself prints
    #[arg(long, short)]
    pub quiet: bool,
    /// Wait for Enter before each step
    #[arg(long, conflicts_with = "quiet")]
    pub step: bool,
    /// Show all that the process sees, beside what the host sees
    #[arg(long)]
    pub view: bool,
}
// ANCHOR_END: flags

// ANCHOR: lesson
/// A lesson that has begun.
#[derive(Debug)]
pub struct Lesson {
    narration: &'static Narration,
    flags: Flags,
    /// What the host sees, and the host's /proc: in its new root a child may have none of its own.
    before: Option<(View, File)>,
}

impl Flags {
    /// Begins the lesson: from here on it narrates.
    ///
    /// # Errors
    ///
    /// `--step` without a terminal, `--view` without /proc.
    pub fn start(&self) -> Result<Lesson> {
        let narration = Narration::start(self.quiet, self.step)?;
        let lesson = Lesson { narration, flags: self.clone(), before: None };
        if self.view { lesson.look() } else { Ok(lesson) }
    }
}

impl Lesson {
    /// Reads what the host sees, so that some of it can be shown without `--view` too: [`Lesson::show_rows`].
    ///
    /// # Errors
    ///
    /// Without /proc.
    pub fn look(mut self) -> Result<Lesson> {
        let proc = File::open("/proc").context("open \"/proc\"")?;
        self.before = Some((View::here()?, proc));
        Ok(self)
    }

    /// The descriptors that a child must keep to narrate and to show its view. All are close-on-exec.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let proc = self.before.iter().map(|(_, proc)| proc.as_fd());
        self.narration.descriptors().chain(proc).collect()
    }

    /// With `--view`, prints what this process sees beside what the host saw when the lesson began.
    ///
    /// # Errors
    ///
    /// Where the process can't be read in /proc.
    pub fn show_view(&self) -> Result<()> {
        if self.flags.view { self.show(None) } else { Ok(()) }
    }

    /// Prints some rows of the view, by their titles (`links`, `routes`), after a [`Lesson::look`]: this
    /// process's beside the host's. Not with `--quiet`, and not with `--view`, whose table has them all.
    ///
    /// # Errors
    ///
    /// As [`Lesson::show_view`].
    pub fn show_rows(&self, titles: &[&str]) -> Result<()> {
        if self.flags.quiet || self.flags.view { Ok(()) } else { self.show(Some(titles)) }
    }

    /// Prints some rows of what the process `other` sees beside what this one sees; with `--view` all of them. Not
    /// with `--quiet` alone.
    ///
    /// # Errors
    ///
    /// Where there is no such process.
    pub fn show_beside(&self, other: i32, rows: &[&str]) -> Result<()> {
        let rows = if self.flags.view { None } else { Some(rows) };
        if self.flags.quiet && rows.is_some() {
            return Ok(());
        }
        let name = format!("process {other}");
        self.print_table(("this process", &View::here()?), (&name, &View::of(other)?), rows);
        Ok(())
    }

    fn show(&self, rows: Option<&[&str]>) -> Result<()> {
        let (host, proc) = self.before.as_ref().context("the lesson has not looked at the host")?;
        let here = View::through(proc, "self").context("read what this process sees")?;
        self.print_table(("the host", host), ("this process", &here), rows);
        Ok(())
    }

    fn print_table(&self, left: (&str, &View), right: (&str, &View), rows: Option<&[&str]>) {
        let width = view::table::terminal_width(&std::io::stderr()).unwrap_or(110);
        self.narration.print(&view::table::table(left, right, rows, self.narration.colour(), width));
    }
}
// ANCHOR_END: lesson

/// Does what an earlier chapter has told, without telling it again. Warnings are told.
pub fn untold<T>(work: impl FnOnce() -> T) -> T {
    let level = log::max_level();
    log::set_max_level(level.min(log::LevelFilter::Warn));
    let result = work();
    log::set_max_level(level);
    result
}

/// Reads the command line. Where it is wrong, says so and ends with 125; `--help` ends with 0.
pub fn parse<Arguments: Parser>() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        let status = if error.use_stderr() { FAILED.into() } else { 0 };
        // Nobody can be told that nobody can be told.
        error.print().unwrap_or_default();
        std::process::exit(status)
    })
}

/// The frame of every `main`: runs `lesson`, whose result is the exit status. An error is printed with its
/// causes, and `exit_code` says which status it means.
pub fn run(exit_code: fn(&anyhow::Error) -> u8, lesson: impl FnOnce() -> Result<u8>) -> ExitCode {
    match lesson() {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            exit_code(&error).into()
        }
    }
}

/// The error's chain in one line, each errno in words and by name: `chroot "/x": Not a directory (ENOTDIR)`.
pub fn describe(error: &anyhow::Error) -> String {
    let describe_one = |cause: &(dyn Error + 'static)| match errno_of(cause) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => cause.to_string(),
    };
    error.chain().map(describe_one).collect::<Vec<_>>().join(": ")
}

/// The errno that one cause in a chain is, if it is one: nix's own, or that of the standard library.
fn errno_of(cause: &(dyn Error + 'static)) -> Option<Errno> {
    let from_std = || cause.downcast_ref::<std::io::Error>()?.raw_os_error().map(Errno::from_raw);
    cause.downcast_ref::<Errno>().copied().or_else(from_std)
}
