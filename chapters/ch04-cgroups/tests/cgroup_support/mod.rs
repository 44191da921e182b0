//! Cgroups for tests of the library, and the files and processes by which the kernel tells of them.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ch04_cgroups::{Cgroup, Hierarchies, Place};
use nix::unistd::Pid;

/// The controllers that the tests limit.
pub const CONTROLLERS: [&str; 5] = ["memory", "cpu", "pids", "io", "cpuset"];

/// A place that no other test has.
pub fn place(name: &str) -> Place {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Place::near(&Hierarchies::find().unwrap(), &name, &CONTROLLERS).unwrap()
}

/// A cgroup that is killed and removed at the test's end.
pub struct Made(Option<Cgroup>);

impl Made {
    pub fn new() -> Made {
        Made::at(&place("test"))
    }

    pub fn at(place: &Place) -> Made {
        Made::from(Cgroup::create(place).unwrap())
    }

    pub fn remove(mut self) {
        self.0.take().unwrap().remove().unwrap();
    }
}

impl From<Cgroup> for Made {
    fn from(cgroup: Cgroup) -> Made {
        Made(Some(cgroup))
    }
}

impl std::ops::Deref for Made {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(cgroup) = self.0.take() {
            let killed = cgroup.kill_all();
            let removed = cgroup.remove();
            assert!(
                std::thread::panicking() || (killed.is_ok() && removed.is_ok()),
                "{killed:?} {removed:?}"
            );
        }
    }
}

/// A process that waits for a line, and then becomes `command`. Killed at the test's end.
pub struct Waiting(pub Child);

impl Waiting {
    pub fn new(command: &str) -> Waiting {
        let mut child = Command::new("sh");
        child.args(["-c", &format!("read line; {command}")]).stdin(Stdio::piped()).stdout(Stdio::null());
        Waiting(child.stderr(Stdio::null()).spawn().unwrap())
    }

    pub fn inside(cgroup: &Cgroup, command: &str) -> Waiting {
        let waiting = Waiting::new(command);
        cgroup.enter(waiting.pid()).unwrap();
        waiting
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }

    pub fn go(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    }

    /// The lines of /proc/PID/cgroup.
    pub fn cgroups(&self) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).unwrap();
        text.lines().map(String::from).collect()
    }

    /// Processor time in ticks of a hundredth of a second: proc_pid_stat(5), utime and stime.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file of a controller's: that of version 1, or that of version 2.
pub fn file(cgroup: &Cgroup, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let hierarchies = Hierarchies::find().unwrap();
    let label = hierarchies.with(controller).expect("a hierarchy with the controller").to_string();
    let (label, path) = cgroup.paths().find(|(name, _)| *name == label).unwrap();
    path.join(if label == "v2" { v2 } else { v1 })
}

pub fn text(cgroup: &Cgroup, controller: &str, v1: &str, v2: &str) -> String {
    let file = file(cgroup, controller, v1, v2);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    text.trim().to_string()
}
