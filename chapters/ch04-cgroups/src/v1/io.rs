//! Input and output in version 1: the controller blkio.
//!
//! It sees only what a process itself sends to the disk: reads, and writes with O_DIRECT or O_SYNC. What is
//! written to the page cache reaches the disk later, from a thread of the kernel's, which is in no cgroup: it
//! is not held. Kernel documentation: cgroup-v1/blkio-controller.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::convert::{blkio_weight_to_io_weight, io_weight_to_blkio_weight};
use crate::file::Directory;
use crate::limits::{Device, Io, IoDevice};
use crate::{Bound, Warning};

const READ_BYTES: &str = "blkio.throttle.read_bps_device";
const WRITE_BYTES: &str = "blkio.throttle.write_bps_device";
const READS: &str = "blkio.throttle.read_iops_device";
const WRITES: &str = "blkio.throttle.write_iops_device";

/// The general weight was that of CFQ, a scheduler that is gone since Linux 5.0; BFQ has its own.
const WEIGHTS: [&str; 2] = ["blkio.weight", "blkio.bfq.weight"];

// ANCHOR: write
pub(crate) fn write(directory: &Directory, io: &Io, warnings: &mut Vec<Warning>) -> Result<()> {
    let weight_file = || WEIGHTS.into_iter().find(|file| directory.has(file)).unwrap_or(WEIGHTS[1]);
    let reason = "its share where several compete";
    if let Some(weight) = io.weight.and_then(io_weight_to_blkio_weight) {
        directory.write(weight_file(), &weight.to_string(), reason)?;
    }
    for (device, limits) in &io.devices {
        if let Some(weight) = limits.weight.and_then(io_weight_to_blkio_weight) {
            directory.write(&format!("{}_device", weight_file()), &format!("{device} {weight}"), reason)?;
        }
        for (file, bound, reason) in [
            (READ_BYTES, limits.rbps, "bytes read in a second"),
            (WRITE_BYTES, limits.wbps, "bytes written in a second"),
            (READS, limits.riops, "reads in a second"),
            (WRITES, limits.wiops, "writes in a second"),
        ] {
            let Some(bound) = bound else { continue };
            // 0 takes the limit away.
            let number = if let Bound::At(number) = bound { number } else { 0 };
            directory.write(file, &format!("{device} {number}"), reason)?;
        }
    }
    if io.devices.values().any(|limits| is_set(limits.wbps) || is_set(limits.wiops)) {
        warnings.push(Warning(
            "cgroup v1 holds writes that go straight to the disk (O_DIRECT), not those through the page cache"
                .into(),
        ));
    }
    Ok(())
}

fn is_set(bound: Option<Bound>) -> bool {
    bound.is_some_and(|bound| bound != Bound::Max)
}
// ANCHOR_END: write

// ANCHOR: read
pub(crate) fn read(directory: &Directory) -> Result<Io> {
    let mut devices: BTreeMap<Device, IoDevice> = BTreeMap::new();
    let mut add = |file: &str, set: fn(&mut IoDevice, Bound)| -> Result<()> {
        for line in directory.read_if_there(file)?.unwrap_or_default().lines() {
            let (device, number) =
                line.split_once(' ').with_context(|| format!("{file}: what is {line:?}?"))?;
            set(devices.entry(device.parse()?).or_default(), number.parse()?);
        }
        Ok(())
    };
    add(READ_BYTES, |device, bound| device.rbps = Some(bound))?;
    add(WRITE_BYTES, |device, bound| device.wbps = Some(bound))?;
    add(READS, |device, bound| device.riops = Some(bound))?;
    add(WRITES, |device, bound| device.wiops = Some(bound))?;
    let mut weight = None;
    for file in WEIGHTS {
        let text = directory.read_if_there(file)?;
        weight = weight.or(text.and_then(|text| blkio_weight_to_io_weight(text.parse().ok()?)));
    }
    Ok(Io { weight, devices })
}
// ANCHOR_END: read
