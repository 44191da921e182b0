//! The maps of another process's user namespace.
//!
//! Three ways lead to it. Who has CAP_SETUID (for groups CAP_SETGID) in the parent namespace writes the file
//! as it likes. Anybody may write a single line that maps their own number. For all else there are
//! newuidmap(1) and newgidmap(1), setuid programs that look into `/etc/subuid` and `/etc/subgid`.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;
use nix::unistd::{Pid, getegid, geteuid};

use crate::check::{check, check_root, text};
use crate::map::{self, write_file};
use crate::subordinate::{self, Ranges};
use crate::{IdMap, Ids};

/// The bits in a set of capabilities: capabilities(7).
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

// ANCHOR: write_for
/// Writes the maps of the user namespace of `pid`, a child in a namespace of its own that waits for it. It
/// must have a root. What the maps name outside is as this process has it.
///
/// setgroups(2) stays allowed inside, except where this process may map its group only by giving it up: a
/// single line for its own group, without CAP_SETGID.
///
/// # Errors
///
/// EINVAL with the reason (see [`check`]). EPERM: no way is open; names the range, and which line of
/// `/etc/subuid` or `/etc/subgid` would open one, or whatever else the kernel asks for.
pub fn write_for(pid: Pid, users: &[IdMap], groups: &[IdMap]) -> Result<()> {
    for (ids, maps) in [(Ids::Users, users), (Ids::Groups, groups)] {
        check(ids, maps)?;
        check_root(ids, maps)?;
    }
    write_one(pid, Ids::Users, users)?;
    write_one(pid, Ids::Groups, groups)
}

/// As [`write_for`], for a namespace that needs no root: one that is made for its maps alone.
///
/// # Errors
///
/// As for [`write_for`].
pub fn write(pid: Pid, users: &[IdMap], groups: &[IdMap]) -> Result<()> {
    // Both before the first is written: each file takes one write, and no second one would mend it.
    check(Ids::Users, users)?;
    check(Ids::Groups, groups)?;
    write_one(pid, Ids::Users, users)?;
    write_one(pid, Ids::Groups, groups)
}

fn write_one(pid: Pid, ids: Ids, maps: &[IdMap]) -> Result<()> {
    let is_privileged = has_capability(ids)?;
    if !is_privileged && !is_own(ids, maps) {
        return by_program(pid, ids, maps);
    }
    if !is_privileged && ids == Ids::Groups {
        info!(
            target: "syscall",
            "write(/proc/{pid}/setgroups, \"deny\")  the price of a map without privilege: no group can be left"
        );
        write_file(&format!("/proc/{pid}/setgroups"), "deny")?;
    }
    let (file, shown) = (format!("/proc/{pid}/{}", ids.file()), text(maps).replace('\n', "\\n"));
    info!(target: "syscall", "write({file}, \"{shown}\")  inside, outside, how many");
    fs::write(&file, text(maps)).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        anyhow!(errno).context(format!("write \"{shown}\" to {file:?}{}", cause(pid, ids, maps, errno)))
    })
}
// ANCHOR_END: write_for

/// Whether the map is the one that anybody may write: a single number, the writer's own.
fn is_own(ids: Ids, maps: &[IdMap]) -> bool {
    matches!(maps, [map] if map.count == 1 && map.outside == own_id(ids))
}

fn own_id(ids: Ids) -> u32 {
    match ids {
        Ids::Users => geteuid().as_raw(),
        Ids::Groups => getegid().as_raw(),
    }
}

/// Whether this process has the capability over its own user namespace, which is the new one's parent.
fn has_capability(ids: Ids) -> Result<bool> {
    let bit = match ids {
        Ids::Users => CAP_SETUID,
        Ids::Groups => CAP_SETGID,
    };
    let file = "/proc/self/status";
    let status = fs::read_to_string(file).with_context(|| format!("read {file:?} (is /proc mounted?)"))?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    Ok(set.with_context(|| format!("{file:?} has no line CapEff that is a number"))? >> bit & 1 == 1)
}

