//! Makes random cases up, plays them one after the other, and shrinks the one that fails.

use std::cell::Cell;
use std::io::Write;
use std::str::FromStr;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::case::Case;
use super::strategies;

/// However slow the machine is, this many are played.
const AT_LEAST: u64 = 50;

/// Plays the case in the file that `HULL_RANDOM_REPLAY` names, or random ones until `sequences` were played
/// or the time is over. Panics where `attempt` finds a case that fails. It returns how many steps were done,
/// and not refused.
pub fn play(sequences: u64, attempt: impl Fn(&Case) -> Result<usize, String>) {
    if let Some(file) = std::env::var_os("HULL_RANDOM_REPLAY") {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let case: Case = text.parse().unwrap_or_else(|error| panic!("{file:?}: {error}"));
        attempt(&case).unwrap_or_else(|text| panic!("{file:?}: {text}"));
        return;
    }
    let seed: u64 = variable("HULL_RANDOM_SEED", std::process::id().into());
    let sequences = variable("HULL_RANDOM_SEQUENCES", sequences);
    let start = Instant::now();
    let end = start + Duration::from_secs(variable("HULL_RANDOM_SECONDS", 60));
    let (steps, done) = (Cell::new(0), Cell::new(0));
    let mut played = 0;
    while played < sequences && (played < AT_LEAST || Instant::now() < end) {
        sequence(seed + played, |case| {
            steps.set(steps.get() + case.steps.len());
            done.set(done.get() + attempt(case)?);
            Ok(())
        });
        played += 1;
    }
    let (steps, done) = (steps.get(), done.get());
    // Not println!, which the test runner keeps to itself where a test passes.
    let line =
        format!("seed {seed}: {played} sequences, {steps} steps, {done} done, {:.1?}\n", start.elapsed());
    std::io::stderr().write_all(line.as_bytes()).expect("print");
    // Else the cases are such that they prove nothing.
    assert!(done * 20 > steps, "of {steps} steps, only {done} were done: all others were refused");
}

fn variable<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")),
        Err(_) => default,
    }
}

/// One random sequence. Where it fails, it is made as short as it can be, and the test fails with its text.
fn sequence(seed: u64, attempt: impl Fn(&Case) -> Result<(), String>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    // The text is printed, and nothing is written beside the sources.
    let config = Config {
        failure_persistence: None,
        max_shrink_time: 60_000,
        max_shrink_iters: 100_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, random);
    let tree = strategies::case().new_tree(&mut runner).expect("a case");
    let text = tree.current().to_string();
    assert_eq!(text.parse().as_ref(), Ok(&tree.current()), "the text does not say what is played:\n{text}");
    let result = runner.run_one(tree, |case| attempt(&case).map_err(TestCaseError::fail));
    if let Err(TestError::Fail(reason, case)) = result {
        let text = reason.message();
        panic!(
            "seed {seed}: {text}\nThe shortest sequence that fails (HULL_RANDOM_REPLAY=FILE plays it):\n\n{case}"
        );
    }
}
