//! Whose system calls: the ways in which a program can call the kernel.
//!
//! A machine offers more than one. The kernel of an x86_64 machine also runs 32-bit programs (`int 0x80`),
//! whose calls have other numbers: 11 is `munmap` for the one and `execve` for the other. So a filter that
//! reads the number alone can be passed by calling through the other door; it must read the architecture
//! first. The kernel tells it in `seccomp_data.arch`, as one of the `AUDIT_ARCH_*` numbers of linux/audit.h:
//! the machine's number in the ELF format, and bits for 64-bit registers and for the order of bytes.
//! seccomp(2).
//!
//! One door has no number of its own: x32 (64-bit registers, 32-bit pointers) is x86_64 with a bit set in the
//! *call's* number.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};

// ANCHOR: architecture
/// A way to call the kernel; all that the OCI runtime specification knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Architecture {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Loongarch64,
    M68k,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Parisc,
    Parisc64,
    Ppc,
    Ppc64,
    Ppc64le,
    Riscv64,
    S390,
    S390x,
    /// SuperH, in the order of bytes that it has nearly everywhere: the little end first.
    Sh,
    Sheb,
}
// ANCHOR_END: architecture

use Architecture::*;

/// The bit in the number of a call that makes it a call of x32 (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

/// Bits of the numbers below, of linux/audit.h.
const BITS_64: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
const MIPS_N32: u32 = 0x2000_0000;

// ANCHOR: audit
/// With the specification's names and the kernel's numbers.
const ALL: [(Architecture, &str, u32); 23] = [
    (X86, "SCMP_ARCH_X86", 3 | LITTLE),
    (X86_64, "SCMP_ARCH_X86_64", 62 | BITS_64 | LITTLE),
    (X32, "SCMP_ARCH_X32", 62 | BITS_64 | LITTLE),
    (Arm, "SCMP_ARCH_ARM", 40 | LITTLE),
    (Aarch64, "SCMP_ARCH_AARCH64", 183 | BITS_64 | LITTLE),
    (Loongarch64, "SCMP_ARCH_LOONGARCH64", 258 | BITS_64 | LITTLE),
    (M68k, "SCMP_ARCH_M68K", 4),
    (Mips, "SCMP_ARCH_MIPS", 8),
    (Mips64, "SCMP_ARCH_MIPS64", 8 | BITS_64),
    (Mips64n32, "SCMP_ARCH_MIPS64N32", 8 | BITS_64 | MIPS_N32),
    (Mipsel, "SCMP_ARCH_MIPSEL", 8 | LITTLE),
    (Mipsel64, "SCMP_ARCH_MIPSEL64", 8 | BITS_64 | LITTLE),
    (Mipsel64n32, "SCMP_ARCH_MIPSEL64N32", 8 | BITS_64 | LITTLE | MIPS_N32),
    (Parisc, "SCMP_ARCH_PARISC", 15),
    (Parisc64, "SCMP_ARCH_PARISC64", 15 | BITS_64),
    (Ppc, "SCMP_ARCH_PPC", 20),
    (Ppc64, "SCMP_ARCH_PPC64", 21 | BITS_64),
    (Ppc64le, "SCMP_ARCH_PPC64LE", 21 | BITS_64 | LITTLE),
    (Riscv64, "SCMP_ARCH_RISCV64", 243 | BITS_64 | LITTLE),
    (S390, "SCMP_ARCH_S390", 22),
    (S390x, "SCMP_ARCH_S390X", 22 | BITS_64),
    (Sh, "SCMP_ARCH_SH", 42 | LITTLE),
    (Sheb, "SCMP_ARCH_SHEB", 42),
];
// ANCHOR_END: audit

// ANCHOR: architectures
impl Architecture {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Architecture> {
        ALL.iter().map(|(architecture, ..)| *architecture)
    }

