//! Attributes of a mount: what may not be done through it, whatever the files' own modes allow.
//!
//! They belong to the mount, not to the file system: the same directory can be writable at one place and
//! read-only at another. Manual page:
//! [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html), Linux 5.12.

use std::fmt;
use std::ops::{BitOr, Sub};

use nix::mount::MsFlags;

// ANCHOR: attributes
/// A set of `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing is forbidden.
    pub const NONE: Attributes = Attributes(0);
    /// No file can be changed.
    pub const READ_ONLY: Attributes = Attributes(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-id bits and file capabilities give nothing.
    pub const NO_SUID: Attributes = Attributes(libc::MOUNT_ATTR_NOSUID);
    /// Device files lead to no device.
    pub const NO_DEV: Attributes = Attributes(libc::MOUNT_ATTR_NODEV);
    /// No file can be executed.
    pub const NO_EXEC: Attributes = Attributes(libc::MOUNT_ATTR_NOEXEC);
    /// Symbolic links are not followed (Linux 5.14).
    pub const NO_SYMLINK_FOLLOW: Attributes = Attributes(libc::MOUNT_ATTR_NOSYMFOLLOW);
    /// Times of access are not kept. The three kinds of access time exclude one another.
    pub const NO_ATIME: Attributes = Attributes(libc::MOUNT_ATTR_NOATIME);
    /// Times of access are always kept.
    pub const STRICT_ATIME: Attributes = Attributes(libc::MOUNT_ATTR_STRICTATIME);
    /// Times of access are not kept for directories.
    pub const NO_DIR_ATIME: Attributes = Attributes(libc::MOUNT_ATTR_NODIRATIME);

    /// The field that the kinds of access time share. To clear it gives relatime: kept, where the file has
    /// changed since or a day has passed.
    pub const ACCESS_TIME: Attributes = Attributes(libc::MOUNT_ATTR__ATIME);

    /// The bits, as mount_setattr(2) and fsmount(2) take them.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `other` are in this set.
    pub fn contains(self, other: Attributes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    pub fn intersects(self, other: Attributes) -> bool {
        self.0 & other.0 != 0
    }
}
// ANCHOR_END: attributes

/// Each attribute with its name in a mount option and its flag in the older mount(2).
const NAMES: [(Attributes, &str, MsFlags); 8] = [
    (Attributes::READ_ONLY, "ro", MsFlags::MS_RDONLY),
    (Attributes::NO_SUID, "nosuid", MsFlags::MS_NOSUID),
    (Attributes::NO_DEV, "nodev", MsFlags::MS_NODEV),
    (Attributes::NO_EXEC, "noexec", MsFlags::MS_NOEXEC),
    (Attributes::NO_SYMLINK_FOLLOW, "nosymfollow", MsFlags::from_bits_retain(256)),
    (Attributes::NO_ATIME, "noatime", MsFlags::MS_NOATIME),
    (Attributes::STRICT_ATIME, "strictatime", MsFlags::MS_STRICTATIME),
    (Attributes::NO_DIR_ATIME, "nodiratime", MsFlags::MS_NODIRATIME),
];

impl Attributes {
    /// The ones that a list of mount options names, such as `rw,nosuid,relatime`.
    pub(crate) fn from_options(options: &str) -> Attributes {
        let named =
            |option| NAMES.iter().find(|(_, name, _)| *name == option).map(|(attribute, ..)| *attribute);
        options.split(',').filter_map(named).fold(Attributes::NONE, Attributes::bitor)
    }

    /// The same set as flags of mount(2).
    pub(crate) fn mount_flags(self) -> MsFlags {
        NAMES.iter().filter(|(attribute, ..)| self.contains(*attribute)).map(|(_, _, flag)| *flag).collect()
    }
}

impl Sub for Attributes {
    type Output = Attributes;

    /// Those of this set that are not in `other`.
    fn sub(self, other: Attributes) -> Attributes {
        Attributes(self.0 & !other.0)
    }
}

impl BitOr for Attributes {
    type Output = Attributes;

    fn bitor(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }
}

impl fmt::Display for Attributes {
    /// As mount options: `ro,nosuid`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let names = NAMES.iter().filter(|(attribute, ..)| self.contains(*attribute));
        let names: Vec<&str> = names.map(|(_, name, _)| *name).collect();
        formatter.write_str(&names.join(","))
    }
}
