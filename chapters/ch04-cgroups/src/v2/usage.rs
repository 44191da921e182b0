//! What was used, as version 2 tells it. Kernel documentation: cgroup-v2, "Controllers"; accounting/psi.

use anyhow::Result;

use crate::file::{Directory, value_of};
use crate::usage::{Cpu, Io, Memory, Pressure, Share, Stall, number};

// ANCHOR: memory
pub(crate) fn memory(directory: &Directory) -> Result<Memory> {
    // These count what happened here and below, as all the others do; memory.events.local what happened here
    // alone.
    let events = directory.read_if_there("memory.events")?;
    let event = |name: &str| events.as_deref().and_then(|text| value_of(text, name));
    Ok(Memory {
        current: number(directory, "memory.current")?,
        peak: number(directory, "memory.peak")?,
        swap: number(directory, "memory.swap.current")?,
        max_events: event("max"),
        oom_kills: event("oom_kill"),
    })
}
// ANCHOR_END: memory

// ANCHOR: cpu
/// The time is counted in every cgroup, even without the controller cpu.
pub(crate) fn cpu(directory: &Directory) -> Result<Cpu> {
    let text = directory.read_if_there("cpu.stat")?.unwrap_or_default();
    Ok(Cpu {
        usage: value_of(&text, "usage_usec"),
        user: value_of(&text, "user_usec"),
        system: value_of(&text, "system_usec"),
        periods: value_of(&text, "nr_periods"),
        throttled_periods: value_of(&text, "nr_throttled"),
        throttled: value_of(&text, "throttled_usec"),
    })
}
// ANCHOR_END: cpu

// ANCHOR: io
/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`; a disk that was not used has none.
pub(crate) fn io(directory: &Directory) -> Result<Io> {
    let Some(text) = directory.read_if_there("io.stat")? else { return Ok(Io::default()) };
    let sum = |key: &str| {
        let words = text.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
        Some(values.sum())
    };
    Ok(Io {
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
        reads: sum("rios"),
        writes: sum("wios"),
    })
}
// ANCHOR_END: io

// ANCHOR: pressure
pub(crate) fn pressure(directory: &Directory) -> Result<Pressure> {
    let stall = |file: &str| -> Result<Option<Stall>> {
        let text = directory.read_if_there(file)?;
        Ok(text.and_then(|text| Some(Stall { some: share(&text, "some")?, full: share(&text, "full") })))
    };
    Ok(Pressure { cpu: stall("cpu.pressure")?, memory: stall("memory.pressure")?, io: stall("io.pressure")? })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn share(text: &str, which: &str) -> Option<Share> {
    let line = text.lines().find_map(|line| line.strip_prefix(which))?;
    let value =
        |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Share {
        average_10: value("avg10")?.parse().ok()?,
        average_60: value("avg60")?.parse().ok()?,
        average_300: value("avg300")?.parse().ok()?,
        total: value("total")?.parse().ok()?,
    })
}
// ANCHOR_END: pressure
