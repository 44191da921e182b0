// ANCHOR: imports
//! The joined process: what it reads from and writes to, and how it looks from both sides.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::io::{IsTerminal, stdin};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ch01_pid::terminal::{Input, copy_size, send_master, use_as_stdio};
use ch02_mount::Streams;
use ch04_cgroups::{Cgroup, Hierarchies};
use ch06_exec::console::open_pty;
use log::info;
use nix::unistd::{AccessFlags, Pid, access, getpid, getppid};
// ANCHOR_END: imports

// ANCHOR: streams
/// A terminal where one was asked for. Else our own streams, but for an input that is a terminal: the command is in
/// another session, and would take the keys that are meant for our shell.
///
/// # Errors
///
/// Without a terminal that could show the command's.
pub fn streams(terminal: bool) -> Result<Streams> {
    if !terminal {
        return Ok(Input::for_command()?.map_or(Streams::Inherited, Streams::Pipe));
    }
    ensure!(stdin().is_terminal(), "--tty: standard input is no terminal");
    let (parent, child) = UnixStream::pair().context("socketpair for the terminal")?;
    Ok(Streams::Terminal { parent, child })
}

/// In the joined process.
pub fn open(streams: &Streams) -> Result<()> {
    match streams {
        Streams::Terminal { child, .. } => terminal(child.as_fd()),
        other => other.open(),
    }
}

/// As chapter 2's, from the devpts of the container. But the container has been running, and may have put another
/// thing where the terminals should come from; and its /dev/console is that of its first process.
fn terminal(socket: BorrowedFd) -> Result<()> {
    let pty = open_pty()?;
    // Standard input is still the user's terminal.
    copy_size(stdin().as_fd(), pty.master.as_fd())?;
    send_master(socket, &pty.master)?;
    use_as_stdio(&pty.slave)
}
// ANCHOR_END: streams

// ANCHOR: may_enter
/// Whether this process may move one of its own into the cgroup of `target`. A container of the same user's may be in
/// one that is closed to us: version 2 asks for the right to the cgroup above both, too.
pub fn may_enter_cgroup(target: Pid) -> Result<bool> {
    let hierarchies = Hierarchies::find()?;
    let (ours, its) = (Cgroup::of(&hierarchies, Pid::this())?, Cgroup::of(&hierarchies, target)?);
    let ours: BTreeMap<String, &Path> = ours.paths().collect();
    let is_open = |(hierarchy, its): (String, &Path)| {
        let Some(ours) = ours.get(&hierarchy) else { return false };
        let above = its.ancestors().find(|above| ours.starts_with(above)).unwrap_or(its);
        let may_write = |path: &Path| access(&path.join("cgroup.procs"), AccessFlags::W_OK).is_ok();
        its == *ours || (may_write(its) && may_write(above))
    };
    Ok(its.paths().all(is_open))
}
// ANCHOR_END: may_enter

// ANCHOR: tell
/// From inside: its number, and that of its parent, which has none in there.
pub fn tell_pids() {
    info!(target: "kernel", "inside, getpid() is {}, and getppid() is {}", getpid(), getppid());
}

/// From outside, while it waits at the gate: it has joined all by now.
pub fn tell(joined: Pid, target: Pid) -> Result<()> {
    if !Path::new(&format!("/proc/{joined}")).exists() {
        // With hidepid, /proc shows a plain user only what they may look into, and nobody may yet.
        info!(target: "kernel", "/proc hides {joined} until its exec: see hidepid in proc(5)");
        return Ok(());
    }
    for pid in [target, joined] {
        info!(target: "kernel", "outside, /proc/{pid}/status says NSpid: {}", status_line(pid, "NSpid")?);
    }
    let is_same = cgroups(joined)? == cgroups(target)?;
    info!(target: "kernel", "/proc/{joined}/cgroup and /proc/{target}/cgroup say the same: {is_same}");
    Ok(())
}

/// A line of /proc/PID/status.
pub fn status_line(pid: Pid, name: &str) -> Result<String> {
    let file = format!("/proc/{pid}/status");
    let status = read_to_string(&file).with_context(|| format!("read {file:?}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.with_context(|| format!("{file:?} has no line {name}"))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn cgroups(pid: Pid) -> Result<String> {
    let file = format!("/proc/{pid}/cgroup");
    read_to_string(&file).with_context(|| format!("read {file:?}"))
}
// ANCHOR_END: tell
