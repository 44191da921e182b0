//! A look at a process from outside, in /proc.

use std::fs;

/// A line of `/proc/PID/status`, such as `NSpid`, with single spaces; none where the process is gone.
pub fn status(pid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The children of a process, in the order of their pids.
pub fn children(parent: i32) -> Vec<i32> {
    children_in(&processes(), parent)
}

/// All descendants of a process, parents before their children.
pub fn descendants(pid: i32) -> Vec<i32> {
    // One look at all of /proc, which costs a slow machine some time.
    let processes = processes();
    let mut found = children_in(&processes, pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children_in(&processes, found[next]));
        next += 1;
    }
    found
}

/// Each process, and its parent.
fn processes() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").expect("read /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, status(pid, "PPid")?.parse().ok()?))).collect()
}

fn children_in(processes: &[(i32, i32)], parent: i32) -> Vec<i32> {
    let mut children: Vec<i32> =
        processes.iter().filter(|process| process.1 == parent).map(|process| process.0).collect();
    children.sort_unstable();
    children
}

/// Whether the process runs a program called `name`, of which the kernel keeps 15 bytes.
pub fn runs(pid: i32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// Whether the process exists; a zombie does.
pub fn exists(pid: i32) -> bool {
    fs::exists(format!("/proc/{pid}")).expect("look for a process")
}

/// The mount points in a process's mount table, in the order of the table.
pub fn mount_points(pid: i32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("read a mount table");
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(String::from).collect()
}