// ANCHOR: cause
/// Why the kernel may have refused the write, as far as that can be seen.
fn cause(pid: Pid, ids: Ids, maps: &[IdMap], errno: Errno) -> String {
    match errno {
        Errno::EPERM if map::of(pid, ids).is_ok_and(|map| !map.is_empty()) => {
            " (it has a map already: each can be written once)".into()
        }
        Errno::EPERM => match map::own(ids).map(|own| maps.iter().find(|map| !exists(&own, **map)).copied()) {
            Ok(Some(map)) => format!(
                " (the range \"{map}\" names ids outside that do not exist in this user namespace: see /proc/self/{})",
                ids.file()
            ),
            _ => " (to map root's own id takes CAP_SETFCAP as well, since Linux 5.12; or the process is in no new user \
                  namespace, or not in one of this user's)"
                .into(),
        },
        Errno::ENOENT => " (there is no such process)".into(),
        Errno::EACCES => " (the process is not this user's, or made itself non-dumpable: prctl(2))".into(),
        Errno::EINVAL => " (a kernel before 4.15 takes no more than 5 ranges)".into(),
        _ => String::new(),
    }
}

/// Whether all that a range names outside has a number in our namespace, whose map is `own`.
fn exists(own: &[IdMap], map: IdMap) -> bool {
    let ranges: Vec<(u32, u32)> = own.iter().map(|own| (own.inside, own.count)).collect();
    subordinate::cover(&ranges, map)
}
// ANCHOR_END: cause

// ANCHOR: by_program
/// Has newuidmap(1) or newgidmap(1) write the map. They leave setgroups as it is, where a range of the file
/// covers the map.
fn by_program(pid: Pid, ids: Ids, maps: &[IdMap]) -> Result<()> {
    let program = match ids {
        Ids::Users => "newuidmap",
        Ids::Groups => "newgidmap",
    };
    let arguments =
        maps.iter().flat_map(|map| [map.inside, map.outside, map.count]).map(|number| number.to_string());
    info!(target: "syscall", "{program} {pid} {}  a program that may: it is setuid root", map::arguments(maps));
    let output = Command::new(program).arg(pid.to_string()).args(arguments).stdin(Stdio::null()).output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(anyhow!(Errno::EPERM).context(format!(
                "{}: more than this user's own id takes CAP_SETUID and CAP_SETGID, or newuidmap and newgidmap, which \
                 are not installed (in most distributions they are in the package uidmap or shadow-utils)",
                ids.file()
            )))?
        }
        output => output.with_context(|| format!("run {program}"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.trim().trim_start_matches(&format!("{program}: ")).replace('\n', "; ");
    Err(anyhow!(Errno::EPERM).context(format!("{program}: {words}{}", missing(ids, maps))))
}

/// Which range this user may not map, and the line that would allow it.
fn missing(ids: Ids, maps: &[IdMap]) -> String {
    let (user, file) = (geteuid().as_raw(), ids.subordinate_file());
    let ranges = Ranges::of(ids, user).unwrap_or_default();
    let refused = maps.iter().find(|map| {
        let is_own = map.count == 1 && map.outside == own_id(ids);
        !is_own && !subordinate::cover(&ranges, **map)
    });
    let Some(map) = refused else { return String::new() };
    let name = subordinate::name_of(user).unwrap_or_else(|| user.to_string());
    let has: Vec<String> = ranges.iter().map(|(first, count)| format!("{name}:{first}:{count}")).collect();
    let has = if has.is_empty() { "no line for this user".into() } else { has.join(", ") };
    format!(
        " (this user may not map the range \"{map}\": {file} would have to say {name}:{}:{}, and has {has})",
        map.outside, map.count
    )
}
// ANCHOR_END: by_program
