//! What the processes of a cgroup may use, as plain data.
//!
//! Each field is a file of the controller's; `None` leaves that file alone. Units are those of version 2, and
//! what is written in version 1 is converted. cgroups(7); kernel documentation: cgroup-v2, "Controllers".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anyhow::Context;

use crate::devices;

// ANCHOR: bound
/// A limit: a number, or none at all. Version 2 writes `max` for the latter, version 1 `-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// At most this many.
    At(u64),
    /// As many as there are.
    Max,
}
// ANCHOR_END: bound

// ANCHOR: limits
/// All that a cgroup can limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// The controller `memory`.
    pub memory: Memory,
    /// The controller `cpu`.
    pub cpu: Cpu,
    /// The controller `cpuset`.
    pub cpuset: Cpuset,
    /// The controller `pids`: how many processes and threads there may be. `pids.max`.
    pub pids: Option<Bound>,
    /// The controller `io`; `blkio` in version 1.
    pub io: Io,
    /// The controller `hugetlb`: from the size of a page (`2MB`, `1GB`) to bytes in such pages.
    pub hugetlb: BTreeMap<String, Bound>,
    /// The controller `rdma`: from a device (`mlx5_0`) to what may be used of it.
    pub rdma: BTreeMap<String, Rdma>,
    /// The controllers `net_cls` and `net_prio`, which only version 1 has.
    pub network: Network,
    /// Which device files may be used: later rules override earlier ones. Empty leaves all as it is.
    pub devices: Vec<devices::Rule>,
    /// Any file of version 2 by its name, such as `memory.oom.group` → `1`; written last.
    pub unified: BTreeMap<String, String>,
}

impl Limits {
    /// The controllers that these limits need, by their names in version 2.
    pub fn controllers(&self) -> BTreeSet<&str> {
        let holds_writes = |device: &IoDevice| device.wbps.is_some() || device.wiops.is_some();
        let by_field = [
            // It knows whose a page is: without it, io does not hold writes through the page cache.
            ("memory", self.memory != Memory::default() || self.io.devices.values().any(holds_writes)),
            ("cpu", self.cpu != Cpu::default()),
            ("cpuset", self.cpuset != Cpuset::default()),
            ("pids", self.pids.is_some()),
            ("io", self.io != Io::default()),
            ("hugetlb", !self.hugetlb.is_empty()),
            ("rdma", !self.rdma.is_empty()),
        ];
        let by_field = by_field.into_iter().filter(|(_, is_needed)| *is_needed).map(|(name, _)| name);
        // Files named `cgroup.*` are in each cgroup.
        let by_name = self.unified.keys().filter_map(|file| file.split('.').next());
        by_field.chain(by_name.filter(|name| *name != "cgroup")).collect()
    }
}
// ANCHOR_END: limits

// ANCHOR: memory
/// Limits of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Beyond it the OOM killer strikes. `memory.max`; v1 `memory.limit_in_bytes`.
    pub max: Option<Bound>,
    /// Beyond it processes are slowed down and their memory is reclaimed. `memory.high`; not in v1.
    pub high: Option<Bound>,
    /// Below it memory is not reclaimed while others have some to give. `memory.low`; v1
    /// `memory.soft_limit_in_bytes`, which is a hint only.
    pub low: Option<Bound>,
    /// Swap space alone, without memory; `At(0)` is no swap. `memory.swap.max`; v1 counts memory and swap
    /// together, in `memory.memsw.limit_in_bytes`.
    pub swap: Option<Bound>,
    /// The kernel's own memory. v1 alone: `memory.kmem.limit_in_bytes`, which newer kernels refuse.
    pub kernel: Option<Bound>,
    /// Buffers of TCP. v1 alone: `memory.kmem.tcp.limit_in_bytes`.
    pub kernel_tcp: Option<Bound>,
    /// How much rather to swap than to drop caches, 0 to 100. v1 alone: `memory.swappiness`.
    pub swappiness: Option<u64>,
    /// Processes wait for memory instead of being killed. v1 alone: `memory.oom_control`.
    pub disable_oom_killer: Option<bool>,
}
// ANCHOR_END: memory

