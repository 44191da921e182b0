//! Checks the book against the code and the kernel, so that a page can't drift from what it describes.
//!
//! mdBook renders a missing anchor as an empty block and a dead link as a link, and says nothing. Each module
//! here is one check; each returns the list of its [`Problem`]s:
//!
//! - [`includes`]: every `{{#include}}` finds its file and its anchor, every anchor is used.
//! - [`links`]: every link, fragment and repository path leads somewhere.
//! - [`coverage`]: every line of a lesson's `main.rs` stands in some page.
//! - [`public`]: every public item of a chapter's library is shown or named in some page.
//! - [`session`]: every `console` block prints what the page says.
//! - [`readme`]: the commands of README.md and CONTRIBUTING.md exist.
//! - [`html`]: the built book is whole and works without a network.

pub mod blank;
pub mod cgroups;
pub mod console;
pub mod coverage;
pub mod html;
pub mod includes;
pub mod links;
pub mod page;
pub mod public;
pub mod readme;
pub mod screen;
pub mod session;
pub mod source;
pub mod terminal;
pub mod typing;
pub mod world;

use std::fmt;
use std::path::{Path, PathBuf};

pub use page::Book;

/// Something that is wrong, at a line that a reader can open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Path of the file, relative to the repository.
    pub file: PathBuf,
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong, and what to do about it.
    pub what: String,
}

impl Problem {
    /// A problem at `line` (from 1) of `file`, a path relative to the repository.
    pub fn new(file: impl AsRef<Path>, line: usize, what: impl Into<String>) -> Problem {
        Problem { file: file.as_ref().to_path_buf(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Runs every check that only reads files; sessions and built HTML are checked by [`session::check`] and
/// [`html::check`].
pub fn check_text(book: &Book) -> anyhow::Result<Vec<Problem>> {
    let mut problems = book.problems.clone();
    problems.extend(includes::check(book)?);
    problems.extend(links::check(book));
    problems.extend(coverage::check(book)?);
    problems.extend(public::check(book)?);
    problems.extend(console::check(book));
    problems.extend(readme::check(book)?);
    Ok(problems)
}
