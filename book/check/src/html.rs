//! The built book: what a reader opens, from a file or a web server, with no network.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use regex::Regex;

use crate::Problem;
use crate::page;

/// Checks the HTML below `built`: links, fragments, nothing fetched from elsewhere, and a search index with
/// every page.
pub fn check(built: &Path) -> Result<Vec<Problem>> {
    let mut texts = HashMap::new();
    let mut names = BTreeSet::new();
    for path in page::files_below(built)? {
        let file = page::relative(built, &path);
        let extension = path.extension().unwrap_or_default();
        names.insert(file.clone());
        if extension == "html" || extension == "css" {
            let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
            texts.insert(file, text);
        }
    }
    let mut problems = Vec::new();
    for (file, text) in &texts {
        problems.extend(check_external(file, text));
        if file.extension().is_some_and(|extension| extension == "html") {
            problems.extend(check_links(&texts, &names, file, text));
        }
    }
    problems.extend(check_search(built, &names)?);
    problems.sort();
    Ok(problems)
}

/// What a browser would fetch from another place: a script, a style sheet, a font, a picture.
fn check_external(file: &Path, text: &str) -> Vec<Problem> {
    let fetched = pattern(
        r#"src="(?:https?:)?//[^"]+"|<link[^>]+href="(?:https?:)?//[^"]+"|url\(["']?https?:[^)]+\)|@import[^;]+https?:[^;]+"#,
    );
    let found = fetched.find_iter(text);
    found
        .map(|found| {
            let line = line_of(text, found.start());
            let what = format!("fetched from the network: {}", found.as_str());
            Problem::new(file, line, what)
        })
        .collect()
}

fn check_links(
    texts: &HashMap<PathBuf, String>,
    names: &BTreeSet<PathBuf>,
    file: &Path,
    text: &str,
) -> Vec<Problem> {
    let link = pattern(r#"<(?:a|img|script|link|iframe)\b[^>]*\b(?:href|src)="([^"]*)""#);
    let directory = file.parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    for found in link.captures_iter(text) {
        let target = &found[1];
        if target.contains("://") || target.starts_with("javascript:") || target.starts_with("mailto:") {
            continue;
        }
        let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
        let goal = match path {
            "" => file.to_path_buf(),
            path => page::normal(&directory.join(path)),
        };
        let line = line_of(text, found.get(0).map_or(0, |whole| whole.start()));
        if !names.contains(&goal) {
            problems.push(Problem::new(file, line, format!("dead link: {target}")));
        } else if !fragment.is_empty() && texts.get(&goal).is_some_and(|goal| !has_id(goal, fragment)) {
            problems.push(Problem::new(file, line, format!("dead fragment: {target}")));
        }
    }
    problems
}

fn has_id(text: &str, id: &str) -> bool {
    text.contains(&format!(" id=\"{id}\"")) || text.contains(&format!(" name=\"{id}\""))
}

/// Search works from a file when its index is a script: a browser refuses to fetch data for a `file://` page.
fn check_search(built: &Path, names: &BTreeSet<PathBuf>) -> Result<Vec<Problem>> {
    let index = names.iter().find(|name| {
        let name = name.to_string_lossy();
        name.starts_with("searchindex") && name.ends_with(".js")
    });
    let Some(index) = index else {
        return Ok(vec![Problem::new("searchindex.js", 1, "the book has no search index")]);
    };
    let path = built.join(index);
    let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let generated = ["index.html", "print.html", "toc.html"].map(Path::new);
    let mut problems = Vec::new();
    for page in names.iter().filter(|name| name.extension().is_some_and(|kind| kind == "html")) {
        let is_generated = generated.contains(&page.as_path());
        if !is_generated && !text.contains(&format!("{}#", page.display())) {
            let what = format!("the search finds nothing of {}", page.display());
            problems.push(Problem::new(index, 1, what));
        }
    }
    Ok(problems)
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}
