//! Devices in cgroup version 1: a list in the kernel, edited through `devices.allow` and `devices.deny`, read
//! through `devices.list`.
//!
//! The list is not the list of rules. It has one answer for all devices, and exceptions to it; a line written
//! to the one file or the other adds an exception or removes one:
//!
//! | | `devices.allow` | `devices.deny` |
//! |---|---|---|
//! | all are denied | adds an exception | removes the *same* exception |
//! | all are allowed | removes the *same* exception | adds an exception |
//! | the line `a` | all are allowed, no exceptions | all are denied, no exceptions |
//!
//! So `c 1:* rwm` followed by a denial of `c 1:5 rwm` has no effect, and no error says so: there is no such
//! exception to remove. We compute the exceptions that the rules amount to, refuse rules that amount to none,
//! and write what is to change.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::list::List;
use super::{Access, Devices, Kind, Rule};

// ANCHOR: write
/// Makes `rules` hold for the cgroup with this directory, in the hierarchy of the controller `devices`.
///
/// From a list of what is allowed to another, a device that both allow is allowed all the time.
///
/// # Errors
///
/// Rules that version 1 can't express. EPERM: the parent cgroup does not allow that much, or
/// `CAP_SYS_ADMIN` is missing. EINVAL: the cgroup has children, so that its default can't change any more.
pub fn write(directory: BorrowedFd, rules: &[Rule]) -> Result<()> {
    let target = List::amounts_to(rules)?;
    let current = List::read(directory)?;
    for (file, line) in current.steps_to(&target) {
        info!(target: "syscall", "write(\"{file}\", \"{line}\")");
        open(directory, file, OFlag::O_WRONLY)?.write_all(line.as_bytes()).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EPERM) => {
                    ": the parent cgroup does not allow as much, or CAP_SYS_ADMIN is missing"
                }
                Some(libc::EINVAL) => ": it has children, and for them the default must stay",
                _ => "",
            };
            anyhow!(error).context(format!("write {line:?} to {file} of the cgroup{hint}"))
        })?;
    }
    Ok(())
}
// ANCHOR_END: write

fn open(directory: BorrowedFd, file: &str, flags: OFlag) -> Result<File> {
    let descriptor = openat(directory, file, flags | OFlag::O_CLOEXEC, Mode::empty());
    Ok(descriptor.with_context(|| format!("open {file} of the cgroup"))?.into())
}

impl List {
    /// What `devices.list` shows. Where all are allowed, it does not show the exceptions.
    fn read(directory: BorrowedFd) -> Result<List> {
        let mut text = String::new();
        open(directory, "devices.list", OFlag::O_RDONLY)?
            .read_to_string(&mut text)
            .context("read devices.list")?;
        let mut list = List::all(false);
        for line in text.lines() {
            let (devices, access) =
                line.rsplit_once(' ').with_context(|| format!("devices.list has the line {line:?}"))?;
            let devices: Devices = devices.parse().context("read devices.list")?;
            if devices.kind == Kind::All {
                return Ok(List::all(true));
            }
            list.exceptions.insert(devices, access.parse().context("read devices.list")?);
        }
        Ok(list)
    }

    // ANCHOR: steps
    /// The files and the lines to write to them, to come from this list to `target`.
    fn steps_to(&self, target: &List) -> Vec<(&'static str, String)> {
        let file = |allow: bool| if allow { "devices.allow" } else { "devices.deny" };
        let line = |devices: &Devices, access: Access| format!("{devices} {access}");
        let mut steps = Vec::new();
        let mut known = self.exceptions.clone();
        if self.allows || target.allows {
            steps.push((file(target.allows), "a".to_string()));
            known.clear();
        }
        for (devices, access) in &known {
            let gone = *access - target.exceptions.get(devices).copied().unwrap_or_default();
            if !gone.is_empty() {
                steps.push((file(target.allows), line(devices, gone)));
            }
        }
        for (devices, access) in &target.exceptions {
            let new = *access - known.get(devices).copied().unwrap_or_default();
            if !new.is_empty() {
                steps.push((file(!target.allows), line(devices, new)));
            }
        }
        steps
    }
    // ANCHOR_END: steps
}
