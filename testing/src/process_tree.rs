//! Which processes belong to a program: proc_pid_stat(5).

use std::collections::BTreeSet;
use std::fs;

/// `leader`, all processes of its session, and all their descendants (a shell gives its jobs no session, but
/// a program that makes terminals does).
pub(crate) fn session_and_descendants(leader: i32) -> BTreeSet<i32> {
    let processes: Vec<ProcessStat> = fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(ProcessStat::read)
        .collect();
    let mut found = BTreeSet::from([leader]);
    loop {
        let before = found.len();
        for process in &processes {
            if process.session == leader || found.contains(&process.parent) {
                found.insert(process.pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// What `/proc/PID/stat` says: proc_pid_stat(5).
struct ProcessStat {
    pid: i32,
    parent: i32,
    session: i32,
}

impl ProcessStat {
    fn read(pid: i32) -> Option<ProcessStat> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; after the last one come state, ppid, pgrp, session.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(ProcessStat { pid, parent: fields.get(1)?.parse().ok()?, session: fields.get(3)?.parse().ok()? })
    }
}
