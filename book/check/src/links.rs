//! Links: every target in a page exists, and every heading can be linked to.
//!
//! A heading without an explicit `{#id}` gets one made of its words, which changes when a word does, and in a
//! translation always. Links to the web are checked for their form alone: a test that needs the network fails
//! without cause.

use std::collections::HashSet;
use std::path::Path;

use crate::Problem;
use crate::page::{self, Book, Page};

/// The tops of repository paths that a page names in code font (`chapters/ch00-chroot/src/main.rs`).
const TOPS: [&str; 6] = ["chapters/", "rootfs-builder/", "testing/", "scripts/", "book/", ".ci/"];

/// Checks headings, links and repository paths of every page.
pub fn check(book: &Book) -> Vec<Problem> {
    let mut problems = Vec::new();
    for page in &book.pages {
        problems.extend(check_headings(page));
        for (line, target) in &page.links {
            if let Err(what) = check_link(book, page, target) {
                problems.push(Problem::new(&page.file, *line, what));
            }
        }
        for (line, code) in &page.code {
            if TOPS.iter().any(|top| code.starts_with(top)) && !names_a_file(&book.root, code) {
                let what = format!("the repository has no {code}");
                problems.push(Problem::new(&page.file, *line, what));
            }
        }
    }
    problems
}

fn check_headings(page: &Page) -> Vec<Problem> {
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    for heading in &page.headings {
        let what = match &heading.id {
            None => format!("the heading \"{}\" has no {{#id}}", heading.title.trim()),
            Some(id) if !seen.insert(id) => format!("a second heading has the id `{id}`"),
            Some(_) => continue,
        };
        problems.push(Problem::new(&page.file, heading.line, what));
    }
    problems
}

fn check_link(book: &Book, page: &Page, target: &str) -> Result<(), String> {
    if let Some(rest) = target.strip_prefix("https://").or(target.strip_prefix("http://")) {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let well_formed = host.contains('.') && !target.contains(char::is_whitespace);
        return well_formed.then_some(()).ok_or(format!("not a web address: {target}"));
    }
    if target.contains("://") || target.starts_with("mailto:") || target.starts_with('/') {
        return Err(format!("neither a web address nor a path relative to this page: {target}"));
    }
    let (path, fragment) = match target.split_once('#') {
        Some((path, fragment)) => (path, Some(fragment)),
        None => (target, None),
    };
    let directory = page.file.parent().unwrap_or(Path::new(""));
    let file = match path {
        "" => page.file.clone(),
        path => page::normal(&directory.join(path)),
    };
    if !file.starts_with("book/src") {
        return Err(format!(
            "{target} leads out of the book, where a web server has nothing: name the file in code font"
        ));
    }
    if !book.root.join(&file).is_file() {
        return Err(format!("dead link: no file {}", file.display()));
    }
    let Some(target_page) = book.page(&file) else {
        let is_page = file.extension().is_some_and(|extension| extension == "md");
        let what = format!("{} is not in SUMMARY.md, so mdBook leaves it out", file.display());
        return if is_page { Err(what) } else { Ok(()) };
    };
    match fragment {
        Some(fragment) if !has_id(target_page, fragment) => {
            Err(format!("dead link: {} has no heading {{#{fragment}}}", file.display()))
        }
        _ => Ok(()),
    }
}

fn has_id(page: &Page, id: &str) -> bool {
    let heading = page.headings.iter().any(|heading| heading.id.as_deref() == Some(id));
    heading || page.text.contains(&format!(" id=\"{id}\""))
}

/// Whether `code` begins with the path of a file; `scripts/vm test` and `chapters/x/src/lib.rs:20` do. A
/// pattern such as `chapters/*/tests` or `chapters/chNN-name` names no single file and is let pass.
fn names_a_file(root: &Path, code: &str) -> bool {
    let path = code.split([' ', ':']).next().unwrap_or_default();
    let is_pattern = path.contains(['*', '<', '{', '…']) || path.contains("NN");
    is_pattern || root.join(path).exists()
}
