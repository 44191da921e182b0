//! The rules, as the OCI runtime specification has them in `linux.resources.devices`.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

// ANCHOR: access
/// The kind of a device node: the first letter in `ls -l`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Both, `a`. With numbers it is a block and a character device of these numbers, as the specification reads.
    /// (runc takes any rule for `a` as one for all devices, as the files of v1 do with a line that starts so.)
    All,
    /// A block device, `b`: a disk.
    Block,
    /// A character device, `c`: all others.
    Character,
}

/// What is done with a device node: a set, written as letters of `rwm`. The bits are the kernel's,
/// `BPF_DEVCG_ACC_*` in `<linux/bpf.h>`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Access(u8);

impl Access {
    /// Make a node, `m`.
    pub const MKNOD: Access = Access(1);
    /// Open for reading, `r`.
    pub const READ: Access = Access(2);
    /// Open for writing, `w`.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// The kernel's number for this set.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether it is the empty set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
// ANCHOR_END: access

impl BitOr for Access {
    type Output = Access;
    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

impl BitOrAssign for Access {
    fn bitor_assign(&mut self, other: Access) {
        *self = *self | other;
    }
}

impl BitAnd for Access {
    type Output = Access;
    fn bitand(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }
}

/// What is in the one and not in the other.
impl Sub for Access {
    type Output = Access;
    fn sub(self, other: Access) -> Access {
        Access(self.0 & !other.0)
    }
}

// ANCHOR: rule
/// The device nodes that a rule is about. A number that is `None` stands for every number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Devices {
    /// Block, character or both.
    pub kind: Kind,
    /// The number of the driver.
    pub major: Option<u32>,
    /// The number of the device among the driver's.
    pub minor: Option<u32>,
}
// ANCHOR_END: rule

impl Devices {
    /// Every device.
    pub const ALL: Devices = Devices { kind: Kind::All, major: None, minor: None };

    /// Those that are in both, if there can be any.
    pub fn intersection(self, other: Devices) -> Option<Devices> {
        let kind = match (self.kind, other.kind) {
            (Kind::All, kind) | (kind, Kind::All) => kind,
            (one, two) if one == two => one,
            _ => return None,
        };
        let number = |one: Option<u32>, two: Option<u32>| match (one, two) {
            (None, number) | (number, None) => Some(number),
            (one, two) => (one == two).then_some(one),
        };
        let major = number(self.major, other.major)?;
        let minor = number(self.minor, other.minor)?;
        Some(Devices { kind, major, minor })
    }
}

// ANCHOR: list
/// One rule. In a list, for each of reading, writing and making, the last rule that names the device and that
/// access decides; where none does, it is denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Allow, or deny.
    pub allow: bool,
    /// Of which devices.
    pub devices: Devices,
    /// Which accesses. An empty set changes nothing.
    pub access: Access,
}
// ANCHOR_END: list

impl Rule {
    /// Allows nothing: the first rule of most lists, and what an empty list says too.
    pub const DENY_ALL: Rule = Rule { allow: false, devices: Devices::ALL, access: Access::ALL };
    /// Allows everything: what a privileged container has.
    pub const ALLOW_ALL: Rule = Rule { allow: true, devices: Devices::ALL, access: Access::ALL };

    const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Rule {
        Rule { allow: true, devices: Devices { kind, major, minor }, access }
    }
}

// ANCHOR: container_rules
/// What runc allows in every container (`AllowedDevices` in `libcontainer/specconv/spec_linux.go`): any node may
/// be made, but only these may be opened.
pub const CONTAINER_RULES: &[Rule] = &[
    Rule::allow(Kind::Character, None, None, Access::MKNOD),
    Rule::allow(Kind::Block, None, None, Access::MKNOD),
    // /dev/null, zero, full, random, urandom
    Rule::allow(Kind::Character, Some(1), Some(3), Access::ALL),
    Rule::allow(Kind::Character, Some(1), Some(5), Access::ALL),
    Rule::allow(Kind::Character, Some(1), Some(7), Access::ALL),
    Rule::allow(Kind::Character, Some(1), Some(8), Access::ALL),
    Rule::allow(Kind::Character, Some(1), Some(9), Access::ALL),
    // /dev/tty, /dev/pts/ptmx and the terminals in /dev/pts, of which /dev/console is one
    Rule::allow(Kind::Character, Some(5), Some(0), Access::ALL),
    Rule::allow(Kind::Character, Some(5), Some(2), Access::ALL),
    Rule::allow(Kind::Character, Some(136), None, Access::ALL),
    // /dev/net/tun
    Rule::allow(Kind::Character, Some(10), Some(200), Access::ALL),
];
// ANCHOR_END: container_rules

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (access, letter) in [(Access::READ, "r"), (Access::WRITE, "w"), (Access::MKNOD, "m")] {
            if !(*self & access).is_empty() {
                formatter.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// As in the files of version 1: `c 136:*`.
impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Block => 'b',
            Kind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_string(), |number| number.to_string());
        write!(formatter, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

impl FromStr for Access {
    type Err = Error;
    fn from_str(text: &str) -> Result<Access> {
        let mut access = Access::default();
        for letter in text.chars() {
            access |= match letter {
                'r' => Access::READ,
                'w' => Access::WRITE,
                'm' => Access::MKNOD,
                _ => bail!("device access {text:?}: {letter:?} is none of r, w and m"),
            };
        }
        Ok(access)
    }
}

impl FromStr for Devices {
    type Err = Error;
    fn from_str(text: &str) -> Result<Devices> {
        let number = |digits: &str| match digits {
            "*" => Ok(None),
            digits => digits.parse().map(Some).with_context(|| format!("devices {text:?}: {digits:?}")),
        };
        let shape = || format!("devices {text:?}: not of the form `c MAJOR:MINOR`");
        let (kind, numbers) = text.split_once(' ').with_context(shape)?;
        let (major, minor) = numbers.split_once(':').with_context(shape)?;
        let kind = match kind {
            "a" => Kind::All,
            "b" => Kind::Block,
            "c" => Kind::Character,
            _ => bail!("devices {text:?}: {kind:?} is none of a, b and c"),
        };
        Ok(Devices { kind, major: number(major)?, minor: number(minor)? })
    }
}
