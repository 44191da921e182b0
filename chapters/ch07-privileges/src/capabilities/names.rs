//! The kernel's capabilities, by number and name: include/uapi/linux/capability.h.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow};
use nix::errno::Errno;

use super::sets::prctl;

// ANCHOR: capability
/// One capability: a number, from 0 up to [`Capability::last`].
///
/// A kernel may have more than the 41 that have a name here; those are written by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(pub(super) u8);
// ANCHOR_END: capability

/// Constants, names and meanings from one list, so that none can be out of step with another.
macro_rules! capabilities {
    ($($number:literal $name:ident $meaning:literal)+) => {
        impl Capability {
            $(#[doc = $meaning] pub const $name: Capability = Capability($number);)+

            /// The names and what each lets a process do; the index is the number.
            const TABLE: &[(&str, &str)] = &[$((concat!("CAP_", stringify!($name)), $meaning)),+];
        }
    };
}

// ANCHOR: names
capabilities! {
    0 CHOWN "give files to other owners"
    1 DAC_OVERRIDE "pass over the modes of files, for reading, writing and executing"
    2 DAC_READ_SEARCH "pass over the modes of files for reading, open files by handle"
    3 FOWNER "do with a file what only its owner may"
    4 FSETID "keep a file's setuid and setgid bits when it is changed"
    5 KILL "send signals to other users' processes"
    6 SETGID "take any group, and any list of groups"
    7 SETUID "take any user"
    8 SETPCAP "drop from the bounding set, add to the inheritable one, change securebits"
    9 LINUX_IMMUTABLE "make files immutable and append-only"
    10 NET_BIND_SERVICE "listen on ports below 1024"
    11 NET_BROADCAST "nothing: the kernel never asks for it"
    12 NET_ADMIN "configure the network"
    13 NET_RAW "make raw and packet sockets"
    14 IPC_LOCK "lock memory"
    15 IPC_OWNER "pass over the modes of System V IPC objects"
    16 SYS_MODULE "load kernel modules"
    17 SYS_RAWIO "reach I/O ports and the machine's memory"
    18 SYS_CHROOT "change the root directory, join mount namespaces"
    19 SYS_PTRACE "trace and read any process"
    20 SYS_PACCT "switch process accounting"
    21 SYS_ADMIN "mount, make namespaces, and much that found no better place"
    22 SYS_BOOT "reboot, load another kernel"
    23 SYS_NICE "raise priorities, choose schedulers and processors"
    24 SYS_RESOURCE "pass over limits, raise hard ones"
    25 SYS_TIME "set the clocks"
    26 SYS_TTY_CONFIG "hang up terminals"
    27 MKNOD "make device nodes"
    28 LEASE "take a lease on any file"
    29 AUDIT_WRITE "write to the audit log"
    30 AUDIT_CONTROL "configure auditing"
    31 SETFCAP "give capabilities to files"
    32 MAC_OVERRIDE "pass over Smack's rules"
    33 MAC_ADMIN "change Smack's rules"
    34 SYSLOG "read the kernel's log, see its addresses"
    35 WAKE_ALARM "wake the machine by a timer"
    36 BLOCK_SUSPEND "keep the machine from sleeping"
    37 AUDIT_READ "read the audit log"
    38 PERFMON "observe performance, of all processes"
    39 BPF "load BPF programs"
    40 CHECKPOINT_RESTORE "choose pids, as restoring a process needs"
}
// ANCHOR_END: names

// ANCHOR: last
impl Capability {
    /// The running kernel's last capability.
    ///
    /// It is asked by prctl(2), which knows no number beyond. `/proc/sys/kernel/cap_last_cap` says the same,
    /// but in a container /proc may be missing, or a lie.
    ///
    /// # Errors
    ///
    /// Any errno of prctl(2) but EINVAL: a seccomp filter forbids to ask. Taken for "not known", it would mean
    /// that there are none, and so none to drop.
    pub fn last() -> Result<Capability> {
        let is_known = |number: u8| match prctl(libc::PR_CAPBSET_READ, number.into(), 0) {
            Err(Errno::EINVAL) => Ok(false),
            answer => answer.map(|_| true).context("prctl(PR_CAPBSET_READ)"),
        };
        let mut last = Self::TABLE.len() as u8 - 1;
        while last > 0 && !is_known(last)? {
            last -= 1;
        }
        while last < 63 && is_known(last + 1)? {
            last += 1;
        }
        Ok(Capability(last))
    }

    /// Its number in the kernel.
    pub fn number(self) -> u8 {
        self.0
    }

    /// What it lets a process do, in a few words; capabilities(7) has the long list.
    pub fn meaning(self) -> &'static str {
        Self::TABLE.get(usize::from(self.0)).map_or("younger than this program", |(_, meaning)| meaning)
    }
}
// ANCHOR_END: last

impl fmt::Display for Capability {
    /// The kernel's name.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match Self::TABLE.get(usize::from(self.0)) {
            Some((name, _)) => formatter.pad(name),
            None => formatter.pad(&format!("CAP_{}", self.0)),
        }
    }
}

// ANCHOR: parse
impl FromStr for Capability {
    type Err = Error;

    /// The name exactly as the kernel has it: `CAP_SYS_ADMIN`. An unknown one is an error that says which was
    /// meant: one that were passed over would be a power that is missing, or worse, one that was not dropped.
    fn from_str(name: &str) -> Result<Capability> {
        let number = Self::TABLE.iter().position(|(known, _)| *known == name);
        number.map(|number| Capability(number as u8)).ok_or_else(|| unknown(name))
    }
}

impl Capability {
    /// The name as people type it, and as Docker takes it: in lower case too, and without `CAP_`.
    ///
    /// # Errors
    ///
    /// Names what is unknown, and the nearest that is known.
    pub fn from_flag(text: &str) -> Result<Capability> {
        full_name(text).parse().map_err(|_| unknown(text))
    }
}
// ANCHOR_END: parse

fn full_name(text: &str) -> String {
    let name = text.trim().to_ascii_uppercase();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

fn unknown(text: &str) -> Error {
    let name = full_name(text);
    let nearest = Capability::TABLE.iter().map(|(known, _)| (distance(known, &name), *known)).min();
    // More than a third of the name wrong: it was not a slip of the finger.
    let hint = match nearest.filter(|(distance, known)| distance * 3 <= known.len() - "CAP_".len()) {
        Some((_, known)) => format!("; did you mean {known}?"),
        None => "; capabilities(7) lists them".to_string(),
    };
    anyhow!(Errno::EINVAL).context(format!("{text:?} is no capability{hint}"))
}

/// How many letters must be changed, added or removed to make the one word the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other_letter) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other_letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
