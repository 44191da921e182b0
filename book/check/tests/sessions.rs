//! The runner of console sessions tells a right page from a wrong one, and leaves nothing behind.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use book_check::session::{Run, Sessions};
use book_check::{Problem, cgroups, session};
use common::{Fixture, assert_only, fixtures};

const SESSION: &str = "book/src/ch00-sample/session.md";
/// The page with a block that needs cgroup version 2.
const CGROUPS: &str = "book/src/ch00-sample/cgroups.md";

fn run(fixture: &Fixture, bless: bool) -> Vec<Problem> {
    run_some(fixture, "session.md", Sessions::Plain, bless.then_some(fixture.root()))
}

fn run_some(fixture: &Fixture, page: &str, sessions: Sessions, bless: Option<&Path>) -> Vec<Problem> {
    let programs = fixtures().join("programs");
    session::check(&fixture.book(), &Run { programs: &programs, sessions, only: Some(page), bless }).unwrap()
}

#[test]
fn a_page_that_shows_the_truth_passes() {
    testing::needs!(Root, UserNamespaces);
    assert_eq!(run(&Fixture::new(), false), []);
}

#[test]
fn a_wrong_output_is_found_and_blessed() {
    testing::needs!(Root, UserNamespaces);
    let fixture = Fixture::with_fault(SESSION, "\nlearner\n", "\nroot\n");
    let text = fs::read_to_string(fixture.root().join(SESSION)).unwrap();
    assert_only(&run(&fixture, false), "book/src/ch00-sample/session.md:9", "really: learner");

    // What differs is rewritten, and nothing else: not even an inode number that varies.
    assert_eq!(run(&fixture, true), []);
    let blessed = fs::read_to_string(fixture.root().join(SESSION)).unwrap();
    assert_eq!(blessed, text.replace("\nroot\n", "\nlearner\n"));
}

#[test]
fn a_status_that_the_page_does_not_show_is_found() {
    testing::needs!(Root, UserNamespaces);
    let fixture = Fixture::with_fault(SESSION, "[exit status: 3]\n", "");
    assert_only(&run(&fixture, false), "book/src/ch00-sample/session.md:6", "[exit status: 3]");
}

#[test]
fn an_inner_program_that_answers_otherwise_is_found() {
    testing::needs!(Root, UserNamespaces);
    let fixture = Fixture::with_fault(SESSION, "\n42\n", "\n43\n");
    assert_only(&run(&fixture, false), "book/src/ch00-sample/session.md:42", "really: 42");
}

#[test]
fn an_inner_program_that_ends_too_early_is_found() {
    testing::needs!(Root, UserNamespaces);
    let fixture = Fixture::with_fault(SESSION, "/ # exit\n", "/ # exit\n/ # exit\n");
    assert_only(&run(&fixture, false), "book/src/ch00-sample/session.md:42", "the program has ended");
}

#[test]
fn a_control_c_ends_what_was_typed_at_an_inner_prompt() {
    testing::needs!(Root, UserNamespaces);
    let typed = "/ # sleep 100\n^C\n/ # echo $?\n130\n/ # exit 0\n";
    let fixture = Fixture::with_fault(SESSION, "/ # exit\n", typed);
    assert_eq!(run(&fixture, false), []);
}

#[test]
fn no_process_of_a_page_outlives_it() {
    testing::needs!(Root, UserNamespaces);
    // The number of seconds marks the process among those of the machine.
    let background = "$ (setsid sleep 98754321 &)\n$ hostname;";
    let fixture = Fixture::with_fault(SESSION, "$ hostname;", background);
    assert_eq!(run(&fixture, false), []);
    testing::poll(Duration::from_secs(30), || processes("98754321").is_empty().then_some(()));
}

/// The command lines of the machine's processes that contain `part`.
fn processes(part: &str) -> Vec<String> {
    let directories = fs::read_dir("/proc").unwrap().flatten();
    let files = directories.map(|entry| entry.path().join("cmdline"));
    let lines = files.filter_map(|file: PathBuf| fs::read_to_string(file).ok());
    lines.filter(|line| line.contains(part)).collect()
}

#[test]
fn where_cgroup_version_2_is_missing_its_block_and_those_after_it_are_left_out() {
    testing::needs!(Root, UserNamespaces);
    assert_eq!(session::left_out(&Fixture::new().book()), 2);
    // Both are wrong here, and the one before them is right.
    let fixture = Fixture::with_fault(CGROUPS, "session-1.scope", "no-such.scope");
    assert_eq!(run_some(&fixture, "cgroups.md", Sessions::Plain, None), []);
    let fixture = Fixture::with_fault(CGROUPS, "\nlaptop\n", "\nserver\n");
    assert_only(&run_some(&fixture, "cgroups.md", Sessions::Plain, None), &format!("{CGROUPS}:4"), "laptop");
    // A page without such a block is none of those that need it.
    let fixture = Fixture::with_fault(SESSION, "\nlearner\n", "\nroot\n");
    assert_eq!(run_some(&fixture, "session.md", Sessions::NeedingCgroup2, None), []);
}

#[test]
fn a_page_that_needs_cgroup_version_2_runs_in_the_cgroups_of_a_laptop_which_are_gone_afterwards() {
    testing::needs!(Root, UserNamespaces, CgroupV2, CgroupController("memory"), CgroupController("io"));
    assert!(cgroups::available());
    assert_eq!(run_some(&Fixture::new(), "cgroups.md", Sessions::NeedingCgroup2, None), []);
    let prefix = format!("hull-book-{}-", std::process::id());
    let left = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(&prefix)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_page_can_be_blessed_into_another_directory() {
    testing::needs!(Root, UserNamespaces);
    let fixture = Fixture::with_fault(CGROUPS, "\nlaptop\n", "\nserver\n");
    let wrong = fs::read_to_string(fixture.root().join(CGROUPS)).unwrap();
    let copy = tempfile::tempdir().unwrap();
    assert_eq!(run_some(&fixture, "cgroups.md", Sessions::Plain, Some(copy.path())), []);
    let blessed = fs::read_to_string(copy.path().join(CGROUPS)).unwrap();
    assert_eq!(blessed, wrong.replace("\nserver\n", "\nlaptop\n"));
    assert_eq!(fs::read_to_string(fixture.root().join(CGROUPS)).unwrap(), wrong);
}
