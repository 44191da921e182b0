//! The book's plots are of true samples, and they show what the book says.

mod svg;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use testing::{Program, needs};

const LESSON: &str = env!("CARGO_BIN_EXE_ch04-cgroups");

fn plots() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../book/src/ch04-cgroups/plots")
}

/// The samples of a fresh run, in which the claims hold. With HULL_BLESS=1 they become the book's.
fn fresh() -> &'static str {
    static SAMPLES: OnceLock<String> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("samples.csv");
        let program = Program::new(LESSON).args(["--quiet", "--record"]).arg(&record);
        let output = program.timeout(Duration::from_secs(120)).run();
        assert_eq!(output.code, Some(0), "{output}");
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "{output}");
        let samples = fs::read_to_string(&record).unwrap();
        svg::check_claims(&svg::parse(&samples));
        if is_blessing() {
            bless(&samples);
        }
        samples
    })
}

fn is_blessing() -> bool {
    std::env::var_os("HULL_BLESS").is_some_and(|value| value == "1")
}

/// Writes the book's samples and plots anew.
fn bless(samples: &str) {
    fs::create_dir_all(plots()).unwrap();
    fs::write(plots().join("samples.csv"), samples).unwrap();
    for (experiment, samples) in svg::parse(samples) {
        fs::write(plots().join(format!("{experiment}.svg")), svg::render(&experiment, &samples)).unwrap();
    }
}

/// A file of the book's, once it is up to date.
fn read(name: &str) -> String {
    if is_blessing() {
        fresh();
    }
    let path = plots().join(name);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {path:?}: {error}; HULL_BLESS=1 makes it, as root"))
}

#[test]
fn the_experiments_show_what_the_book_says() {
    needs!(Root);
    assert!(!fresh().is_empty());
}

#[test]
fn the_experiments_show_the_same_to_a_plain_user() {
    needs!(DelegatedCgroup, UserNamespaces);
    let directory = testing::plain_user_directory();
    let record = directory.path().join("samples.csv");
    let program = Program::new(LESSON).with_user_manager().args(["--quiet", "--record"]).arg(&record);
    let output = program.timeout(Duration::from_secs(120)).run();
    assert_eq!(output.code, Some(0), "{output}");
    svg::check_claims(&svg::parse(&fs::read_to_string(&record).unwrap()));
}

#[test]
fn the_book_s_samples_show_what_the_book_says() {
    svg::check_claims(&svg::parse(&read("samples.csv")));
}

#[test]
fn the_book_s_plots_are_drawn_from_its_samples() {
    for (experiment, samples) in svg::parse(&read("samples.csv")) {
        let plot = read(&format!("{experiment}.svg"));
        assert_eq!(plot, svg::render(&experiment, &samples), "{experiment}: HULL_BLESS=1 draws it anew");
    }
}
