//! `/etc/passwd` and `/etc/group` of a root file system that may lie.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use ch02_mount::resolve::Root;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

/// More than any of these files has. A file with a hole may claim terabytes.
const LIMIT: u64 = 16 << 20;

// ANCHOR: table
/// The text of a file in the container's root; nothing where it has none: an image needs neither of the two.
///
/// The file is the image's. A FIFO in its place would make open(2) wait for ever, and a device may do
/// something when it is opened: a watchdog starts to count. So it is looked at first, by a descriptor that
/// does not open it. By its path it may be another one a moment later, for a container that runs has its
/// processes; so what is opened is what was looked at, by the link of its descriptor in our own /proc.
pub(super) fn read(root: &Root, file: &str) -> Result<Option<String>> {
    let wrong = || format!("read {file:?} of the container");
    let found = match root.find(Path::new(file), OFlag::O_PATH) {
        // ENOTDIR: its /etc is a file.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        found => found.map_err(|errno| anyhow!(errno)).with_context(wrong)?,
    };
    let kind = SFlag::from_bits_truncate(fstat(&found).with_context(wrong)?.st_mode) & SFlag::S_IFMT;
    ensure!(kind == SFlag::S_IFREG, "{file:?} of the container is no regular file");
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    // Who holds a lease on the file (fcntl(2)) could make even this wait.
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let opened = options.open(&link).with_context(|| format!("{}: open {link:?}", wrong()))?;
    let mut bytes = Vec::new();
    opened.take(LIMIT + 1).read_to_end(&mut bytes).with_context(wrong)?;
    ensure!(bytes.len() as u64 <= LIMIT, "{file:?} of the container is larger than {} MiB", LIMIT >> 20);
    // A name may be in any encoding; ours is compared by its bytes all the same.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// A line of passwd(5): `name:password:uid:gid:comment:home:shell`.
#[derive(Debug)]
pub(super) struct UserLine<'a> {
    pub(super) name: &'a str,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: &'a str,
}

/// A line of group(5): `name:password:gid:member,member`.
#[derive(Debug)]
pub(super) struct GroupLine<'a> {
    pub(super) name: &'a str,
    pub(super) gid: u32,
    members: &'a str,
}

impl GroupLine<'_> {
    pub(super) fn has(&self, member: &str) -> bool {
        self.members.split(',').any(|name| name.trim() == member)
    }
}

/// The lines that can be read. One with a number that is none is passed over: taken for 0, as atoi(3) has it,
/// it would make somebody root.
pub(super) fn users(text: &str) -> impl Iterator<Item = UserLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
        Some(UserLine { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// As [`users`], of the groups.
pub(super) fn groups(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = number(fields.nth(1)?)?;
        Some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// The number of a user or group: digits alone, and not the one that means "no change".
pub(super) fn number(text: &str) -> Option<u32> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_digits && *number != u32::MAX)
}
// ANCHOR_END: table
