// ANCHOR: descriptors
//! Chapter 6: a directory of the host's that was left open (CVE-2024-21626).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use ch00_chroot::Identity;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::stage::Stage;
use crate::container::Container;
use crate::inside::Answer;

/// Looks through its descriptors for one that leads to the host's root. The host has it open; a careless
/// runtime lets the container have it.
pub fn use_leaked(stage: &Stage, container: &Container) -> Result<Answer> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let open_here: OwnedFd = open("/", flags, Mode::empty()).context("open \"/\"")?;
    let keep: Vec<BorrowedFd> = if container.careless { vec![open_here.as_fd()] } else { vec![] };
    let host = stage.root;
    stage.ask(container, &keep, || {
        let leads_out = |number: &i32| {
            Identity::of(format!("/proc/self/fd/{number}").as_str()).is_ok_and(|found| found == host)
        };
        match (0..256).find(leads_out) {
            Some(number) => Ok(format!("/proc/self/fd/{number} is the host's /")),
            None => Err("no descriptor leads out".into()),
        }
    })
}
// ANCHOR_END: descriptors
