//! What the tests share: what a test needs, programs run as processes, a sandbox that finds leaks.
//!
//! A test here is a claim about the kernel's state, checked from outside the code that made it. So tests run
//! the lessons as processes and look at them through `/proc`:
//!
//! ```no_run
//! # fn test() {
//! use testing::{Program, Sandbox};
//! testing::needs!(Root); // where this is missing, the test is recorded as skipped and returns
//! let sandbox = Sandbox::new();
//! let output = Program::new("/bin/true").in_sandbox(&sandbox).run();
//! assert_eq!(output.code, Some(0));
//! sandbox.check(); // panics when a mount, a process, a cgroup, a link or a rule is left behind
//! # }
//! ```
//!
//! Everything in this crate panics where it fails: a helper of a test that can't do its work is a failed
//! test.

mod capture;
mod cgroups;
mod deny;
mod leaks;
mod needs;
mod neighbour;
mod network;
mod plain_user;
pub mod process;
mod process_tree;
mod program;
mod running;
mod sandbox;
mod shared;
mod single;
mod state_directory;
mod surroundings;
mod terminal;

pub use needs::{Need, skip};
pub use neighbour::{Neighbour, UPLINK};
pub use network::Network;
pub use plain_user::{PlainUser, plain_user_directory};
pub use program::Program;
pub use running::{Output, Running};
pub use sandbox::{Sandbox, forward_nothing};
pub use single::run_tests;

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Calls `attempt` until it returns a value, and returns that. Panics when `limit` has passed.
///
/// The kernel does much of its work late (a process dies after `kill` returned), so a test must wait for a
/// state, and never for a time.
#[track_caller]
pub fn poll<T>(limit: Duration, attempt: impl FnMut() -> Option<T>) -> T {
    match poll_until(Instant::now() + limit, attempt) {
        Some(value) => value,
        None => panic!("not within {limit:?}"),
    }
}

/// Checks that what `measure` returns is held at `limit`, within a tenth.
///
/// A limit lets no more pass, ever. Less passes while others keep the machine busy, so one good measurement of three
/// proves that so much can.
#[track_caller]
pub fn assert_held_at(limit: f64, mut measure: impl FnMut() -> f64) {
    let mut measured = Vec::new();
    while measured.len() < 3 {
        let value = measure();
        measured.push(value);
        assert!(value <= limit * 1.1, "{value} where the limit is {limit}");
        if value >= limit * 0.9 {
            return;
        }
    }
    panic!("{measured:?} where the limit lets {limit} pass");
}

/// Like [`poll`], for callers that have more to say when the time is over.
fn poll_until<T>(deadline: Instant, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        let late = Instant::now() >= deadline;
        if let Some(value) = attempt() {
            return Some(value);
        }
        if late {
            return None;
        }
        sleep(Duration::from_millis(5));
    }
}