// ANCHOR: cpu
/// Limits of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Microseconds of processor time in each period, of all processors together. `cpu.max`; v1
    /// `cpu.cfs_quota_us`.
    pub quota: Option<Bound>,
    /// The period in microseconds, 1000 to 1000000; at first 100000. `cpu.max`; v1 `cpu.cfs_period_us`.
    pub period: Option<u64>,
    /// The share where several cgroups compete, 1 to 10000; at first 100. `cpu.weight`; v1 `cpu.shares`.
    pub weight: Option<u64>,
    /// The same in the unit of v1, 2 to 262144; at first 1024. Kept apart from `weight`, since there and back
    /// loses digits. `cpu.shares`; v2 `cpu.weight`. The file is written once: `shares` goes before `weight`
    /// in v1, and after it in v2.
    pub shares: Option<u64>,
    /// Microseconds that may be saved up from periods before. `cpu.max.burst`; v1 `cpu.cfs_burst_us`.
    pub burst: Option<u64>,
    /// Runs only when nothing else wants to. `cpu.idle`.
    pub idle: Option<bool>,
    /// Microseconds for real-time processes in each period, -1 for no limit. v1 alone: `cpu.rt_runtime_us`.
    pub realtime_runtime: Option<i64>,
    /// The period for real-time processes, in microseconds. v1 alone: `cpu.rt_period_us`.
    pub realtime_period: Option<u64>,
}

/// Which processors and nodes of memory, as lists such as `0-3,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// `cpuset.cpus`.
    pub cpus: Option<String>,
    /// `cpuset.mems`.
    pub mems: Option<String>,
}
// ANCHOR_END: cpu

// ANCHOR: io
/// Limits of input and output to block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// The share where several cgroups compete, 1 to 10000; at first 100. `io.weight`, or `io.bfq.weight`; v1
    /// `blkio.weight`, or `blkio.bfq.weight`.
    pub weight: Option<u64>,
    /// The limits of single devices.
    pub devices: BTreeMap<Device, IoDevice>,
}

/// A block device by its numbers: makedev(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// Which of the driver's devices.
    pub minor: u32,
}

/// Limits for one device. `io.max`; v1 `blkio.throttle.*_device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoDevice {
    /// Bytes read in a second.
    pub rbps: Option<Bound>,
    /// Bytes written in a second.
    pub wbps: Option<Bound>,
    /// Reads in a second.
    pub riops: Option<Bound>,
    /// Writes in a second.
    pub wiops: Option<Bound>,
    /// As [`Io::weight`], for this device.
    pub weight: Option<u64>,
}
// ANCHOR_END: io

// ANCHOR: network
/// Limits for one RDMA device. `rdma.max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Handles.
    pub hca_handle: Option<Bound>,
    /// Objects.
    pub hca_object: Option<Bound>,
}

/// Marks on what is sent. Version 1 alone; version 2 leaves this to nftables and eBPF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The class of tc(8) for packets: `net_cls.classid`.
    pub class_id: Option<u32>,
    /// From a network interface to the priority of packets: `net_prio.ifpriomap`.
    pub priorities: BTreeMap<String, u32>,
}
// ANCHOR_END: network

// ANCHOR: text
impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Bound::At(number) => number.fmt(formatter),
            Bound::Max => formatter.write_str("max"),
        }
    }
}

impl FromStr for Bound {
    type Err = anyhow::Error;

    /// As the kernel writes it: a number or `max`.
    fn from_str(text: &str) -> Result<Bound, anyhow::Error> {
        match text {
            "max" => Ok(Bound::Max),
            number => Ok(Bound::At(number.parse().with_context(|| format!("{number:?} is no limit"))?)),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Device {
    type Err = anyhow::Error;

    /// As the kernel writes it: `8:0`.
    fn from_str(text: &str) -> Result<Device, anyhow::Error> {
        let wrong = || format!("{text:?} is no MAJOR:MINOR of a device");
        let (major, minor) = text.split_once(':').with_context(wrong)?;
        Ok(Device { major: major.parse().with_context(wrong)?, minor: minor.parse().with_context(wrong)? })
    }
}
// ANCHOR_END: text
