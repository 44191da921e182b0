//! CVE-2016-9962: a process that has joined, and is not the command yet, is looked at by its new neighbours.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch06_exec::{Exec, Target};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use testing::needs;

use crate::container::{Container, Hostile};

/// The capabilities of a container of Docker's, as in capability.h: all but those that would lead out. Of note:
/// without CAP_SYS_PTRACE.
const DOCKERS: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// What a neighbour tries to get of a process.
const LOOKS: [&str; 5] = ["fd", "exe", "root", "mem", "ptrace"];

/// Whether it gets it.
fn look(what: &str, pid: i32) -> bool {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    match what {
        // The numbers of its descriptors are no secret; where they lead is.
        "fd" => fs::metadata(path("fd/0")).is_ok(),
        "exe" => File::open(path("exe")).is_ok(),
        "root" => fs::read_dir(path("root")).is_ok(),
        "mem" => File::options().write(true).open(path("mem")).is_ok(),
        // SAFETY: the call takes numbers; nothing is read from or written to this process's memory.
        "ptrace" => unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0 },
        other => panic!("{other} is nothing to look at"),
    }
}

/// Keeps these capabilities alone: capset(2).
fn limit_capabilities() -> Result<()> {
    let set = DOCKERS.iter().fold(0u32, |set, number| set | 1 << number);
    // The structures of capset(2): version 3 and "myself"; effective, permitted, inheritable, for 32 numbers each.
    let (header, sets) = ([0x2008_0522u32, 0], [set, set, 0, 0, 0, 0]);
    // SAFETY: the kernel reads two integers and six, which live through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })?;
    Ok(())
}

/// Waits for a file to appear in the container's /tmp.
fn wait_for(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::exists(Path::new("/tmp").join(name))? {
        ensure!(Instant::now() < deadline, "/tmp/{name} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The container's PID 1: looks at the one process that joins, once it has only the powers that it will have.
fn spy(output: &mut File) -> Result<()> {
    limit_capabilities()?;
    wait_for("joined")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_string_lossy().parse().unwrap_or(1);
        for what in LOOKS.iter().filter(|_| pid != 1) {
            writeln!(output, "{what} {}", if look(what, pid) { "got" } else { "refused" })?;
        }
    }
    writeln!(output, "end")?;
    fs::write("/tmp/seen", "")?;
    Ok(())
}

/// The joined process on its way to the command: it has taken its powers from itself, and waits to be looked at.
fn join() -> Result<()> {
    limit_capabilities()?;
    fs::write("/tmp/joined", "")?;
    wait_for("seen")
}

fn results(mut container: Container) -> Vec<String> {
    std::iter::from_fn(|| Some(container.line()))
        .take_while(|line| line != "end" && !line.is_empty())
        .collect()
}

pub fn a_process_that_joins_is_read_by_its_neighbours_where_it_is_careless_alone() {
    needs!(Root);
    let hostile = Hostile::new();
    let container = hostile.start(spy);
    let target = Target::open(Pid::from_raw(container.pid().parse().unwrap())).unwrap();
    let ours = Exec::new(&target).start(|_| {
        join()?;
        exit_now(0)
    });
    ours.unwrap().release(None).unwrap().wait().unwrap();
    assert_eq!(results(container), LOOKS.map(|what| format!("{what} refused")));

    let hostile = Hostile::new();
    let container = hostile.start(spy);
    let pidfd = Target::open(Pid::from_raw(container.pid().parse().unwrap())).unwrap();
    let careless = Spawn::new().keep([pidfd.as_fd()]).start(|_| {
        setns(pidfd.as_fd(), CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
        // SAFETY: this process has a single thread.
        match unsafe { fork() }? {
            ForkResult::Child => join()?,
            ForkResult::Parent { child } => drop(waitpid(child, None)?),
        }
        exit_now(0)
    });
    careless.unwrap().release(None).unwrap().wait().unwrap();
    // Yama (ptrace_scope) may keep the last two from anyone; the others are what leads to the host.
    let results = results(container);
    assert_eq!(results[..3], ["fd got", "exe got", "root got"], "{results:?}");
}
