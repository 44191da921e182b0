//! Coverage: every line of a lesson's program stands in some page, so that a reader who has read the chapter
//! has read the program.
//!
//! The structs that only spell out the command line (clap's derives) are set aside: `--help` shows them
//! better.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use syn::Item;
use syn::spanned::Spanned;

use crate::Problem;
use crate::includes;
use crate::page::{self, Book};
use crate::source::{self, Module};

/// The derives that make a struct or enum part of the command line.
const ARGUMENTS: [&str; 4] = ["Parser", "Args", "Subcommand", "ValueEnum"];

/// Reports every run of lines that no page shows, in the programs of every chapter.
pub fn check(book: &Book) -> Result<Vec<Problem>> {
    let shown = includes::shown(book)?;
    let nothing = BTreeSet::new();
    let mut problems = Vec::new();
    for chapter in book.chapters()? {
        for program in programs(book, &chapter)? {
            for module in Module::open(&program)?.all() {
                let file = page::relative(&book.root, &module.file);
                let lines = shown.get(&file).unwrap_or(&nothing);
                problems.extend(uncovered(module, lines).into_iter().map(|(first, last)| {
                    let what = match last - first {
                        0 => "no page shows this line".to_string(),
                        _ => format!("no page shows lines {first} to {last}"),
                    };
                    Problem::new(&file, first, what)
                }));
            }
        }
    }
    Ok(problems)
}

/// The roots of a crate's programs: `src/main.rs` and `src/bin/*.rs`.
fn programs(book: &Book, chapter: &std::path::Path) -> Result<Vec<PathBuf>> {
    let source = book.root.join(chapter).join("src");
    let mut programs = page::read_dir(&source.join("bin"))?;
    programs.push(source.join("main.rs"));
    programs.retain(|path| path.is_file());
    Ok(programs)
}

/// Runs of lines, first and last, that should be shown and are not; blank lines neither make nor break a run.
fn uncovered(module: &Module, shown: &BTreeSet<usize>) -> Vec<(usize, usize)> {
    let arguments = argument_lines(&module.items);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut continues = false;
    for (index, text) in module.text.lines().enumerate() {
        let line = index + 1;
        if text.trim().is_empty() {
            continue;
        }
        if shown.contains(&line) || arguments.contains(&line) || includes::is_anchor(text) {
            continues = false;
            continue;
        }
        match runs.last_mut() {
            Some(run) if continues => run.1 = line,
            _ => runs.push((line, line)),
        }
        continues = true;
    }
    runs
}

fn argument_lines(items: &[Item]) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    for item in items {
        let attributes = match item {
            Item::Struct(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            _ => continue,
        };
        if source::derives(attributes, &ARGUMENTS) {
            let span = item.span();
            lines.extend(span.start().line..=span.end().line);
        }
    }
    lines
}
