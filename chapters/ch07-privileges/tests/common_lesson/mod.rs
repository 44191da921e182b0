//! What the tests of the lesson share.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::thread::sleep;
use std::time::Duration;

pub use testing::process::status;
use testing::process::{descendants, runs};
use testing::{Program, Running, Sandbox, poll};

pub const LESSON: &str = env!("CARGO_BIN_EXE_ch07-privileges");
pub const LIMIT: Duration = Duration::from_secs(60);

/// Longer than any test waits: a command that ends by itself would pass for one that was killed.
const SLEEP: &str = "600";

/// Who runs the lesson, and where.
pub enum World {
    /// Root, in a sandbox.
    Root(Sandbox),
    /// A plain user.
    PlainUser,
}

impl World {
    pub fn root() -> World {
        World::Root(Sandbox::new())
    }

    pub fn lesson(&self) -> Program {
        let lesson = Program::new(LESSON).timeout(10 * LIMIT);
        match self {
            World::Root(sandbox) => lesson.in_sandbox(sandbox),
            World::PlainUser => lesson.as_plain_user(),
        }
    }

    /// The lesson's container with this command, without narration; `flags` come before the command.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> testing::Output {
        self.lesson().arg("--quiet").args(flags).arg("--").args(command).run()
    }

    /// The same, running; returns the command's process, once it is one called `sleep`.
    pub fn sleep(&self, flags: &[&str]) -> (Running, i32) {
        let running = self.lesson().arg("--quiet").args(flags).args(["--", "sleep", SLEEP]).spawn();
        let command = poll(LIMIT, || {
            // To look through all of /proc takes a slow machine's processor away from the lesson.
            sleep(Duration::from_millis(50));
            inside(&running).into_iter().find(|pid| runs(*pid, "sleep"))
        });
        (running, command)
    }

    /// Panics where something is left of lessons that have ended.
    pub fn check(&self) {
        if let World::Root(sandbox) = self {
            sandbox.check();
        }
    }
}

/// The processes of the container: those of the lesson's descendants that have a PID namespace of their own.
pub fn inside(lesson: &Running) -> Vec<i32> {
    let depth = |pid| status(pid, "NSpid").map_or(0, |pids| pids.split(' ').count());
    let own = depth(lesson.pid());
    descendants(lesson.pid()).into_iter().filter(|pid| depth(*pid) > own).collect()
}

/// The lines of a map.
pub fn map(pid: i32, file: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Ends the lesson, with its container.
pub fn end(running: Running) {
    running.signal(libc::SIGTERM);
    running.wait();
}

/// A claim that must hold as root and as a plain user: two tests, each with its own needs.
#[macro_export]
macro_rules! in_both_worlds {
    (fn $claim:ident($world:ident: &World) $body:block) => {
        mod $claim {
            use super::*;

            fn claim($world: &World) $body

            #[test]
            fn as_root() {
                needs!(Root);
                let world = World::root();
                claim(&world);
                world.check();
            }

            #[test]
            fn as_a_plain_user() {
                needs!(UserNamespaces);
                claim(&World::PlainUser);
            }
        }
    };
}
