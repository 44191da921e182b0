//! Attributes on a kernel before 5.12, which has no mount_setattr(2).
//!
//! There mount(2) with MS_REMOUNT | MS_BIND changes one attached mount, by its path. It *replaces* the
//! attributes, so those that the mount has are read first: to drop one would be an error in a user namespace,
//! and a hole elsewhere. For an instant the mount is there without its new attributes, which is why the newer
//! call exists.

use std::ffi::OsString;
use std::fs::read_to_string;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::{Attributes, Propagation};

/// A [`Change`](crate::tree::Change) that is still to be made once the mount is attached.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) set: Attributes,
    pub(crate) clear: Attributes,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) recursive: bool,
}

/// What proc_pid_mountinfo(5) tells of one mount.
struct Line {
    id: u32,
    parent: u32,
    point: PathBuf,
    options: String,
}

// ANCHOR: late
impl Late {
    /// Makes the change to the attached mount whose root is `mount`, and to those below it if that was asked
    /// for.
    pub(crate) fn apply_to(&self, mount: BorrowedFd) -> Result<()> {
        let table = read_table()?;
        let mut mounts = vec![mount_id(mount)?];
        for index in 0.. {
            let Some(id) = mounts.get(index).copied() else { break };
            let line = table.iter().find(|line| line.id == id);
            self.remount(line.context("the mount is not in /proc/self/mountinfo")?)?;
            let is_below = |line: &&Line| self.recursive && line.parent == id && line.id != id;
            mounts.extend(table.iter().filter(is_below).map(|line| line.id));
        }
        Ok(())
    }

    fn remount(&self, line: &Line) -> Result<()> {
        let attributes = (Attributes::from_options(&line.options) - self.clear) | self.set;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | attributes.mount_flags();
        let propagation = self.propagation.map(|propagation| propagation.flag().0);
        for flags in [Some(flags), propagation].into_iter().flatten() {
            mount(None::<&str>, &line.point, None::<&str>, flags, None::<&str>)
                .with_context(|| format!("mount {:?} with {flags:?}", line.point))?;
        }
        Ok(())
    }
}
// ANCHOR_END: late

/// The id of the mount that a descriptor leads to: the line `mnt_id` of /proc/self/fdinfo
/// (proc_pid_fdinfo(5)).
pub(crate) fn mount_id(mount: BorrowedFd) -> Result<u32> {
    let file = format!("/proc/self/fdinfo/{}", mount.as_raw_fd());
    let text = read_to_string(&file).with_context(|| format!("read {file:?}"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.with_context(|| format!("{file:?} has no line mnt_id"))?
        .trim()
        .parse()
        .with_context(|| format!("read {file:?}"))
}

fn read_table() -> Result<Vec<Line>> {
    let file = "/proc/self/mountinfo";
    let table = read_to_string(file).with_context(|| format!("read {file:?}"))?;
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let point = unescape(fields.nth(2)?);
        Some(Line { id, parent, point, options: fields.next()?.into() })
    };
    table.lines().map(|text| line(text).with_context(|| format!("a line of {file:?}: {text:?}"))).collect()
}

/// A path of `/proc/PID/mountinfo` as it is: there a space is written as `\040`, and likewise the tab, the newline, the
/// backslash and the `#` (proc_pid_mountinfo(5)).
pub fn unescape(text: &str) -> PathBuf {
    let mut bytes = text.as_bytes().iter();
    let mut path = Vec::new();
    while let Some(&byte) = bytes.next() {
        let digits = bytes.as_slice().get(..3).unwrap_or_default();
        let code = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| byte == b'\\') {
            Some(code) => {
                path.push(code);
                bytes.nth(2);
            }
            None => path.push(byte),
        }
    }
    OsString::from_vec(path).into()
}
