//! Each check finds a fault planted in a book that is otherwise right.

mod common;

use std::fs;

use book_check::{check_text, html};
use common::{Fixture, assert_only};

const CODE: &str = "book/src/ch00-sample/code.md";
const SESSION: &str = "book/src/ch00-sample/session.md";
const INTRODUCTION: &str = "book/src/introduction.md";
const MAIN: &str = "chapters/ch00-sample/src/main.rs";
const LIBRARY: &str = "chapters/ch00-sample/src/lib.rs";

/// Plants one fault and expects one problem.
#[track_caller]
fn finds(file: &str, from: &str, to: &str, place: &str, what: &str) {
    let fixture = Fixture::with_fault(file, from, to);
    assert_only(&check_text(&fixture.book()).unwrap(), place, what);
}

#[test]
fn a_right_book_has_no_problem() {
    let problems = check_text(&Fixture::new().book()).unwrap();
    assert_eq!(problems, []);
}

#[test]
fn an_include_of_a_missing_file_is_found() {
    let missing = "```rust\n{{#include ../none.rs:steps}}\n```\n\n```rust";
    finds(CODE, "```rust", missing, "book/src/ch00-sample/code.md:6", "no such file: book/src/none.rs");
}

#[test]
fn an_include_of_a_missing_anchor_is_found() {
    let missing = "```rust\n{{#include ../../../chapters/ch00-sample/src/main.rs:none}}\n```\n\n```rust";
    finds(CODE, "```rust", missing, "book/src/ch00-sample/code.md:6", "has no anchor `none`");
}

#[test]
fn an_empty_anchor_is_found() {
    let empty = "// ANCHOR: enter\n// ANCHOR_END: enter\n";
    let fixture = Fixture::with_fault(LIBRARY, "// ANCHOR: enter\n", empty);
    let path = fixture.root().join(LIBRARY);
    let text = fs::read_to_string(&path).unwrap();
    let end = text.rfind("// ANCHOR_END: enter").unwrap();
    fs::write(&path, &text[..end]).unwrap();
    let problems = check_text(&fixture.book()).unwrap();
    assert!(problems[0].what.contains("is empty"), "{problems:#?}");
}

#[test]
fn an_anchor_without_an_end_is_found() {
    finds(LIBRARY, "// ANCHOR_END: enter", "", "chapters/ch00-sample/src/lib.rs:10", "has no end");
}

#[test]
fn an_anchor_that_occurs_twice_is_found() {
    let twice = "// ANCHOR: enter\n// ANCHOR: enter";
    finds(LIBRARY, "// ANCHOR: enter", twice, "chapters/ch00-sample/src/lib.rs:11", "a second anchor");
}

#[test]
fn an_anchor_that_no_page_uses_is_found() {
    let unused = "// ANCHOR: unused\nfn private() {}\n// ANCHOR_END: unused";
    finds(LIBRARY, "fn private() {}", unused, "chapters/ch00-sample/src/lib.rs:15", "no page includes");
}

#[test]
fn an_include_by_line_numbers_is_found() {
    let numbers = "```rust\n{{#include ../../../chapters/ch00-sample/src/gate.rs:2:3}}\n```\n\n```rust";
    finds(CODE, "```rust", numbers, "book/src/ch00-sample/code.md:6", "use an anchor");
}

#[test]
fn rust_that_is_typed_into_a_page_is_found() {
    finds(CODE, "```rust", "```rust\nlet x = 1;", "book/src/ch00-sample/code.md:5", "nothing but");
}

#[test]
fn a_dead_link_is_found() {
    finds(CODE, "../introduction.md#", "../none.md#", "book/src/ch00-sample/code.md:3", "dead link");
}

#[test]
fn a_dead_fragment_is_found() {
    finds(CODE, "#introduction", "#none", "book/src/ch00-sample/code.md:3", "no heading {#none}");
}

#[test]
fn a_link_out_of_the_book_is_found() {
    let out = "../../../chapters/ch00-sample/src/lib.rs";
    finds(CODE, "../introduction.md#introduction", out, "book/src/ch00-sample/code.md:3", "code font");
}

#[test]
fn a_malformed_web_address_is_found() {
    finds(
        INTRODUCTION,
        "https://example.org/page",
        "https://",
        "book/src/introduction.md:3",
        "not a web address",
    );
}

#[test]
fn a_repository_path_that_is_gone_is_found() {
    finds(
        INTRODUCTION,
        "src/main.rs`",
        "src/gone.rs`",
        "book/src/introduction.md:3",
        "the repository has no",
    );
}

#[test]
fn a_heading_without_an_id_is_found() {
    finds(CODE, " {#code}\n", "\n\n<a id=\"code\"></a>\n", "book/src/ch00-sample/code.md:1", "has no {#id}");
}

