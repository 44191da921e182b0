//! Processor time in version 2. Kernel documentation: cgroup-v2, "CPU".

use anyhow::{Context, Result, bail};

use crate::convert::cpu_shares_to_weight;
use crate::file::Directory;
use crate::limits::Cpu;

// ANCHOR: write
pub(crate) fn write(directory: &Directory, cpu: &Cpu) -> Result<()> {
    if cpu.realtime_runtime.is_some() || cpu.realtime_period.is_some() {
        bail!("{:?}: version 2 has no limit for real-time processes", directory.path);
    }
    // An idle cgroup has no weight (EINVAL): it is written while the cgroup is not idle.
    if cpu.idle == Some(false) {
        directory.write("cpu.idle", "0", "it competes")?;
    }
    if let Some(weight) = cpu.weight.or_else(|| cpu.shares.and_then(cpu_shares_to_weight)) {
        directory.write("cpu.weight", &weight.to_string(), "its share where several compete")?;
    }
    if cpu.idle == Some(true) {
        directory.write("cpu.idle", "1", "it runs only when nothing else wants to")?;
    }
    write_quota(directory, cpu)
}

fn write_quota(directory: &Directory, cpu: &Cpu) -> Result<()> {
    let maximum = match (cpu.quota, cpu.period) {
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (Some(quota), None) => Some(quota.to_string()),
        (None, Some(period)) => Some(format!("{} {period}", quota_and_period(directory)?.0)),
        (None, None) => None,
    };
    // A burst must not exceed the quota, and the quota must not fall below the burst: which goes first
    // depends on what there was before.
    let reason = "microseconds that may be saved up";
    let mut burst = cpu.burst.map(|burst| burst.to_string());
    if let (Some(text), Some(_)) = (&burst, &maximum) {
        if directory.write_if_valid("cpu.max.burst", text, reason)? {
            burst = None;
        }
    }
    if let Some(maximum) = maximum {
        directory.write("cpu.max", &maximum, "microseconds of processor time in each period")?;
    }
    burst.map_or(Ok(()), |text| directory.write("cpu.max.burst", &text, reason))
}
// ANCHOR_END: write

// ANCHOR: read
pub(crate) fn read(directory: &Directory) -> Result<Cpu> {
    let number = |file: &str| -> Result<Option<u64>> {
        Ok(directory.read_if_there(file)?.and_then(|text| text.parse().ok()))
    };
    if !directory.has("cpu.max") {
        return Ok(Cpu::default());
    }
    let (quota, period) = quota_and_period(directory)?;
    Ok(Cpu {
        quota: Some(quota.parse()?),
        period: Some(period.parse().with_context(|| format!("cpu.max: what is {period:?}?"))?),
        weight: number("cpu.weight")?,
        burst: number("cpu.max.burst")?,
        idle: number("cpu.idle")?.map(|idle| idle == 1),
        ..Cpu::default()
    })
}

/// `cpu.max` is `50000 100000`, or `max 100000`.
fn quota_and_period(directory: &Directory) -> Result<(String, String)> {
    let text = directory.read("cpu.max")?;
    let (quota, period) = text.split_once(' ').with_context(|| format!("cpu.max: what is {text:?}?"))?;
    Ok((quota.into(), period.into()))
}
// ANCHOR_END: read
