//! The book of this repository is right.

use std::path::{Path, PathBuf};

use book_check::{Book, Problem, check_text, session};

fn book() -> Book {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Book::open(&root.canonicalize().unwrap()).unwrap()
}

#[track_caller]
fn assert_none(problems: &[Problem]) {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(lines.is_empty(), "{} problems:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn every_include_link_line_and_public_item_of_the_book_is_right() {
    assert_none(&check_text(&book()).unwrap());
}

#[test]
fn every_console_session_of_the_book_prints_what_its_page_shows() {
    testing::needs!(Root, UserNamespaces, Tool("newuidmap"), Tool("busybox"), Tool("python3"));
    // Cargo puts the programs of the workspace beside the directory of this test: target/debug/deps.
    let this = std::env::current_exe().unwrap();
    let programs: PathBuf = this.ancestors().nth(2).unwrap().to_path_buf();
    let bless = std::env::var_os("HULL_BLESS").is_some();
    assert_none(&session::check(&book(), &programs, None, bless).unwrap());
}
