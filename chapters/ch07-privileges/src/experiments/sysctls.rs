// ANCHOR: sysctls
//! Which of the kernel's knobs in /proc/sys are a container's own?
//!
//! Each network namespace has its `net`, each IPC namespace its `kernel.shm*` and `fs.mqueue`, each UTS
//! namespace its names, and a user namespace what is in `user`. All else is one for the machine: who may
//! write it may turn the host's knob. A container has /proc/sys read-only; here that mount is taken off, to
//! ask the kernel itself. It lets a user namespace's root write what belongs to a namespace of it, and
//! nothing else. Manual page: proc_sys(5).

use std::fs::{OpenOptions, read_to_string};

use anyhow::Result;
use ch07_privileges::capabilities::CapabilitySet;
use lesson::Lesson;
use log::info;
use nix::mount::{MntFlags, umount2};

use crate::container::Container;
use crate::inside::ask;

const SYSCTLS: [&str; 9] = [
    "net/ipv4/ip_forward",
    "net/ipv4/ping_group_range",
    "kernel/shmmax",
    "kernel/hostname",
    "kernel/pid_max",
    "kernel/core_pattern",
    "vm/overcommit_memory",
    "vm/swappiness",
    "fs/file-max",
];

/// Each as it is outside, as it is inside, and whether the container's root may open it to write.
pub fn run(lesson: &Lesson, container: &Container) -> Result<()> {
    info!(
        target: "say",
        "The kernel's knobs: outside, inside, and opened to be written by a container's root with all \
         capabilities."
    );
    let privileged = Container { capabilities: CapabilitySet::all()?, policy: None, ..container.clone() };
    let inside = ask(lesson, &privileged, &[], || {
        let removed = umount2("/proc/sys", MntFlags::MNT_DETACH);
        removed.map_err(|errno| format!("umount2(\"/proc/sys\"): {errno:?}"))?;
        Ok(SYSCTLS.map(|name| format!("{}\t{}", value(name), open(name))).join("\n"))
    })?;
    let inside = inside.map_err(anyhow::Error::msg)?;
    for (name, inside) in SYSCTLS.iter().zip(inside.lines()) {
        let (inside, opened) = inside.split_once('\t').unwrap_or_default();
        info!(target: "kernel", "{name:<26} {:<18} {inside:<18} {opened}", value(name));
    }
    Ok(())
}

fn value(name: &str) -> String {
    match read_to_string(format!("/proc/sys/{name}")) {
        Ok(text) => {
            // One column of a table: the values of some fill a line.
            let value = text.trim().replace('\t', " ");
            if value.len() > 18 {
                format!("{}...", value.chars().take(15).collect::<String>())
            } else {
                value
            }
        }
        Err(error) => describe(&error),
    }
}

fn open(name: &str) -> String {
    match OpenOptions::new().write(true).open(format!("/proc/sys/{name}")) {
        Ok(_) => "its own".into(),
        Err(error) => describe(&error),
    }
}

/// The errno's name.
fn describe(error: &std::io::Error) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}
// ANCHOR_END: sysctls
