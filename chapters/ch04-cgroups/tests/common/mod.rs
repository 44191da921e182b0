//! What the tests of the lesson share: how it is run, and its cgroups and processes, found from outside.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testing::process::{descendants, exists, runs};
use testing::{Program, Running, Sandbox, poll};

pub const LESSON: &str = env!("CARGO_BIN_EXE_ch04-cgroups");
pub const LIMIT: Duration = Duration::from_secs(30);

/// The lesson in a sandbox, without narration.
pub fn lesson(sandbox: &Sandbox) -> Program {
    Program::new(LESSON).arg("--quiet").in_sandbox(sandbox)
}

/// Who runs the lesson, and where.
pub enum World {
    /// Root, in a sandbox.
    Root(Sandbox),
    /// A plain user, in a cgroup that the user's systemd delegates to the lesson.
    PlainUser,
}

impl World {
    pub fn lesson(&self) -> Program {
        match self {
            World::Root(sandbox) => lesson(sandbox),
            World::PlainUser => Program::new(LESSON).arg("--quiet").with_user_manager(),
        }
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
    let mut waiting: Vec<PathBuf> = mounts().into_iter().map(|mount| mount.point).collect();
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

/// A claim that must hold as root, and as a plain user in a subtree that was delegated: two tests, each with its own
/// needs. Version 1 has no delegation of limits.
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
                needs!(CgroupV2, DelegatedCgroup, UserNamespaces);
                claim(&World::PlainUser);
                World::PlainUser.check();
            }
        }
    };
}

/// Where cgroups are mounted: which of them is on top there, and which controllers the hierarchy has; none for
/// version 2.
struct Mount {
    root: PathBuf,
    point: PathBuf,
    controllers: Vec<String>,
}

/// The lines of /proc/self/mountinfo that are of cgroups: proc_pid_mountinfo(5).
fn mounts() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = table.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - cgroup")?;
        let mut place = place.split(' ').skip(3);
        let options = kind.rsplit(' ').next()?.split(',').map(String::from);
        let controllers = if kind.starts_with("2 ") { Vec::new() } else { options.collect() };
        Some(Mount { root: place.next()?.into(), point: place.next()?.into(), controllers })
    });
    mounts.collect()
}

/// The cgroup of a process as a directory, in the hierarchy that has this controller.
pub fn cgroup(pid: i32, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(3, ':').collect()).collect();
    let in_v1 = lines.iter().find(|line| line[1].split(',').any(|name| name == controller));
    let path = in_v1.or(lines.iter().find(|line| line[1].is_empty())).expect("a line of the hierarchy")[2];
    let is_this = |mount: &Mount| match in_v1 {
        Some(_) => mount.controllers.iter().any(|name| name == controller),
        None => mount.controllers.is_empty(),
    };
    let mount = mounts().into_iter().find(is_this).expect("the hierarchy is mounted");
    mount.point.join(Path::new(path).strip_prefix(&mount.root).unwrap())
}

/// A number in a file: all of it, or what follows a key. `files` are names and keys in the versions of cgroups.
pub fn number(directory: &Path, files: &[(&str, &str)]) -> Option<u64> {
    files.iter().find_map(|(file, key)| {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(key));
        lines.find_map(|rest| rest.trim().parse().ok())
    })
}

/// The processes of the command and of its init: those of the lesson's descendants that have a PID namespace of their
/// own. Others help the lesson: newuidmap(1) does.
pub fn inside(lesson: &Running) -> Vec<i32> {
    let depth = |pid| testing::process::status(pid, "NSpid").map_or(0, |pids| pids.split(' ').count());
    let own = depth(lesson.pid());
    descendants(lesson.pid()).into_iter().filter(|pid| depth(*pid) > own).collect()
}

/// The process inside that runs a program called `name`, once there is one.
pub fn command(lesson: &Running, name: &str) -> i32 {
    poll(LIMIT, || inside(lesson).into_iter().find(|pid| runs(*pid, name)))
}

/// A root file system of the plain user's below /var/tmp, which is on a disk where /tmp may be a tmpfs.
pub fn root_on_a_disk() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("hull-test-").tempdir_in("/var/tmp").unwrap();
    let (user, from) = (testing::PlainUser::get(), rootfs_builder::default_root().unwrap());
    let script = format!(
        "cp -a {}/. {to} && chown -R {}:{} {to} && chmod 755 {to}",
        from.display(),
        user.uid,
        user.gid,
        to = directory.path().display()
    );
    let output = Program::new("sh").args(["-c", &script]).run();
    assert_eq!(output.code, Some(0), "{output}");
    directory
}
