//! Claims about the library: what is joined, read from outside; and that nothing stays where joining fails. `Exec`
//! needs a process with a single thread, so this is a program of its own instead of tests of libtest's.

mod cgroups;
mod container;
mod failures;
mod joined;
mod middle;
mod paths;
mod users;

use std::process::ExitCode;

/// The name of a test, and the test.
type Test = (&'static str, fn());

/// A list of tests, each by the name of its function; after each, no process may be left.
#[macro_export]
macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        pub const TESTS: &[$crate::Test] = &[$((stringify!($test), || {
            $test();
            $crate::container::assert_no_child();
        })),+];
    };
}

fn main() -> ExitCode {
    let lists = [joined::TESTS, users::TESTS, paths::TESTS, cgroups::TESTS, middle::TESTS, failures::TESTS];
    testing::run_tests(&lists.concat())
}
