//! A set of capabilities, as the kernel keeps it: one bit for each.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use anyhow::Result;

use super::Capability;

// ANCHOR: set
/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// What Docker, containerd and podman's older releases leave to a container's root: 14 of 41.
    pub const DEFAULT: CapabilitySet = CapabilitySet::of(&[
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::KILL,
        Capability::SETGID,
        Capability::SETUID,
        Capability::SETPCAP,
        Capability::NET_BIND_SERVICE,
        Capability::NET_RAW,
        Capability::SYS_CHROOT,
        Capability::MKNOD,
        Capability::AUDIT_WRITE,
        Capability::SETFCAP,
    ]);

    /// These.
    pub const fn of(capabilities: &[Capability]) -> CapabilitySet {
        let mut set = CapabilitySet(0);
        let mut index = 0;
        while index < capabilities.len() {
            set = set.with(capabilities[index]);
            index += 1;
        }
        set
    }

    /// All that the running kernel has, whether this process has them or not.
    ///
    /// # Errors
    ///
    /// As for [`Capability::last`].
    pub fn all() -> Result<CapabilitySet> {
        Ok(CapabilitySet(u64::MAX >> (63 - Capability::last()?.0)))
    }

    /// As the kernel writes them: bit 0 is capability 0.
    pub const fn from_bits(bits: u64) -> CapabilitySet {
        CapabilitySet(bits)
    }

    /// As the kernel writes them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it is in.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 >> capability.0 & 1 != 0
    }

    /// With one more.
    pub const fn with(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 | 1 << capability.0)
    }

    /// Without it.
    pub const fn without(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 & !(1 << capability.0))
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// One after the other, by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..64).map(Capability).filter(move |capability| self.contains(*capability))
    }
}
// ANCHOR_END: set

/// Those in either.
impl BitOr for CapabilitySet {
    type Output = CapabilitySet;

    fn bitor(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }
}

/// Those in both.
impl BitAnd for CapabilitySet {
    type Output = CapabilitySet;

    fn bitand(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }
}

/// Those in the one and not in the other.
impl Sub for CapabilitySet {
    type Output = CapabilitySet;

    fn sub(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> CapabilitySet {
        capabilities.into_iter().fold(CapabilitySet::EMPTY, CapabilitySet::with)
    }
}

impl fmt::Display for CapabilitySet {
    /// The names, `none`, or `all 41`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        if self.is_empty() {
            return formatter.write_str("none");
        }
        if CapabilitySet::all().is_ok_and(|all| all == *self) {
            return write!(formatter, "all {}", self.len());
        }
        for (index, capability) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(formatter, "{separator}{capability}")?;
        }
        Ok(())
    }
}
