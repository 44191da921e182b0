//! The book as text: the pages in the order of SUMMARY.md, and what the other checks ask of a page.
//!
//! Markdown is read with pulldown-cmark, the parser that mdBook uses, so that both see the same headings and
//! links. <https://rust-lang.github.io/mdBook/format/summary.html>

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::Problem;

/// The whole book, read once.
pub struct Book {
    /// The repository that the book describes.
    pub root: PathBuf,
    /// Every page that SUMMARY.md lists, in its order.
    pub pages: Vec<Page>,
    /// What is wrong with the list itself.
    pub problems: Vec<Problem>,
}

/// One Markdown file and what stands in it.
pub struct Page {
    /// Path relative to the repository, for example `book/src/introduction.md`.
    pub file: PathBuf,
    /// The text as it is on disk.
    pub text: String,
    /// Headings, with the line they stand on.
    pub headings: Vec<Heading>,
    /// Links and images: the line and the target as written.
    pub links: Vec<(usize, String)>,
    /// Inline code (`like this`): the line and the text.
    pub code: Vec<(usize, String)>,
}

/// A heading of a page.
pub struct Heading {
    /// Line of the heading, from 1.
    pub line: usize,
    /// The heading's words.
    pub title: String,
    /// The `{#id}` that it carries.
    pub id: Option<String>,
}

impl Book {
    /// Reads the book of the repository at `root`: `book/src/SUMMARY.md` and every page that it lists.
    pub fn open(root: &Path) -> Result<Book> {
        let source = root.join("book/src");
        let summary = Page::read(root, Path::new("book/src/SUMMARY.md"))?;
        let mut pages = Vec::new();
        let mut problems = Vec::new();
        let mut listed = HashSet::new();
        for (line, target) in &summary.links {
            let file = Path::new("book/src").join(target);
            if !root.join(&file).is_file() {
                let what = format!("no such page: {target}");
                problems.push(Problem::new(&summary.file, *line, what));
            } else if !listed.insert(file.clone()) {
                let what = format!("the page {target} is listed twice");
                problems.push(Problem::new(&summary.file, *line, what));
            } else {
                pages.push(Page::read(root, &file)?);
            }
        }
        for file in files_below(&source)? {
            let file = relative(root, &file);
            let is_page = file.extension().is_some_and(|extension| extension == "md");
            if is_page && file != summary.file && !listed.contains(&file) {
                problems.push(Problem::new(file, 1, "SUMMARY.md does not list this page"));
            }
        }
        let root = root.to_path_buf();
        Ok(Book { root, pages, problems })
    }

    /// The page at `file`, a path relative to the repository.
    pub fn page(&self, file: &Path) -> Option<&Page> {
        self.pages.iter().find(|page| page.file == file)
    }

    /// The chapter crates (`chapters/chNN-name`), relative to the repository, in order.
    pub fn chapters(&self) -> Result<Vec<PathBuf>> {
        let directory = self.root.join("chapters");
        let mut chapters = Vec::new();
        for entry in read_dir(&directory)? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_prefix("ch").and_then(|rest| rest.get(..2));
            let numbered = number.is_some_and(|digits| digits.parse::<u8>().is_ok());
            if numbered && entry.is_dir() {
                chapters.push(relative(&self.root, &entry));
            }
        }
        Ok(chapters)
    }
}

impl Page {
    /// Reads the page at `file`, a path relative to `root`.
    pub fn read(root: &Path, file: &Path) -> Result<Page> {
        let path = root.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
        let mut page = Page {
            file: file.to_path_buf(),
            text: String::new(),
            headings: Vec::new(),
            links: Vec::new(),
            code: Vec::new(),
        };
        page.parse(&text);
        page.text = text;
        Ok(page)
    }

    fn parse(&mut self, text: &str) {
        let line_of = |range: &Range<usize>| 1 + text[..range.start].matches('\n').count();
        let options = Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_HEADING_ATTRIBUTES
            | Options::ENABLE_GFM;
        let mut in_heading = false;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            let line = line_of(&range);
            match event {
                Event::Start(Tag::Heading { id, .. }) => {
                    in_heading = true;
                    let (title, id) = (String::new(), id.map(|id| id.to_string()));
                    self.headings.push(Heading { line, title, id });
                }
                Event::End(TagEnd::Heading(_)) => in_heading = false,
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    self.links.push((line, dest_url.to_string()));
                }
                Event::Code(code) => {
                    self.append_to_title(in_heading, &code);
                    self.code.push((line, code.to_string()));
                }
                Event::Text(words) => self.append_to_title(in_heading, &words),
                Event::Html(html) | Event::InlineHtml(html) => {
                    self.links.extend(html_targets(&html).map(|target| (line, target)));
                }
                _ => {}
            }
        }
    }

    fn append_to_title(&mut self, in_heading: bool, words: &str) {
        if let (true, Some(heading)) = (in_heading, self.headings.last_mut()) {
            heading.title.push_str(words);
        }
    }
}

/// The targets of `href` and `src` attributes in a piece of HTML.
fn html_targets(html: &str) -> impl Iterator<Item = String> {
    let pattern = regex::Regex::new(r#"\b(?:href|src)="([^"]*)""#).expect("a valid pattern");
    let targets: Vec<String> = pattern.captures_iter(html).map(|found| found[1].to_string()).collect();
    targets.into_iter()
}

/// `path` without `root` in front.
pub fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_path_buf()
}

/// `path` with its `.` and `..` resolved by its text alone.
pub fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if result.file_name().is_some() => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

/// The entries of a directory, sorted; none where there is no such directory.
pub fn read_dir(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("read {directory:?}"))? {
        entries.push(entry.with_context(|| format!("read {directory:?}"))?.path());
    }
    entries.sort();
    Ok(entries)
}

/// Every file below a directory, sorted.
pub fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in read_dir(directory)? {
        if entry.is_symlink() {
            continue;
        } else if entry.is_dir() {
            files.extend(files_below(&entry)?);
        } else {
            files.push(entry);
        }
    }
    Ok(files)
}
