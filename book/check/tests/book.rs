//! The book of this repository is right.

use std::path::Path;

use book_check::session::{Run, Sessions};
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
    testing::needs!(
        RealProcessor,
        Root,
        UserNamespaces,
        Tool("newuidmap"),
        Tool("busybox"),
        Tool("python3"),
        Tool("nft")
    );
    let left_out = session::left_out(&book());
    if left_out > 0 {
        println!("{left_out} sessions are left to the test of those that need cgroup version 2");
    }
    assert_none(&run(Sessions::Plain));
}

#[test]
fn every_session_that_needs_cgroup2_prints_what_its_page_shows() {
    testing::needs!(
        Root,
        CgroupV2,
        CgroupController("memory"),
        UserNamespaces,
        Tool("newuidmap"),
        Tool("busybox"),
        Tool("python3")
    );
    assert_none(&run(Sessions::NeedingCgroup2));
}

fn run(sessions: Sessions) -> Vec<Problem> {
    // Cargo puts the programs of the workspace beside the directory of this test: target/debug/deps.
    let this = std::env::current_exe().unwrap();
    let programs = this.ancestors().nth(2).unwrap();
    let book = book();
    let bless = std::env::var_os("HULL_BLESS").map(|_| book.root.as_path());
    session::check(&book, &Run { programs, sessions, only: None, bless }).unwrap()
}
