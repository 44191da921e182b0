//! `book-check`: the checks of the book as a command, for an author at work.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use book_check::session::{Run, Sessions};
use book_check::{Book, Problem, cgroups, check_text, html, session};
use clap::Parser;

/// Checks the book: includes, links, coverage of the lessons, and the output of every console session.
#[derive(Parser)]
struct Arguments {
    /// Write what commands really print into the pages.
    #[arg(long)]
    bless: bool,
    /// With --bless: write the pages that change below this directory, and leave those of the repository alone.
    #[arg(long, value_name = "DIR", requires = "bless")]
    into: Option<PathBuf>,
    /// Run the sessions of the pages whose path contains this, and no other check.
    #[arg(long, value_name = "PART")]
    page: Option<String>,
    /// Check the built HTML of this directory, and nothing else.
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// The repository.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// The directory of the built programs [default: that of this one]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let problems = check(&arguments)?;
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            println!("{count} problems");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn check(arguments: &Arguments) -> Result<Vec<Problem>> {
    if let Some(built) = &arguments.html {
        return html::check(built);
    }
    let root = arguments.root.canonicalize().context("find the repository")?;
    let book = Book::open(&root)?;
    let programs = match &arguments.programs {
        Some(programs) => programs.canonicalize().context("find the built programs")?,
        None => beside_this_program()?,
    };
    let mut problems = Vec::new();
    if arguments.page.is_none() && !arguments.bless {
        problems = check_text(&book)?;
    }
    // The kernel gives /proc/self to the effective user. proc(5)
    if std::fs::metadata("/proc/self").context("read /proc/self")?.uid() != 0 {
        let why = "the console sessions need root, which makes their world of namespaces and mounts";
        ensure!(!arguments.bless && arguments.page.is_none(), "{why}");
        println!("Not run: {why}.");
        return Ok(problems);
    }
    let sessions = match cgroups::available() {
        true => Sessions::All,
        false => Sessions::Plain,
    };
    let left_out = session::left_out(&book);
    if sessions == Sessions::Plain && left_out > 0 {
        println!(
            "Not run: {left_out} sessions that need cgroup version 2 with its controllers, or come after such a one. \
             The tests in the VM run them."
        );
    }
    let bless = arguments.bless.then_some(arguments.into.as_deref().unwrap_or(&root));
    let run = Run { programs: &programs, sessions, only: arguments.page.as_deref(), bless };
    problems.extend(session::check(&book, &run)?);
    Ok(problems)
}

fn beside_this_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let directory = this.parent().context("this program lies in no directory")?;
    Ok(directory.to_path_buf())
}
