//! Processor time in version 1: the controller cpu.
//!
//! The share is `cpu.shares`, 2 to 262144. A limit is a quota of microseconds in each period; the scheduler's
//! documentation calls it CFS bandwidth control. Kernel documentation: scheduler/sched-bwc.

use anyhow::Result;

use super::{bound_if_there, value};
use crate::convert::{cpu_shares_to_weight, cpu_weight_to_shares};
use crate::file::Directory;
use crate::limits::Cpu;

// ANCHOR: write
pub(crate) fn write(directory: &Directory, cpu: &Cpu) -> Result<()> {
    write_share(directory, cpu)?;

    // Each is checked against the others, so one may be invalid only since the quota is still the old one: a
    // shorter period makes more of it, a longer burst must not exceed it. Then it is written after the quota.
    let mut late = Vec::new();
    for (file, number, reason) in [
        ("cpu.cfs_period_us", cpu.period, "the period of the quota, in microseconds"),
        ("cpu.cfs_burst_us", cpu.burst, "microseconds that may be saved up"),
    ] {
        let Some(text) = number.map(|number| number.to_string()) else { continue };
        if cpu.quota.is_none() {
            directory.write(file, &text, reason)?;
        } else if !directory.write_if_valid(file, &text, reason)? {
            late.push((file, text, reason));
        }
    }
    if let Some(quota) = cpu.quota {
        let reason = "microseconds of processor time in each period";
        directory.write("cpu.cfs_quota_us", &value(quota), reason)?;
    }
    late.iter().try_for_each(|(file, text, reason)| directory.write(file, text, reason))?;
    write_realtime(directory, cpu)
}
// ANCHOR_END: write

// ANCHOR: share
/// An idle cgroup has no share of its own: it is written while the cgroup is not idle.
fn write_share(directory: &Directory, cpu: &Cpu) -> Result<()> {
    if cpu.idle == Some(false) {
        directory.write("cpu.idle", "0", "it competes")?;
    }
    if let Some(shares) = cpu.shares.or_else(|| cpu.weight.and_then(cpu_weight_to_shares)) {
        directory.write("cpu.shares", &shares.to_string(), "its share where several compete")?;
    }
    if cpu.idle == Some(true) {
        directory.write("cpu.idle", "1", "it runs only when nothing else wants to")?;
    }
    Ok(())
}

/// The period first: the runtime must fit into it.
fn write_realtime(directory: &Directory, cpu: &Cpu) -> Result<()> {
    if let Some(period) = cpu.realtime_period {
        directory.write("cpu.rt_period_us", &period.to_string(), "the period for real-time processes")?;
    }
    if let Some(runtime) = cpu.realtime_runtime {
        directory.write("cpu.rt_runtime_us", &runtime.to_string(), "microseconds for real-time processes")?;
    }
    Ok(())
}
// ANCHOR_END: share

// ANCHOR: read
pub(crate) fn read(directory: &Directory) -> Result<Cpu> {
    let number = |file: &str| -> Result<Option<u64>> {
        Ok(directory.read_if_there(file)?.and_then(|text| text.parse().ok()))
    };
    let shares = number("cpu.shares")?;
    Ok(Cpu {
        quota: bound_if_there(directory, "cpu.cfs_quota_us")?,
        period: number("cpu.cfs_period_us")?,
        weight: shares.and_then(cpu_shares_to_weight),
        shares,
        burst: number("cpu.cfs_burst_us")?,
        idle: number("cpu.idle")?.map(|idle| idle == 1),
        realtime_runtime: directory.read_if_there("cpu.rt_runtime_us")?.and_then(|text| text.parse().ok()),
        realtime_period: number("cpu.rt_period_us")?,
    })
}
// ANCHOR_END: read
