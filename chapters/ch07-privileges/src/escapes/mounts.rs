// ANCHOR: mounts
//! Chapter 2: its mounts taken off or changed, the host's name, the host's disk.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use ch02_mount::{Attributes, Tree};
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::{gethostname, sethostname};

use super::stage::{Stage, refused};
use crate::container::Container;
use crate::inside::Answer;

/// /proc/sys is a mount that makes it read-only.
pub fn unmask(stage: &Stage, container: &Container) -> Result<Answer> {
    stage.ask(container, &[], || match umount2("/proc/sys", MntFlags::MNT_DETACH) {
        Ok(()) => Ok("the mask is off".into()),
        Err(errno) => Err(refused("umount2", errno)),
    })
}

/// The same by its attributes.
pub fn remount(stage: &Stage, container: &Container) -> Result<Answer> {
    stage.ask(container, &[], || {
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV
            | MsFlags::MS_NOEXEC;
        match mount(None::<&str>, "/proc/sys", None::<&str>, flags, None::<&str>) {
            Ok(()) => Ok("mounted read-write".into()),
            Err(errno) => Err(refused("mount(MS_REMOUNT)", errno)),
        }
    })
}

/// The host looks what it is called afterwards, and takes its name back.
pub fn rename_host(stage: &Stage, container: &Container) -> Result<Answer> {
    let before = gethostname()?;
    let answer = stage.ask(container, &[], || match sethostname("taken") {
        Ok(()) => Ok(String::new()),
        Err(errno) => Err(refused("sethostname", errno)),
    })?;
    let now = gethostname()?;
    if now != before {
        sethostname(&before)?;
    }
    Ok(match answer {
        Ok(_) if now == "taken" => Ok("the host is called \"taken\"".into()),
        Ok(_) => Err("it has renamed itself".into()),
        refusal => refusal,
    })
}

/// A device file for the first disk of the machine. What may be opened is also a matter of the cgroup
/// (chapter 4): where the host is itself held by one, the file alone counts.
pub fn open_disk(stage: &Stage, container: &Container) -> Result<Answer> {
    let (major, minor) = first_disk().unwrap_or((8, 0));
    let make = |directory: BorrowedFd| {
        let (name, mode) = ("disk", Mode::from_bits_truncate(0o600));
        mknodat(directory, name, SFlag::S_IFBLK, mode, makedev(major, minor))
            .map_err(|errno| refused("mknod", errno))?;
        let opened = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        opened.map_err(|errno| refused("open", errno))
    };
    let own = Tree::new("tmpfs", &[], Attributes::NONE)?;
    let by_host = make(own.as_fd()).map(drop);
    let answer = stage.ask(container, &[], || {
        let directory = open("/dev", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let directory = directory.map_err(|errno| refused("open /dev", errno))?;
        make(directory.as_fd()).map(|_| "open".into())
    })?;
    Ok(match answer {
        Err(refusal) if refusal.starts_with("open:") && by_host == Err(refusal.clone()) => {
            Ok(format!("made ({refusal}, to the host too)"))
        }
        answer => answer,
    })
}

/// `MAJOR MINOR BLOCKS NAME`, after two lines of headings.
fn first_disk() -> Option<(u64, u64)> {
    let table = fs::read_to_string("/proc/partitions").ok()?;
    let mut fields = table.lines().nth(2)?.split_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
// ANCHOR_END: mounts
