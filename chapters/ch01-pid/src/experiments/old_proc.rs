//! What does `ps` show inside?

use std::fs::{read_dir, read_to_string};

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use lesson::Lesson;
use log::info;
use nix::sched::CloneFlags;
use nix::unistd::getpid;

/// `ps` lists the directory /proc, and that is still the host's.
pub fn shows_the_host(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "The old /proc. ps reads /proc, and that is a mount: still the host's.");
    info!(target: "kernel", "outside, process 1 of /proc is {}", name_of_process_1()?);
    let held =
        Spawn::new().namespaces(CloneFlags::CLONE_NEWPID).keep(lesson.descriptors()).dies_with_parent();
    let held = held.start(|_| {
        info!(
            target: "kernel",
            "inside, getpid() is {}, but process 1 of /proc is {}",
            getpid(), name_of_process_1()?
        );
        info!(
            target: "kernel",
            "inside, /proc shows more than this one process: {}",
            number_of_processes()? > 1
        );
        exit_now(0)
    })?;
    held.release(None)?.wait()?;
    info!(target: "say", "How does a container get a /proc of its own? That is chapter 2.");
    Ok(())
}

fn name_of_process_1() -> Result<String> {
    let name = read_to_string("/proc/1/comm").context("read \"/proc/1/comm\"")?;
    Ok(name.trim().into())
}

/// What `ps` does: each directory of /proc whose name is a number is a process.
fn number_of_processes() -> Result<usize> {
    let mut processes = 0;
    for entry in read_dir("/proc").context("read the directory \"/proc\"")? {
        let name = entry.context("read the directory \"/proc\"")?.file_name();
        processes += usize::from(name.to_string_lossy().parse::<u32>().is_ok());
    }
    Ok(processes)
}
