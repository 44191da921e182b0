//! Where a cgroup namespace begins.

mod forked;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::id;

use ch01_pid::Spawn;
use ch07_privileges::cgroup;
use forked::Forked;
use nix::sched::CloneFlags;
use testing::needs;

tests! {
    it_begins_at_the_cgroup_in_which_the_process_stands,
    made_by_clone3_it_begins_at_the_parents_cgroup_if_the_child_is_moved_later,
    made_by_clone3_it_begins_at_the_cgroup_into_which_the_child_is_cloned,
}

/// A cgroup of this test's own, which is removed once it is empty.
struct Own(PathBuf);

impl Own {
    fn new(name: &str) -> Own {
        let directory = PathBuf::from(format!("/sys/fs/cgroup/hull-test-{name}-{}", id()));
        fs::create_dir(&directory).unwrap();
        Own(directory)
    }

    fn path(&self) -> String {
        self.0.display().to_string().replace("/sys/fs/cgroup", "")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        testing::poll(std::time::Duration::from_secs(10), || fs::remove_dir(&self.0).ok());
    }
}

/// The path in the hierarchy of version 2, as the process that reads it sees it.
fn place(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("a hierarchy of version 2").to_string()
}

fn it_begins_at_the_cgroup_in_which_the_process_stands() {
    needs!(Root, CgroupV2);
    let own = Own::new("unshared");
    let mut inside = Forked::start(|life| {
        fs::write(own.0.join("cgroup.procs"), id().to_string())?;
        life.say(place("/proc/self/cgroup"));
        cgroup::unshare()?;
        life.say(place("/proc/self/cgroup"));
        Ok(())
    });
    assert_eq!(inside.line(), own.path());
    assert_eq!(inside.line(), "/");
    assert_eq!(place(&format!("/proc/{}/cgroup", inside.pid())), own.path(), "outside nothing changes");
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/cgroup")).unwrap();
    assert_ne!(link(&inside.pid().to_string()), link("self"));
    drop(inside);
}

/// What a child sees of its place that is made in a cgroup namespace, and put into `own` by clone3 or at its
/// gate.
fn seen_by_child(own: &Own, by_clone: bool) -> String {
    let mut parent = Forked::start(|life| {
        let directory = File::open(&own.0)?;
        let (read, write) = nix::unistd::pipe()?;
        let spawn =
            Spawn::new().namespaces(CloneFlags::CLONE_NEWCGROUP).keep([write.as_fd()]).dies_with_parent();
        let spawn = if by_clone { spawn.cgroup(directory.as_fd()) } else { spawn };
        let held = spawn.start(|_| {
            nix::unistd::write(&write, place("/proc/self/cgroup").as_bytes())?;
            ch01_pid::spawn::exit_now(0)
        })?;
        fs::write(own.0.join("cgroup.procs"), held.pid().to_string())?;
        held.release(None)?.wait()?;
        let mut seen = [0; 4096];
        let length = nix::unistd::read(&read, &mut seen)?;
        life.say(String::from_utf8_lossy(&seen[..length]));
        Ok(())
    });
    parent.line()
}

fn made_by_clone3_it_begins_at_the_parents_cgroup_if_the_child_is_moved_later() {
    needs!(Root, CgroupV2);
    let own = Own::new("moved");
    let seen = seen_by_child(&own, false);
    assert!(seen.len() > 1 && seen.ends_with(own.0.file_name().unwrap().to_str().unwrap()), "{seen}");
}

fn made_by_clone3_it_begins_at_the_cgroup_into_which_the_child_is_cloned() {
    needs!(Root, CgroupV2);
    assert_eq!(seen_by_child(&Own::new("cloned"), true), "/");
}
