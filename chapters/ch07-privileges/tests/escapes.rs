//! The escapes of chapters 0 to 6: none works against the finished container, and each works where what stops
//! it is gone.

mod common_lesson;

use common_lesson::World;
use testing::{Output, needs};

/// One row of the table: the escape, what the container had, and what came of it.
struct Row {
    escape: String,
    with: String,
    answer: String,
}

impl Row {
    fn escaped(&self) -> bool {
        self.answer.starts_with("ESCAPED")
    }

    fn is_finished(&self) -> bool {
        self.with == "all of it"
    }

    fn is_control(&self) -> bool {
        self.with.starts_with("no ") || self.with == "none of these"
    }
}

/// The table's columns begin at these places.
fn rows(output: &Output) -> Vec<Row> {
    let mut escape = String::new();
    let lines = output.stdout.lines().skip(1);
    lines
        .map(|line| {
            let (name, rest) = line.split_at(38.min(line.len()));
            if !name.trim().is_empty() {
                escape = name.trim().to_owned();
            }
            let (with, answer) = rest.split_at(23.min(rest.len()));
            Row { escape: escape.clone(), with: with.trim().into(), answer: answer.trim().into() }
        })
        .collect()
}

/// Every chapter from 0 to 6 is in it.
fn check_chapters(rows: &[Row]) {
    let finished: Vec<&Row> = rows.iter().filter(|row| row.is_finished()).collect();
    for chapter in 0..=6 {
        let prefix = format!("{chapter:02}");
        assert!(finished.iter().any(|row| row.escape.starts_with(&prefix)), "chapter {chapter}");
    }
    assert_eq!(finished.len(), rows.iter().filter(|row| row.is_control()).count());
}

#[test]
fn none_works_and_each_works_without_what_stops_it() {
    needs!(Root);
    let world = World::root();
    let hostname = nix::unistd::gethostname().unwrap();
    let output = world.lesson().arg("--escapes").run();
    let rows = rows(&output);
    check_chapters(&rows);
    for row in &rows {
        assert_eq!(
            row.escaped(),
            row.is_control(),
            "{} with {}: {}\n{output}",
            row.escape,
            row.with,
            row.answer
        );
    }
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(nix::unistd::gethostname().unwrap(), hostname);
    world.check();
}

#[test]
fn none_works_for_a_plain_user() {
    needs!(UserNamespaces);
    let output = World::PlainUser.lesson().arg("--escapes").run();
    let rows = rows(&output);
    check_chapters(&rows);
    for row in rows.iter().filter(|row| row.is_finished()) {
        assert!(!row.escaped(), "{}: {}\n{output}", row.escape, row.answer);
    }
    // Of those that need no more than a plain user's powers.
    for escape in
        ["kill a process", "trace a process", "take a mask off", "rename the host", "switch the network off"]
    {
        let control = rows.iter().find(|row| row.escape.contains(escape) && row.is_control()).unwrap();
        assert!(control.escaped(), "{}: {}\n{output}", control.escape, control.answer);
    }
    assert_eq!(output.code, Some(0), "{output}");
}

#[test]
fn a_container_that_is_given_more_lets_something_out_and_says_so() {
    needs!(Root);
    let world = World::root();
    let output = world.lesson().args(["--escapes", "--privileged"]).run();
    let rows = rows(&output);
    let finished =
        |escape: &str| rows.iter().find(|row| row.escape.contains(escape) && row.is_finished()).unwrap();
    assert!(finished("take a mask off").escaped(), "{output}");
    assert!(!finished("open the host's disk").escaped(), "{output}");
    assert_eq!(output.code, Some(1), "{output}");
}

#[test]
fn a_play_that_is_killed_leaves_nothing_behind() {
    needs!(Root);
    let world = World::root();
    for milliseconds in [20, 80, 300, 700] {
        let running = world.lesson().arg("--escapes").spawn();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        running.signal(libc::SIGKILL);
        running.wait();
        world.check();
    }
}
