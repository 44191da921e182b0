//! The five sets of a process: what they are, and what exec makes of them.

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Capability, CapabilitySet};
use crate::status;

// ANCHOR: sets
/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What counts when the kernel asks.
    pub effective: CapabilitySet,
    /// What may be made effective.
    pub permitted: CapabilitySet,
    /// What exec of a file may give, where the file's own inheritable set has it too.
    pub inheritable: CapabilitySet,
    /// What exec can ever give.
    pub bounding: CapabilitySet,
    /// What stays over exec of a file that has no capabilities of its own.
    pub ambient: CapabilitySet,
}

impl Sets {
    /// As a container's first process has them: effective, permitted and bounding. The inheritable set stays
    /// empty. Docker, containerd and podman filled it until CVE-2022-24769 and CVE-2022-29162: with it a
    /// plain user in the container, who has no capability, got some by executing a file with inheritable
    /// ones.
    pub fn bounded_by(set: CapabilitySet) -> Sets {
        Sets { effective: set, permitted: set, bounding: set, ..Sets::default() }
    }

    /// For a container's process that is not root: as [`Sets::bounded_by`], and what is in `ambient` stays
    /// over exec too. Without it the process has lost all when its command begins.
    pub fn with_ambient(self, ambient: CapabilitySet) -> Sets {
        Sets { inheritable: self.inheritable | ambient, ambient, ..self }
    }
}
// ANCHOR_END: sets

// ANCHOR: read
impl Sets {
    /// Those of a process, from `/proc/PID/status`.
    ///
    /// # Errors
    ///
    /// Names the file: there is no such process, or /proc is of another PID namespace.
    pub fn of(pid: Pid) -> Result<Sets> {
        let set = |key: &str| {
            let line = status::line(pid, key)?;
            let bits = u64::from_str_radix(&line, 16);
            bits.map(CapabilitySet::from_bits).with_context(|| format!("{key} of process {pid} is {line:?}"))
        };
        Ok(Sets {
            effective: set("CapEff")?,
            permitted: set("CapPrm")?,
            inheritable: set("CapInh")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb")?,
        })
    }

    /// Our own, by system calls alone: they need no /proc, which is the container's by now.
    ///
    /// # Errors
    ///
    /// capget(2)'s errno.
    pub fn own() -> Result<Sets> {
        let last = Capability::last()?;
        let asked = |option: i32, argument: Option<i32>| -> Result<CapabilitySet> {
            let is_in = |capability: &Capability| {
                let number = i32::from(capability.number());
                match argument {
                    Some(argument) => prctl(option, argument, number),
                    None => prctl(option, number, 0),
                }
            };
            let mut set = CapabilitySet::EMPTY;
            for capability in (0..=last.number()).map(Capability) {
                let answer = is_in(&capability).with_context(|| format!("ask for {capability} by prctl"))?;
                set = if answer != 0 { set.with(capability) } else { set };
            }
            Ok(set)
        };
        let bounding = asked(libc::PR_CAPBSET_READ, None)?;
        let ambient = asked(libc::PR_CAP_AMBIENT, Some(libc::PR_CAP_AMBIENT_IS_SET))?;
        let (effective, permitted, inheritable) = capget()?;
        Ok(Sets { effective, permitted, inheritable, bounding, ambient })
    }
}
// ANCHOR_END: read

// ANCHOR: over_exec
impl Sets {
    /// What exec(2) makes of these, for a file without capabilities of its own and without a setuid bit.
    ///
    /// Root gets everything that the bounding set allows, whatever it had before: so for uid 0 the bounding
    /// set is the one that matters. Anyone else keeps the ambient set and loses the rest. (With the
    /// [securebit](super::Securebits) NOROOT there is no difference between the two.)
    pub fn over_exec(self, is_root: bool) -> Sets {
        let permitted = if is_root { self.inheritable | self.bounding } else { self.ambient };
        Sets { effective: permitted, permitted, ..self }
    }
}
// ANCHOR_END: over_exec

/// prctl(2) with numbers only.
pub(super) fn prctl(option: i32, argument: i32, second: i32) -> Result<i32, Errno> {
    let (argument, second) = (argument as libc::c_ulong, second as libc::c_ulong);
    // SAFETY: the options that this module uses take numbers and touch no memory of this process. The unused
    // ones must be 0.
    Errno::result(unsafe { libc::prctl(option, argument, second, 0 as libc::c_ulong, 0 as libc::c_ulong) })
}

// ANCHOR: capset
/// `struct __user_cap_header_struct` of linux/capability.h, which glibc leaves to libcap.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`. There are two: the first with capabilities 0 to 31, the second with the
/// rest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two words for each set.
const VERSION: u32 = 0x2008_0522;

/// capget(2) of this process: effective, permitted, inheritable.
pub(super) fn capget() -> Result<(CapabilitySet, CapabilitySet, CapabilitySet)> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the kernel reads the header and writes two of the structures, as the version says; both live
    // until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()) };
    Errno::result(result).context("capget")?;
    let set = |word: fn(&Data) -> u32| {
        CapabilitySet::from_bits(u64::from(word(&data[0])) | u64::from(word(&data[1])) << 32)
    };
    Ok((set(|data| data.effective), set(|data| data.permitted), set(|data| data.inheritable)))
}

/// capset(2) of this process.
pub(super) fn capset(sets: &Sets) -> Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let word = |shift: u32| Data {
        effective: (sets.effective.bits() >> shift) as u32,
        permitted: (sets.permitted.bits() >> shift) as u32,
        inheritable: (sets.inheritable.bits() >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: the kernel reads the header and two of the structures; both live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) };
    Errno::result(result).map(drop).map_err(|errno| {
        anyhow!(errno).context(
            "capset (a permitted capability that is gone can't be taken back; an inheritable one must be \
                in the bounding set)",
        )
    })
}
// ANCHOR_END: capset
