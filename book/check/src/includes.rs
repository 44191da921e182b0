//! Includes: a listing in a page is text of a source file between `ANCHOR: name` and `ANCHOR_END: name`.
//!
//! mdBook logs a missing file, exits with 0, and turns a missing anchor into an empty block in silence.
//! <https://rust-lang.github.io/mdBook/format/mdbook.html#including-files>

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use regex::Regex;

use crate::page::{self, Book};
use crate::{Problem, console};

/// The lines (from 1) of each source file that some page shows.
pub type Shown = HashMap<PathBuf, BTreeSet<usize>>;

/// The directories whose files carry anchors.
const SOURCES: [&str; 4] = ["chapters", "rootfs-builder", "testing", "scripts"];

/// A directive such as `{{#include ../../chapters/ch00-chroot/src/main.rs:steps}}`.
struct Include {
    line: usize,
    file: PathBuf,
    anchor: Option<String>,
}

/// The text between a pair of anchor comments.
struct Anchor {
    line: usize,
    /// The lines inside, without those that are anchors themselves.
    lines: Vec<usize>,
}

/// Checks every include of every page, and every anchor of every source file.
pub fn check(book: &Book) -> Result<Vec<Problem>> {
    let (_, mut problems, used) = resolve(book)?;
    for directory in SOURCES {
        for path in page::files_below(&book.root.join(directory))? {
            let file = page::relative(&book.root, &path);
            // A file that is not text has no anchors.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let (anchors, faults) = anchors(&file, &text);
            problems.extend(faults);
            for (name, anchor) in anchors {
                if !used.contains(&(file.clone(), name.clone())) {
                    let what = format!("no page includes the anchor `{name}`");
                    problems.push(Problem::new(&file, anchor.line, what));
                }
            }
        }
    }
    Ok(problems)
}

/// The lines of source files that the book shows.
pub fn shown(book: &Book) -> Result<Shown> {
    Ok(resolve(book)?.0)
}

/// Whether a line is one half of a pair of anchor comments, which no page shows.
pub fn is_anchor(line: &str) -> bool {
    pattern(r"ANCHOR(_END)?:\s*[\w-]+").is_match(line)
}

type Used = BTreeSet<(PathBuf, String)>;

fn resolve(book: &Book) -> Result<(Shown, Vec<Problem>, Used)> {
    let (mut shown, mut used) = (Shown::new(), Used::new());
    let mut problems = Vec::new();
    for page in &book.pages {
        let (includes, faults) = includes(&page.file, &page.text);
        problems.extend(faults);
        for include in includes {
            let path = book.root.join(&include.file);
            if !path.is_file() {
                let what = format!("no such file: {}", include.file.display());
                problems.push(Problem::new(&page.file, include.line, what));
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
            match lines_of(&include, &text) {
                Ok(lines) => shown.entry(include.file.clone()).or_default().extend(lines),
                Err(what) => problems.push(Problem::new(&page.file, include.line, what)),
            }
            if let Some(anchor) = include.anchor {
                used.insert((include.file, anchor));
            }
        }
    }
    Ok((shown, problems, used))
}

/// The lines that an include brings into the page, or why it brings none.
fn lines_of(include: &Include, text: &str) -> Result<Vec<usize>, String> {
    let file = include.file.display();
    let Some(name) = &include.anchor else {
        if text.lines().any(is_anchor) {
            return Err(format!("{file} has anchors, which the page would show: name one"));
        }
        return Ok((1..=text.lines().count()).collect());
    };
    if name.chars().all(|letter| letter.is_ascii_digit() || letter == ':') {
        return Err(format!("line numbers move when {file} changes: use an anchor"));
    }
    let (anchors, _) = anchors(&include.file, text);
    match anchors.get(name) {
        None => Err(format!("{file} has no anchor `{name}`")),
        Some(anchor) if anchor.lines.is_empty() => Err(format!("the anchor `{name}` of {file} is empty")),
        Some(anchor) => Ok(anchor.lines.clone()),
    }
}

/// The includes of a page, and the directives that are none.
fn includes(page: &Path, text: &str) -> (Vec<Include>, Vec<Problem>) {
    let directive = pattern(r"(\\?)\{\{#\s*(\w+)\s*([^}]*?)\s*\}\}");
    let (mut includes, mut problems) = (Vec::new(), Vec::new());
    for (index, content) in text.lines().enumerate() {
        for found in directive.captures_iter(content) {
            let (escaped, kind, target) = (!found[1].is_empty(), &found[2], &found[3]);
            if escaped || kind == "title" {
                continue;
            }
            if !["include", "rustdoc_include"].contains(&kind) {
                let what = format!("mdBook has no directive `{kind}` that the book uses");
                problems.push(Problem::new(page, index + 1, what));
                continue;
            }
            let (file, anchor) = match target.split_once(':') {
                Some((file, anchor)) => (file, Some(anchor.to_string())),
                None => (target, None),
            };
            let directory = page.parent().unwrap_or(Path::new(""));
            let file = page::normal(&directory.join(file));
            let line = index + 1;
            includes.push(Include { line, file, anchor });
        }
    }
    problems.extend(handwritten(page, text));
    (includes, problems)
}

/// Rust in a page that is not included from a crate: nothing compiles it, so it goes stale.
fn handwritten(page: &Path, text: &str) -> Vec<Problem> {
    let listings = console::fences(text).into_iter();
    let rust = listings.filter(|fence| fence.language() == "rust");
    let written = rust.filter(|fence| fence.lines.iter().any(|line| !line.contains("{{#")));
    written
        .map(|fence| {
            let what =
                "a Rust listing holds nothing but {{#include}}s: nothing compiles what is typed into a page";
            Problem::new(page, fence.line, what)
        })
        .collect()
}

/// The anchors of a source file by name, and what is wrong with them.
fn anchors(file: &Path, text: &str) -> (BTreeMap<String, Anchor>, Vec<Problem>) {
    let (start, end) = (pattern(r"ANCHOR:\s*([\w-]+)"), pattern(r"ANCHOR_END:\s*([\w-]+)"));
    let mut anchors: BTreeMap<String, Anchor> = BTreeMap::new();
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut problems = Vec::new();
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        if let Some(found) = start.captures(content) {
            let name = found[1].to_string();
            if anchors.contains_key(&name) {
                let what = format!("a second anchor `{name}` in the same file: mdBook shows the first only");
                problems.push(Problem::new(file, line, what));
                continue;
            }
            open.insert(name.clone());
            let lines = Vec::new();
            anchors.insert(name, Anchor { line, lines });
        } else if let Some(found) = end.captures(content) {
            if !open.remove(&found[1]) {
                let what = format!("the anchor `{}` ends here and begins nowhere", &found[1]);
                problems.push(Problem::new(file, line, what));
            }
        } else if !content.trim().is_empty() {
            for name in &open {
                anchors.get_mut(name).expect("open").lines.push(line);
            }
        }
    }
    for name in open {
        let what = format!("the anchor `{name}` has no end: the rest of the file would be shown");
        problems.push(Problem::new(file, anchors[&name].line, what));
    }
    (anchors, problems)
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}
