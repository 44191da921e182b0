//! Input and output in version 2.
//!
//! What goes through the page cache is held too, if the cgroup has the controller memory (each page remembers
//! whose it is) and the file system can tell (ext4, btrfs, xfs...). Kernel documentation: cgroup-v2, "IO" and
//! "Writeback".

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::convert::{blkio_weight_to_io_weight, io_weight_to_blkio_weight};
use crate::file::{Directory, words};
use crate::limits::{Device, Io, IoDevice};
use crate::{Bound, Warning};

// ANCHOR: write
pub(crate) fn write(directory: &Directory, io: &Io, warnings: &mut Vec<Warning>) -> Result<()> {
    if let Some(weight) = io.weight {
        write_weight(directory, None, weight)?;
    }
    for (device, limits) in &io.devices {
        if let Some(weight) = limits.weight {
            write_weight(directory, Some(device), weight)?;
        }
        let keys =
            [("rbps", limits.rbps), ("wbps", limits.wbps), ("riops", limits.riops), ("wiops", limits.wiops)];
        let keys = keys.iter().filter_map(|(key, bound)| Some(format!(" {key}={}", (*bound)?)));
        let keys: String = keys.collect();
        if !keys.is_empty() {
            directory.write("io.max", &format!("{device}{keys}"), "in a second, of this disk")?;
        }
    }
    let holds_writes = io.devices.values().any(|limits| limits.wbps.is_some() || limits.wiops.is_some());
    let controllers = words(&directory.read("cgroup.controllers")?);
    if holds_writes && !controllers.iter().any(|one| one == "memory") {
        warnings.push(Warning(
            "without the controller memory, writes through the page cache are not held, only O_DIRECT".into(),
        ));
    }
    Ok(())
}
// ANCHOR_END: write

// ANCHOR: weight
/// Two schedulers of disks share by weight, and each has a file of its own: `io.weight` is that of iocost,
/// and `io.bfq.weight`, from 1 to 1000, that of BFQ. Which of them serves a disk is not known here, so both
/// are told.
fn write_weight(directory: &Directory, device: Option<&Device>, weight: u64) -> Result<()> {
    let text = |weight: u64| device.map_or(weight.to_string(), |device| format!("{device} {weight}"));
    let reason = "its share where several compete";
    let has_bfq = directory.has("io.bfq.weight");
    if directory.has("io.weight") || !has_bfq {
        directory.write("io.weight", &text(weight), reason)?;
    }
    if let Some(weight) = io_weight_to_blkio_weight(weight).filter(|_| has_bfq) {
        directory.write("io.bfq.weight", &text(weight), reason)?;
    }
    Ok(())
}
// ANCHOR_END: weight

// ANCHOR: read
pub(crate) fn read(directory: &Directory) -> Result<Io> {
    let mut devices: BTreeMap<Device, IoDevice> = BTreeMap::new();
    // `8:16 rbps=2097152 wbps=max riops=max wiops=120`
    for line in directory.read_if_there("io.max")?.unwrap_or_default().lines() {
        let wrong = || format!("io.max: what is {line:?}?");
        let (device, keys) = line.split_once(' ').with_context(wrong)?;
        let limits = devices.entry(device.parse()?).or_default();
        for word in keys.split(' ') {
            let (key, bound) = word.split_once('=').with_context(wrong)?;
            let bound: Option<Bound> = Some(bound.parse()?);
            match key {
                "rbps" => limits.rbps = bound,
                "wbps" => limits.wbps = bound,
                "riops" => limits.riops = bound,
                "wiops" => limits.wiops = bound,
                // A key of a later kernel.
                _ => (),
            }
        }
    }
    Ok(Io { weight: read_weight(directory)?, devices })
}

/// The first line is `default 100`; those of single devices follow.
fn read_weight(directory: &Directory) -> Result<Option<u64>> {
    let default = |text: String| text.lines().find_map(|line| line.strip_prefix("default ")?.parse().ok());
    if let Some(text) = directory.read_if_there("io.weight")? {
        return Ok(default(text));
    }
    let text = directory.read_if_there("io.bfq.weight")?;
    Ok(text.and_then(default).and_then(blkio_weight_to_io_weight))
}
// ANCHOR_END: read
