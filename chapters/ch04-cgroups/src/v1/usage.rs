//! What was used, as version 1 tells it.
//!
//! Processor time is counted by a controller of its own, cpuacct, in nanoseconds. Kernel documentation:
//! cgroup-v1/memory, cgroup-v1/cpuacct, cgroup-v1/blkio-controller; scheduler/sched-bwc.

use anyhow::Result;

use super::memory::{BOTH, MEMORY};
use crate::file::{Directory, value_of};
use crate::usage::{Cpu, Io, Memory, number};

const NANOSECONDS_IN_MICROSECOND: u64 = 1000;

// ANCHOR: memory
pub(crate) fn memory(directory: &Directory) -> Result<Memory> {
    let current = number(directory, "memory.usage_in_bytes")?;
    let both = number(directory, "memory.memsw.usage_in_bytes")?;
    let events = directory.read_if_there("memory.oom_control")?;
    Ok(Memory {
        current,
        peak: number(directory, "memory.max_usage_in_bytes")?,
        // The two are read one after the other, and memory may have grown in between.
        swap: both.zip(current).map(|(both, current)| both.saturating_sub(current)),
        max_events: max_events(directory)?,
        oom_kills: events.and_then(|text| value_of(&text, "oom_kill")),
    })
}

/// What the limit of memory and swap together refuses never comes to that of memory. Newer kernels (6.18)
/// count only what the latter refuses, so where swap is limited to none and both are one, 0 means that nobody
/// has counted.
fn max_events(directory: &Directory) -> Result<Option<u64>> {
    let refused = number(directory, "memory.failcnt")?;
    let refused_both = number(directory, "memory.memsw.failcnt")?;
    let (max, both) = (number(directory, MEMORY)?, number(directory, BOTH)?);
    let sum = refused.map(|count| count + refused_both.unwrap_or(0));
    Ok(sum.filter(|count| *count > 0 || both.is_none() || both > max))
}
// ANCHOR_END: memory

// ANCHOR: cpu
/// `time` is the directory of cpuacct, `quota` that of cpu; often they are one.
pub(crate) fn cpu(time: Option<&Directory>, quota: Option<&Directory>) -> Result<Cpu> {
    let mut cpu = Cpu::default();
    if let Some(directory) = time {
        let microseconds = |file: &str| -> Result<Option<u64>> {
            Ok(number(directory, file)?.map(|nanoseconds| nanoseconds / NANOSECONDS_IN_MICROSECOND))
        };
        cpu.usage = microseconds("cpuacct.usage")?;
        cpu.user = microseconds("cpuacct.usage_user")?;
        cpu.system = microseconds("cpuacct.usage_sys")?;
    }
    if let Some(text) = quota.map(|directory| directory.read_if_there("cpu.stat")).transpose()?.flatten() {
        cpu.periods = value_of(&text, "nr_periods");
        cpu.throttled_periods = value_of(&text, "nr_throttled");
        cpu.throttled =
            value_of(&text, "throttled_time").map(|nanoseconds| nanoseconds / NANOSECONDS_IN_MICROSECOND);
    }
    Ok(cpu)
}
// ANCHOR_END: cpu

// ANCHOR: io
/// Lines such as `8:0 Read 4096`; the last is a total. The files count what the throttle has seen, which is
/// there in every kernel, whatever the disk's scheduler.
pub(crate) fn io(directory: &Directory) -> Result<Io> {
    let sum = |text: &Option<String>, what: &str| {
        let lines = text.as_ref()?.lines();
        let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let numbers = words
            .filter(|words| words.get(1) == Some(&what))
            .filter_map(|words| words.get(2)?.parse::<u64>().ok());
        Some(numbers.sum())
    };
    let bytes = directory.read_if_there("blkio.throttle.io_service_bytes_recursive")?;
    let operations = directory.read_if_there("blkio.throttle.io_serviced_recursive")?;
    Ok(Io {
        read_bytes: sum(&bytes, "Read"),
        written_bytes: sum(&bytes, "Write"),
        reads: sum(&operations, "Read"),
        writes: sum(&operations, "Write"),
    })
}
// ANCHOR_END: io
