//! `book-check`: the checks of the book as a command, for an author at work.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use book_check::{Book, Problem, check_text, html, session};
use clap::Parser;

/// Checks the book: includes, links, coverage of the lessons, and the output of every console session.
#[derive(Parser)]
struct Arguments {
    /// Write what commands really print into the pages.
    #[arg(long)]
    bless: bool,
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
    let only = arguments.page.as_deref();
    problems.extend(session::check(&book, &programs, only, arguments.bless)?);
    Ok(problems)
}

fn beside_this_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let directory = this.parent().context("this program lies in no directory")?;
    Ok(directory.to_path_buf())
}
