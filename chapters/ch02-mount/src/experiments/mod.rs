// ANCHOR: imports
//! The experiments of chapter 2: is a mount of one namespace seen in another?

use std::fs::{File, read_to_string};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ch01_pid::Spawn;
use ch01_pid::spawn::exit_now;
use ch02_mount::{Attributes, Propagation, Root, Tree, propagation};
use lesson::Lesson;
use log::info;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::pipe2;
// ANCHOR_END: imports

// ANCHOR: experiment
/// A mount made inside, with the propagation of the mount around it private, and then shared.
///
/// This process plays the host. It moves into a mount namespace first, so that the real host sees nothing of
/// either.
pub fn propagation(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "Now this process plays the host, in a mount namespace of its own.");
    info!(target: "syscall", "unshare(CLONE_NEWNS)  a copy of the host's mount table");
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    propagation::set(Path::new("/"), Propagation::Private, true)?;
    let stage = Path::new("/tmp");
    Tree::new("tmpfs", &[], Attributes::NONE)?.attach(Root::open(stage)?, stage)?;
    for propagation in [Propagation::Private, Propagation::Shared] {
        mount_inside(lesson, stage, propagation)?;
    }
    Ok(())
}

fn mount_inside(lesson: &Lesson, stage: &Path, kind: Propagation) -> Result<()> {
    info!(
        target: "say",
        "A mount made inside, where the mount around it is {}.",
        format!("{kind:?}").to_lowercase()
    );
    propagation::set(stage, kind, false)?;
    let place = stage.join(format!("{kind:?}").to_lowercase());
    std::fs::create_dir(&place).with_context(|| format!("mkdir {place:?}"))?;

    let (go, let_go) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    let go = File::from(go);
    let held = Spawn::new()
        .namespaces(CloneFlags::CLONE_NEWNS)
        .keep(lesson.descriptors())
        .keep([go.as_fd()])
        .dies_with_parent()
        .start(|report| {
            Tree::new("tmpfs", &[], Attributes::NONE)?.attach(Root::open(&place)?, &place)?;
            info!(target: "kernel", "inside, {place:?} is a mount point: {}", is_mount_point(&place)?);
            // The parent may look now. This process stays until it has: with it, its mount table would go.
            report.close();
            (&go).read(&mut [0]).context("wait for the parent")?;
            exit_now(0)
        })?;
    let mut child = held.release(None)?;
    info!(target: "kernel", "outside, {place:?} is a mount point: {}", is_mount_point(&place)?);
    drop(let_go);
    child.wait()?;
    Ok(())
}
// ANCHOR_END: experiment

// ANCHOR: mount_points
/// The fifth field of each line of /proc/self/mountinfo: where something is mounted (proc_pid_mountinfo(5)).
fn read_mount_points() -> Result<Vec<PathBuf>> {
    let file = "/proc/self/mountinfo";
    let table = read_to_string(file).with_context(|| format!("read {file:?}"))?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}

fn is_mount_point(path: &Path) -> Result<bool> {
    Ok(read_mount_points()?.iter().any(|point| point == path))
}

/// The mount points in one line, without those below /proc and /sys, which are many and are nearly the same
/// everywhere.
pub fn mount_points() -> Result<String> {
    let is_detail = |point: &PathBuf| {
        ["/proc", "/sys"].iter().any(|top| point.starts_with(top) && point != Path::new(top))
    };
    let (details, points): (Vec<PathBuf>, Vec<PathBuf>) =
        read_mount_points()?.into_iter().partition(is_detail);
    let points: Vec<String> = points.iter().map(|point| point.display().to_string()).collect();
    let rest = if details.is_empty() { "" } else { ", and others below /proc and /sys" };
    Ok(format!("{}{rest}", points.join(" ")))
}
// ANCHOR_END: mount_points
