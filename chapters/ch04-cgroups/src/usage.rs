//! What the processes of a cgroup have used, read from its files.
//!
//! The counters are those of the cgroup and all below it, since it was made; they outlive the processes, and
//! go with the cgroup. What a version of cgroups, or this kernel, does not count is `None`, never 0.
//! cgroups(7); kernel documentation: cgroup-v2, "Controllers", and accounting/psi.

use anyhow::Result;

use crate::file::{Directory, value_of};
use crate::{Cgroup, Version, v1, v2};

// ANCHOR: usage
/// What has been used, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Memory.
    pub memory: Memory,
    /// Processor time.
    pub cpu: Cpu,
    /// Processes.
    pub pids: Pids,
    /// Input and output, of all block devices together.
    pub io: Io,
    /// How long processes had to wait for each resource.
    pub pressure: Pressure,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In use now.
    pub current: Option<u64>,
    /// The most that ever was. v2 since Linux 5.19.
    pub peak: Option<u64>,
    /// Swap space in use now.
    pub swap: Option<u64>,
    /// How often the limit was hit, and memory had to be reclaimed.
    pub max_events: Option<u64>,
    /// How many processes the OOM killer has killed. v1 since Linux 4.13.
    pub oom_kills: Option<u64>,
}

/// Processor time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub usage: Option<u64>,
    /// In the program's own code.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// Periods that have passed with a limit.
    pub periods: Option<u64>,
    /// Those in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// How long processes waited for the next period, summed over the processors.
    pub throttled: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// Now.
    pub current: Option<u64>,
    /// The most that ever were. Since Linux 6.1.
    pub peak: Option<u64>,
    /// How often a fork was refused.
    pub max_events: Option<u64>,
}

/// Input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub written_bytes: Option<u64>,
    /// Reads.
    pub reads: Option<u64>,
    /// Writes.
    pub writes: Option<u64>,
}

/// Pressure stall information. v2 alone, where the kernel has it (CONFIG_PSI).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Waiting for a processor.
    pub cpu: Option<Stall>,
    /// Waiting for memory.
    pub memory: Option<Stall>,
    /// Waiting for input and output.
    pub io: Option<Stall>,
}

/// How long processes waited for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// At least one waited.
    pub some: Share,
    /// All waited, and nothing was done. Not counted for the processor by older kernels.
    pub full: Option<Share>,
}

/// A share of the time, in percent over the last 10, 60 and 300 seconds, and the sum in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Over 10 seconds.
    pub average_10: f64,
    /// Over 60 seconds.
    pub average_60: f64,
    /// Over 300 seconds.
    pub average_300: f64,
    /// Since the cgroup was made, in microseconds.
    pub total: u64,
}
// ANCHOR_END: usage

// ANCHOR: read
/// Each from the hierarchy that counts it; without a controller, a cgroup of version 2 still has the
/// processor time and the pressure.
pub(crate) fn read(cgroup: &Cgroup) -> Result<Usage> {
    let mut usage = Usage::default();
    if let Some(directory) = cgroup.find("memory") {
        usage.memory = match directory.version() {
            Version::V1 => v1::usage::memory(directory)?,
            Version::V2 => v2::usage::memory(directory)?,
        };
    }
    usage.cpu = match (cgroup.find("cpuacct"), cgroup.unified()) {
        (None, Some(unified)) => v2::usage::cpu(unified)?,
        (time, _) => v1::usage::cpu(time, cgroup.find("cpu"))?,
    };
    if let Some(directory) = cgroup.find("pids") {
        let events = directory.read_if_there("pids.events")?;
        usage.pids = Pids {
            current: number(directory, "pids.current")?,
            peak: number(directory, "pids.peak")?,
            max_events: events.and_then(|text| value_of(&text, "max")),
        };
    }
    if let Some(directory) = cgroup.find("io") {
        usage.io = match directory.version() {
            Version::V1 => v1::usage::io(directory)?,
            Version::V2 => v2::usage::io(directory)?,
        };
    }
    if let Some(directory) = cgroup.unified() {
        usage.pressure = v2::usage::pressure(directory)?;
    }
    Ok(usage)
}

/// The number in a file, where there is one.
pub(crate) fn number(directory: &Directory, file: &str) -> Result<Option<u64>> {
    let text = directory.read_if_there(file)?;
    Ok(text.and_then(|text| text.parse().ok()))
}
// ANCHOR_END: read
