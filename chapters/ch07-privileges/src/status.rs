//! A line of `/proc/PID/status`: proc_pid_status(5).

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::Pid;

// ANCHOR: line
/// What stands after `KEY:`.
///
/// The file begins with the process's name, which the process chooses itself: any bytes, so the text need not
/// be UTF-8. (It can't make a line of its own with it: the kernel writes `\n` for the end of a line.)
pub(crate) fn line(pid: Pid, key: &str) -> Result<String> {
    let file = format!("/proc/{pid}/status");
    let bytes = fs::read(&file).with_context(|| format!("read {file:?}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("{file:?} has no line {key}"))?.trim().to_string())
}
// ANCHOR_END: line
