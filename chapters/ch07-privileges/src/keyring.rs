//! The kernel's keys.
//!
//! The kernel keeps secrets for processes: Kerberos tickets, keys of file systems, passwords. A *key* hangs
//! on a *keyring*. A process has a *session keyring*, which its children inherit: what hangs there they
//! possess, and may read. No namespace divides keys. The number of a key is the same everywhere; only names
//! of keyrings and the keyrings of a user belong to a user namespace (Linux 5.3). So a container must at
//! least not inherit its host's session keyring. Manual pages:
//! [keyrings(7)](https://man7.org/linux/man-pages/man7/keyrings.7.html), keyctl(2), session-keyring(7); what
//! one may see: `/proc/keys`.

use std::ffi::CString;
use std::fmt;
use std::fs;

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;

// ANCHOR: serial
/// The number of a key, the same in every namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(i32);

impl fmt::Display for Serial {
    /// As `/proc/keys` has it.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:08x}", self.0)
    }
}
// ANCHOR_END: serial

// ANCHOR: joined
/// What came of joining a session keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// This is the session keyring now.
    Keyring(Serial),
    /// The kernel has no keys (ENOSYS), or a seccomp filter hides them (EPERM, ENOSYS): there is nothing to
    /// inherit, for the container's processes can't reach a key either.
    NoKeys,
}
// ANCHOR_END: joined

// ANCHOR: join
/// A new session keyring in place of the one that was inherited. It has no name by which others could join
/// it.
///
/// # Errors
///
/// EDQUOT: the user has as many keys as `/proc/sys/kernel/keys/maxkeys` allows (200 keyrings, of which each
/// container takes one). To go on would leave the host's keyring to the container.
pub fn join_new() -> Result<Joined> {
    join(None)
}

/// The session keyring of this name: one that is there already and that this process may search, else a new
/// one. By its name a process that is started in a container later can share the container's.
///
/// Names are known in the whole user namespace: another container in it may be first, and share this one's
/// keys.
///
/// # Errors
///
/// As for [`join_new`]; EACCES: there is one of this name, and its permissions forbid to join it; EPERM: a
/// name that begins with a dot is the kernel's own.
pub fn join_named(name: &str) -> Result<Joined> {
    join(Some(name))
}

fn join(name: Option<&str>) -> Result<Joined> {
    let shown = name.map_or("NULL".to_string(), |name| format!("{name:?}"));
    let c_name = name.map(CString::new).transpose().with_context(|| format!("the keyring's name {shown}"))?;
    info!(target: "syscall", "keyctl(KEYCTL_JOIN_SESSION_KEYRING, {shown})  inherited keys stay behind");
    let pointer = c_name.as_ref().map_or(0, |name| name.as_ptr() as libc::c_ulong);
    match keyctl(libc::KEYCTL_JOIN_SESSION_KEYRING, pointer, 0) {
        Ok(serial) => Ok(Joined::Keyring(Serial(serial))),
        Err(Errno::ENOSYS) => Ok(Joined::NoKeys),
        Err(Errno::EPERM) if is_hidden() => Ok(Joined::NoKeys),
        Err(errno) => {
            let hint = match errno {
                Errno::EDQUOT => {
                    " (the user has too many keys: see /proc/key-users and /proc/sys/kernel/keys/maxkeys)"
                }
                Errno::EACCES => " (there is one of this name, which may not be joined)",
                Errno::EPERM => " (the kernel keeps names that begin with a dot for itself)",
                _ => "",
            };
            Err(anyhow!(errno).context(format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {shown}){hint}")))
        }
    }
}

/// Whether keyctl(2) is refused as such, as Docker's default seccomp policy does it: this command the kernel
/// itself never refuses so.
fn is_hidden() -> bool {
    keyctl(libc::KEYCTL_GET_KEYRING_ID, libc::KEY_SPEC_SESSION_KEYRING as libc::c_ulong, 0)
        == Err(Errno::EPERM)
}
// ANCHOR_END: join

// ANCHOR: let_search
/// Who may find a keyring, besides who possesses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Searcher {
    /// The user that it belongs to: KEY_USR_SEARCH.
    Owner,
    /// Anyone, for a process that comes from outside a container's user namespace is another user:
    /// KEY_OTH_SEARCH.
    Anyone,
}

