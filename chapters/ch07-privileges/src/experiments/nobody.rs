// ANCHOR: nobody
//! Root inside is nobody outside.
//!
//! A user namespace has numbers of its own for users and groups. A file that root of the container makes
//! belongs outside to the number that the map gives; and where the root file system is id-mapped, the files
//! in it that are root's on the disk are the container's root's inside. Manual pages: user_namespaces(7),
//! mount_setattr(2), "ID-mapped mounts".

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use ch01_pid::spawn::exit_now;
use lesson::Lesson;
use log::info;
use nix::unistd::{getgid, getuid};
use userns::map::{self, Ids};

use crate::container::{Container, shifts};
use crate::start;

/// A container that makes a file; both sides say who they think its owner is.
pub fn run(lesson: &Lesson, container: &Container) -> Result<()> {
    let (host, child) = UnixStream::pair().context("socketpair")?;
    let held = start(
        lesson,
        container,
        None,
        &[child.as_fd()],
        || Ok(()),
        |report| {
            info!(target: "say", "Look from both sides.");
            info!(target: "kernel", "inside, getuid() is {}, getgid() is {}", getuid(), getgid());
            let (made, found) = ("/tmp/made", "/etc/passwd");
            fs::write(made, "").with_context(|| format!("write {made:?}"))?;
            for file in [made, found] {
                info!(target: "kernel", "inside, {file} is owned by {}", owner(file)?);
            }
            report.close();
            // The parent looks, and the files are there as long as this process is.
            (&child).write_all(b"!").context("tell the parent")?;
            (&child).read(&mut [0]).context("wait for the parent")?;
            exit_now(0)
        },
    )?;
    if shifts(&map::own(Ids::Users)?) {
        let lines: Vec<String> = map::own(Ids::Users)?.iter().map(ToString::to_string).collect();
        let lines = lines.join(", ");
        info!(target: "kernel", "the lesson itself is in a user namespace; its uid_map: {lines}");
    }
    let mut held = held.release(None)?;
    let pid = held.pid();
    (&host).read(&mut [0]).context("wait for the child")?;
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        let map = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
        let lines: Vec<String> =
            map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        info!(target: "kernel", "outside, {path}: {}", lines.join(", "));
    }
    let status = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&status).with_context(|| format!("read {status:?}"))?;
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    info!(target: "kernel", "outside, {status} says Uid: {}", ids.join(" "));
    let made = owner(&format!("/proc/{pid}/root/tmp/made"))?;
    info!(target: "kernel", "outside, /tmp/made is owned by {made}");
    let image = container.root.join("etc/passwd");
    info!(target: "kernel", "outside, {image:?} is owned by {}", owner(&image.to_string_lossy())?);
    drop((child, host));
    held.wait()?;
    Ok(())
}

fn owner(file: &str) -> Result<String> {
    let metadata = fs::symlink_metadata(file).with_context(|| format!("stat {file:?}"))?;
    Ok(format!("{}:{}", metadata.uid(), metadata.gid()))
}
// ANCHOR_END: nobody
