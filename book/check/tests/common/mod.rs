//! A copy of the fixture's repository in which a test plants a fault.

use std::fs;
use std::path::{Path, PathBuf};

use book_check::{Book, Problem};

/// A repository of a test's own; removed at its end.
pub struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    /// A copy in which no check finds a problem.
    pub fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        copy(&fixtures().join("repository"), directory.path());
        Fixture { directory }
    }

    /// A copy with `from` replaced by `to` in one file.
    pub fn with_fault(file: &str, from: &str, to: &str) -> Fixture {
        let fixture = Fixture::new();
        let path = fixture.root().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?} to replace");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        fixture
    }

    /// Where the copy is.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The copy's book.
    pub fn book(&self) -> Book {
        Book::open(self.root()).unwrap()
    }
}

/// Fails unless there is exactly one problem, at `place` (`file:line`), that says `what`.
#[track_caller]
pub fn assert_only(problems: &[Problem], place: &str, what: &str) {
    let [problem] = problems else {
        panic!("expected one problem that says {what:?}, got {problems:#?}");
    };
    let text = problem.to_string();
    assert!(text.starts_with(&format!("{place}: ")), "not at {place}: {text}");
    assert!(text.contains(what), "does not say {what:?}: {text}");
}

/// The directory of all fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => drop(fs::copy(&entry, &target).unwrap()),
        }
    }
}
