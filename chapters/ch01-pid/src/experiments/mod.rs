// ANCHOR: imports
//! The experiments of chapter 1: what being PID 1 means, each read back from the host's /proc.

mod death;
mod old_proc;
mod orphans;
mod signals;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lesson::Lesson;
use nix::unistd::Pid;
// ANCHOR_END: imports

// ANCHOR: all
/// All of them, in the order in which the book tells them.
pub fn all(lesson: &Lesson) -> Result<()> {
    orphans::without_init(lesson)?;
    orphans::with_init(lesson)?;
    signals::without_init(lesson)?;
    signals::with_init(lesson)?;
    death::of_init(lesson)?;
    old_proc::shows_the_host(lesson)
}
// ANCHOR_END: all

// ANCHOR: look
/// A line of /proc/PID/status, such as `State` or `NSpid`.
pub fn status_line(pid: Pid, name: &str) -> Result<String> {
    let file = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line
        .with_context(|| format!("{file:?} has no line {name}"))?
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" "))
}

/// The children of a process, as the host counts them.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").context("read the directory \"/proc\"")? {
        let name = entry.context("read the directory \"/proc\"")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else { continue };
        // A process may end while we look.
        if status_line(pid, "PPid").is_ok_and(|its_parent| its_parent == parent.to_string()) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// Looks again and again until `found` finds something.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(result) = found()? {
            return Ok(result);
        }
        ensure!(start.elapsed() < Duration::from_secs(10), "waited ten seconds for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
// ANCHOR_END: look
