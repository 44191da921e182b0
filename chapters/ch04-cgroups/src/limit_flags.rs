// ANCHOR: limit_flags
//! The limits on the command line, and what the library makes of them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use ch04_cgroups::{Bound, Hierarchies, Limits, Version, limits};
use log::info;

use crate::block_device::{self, Disk};
use crate::size::{parse_bytes, parse_cpus};
// ANCHOR_END: limit_flags

/// What the command may use
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct LimitFlags {
    /// Memory, such as 64M: beyond it the OOM killer strikes, since there is no swap either
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "command")]
    pub memory: Option<u64>,
    /// Time of this many processors, such as 0.5
    #[arg(long, value_name = "NUMBER", value_parser = parse_cpus, requires = "command")]
    pub cpus: Option<f64>,
    /// Processes and threads at the same time
    #[arg(long, value_name = "NUMBER", requires = "command")]
    pub pids: Option<u64>,
    /// Bytes that may be written in a second to the disk that the root file system is on, such as 1M
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "command")]
    pub io_write: Option<u64>,
}

// ANCHOR: limits
/// In microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

impl LimitFlags {
    /// The limits for a command in this root.
    pub fn limits(self, root: &Path, hierarchies: &Hierarchies) -> Result<Limits> {
        let mut limits = Limits::default();
        if let Some(bytes) = self.memory {
            limits.memory.max = Some(Bound::At(bytes));
            limits.memory.swap = Some(Bound::At(0));
        }
        if let Some(cpus) = self.cpus {
            limits.cpu.quota = Some(Bound::At((cpus * PERIOD as f64).round() as u64));
            limits.cpu.period = Some(PERIOD);
        }
        limits.pids = self.pids.map(Bound::At);
        if let Some(bytes) = self.io_write {
            let disk =
                block_device::of(root).context("--io-write limits the disk of the root file system")?;
            info!(target: "kernel", "{root:?} is on {disk}");
            if let Some(warning) = doubt(&disk, hierarchies) {
                info!(target: "say", "Warning: {warning}.");
            }
            let write = limits::IoDevice { wbps: Some(Bound::At(bytes)), ..Default::default() };
            limits.io.devices = BTreeMap::from([(disk.device, write)]);
        }
        Ok(limits)
    }
}
// ANCHOR_END: limits

// ANCHOR: doubt
/// File systems that tell the controller `io` who wrote what is in the page cache (cgroup-v2, "Writeback").
const TELL_WHO_WROTE: [&str; 5] = ["ext2", "ext4", "btrfs", "f2fs", "xfs"];

/// Where the limit does not bind all writes because of the file system, and why. A program's write ends in the page
/// cache; the kernel brings it to the disk later, on the account of the one whom the file system names.
fn doubt(disk: &Disk, hierarchies: &Hierarchies) -> Option<String> {
    let Disk { file_system, .. } = disk;
    let is_v2 = hierarchies.with("io").is_some_and(|hierarchy| hierarchy.version == Version::V2);
    (is_v2 && !TELL_WHO_WROTE.contains(&file_system.as_str())).then(|| {
        format!("a {file_system} does not say who wrote: only writes that go straight to the disk (O_DIRECT) are held")
    })
}
// ANCHOR_END: doubt
