//! Securebits: which of root's old privileges a process still has.
//!
//! They switch off what the kernel does for uid 0 only because programs from before capabilities expect it.
//! Each has a second bit that locks it for good. Children have their parent's. A runtime leaves them as they
//! are; it meets them set where whoever started it has set them. Interface: prctl(2), PR_SET_SECUREBITS.

use std::fmt;
use std::ops::BitOr;

use anyhow::{Result, anyhow};
use log::info;
use nix::errno::Errno;

use super::sets::prctl;

// ANCHOR: securebits
/// The securebits of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Securebits(u32);

impl Securebits {
    /// exec and a setuid-root file give uid 0 no capabilities.
    pub const NOROOT: Securebits = Securebits(1 << 0);
    /// A change of user from or to uid 0 leaves the sets as they are.
    pub const NO_SETUID_FIXUP: Securebits = Securebits(1 << 2);
    /// A change from uid 0 to another user keeps the permitted set; exec clears this bit. PR_SET_KEEPCAPS
    /// sets it, and needs no capability.
    pub const KEEP_CAPS: Securebits = Securebits(1 << 4);
    /// Nothing can be added to the ambient set.
    pub const NO_CAP_AMBIENT_RAISE: Securebits = Securebits(1 << 6);

    const NAMES: [(Securebits, &str); 4] = [
        (Securebits::NOROOT, "NOROOT"),
        (Securebits::NO_SETUID_FIXUP, "NO_SETUID_FIXUP"),
        (Securebits::KEEP_CAPS, "KEEP_CAPS"),
        (Securebits::NO_CAP_AMBIENT_RAISE, "NO_CAP_AMBIENT_RAISE"),
    ];

    /// These, and locked: nobody can change them any more. The lock is the next higher bit.
    pub fn locked(self) -> Securebits {
        Securebits(self.0 | (self.0 & 0x55) << 1)
    }

    /// Whether all of `other` are in.
    pub fn contains(self, other: Securebits) -> bool {
        self.0 & other.0 == other.0
    }

    /// As the kernel writes them: `SECBIT_*` of linux/securebits.h.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// This process's own.
    ///
    /// # Errors
    ///
    /// prctl(2)'s errno: only a seccomp filter refuses this.
    pub fn own() -> Result<Securebits> {
        let bits = prctl(libc::PR_GET_SECUREBITS, 0, 0);
        bits.map(|bits| Securebits(bits as u32))
            .map_err(|errno| anyhow!(errno).context("prctl(PR_GET_SECUREBITS)"))
    }

    /// Makes this process's own these.
    ///
    /// # Errors
    ///
    /// EPERM: it needs CAP_SETPCAP; or one of them is locked.
    pub fn set(self) -> Result<()> {
        info!(target: "syscall", "prctl(PR_SET_SECUREBITS, {:#x})  {self}", self.0);
        prctl(libc::PR_SET_SECUREBITS, self.0 as i32, 0).map(drop).map_err(|errno| {
            let hint =
                if errno == Errno::EPERM { " (it needs CAP_SETPCAP, and what is locked stays)" } else { "" };
            anyhow!(errno).context(format!("prctl(PR_SET_SECUREBITS, {self}){hint}"))
        })
    }
}
// ANCHOR_END: securebits

impl BitOr for Securebits {
    type Output = Securebits;

    fn bitor(self, other: Securebits) -> Securebits {
        Securebits(self.0 | other.0)
    }
}

impl fmt::Display for Securebits {
    /// The names, `(locked)` after those that are; `none`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let name = |(bit, name): &(Securebits, &str)| {
            let locked = if self.contains(bit.locked()) { " (locked)" } else { "" };
            self.contains(*bit).then(|| format!("{name}{locked}"))
        };
        let names: Vec<String> = Self::NAMES.iter().filter_map(name).collect();
        formatter.write_str(&if names.is_empty() { "none".into() } else { names.join(", ") })
    }
}