/// Lets a keyring be joined by its name, for which a process must be allowed to search it.
///
/// # Errors
///
/// keyctl(2)'s errno. EACCES: the keyring is not possessed.
pub fn let_search(keyring: Serial, searcher: Searcher) -> Result<()> {
    // KEY_USR_SEARCH and KEY_OTH_SEARCH of linux/key.h.
    let wanted = match searcher {
        Searcher::Owner => 0x0008_0000,
        Searcher::Anyone => 0x0000_0008,
    };
    let permissions = permissions(keyring)? | wanted;
    info!(target: "syscall", "keyctl(KEYCTL_SETPERM, {keyring}, {permissions:#x})  it may be found by name");
    keyctl(libc::KEYCTL_SETPERM, keyring.0 as libc::c_ulong, permissions.into())
        .with_context(|| format!("keyctl(KEYCTL_SETPERM) of the keyring {keyring}"))?;
    Ok(())
}

/// The permissions of a key: the fourth field of `keyring;UID;GID;PERMISSIONS;NAME`.
fn permissions(key: Serial) -> Result<u32> {
    let mut text = [0u8; 4096];
    let pointer = text.as_mut_ptr() as libc::c_ulong;
    // SAFETY: the kernel writes at most as many bytes as the buffer has, which lives until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_DESCRIBE, key.0, pointer, text.len(), 0 as libc::c_long)
    };
    let length =
        Errno::result(result).with_context(|| format!("keyctl(KEYCTL_DESCRIBE) of the key {key}"))?;
    let text = String::from_utf8_lossy(&text[..text.len().min(length as usize)]);
    let field = text.split(';').nth(3).and_then(|field| u32::from_str_radix(field, 16).ok());
    field.with_context(|| format!("keyctl(KEYCTL_DESCRIBE) of the key {key} says {text:?}"))
}
// ANCHOR_END: let_search

// ANCHOR: session
/// The session keyring of this process; nothing where the kernel has no keys or hides them.
///
/// # Errors
///
/// keyctl(2)'s errno.
pub fn session() -> Result<Option<Serial>> {
    // With the last argument 0 none is made where there is none: then it is the user's default one (ENOKEY
    // where that is missing too).
    match keyctl(libc::KEYCTL_GET_KEYRING_ID, libc::KEY_SPEC_SESSION_KEYRING as libc::c_ulong, 0) {
        Ok(serial) => Ok(Some(Serial(serial))),
        Err(Errno::ENOKEY | Errno::ENOSYS | Errno::EPERM) => Ok(None),
        Err(errno) => Err(anyhow!(errno).context("keyctl(KEYCTL_GET_KEYRING_ID)")),
    }
}
// ANCHOR_END: session

// ANCHOR: list
/// A line of `/proc/keys`: a key that this process may view, whoever's it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its number.
    pub serial: Serial,
    /// What possessor, user, group and others may do with it: two hexadecimal digits each.
    pub permissions: u32,
    /// Its user, as this user namespace has the number.
    pub uid: u32,
    /// `keyring`, `user`, `logon`...
    pub kind: String,
    /// Its name, and what its type says of its content.
    pub description: String,
}

/// The keys that this process may view: `/proc/keys`.
///
/// Who makes a key gives it its description, which may have any bytes, a line's end too. What comes after
/// that is no line of a key, and passed over; unless it is made to look like one.
///
/// # Errors
///
/// Names the file. ENOENT: the kernel has no keys, or /proc is masked.
pub fn list() -> Result<Vec<Key>> {
    let file = "/proc/keys";
    let bytes = fs::read(file).with_context(|| format!("read {file:?}"))?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(key).collect())
}

/// `SERIAL FLAGS USAGE EXPIRY PERMISSIONS UID GID TYPE DESCRIPTION`; the last may have spaces.
fn key(line: &str) -> Option<Key> {
    let mut fields = line.split_whitespace();
    let serial = Serial(u32::from_str_radix(fields.next()?, 16).ok()? as i32);
    let permissions = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    // The kernel prints it with a sign, so the upper half of all numbers is below 0.
    let uid = fields.next()?.parse::<i32>().ok()? as u32;
    let kind = fields.nth(1)?.to_string();
    let description = fields.collect::<Vec<_>>().join(" ");
    Some(Key { serial, permissions, uid, kind, description })
}
// ANCHOR_END: list

/// keyctl(2) with numbers, or with a pointer to a string that lives until it returns.
fn keyctl(command: u32, argument: libc::c_ulong, second: libc::c_ulong) -> Result<i32, Errno> {
    // SAFETY: the commands that are used here take numbers, or read a string that the caller holds.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::c_ulong::from(command),
            argument,
            second,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
    Errno::result(result).map(|result| result as i32)
}
