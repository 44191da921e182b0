//! Many at once, and ends at any moment: nothing is given twice, and nothing is left.

mod common;

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{LIMIT, address, lesson};
use testing::{Program, Running, Sandbox, needs};

/// A container with all that can be left behind.
fn with_everything(sandbox: &Sandbox) -> Program {
    lesson().in_sandbox(sandbox).args([
        "-p",
        "8080:80",
        "-p",
        "5353:53/udp",
        "--rate-in",
        "10mbit",
        "--rate-out",
        "10mbit",
    ])
}

/// Moments all over the life of a container that ends at once, whatever the speed of the machine; and some after it.
fn moments(sandbox: &Sandbox) -> impl Iterator<Item = Duration> {
    let begin = Instant::now();
    let output = with_everything(sandbox).args(["--", "true"]).run();
    assert_eq!(output.code, Some(0), "{output}");
    let life = begin.elapsed();
    (0..28).map(move |moment| life * moment / 24)
}

#[test]
fn fifty_containers_that_start_at_once_get_fifty_addresses() {
    needs!(Root, Tool("nft"), Tool("ip"));
    let sandbox = Sandbox::new();
    let start = |_| {
        let program = lesson().in_sandbox(&sandbox).timeout(Duration::from_secs(300));
        program.args(["--", "sh", "-c", "echo ready; exec sleep 300"]).spawn()
    };
    let mut containers: Vec<Running> = (0..50).map(start).collect();
    for container in &mut containers {
        assert_eq!(container.stdout_line().trim(), "ready");
    }
    let addresses: BTreeSet<_> = containers.iter().map(address).collect();
    assert_eq!(addresses.len(), 50, "{addresses:?}");
    containers.iter().for_each(|container| container.signal(libc::SIGTERM));
    for container in containers {
        let output = container.wait();
        assert_eq!((output.code, output.stderr.as_str()), (Some(143), ""), "{output}");
    }
    sandbox.check();
}

#[test]
fn after_kill_9_at_any_moment_the_next_run_leaves_nothing() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    for (number, moment) in moments(&sandbox).enumerate() {
        // One that lives, or one that is on its way down already.
        let command = if number % 2 == 0 { ["sleep", "300"] } else { ["sleep", "0"] };
        let running = with_everything(&sandbox).arg("--").args(command).spawn();
        sleep(moment);
        running.signal(libc::SIGKILL);
        running.wait();
        // The same ports: those of the dead are free.
        let output = with_everything(&sandbox).args(["--", "true"]).run();
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "after {moment:?}: {output}");
        sandbox.check();
    }
}

#[test]
fn many_that_are_killed_at_once_are_swept_by_one() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    let start =
        |_| lesson().in_sandbox(&sandbox).args(["--", "sh", "-c", "echo ready; exec sleep 300"]).spawn();
    let mut containers: Vec<Running> = (0..10).map(start).collect();
    for container in &mut containers {
        container.stdout_line();
    }
    containers.iter().for_each(|container| container.signal(libc::SIGKILL));
    containers.into_iter().for_each(|container| drop(container.wait()));
    let output = lesson().in_sandbox(&sandbox).args(["--", "true"]).run();
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output}");
    sandbox.check();
}

#[test]
fn ctrl_c_at_any_moment_leaves_nothing_behind() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    for moment in moments(&sandbox) {
        let running = with_everything(&sandbox).args(["--", "sleep", "300"]).spawn();
        sleep(moment);
        running.signal(libc::SIGINT);
        let output = running.wait();
        let interrupted = output.code == Some(130) || output.signal == Some(libc::SIGINT);
        assert!(interrupted && output.stderr.is_empty(), "after {moment:?}: {output}");
        sandbox.check();
    }
}

#[test]
fn ctrl_c_at_a_step_leaves_nothing_behind() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    for enters in (0..24).step_by(3) {
        let program = Program::new(common::LESSON).in_sandbox(&sandbox).pty();
        let mut running = program.args(["--step", "-p", "8080:80", "--", "sleep", "300"]).spawn();
        for step in 1..=enters {
            running.expect(&format!("\n{step:>3} "), LIMIT);
            running.type_line("");
        }
        running.expect(&format!("\n{:>3} ", enters + 1), LIMIT);
        running.type_keys("\x03");
        let output = running.wait();
        assert!(output.code == Some(130) || output.signal == Some(libc::SIGINT), "{enters} steps: {output}");
        sandbox.check();
    }
}

#[test]
fn an_error_half_way_leaves_nothing_behind() {
    needs!(Root, Tool("nft"));
    let sandbox = Sandbox::new();
    let output = with_everything(&sandbox).args(["--", "no-such-command"]).run();
    assert_eq!(output.code, Some(127), "{output}");
    sandbox.check();
    let output = with_everything(&sandbox).args(["--volume", "/no/such/directory:/mnt", "--", "true"]).run();
    assert_eq!(output.code, Some(125), "{output}");
    sandbox.check();
}
