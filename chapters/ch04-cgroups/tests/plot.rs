//! The live plot, as a terminal and as a file get it.

mod common;

use std::time::Duration;

use common::LESSON;
use testing::{Program, Sandbox, needs};

const TIME: Duration = Duration::from_secs(120);

#[test]
fn on_a_terminal_each_picture_is_drawn_over_the_last() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let output = Program::new(LESSON).in_sandbox(&sandbox).pty().timeout(TIME).run();
    assert_eq!(output.code, Some(0), "{output}");
    // Twelve lines: two rows above the limit, eight below it, the axis, and what it says.
    assert!(output.stdout.matches("\x1b[12A").count() > 20, "{output}");
    for text in ["64.0 MiB │", "0.50 CPUs │", "20 processes │", "█"] {
        assert!(output.stdout.contains(text), "{text:?} in {output}");
    }
    assert!(!output.stdout.contains("\x1b[31m"), "no colour, since NO_COLOR is set: {output}");
    let width = |line: &str| line.split("\x1b[").last().unwrap_or_default().chars().count();
    let plot = output.stdout.lines().filter(|line| line.contains('│'));
    assert!(plot.clone().count() > 100 && plot.clone().all(|line| width(line) <= 80), "{output}");
}

#[test]
fn in_a_file_it_is_plain_lines_and_the_kernel_says_what_it_did() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let output = Program::new(LESSON).in_sandbox(&sandbox).timeout(TIME).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{output}");
    assert!(!output.stderr.contains('\x1b'), "{output}");
    for text in [
        " of 64.0 MiB       |########",
        "the process was killed by SIGKILL; OOM kills: 1\n",
        " of 20 processes   |########################################|\n",
        "processes: 20; forks that were refused: ",
        "after the kill, processes: 0\n",
    ] {
        assert!(output.stderr.contains(text), "{text:?} in {output}");
    }
}
