//! Who a name is in the container.
//!
//! Names are a matter of a root file system's `/etc/passwd` and `/etc/group` (passwd(5), group(5)); the
//! kernel knows none. `--user` and the image's `USER` are read as Docker reads them: `name`, `uid`,
//! `name:group`, `uid:gid`.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use ch02_mount::resolve::Root;
use nix::errno::Errno;

use super::User;
use super::table::{self, groups, number, users};

// ANCHOR: account
/// What the container's files say of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name, where `/etc/passwd` has one.
    pub name: Option<String>,
    /// The home directory; `/` where `/etc/passwd` has none.
    pub home: PathBuf,
    /// The numbers.
    pub user: User,
}
// ANCHOR_END: account

// ANCHOR: look_up
/// Whom `text` means in `root`. Nothing means root.
///
/// A user who has a line in `/etc/passwd` gets its group, and the groups of `/etc/group` that list the name.
/// With a group of its own (`name:group`) there are no others. A number needs no line: the group is then 0,
/// as Docker has it.
///
/// # Errors
///
/// Names the user or group that the files do not have (ENOENT), and files that can't be read as such.
pub fn look_up(root: &Root, text: &str) -> Result<Account> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let user = if user.is_empty() { "0" } else { user };

    let passwd = table::read(root, "/etc/passwd")?.unwrap_or_default();
    // A name that consists of digits comes before the number, as for Docker: the first line that fits counts.
    let line = users(&passwd).find(|line| line.name == user || number(user) == Some(line.uid));
    let (uid, gid) = match &line {
        Some(line) => (line.uid, line.gid),
        None => (number(user).ok_or_else(|| no_such("user", user, "/etc/passwd"))?, 0),
    };
    let name = line.as_ref().map(|line| line.name);
    let home = line.as_ref().map(|line| line.home).filter(|home| !home.is_empty()).unwrap_or("/");

    let text = table::read(root, "/etc/group")?.unwrap_or_default();
    let (gid, additional_gids) = match (group, name) {
        ("", None) => (gid, Vec::new()),
        ("", Some(name)) => (gid, groups(&text).filter(|line| line.has(name)).map(|line| line.gid).collect()),
        (group, _) => (group_in(&text, group)?, Vec::new()),
    };
    let user = User { uid, gid, additional_gids, umask: None };
    Ok(Account { name: name.map(String::from), home: home.into(), user })
}

/// The number of the group that `text` means in `root`: a name, or a number.
///
/// # Errors
///
/// As for [`look_up`].
pub fn group(root: &Root, text: &str) -> Result<u32> {
    group_in(&table::read(root, "/etc/group")?.unwrap_or_default(), text)
}

fn group_in(text: &str, group: &str) -> Result<u32> {
    let line = groups(text).find(|line| line.name == group || number(group) == Some(line.gid));
    line.map(|line| line.gid).or_else(|| number(group)).ok_or_else(|| no_such("group", group, "/etc/group"))
}

fn no_such(kind: &str, name: &str, file: &str) -> anyhow::Error {
    anyhow!(Errno::ENOENT).context(format!("the container's {file} has no {kind} {name:?}"))
}
// ANCHOR_END: look_up
