//! What the tests of the lesson share: how it is run, and its container and the joined process, found from outside.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testing::process::{children, exists, runs, status};
use testing::{Need, Program, Running, Sandbox, poll};

pub const LESSON: &str = env!("CARGO_BIN_EXE_ch06-exec");
/// An emulated machine needs its time: a plain user's lesson copies itself, is executed by systemd, and makes a root.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What a container of the lesson has of its own.
pub const NAMESPACES: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// Who runs the lesson, and where.
pub enum World {
    /// Root, in a sandbox.
    Root(Sandbox),
    /// A plain user; in a cgroup that the user's systemd delegates, where there is one.
    PlainUser,
}

impl World {
    /// The lesson, without narration.
    pub fn lesson(&self) -> Program {
        self.program(LESSON).arg("--quiet")
    }

    pub fn program(&self, path: &str) -> Program {
        let program = Program::new(path).timeout(2 * LIMIT);
        match self {
            World::Root(sandbox) => program.in_sandbox(sandbox),
            World::PlainUser if Need::DelegatedCgroup.met().is_ok() => program.with_user_manager(),
            World::PlainUser => program.as_plain_user(),
        }
    }

    /// Whether the container has a cgroup of its own.
    pub fn has_cgroup(&self) -> bool {
        matches!(self, World::Root(_)) || Need::DelegatedCgroup.met().is_ok()
    }

    /// Panics where something is left of lessons that have ended.
    pub fn check(&self) {
        match self {
            World::Root(sandbox) => sandbox.check(),
            World::PlainUser => poll(LIMIT, || left_behind().is_none().then_some(())),
        }
    }
}

/// A cgroup of a lesson that is no more. Its name begins with `hull-lesson-PID-`.
fn left_behind() -> Option<PathBuf> {
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let rest = name.strip_prefix("hull-lesson-");
            if rest.is_some_and(|rest| !exists(rest.split('-').next().unwrap().parse().unwrap())) {
                return Some(entry.path());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    None
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
                let world = World::Root(Sandbox::new());
                claim(&world);
                world.check();
            }

            #[test]
            fn as_a_plain_user() {
                needs!(UserNamespaces);
                claim(&World::PlainUser);
                World::PlainUser.check();
            }
        }
    };
}

/// The joined process, once it runs a program called `name`: the lesson's own child.
pub fn joined(lesson: &Running, name: &str) -> i32 {
    poll(LIMIT, || children(lesson.pid()).into_iter().find(|pid| runs(*pid, name)))
}

/// The first process of the lesson's container.
pub fn first(lesson: &Running) -> i32 {
    let is_first = |pid: &i32| pids(*pid).last() == Some(&1);
    poll(LIMIT, || children(lesson.pid()).into_iter().find(is_first))
}

/// The pids of a process, from our own PID namespace inwards.
pub fn pids(pid: i32) -> Vec<i32> {
    let pids = status(pid, "NSpid").unwrap_or_default();
    pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// What a link such as /proc/PID/ns/net says.
pub fn link(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string()
}

pub fn namespace(pid: i32, kind: &str) -> String {
    link(pid, &format!("ns/{kind}"))
}

pub fn cgroups(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

/// Ends a lesson whose command does not end by itself.
pub fn stop(lesson: Running) {
    lesson.signal(libc::SIGTERM);
    lesson.wait();
}