#[test]
fn a_page_that_the_summary_does_not_list_is_found() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("book/src/extra.md"), "# Extra {#extra}\n").unwrap();
    let problems = check_text(&fixture.book()).unwrap();
    assert_only(&problems, "book/src/extra.md:1", "SUMMARY.md does not list");
}

#[test]
fn a_page_that_the_summary_lists_in_vain_is_found() {
    let link = "(introduction.md)\n[Gone](gone.md)";
    finds("book/src/SUMMARY.md", "(introduction.md)", link, "book/src/SUMMARY.md:4", "no such page");
}

#[test]
fn lines_of_a_lesson_that_no_page_shows_are_found() {
    let more = "}\n\nfn more() {\n\n    println!();\n}\n";
    finds(MAIN, "}\n", more, "chapters/ch00-sample/src/main.rs:14", "lines 14 to 17");
}

#[test]
fn a_line_of_a_module_of_a_lesson_that_no_page_shows_is_found() {
    let file = "chapters/ch00-sample/src/steps.rs";
    finds(
        file,
        "// ANCHOR: steps",
        "use std::fs;\n// ANCHOR: steps",
        "chapters/ch00-sample/src/steps.rs:1",
        "this line",
    );
}

#[test]
fn a_struct_that_is_no_argument_struct_must_be_shown() {
    finds(MAIN, "clap::Parser", "Clone", "chapters/ch00-sample/src/main.rs:6", "lines 6 to 12");
}

#[test]
fn a_public_item_that_no_page_shows_is_found() {
    finds(CODE, "`LIMIT`", "LIMIT", "chapters/ch00-sample/src/lib.rs:8", "the public `LIMIT`");
}

#[test]
fn a_public_item_that_is_reexported_is_found_where_it_is_made() {
    finds(CODE, "`Gate`", "gate", "chapters/ch00-sample/src/gate.rs:2", "the public `Gate`");
}

#[test]
fn a_console_block_that_is_not_run_needs_a_known_reason() {
    finds(INTRODUCTION, "norun=docker", "norun=slow", "book/src/introduction.md:5", "no reason");
}

#[test]
fn a_reason_excuses_only_its_own_commands() {
    finds(INTRODUCTION, "$ docker run", "$ sleep 1; docker", "book/src/introduction.md:6", "does not excuse");
}

#[test]
fn an_unknown_attribute_of_a_console_block_is_found() {
    finds(
        SESSION,
        "```console,root",
        "```console,rot",
        "book/src/ch00-sample/session.md:48",
        "no attribute `rot`",
    );
}

#[test]
fn a_command_of_the_readme_that_leads_nowhere_is_found() {
    finds("README.md", "$ scripts/hello", "$ scripts/gone", "README.md:5", "No such file");
    finds("README.md", "-p ch00-sample", "-p ch99", "README.md:6", "no package ch99");
    finds("README.md", "-p ch00-sample", "-p ch00-sample --bin x", "README.md:6", "no program x");
    finds("README.md", "$ git clone", "$ frobnicate", "README.md:4", "show its output");
}

/// A built book of two pages, which `change` may damage.
#[track_caller]
fn built(change: impl Fn(&std::path::Path)) -> Vec<book_check::Problem> {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("a.html", "<h1 id=\"a\">A</h1>\n<a href=\"b.html#b\">b</a>");
    write("b.html", "<h1 id=\"b\">B</h1>\n<a href=\"#b\">b</a><link rel=\"stylesheet\" href=\"x.css\">");
    write("x.css", "body { color: red }");
    write("searchindex-1.js", "\"a.html#a\",\"b.html#b\"");
    change(directory.path());
    html::check(directory.path()).unwrap()
}

#[test]
fn faults_of_the_built_book_are_found() {
    assert_eq!(built(|_| ()), []);
    let write = |name: &'static str, text: &'static str| {
        built(move |directory| fs::write(directory.join(name), text).unwrap())
    };
    assert_only(&write("a.html", "<a href=\"c.html\">"), "a.html:1", "dead link: c.html");
    assert_only(&write("a.html", "\n<a href=\"b.html#c\">"), "a.html:2", "dead fragment");
    assert_only(&write("a.html", "<script src=\"https://x.org/x.js\">"), "a.html:1", "from the network");
    assert_only(&write("x.css", "a { b: url(https://x.org/f) }"), "x.css:1", "from the network");
    assert_only(&write("searchindex-1.js", "\"a.html#a\""), "searchindex-1.js:1", "finds nothing of b.html");
    let no_index = built(|directory| fs::remove_file(directory.join("searchindex-1.js")).unwrap());
    assert_only(&no_index, "searchindex.js:1", "no search index");
}