    /// What this program is compiled for; none where the kernel has no filter for it.
    pub const fn native() -> Option<Architecture> {
        let (little, wide) = (cfg!(target_endian = "little"), cfg!(target_pointer_width = "64"));
        Some(match () {
            () if cfg!(target_arch = "x86_64") && wide => X86_64,
            () if cfg!(target_arch = "x86_64") => X32,
            () if cfg!(target_arch = "x86") => X86,
            () if cfg!(target_arch = "aarch64") && little => Aarch64,
            () if cfg!(target_arch = "arm") && little => Arm,
            () if cfg!(target_arch = "loongarch64") => Loongarch64,
            () if cfg!(target_arch = "m68k") => M68k,
            () if cfg!(target_arch = "mips") => {
                if little {
                    Mipsel
                } else {
                    Mips
                }
            }
            () if cfg!(target_arch = "mips64") && wide => {
                if little {
                    Mipsel64
                } else {
                    Mips64
                }
            }
            () if cfg!(target_arch = "mips64") => {
                if little {
                    Mipsel64n32
                } else {
                    Mips64n32
                }
            }
            () if cfg!(target_arch = "powerpc") => Ppc,
            () if cfg!(target_arch = "powerpc64") => {
                if little {
                    Ppc64le
                } else {
                    Ppc64
                }
            }
            () if cfg!(target_arch = "riscv64") => Riscv64,
            () if cfg!(target_arch = "s390x") => S390x,
            () => return None,
        })
    }

    /// The others whose programs the kernel of such a machine runs as well.
    pub fn others(self) -> &'static [Architecture] {
        match self {
            X86_64 => &[X86, X32],
            Aarch64 => &[Arm],
            Mips64 => &[Mips, Mips64n32],
            Mips64n32 => &[Mips, Mips64],
            Mipsel64 => &[Mipsel, Mipsel64n32],
            Mipsel64n32 => &[Mipsel, Mipsel64],
            Parisc64 => &[Parisc],
            Ppc64 => &[Ppc],
            S390x => &[S390],
            _ => &[],
        }
    }

    /// What the kernel writes in `seccomp_data.arch`: [`Architecture::X32`] has the number of
    /// [`Architecture::X86_64`].
    pub fn audit(self) -> u32 {
        self.entry().2
    }

    /// Whether arguments are 64 bits wide; else the call does not see the upper half of each, and what stands
    /// there in `seccomp_data` means nothing. x32 and n32 have pointers of 32 bits in registers of 64.
    pub fn is_64_bit(self) -> bool {
        self.audit() & BITS_64 != 0
    }

    /// Whether the upper half of an argument comes first in memory.
    pub fn is_big_endian(self) -> bool {
        self.audit() & LITTLE == 0
    }

    /// As a policy's text has it: `x86_64`.
    pub fn name(self) -> String {
        self.to_string()["SCMP_ARCH_".len()..].to_lowercase()
    }

    /// The one that a policy's text names so.
    pub fn named(name: &str) -> Option<Architecture> {
        Architecture::all().find(|architecture| architecture.name() == name)
    }

    fn entry(self) -> (Architecture, &'static str, u32) {
        ALL[self as usize]
    }
}
// ANCHOR_END: architectures

impl fmt::Display for Architecture {
    /// The OCI's name: `SCMP_ARCH_X86_64`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(self.entry().1)
    }
}

impl FromStr for Architecture {
    type Err = Error;

    /// From the OCI's name.
    fn from_str(name: &str) -> Result<Architecture> {
        let found = ALL.iter().find(|(_, known, _)| *known == name);
        found
            .map(|(architecture, ..)| *architecture)
            .with_context(|| format!("seccomp knows no architecture {name:?}; one is named SCMP_ARCH_X86_64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_at_its_own_place() {
        for architecture in Architecture::all() {
            assert_eq!(architecture.entry().0, architecture);
            assert_eq!(architecture.to_string().parse::<Architecture>().unwrap(), architecture);
            assert_eq!(Architecture::named(&architecture.name()), Some(architecture));
        }
    }

    #[test]
    fn an_unknown_one_is_refused_by_name() {
        for wrong in ["SCMP_ARCH_VAX", "x86_64", "SCMP_ARCH_X86_64 ", ""] {
            let error = wrong.parse::<Architecture>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_linux_audit_h() {
        // As strace and libseccomp print them.
        assert_eq!(X86_64.audit(), 0xc000_003e);
        assert_eq!(X86.audit(), 0x4000_0003);
        assert_eq!(Aarch64.audit(), 0xc000_00b7);
        assert_eq!(Arm.audit(), 0x4000_0028);
        assert_eq!(Riscv64.audit(), 0xc000_00f3);
        assert_eq!(S390x.audit(), 0x8000_0016);
        assert_eq!(Ppc64le.audit(), 0xc000_0015);
        assert_eq!(Mipsel64n32.audit(), 0xe000_0008);
        assert_eq!(Loongarch64.audit(), 0xc000_0102);
        assert!(S390x.is_big_endian() && S390x.is_64_bit() && !S390.is_64_bit());
        assert!(!Sh.is_big_endian() && Sheb.is_big_endian() && X32.is_64_bit());
    }
}
