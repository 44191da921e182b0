//! Tests in a process with a single thread: what makes processes by fork or clone refuses to run in libtest's threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Runs tests, given by their paths, one after the other, and reports as libtest does; for the `main` of a test file
/// that has `harness = false`. Of the arguments it knows `--list` and a part of the names.
#[macro_export]
macro_rules! run_tests {
    ($($test:path),+ $(,)?) => { $crate::run_tests(&[$((stringify!($test), $test as fn())),+]) };
}

/// What [`run_tests!`](crate::run_tests) calls.
pub fn run_tests(tests: &[(&str, fn())]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let is_chosen = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| is_chosen(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let (passed, filtered) = (chosen.len() - failed, tests.len() - chosen.len());
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out; finished in 0.00s\n"
    );
    ExitCode::from(if failed == 0 { 0 } else { 101 })
}
