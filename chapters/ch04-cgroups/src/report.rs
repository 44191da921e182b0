// ANCHOR: counted
//! What the kernel says of a cgroup, for people.

use ch04_cgroups::{Limits, Usage};
use log::info;
use nix::sys::signal::Signal;

use crate::size::{show_bytes, show_time};

/// A counter; what is not counted is no 0. On version 2 that is so where the controller is not handed down.
pub fn counted(number: Option<u64>) -> String {
    number.map_or("not counted here".into(), |number| number.to_string())
}

/// A counter of bytes.
pub fn counted_bytes(bytes: Option<u64>) -> String {
    bytes.map_or(counted(None), |bytes| show_bytes(bytes as f64))
}

/// A counter of microseconds.
pub fn counted_time(microseconds: Option<u64>) -> String {
    microseconds.map_or(counted(None), show_time)
}

/// What a status means, as a shell shows it: from 128 on, a signal.
pub fn how_it_ended(status: u8) -> String {
    match status.checked_sub(128).and_then(|signal| Signal::try_from(i32::from(signal)).ok()) {
        Some(signal) => format!("was killed by {signal}"),
        None => format!("ended with status {status}"),
    }
}
// ANCHOR_END: counted

// ANCHOR: limits
/// The limits as the kernel tells them, of those that were asked for.
pub fn limits(asked: &Limits, kernel: &Limits) {
    let mut lines = Vec::new();
    if let (Some(_), Some(max)) = (asked.memory.max, kernel.memory.max) {
        lines.push(format!("memory: {max} bytes"));
    }
    if let (Some(_), Some(swap)) = (asked.memory.swap, kernel.memory.swap) {
        lines.push(format!("swap: {swap} bytes"));
    }
    if let (Some(_), Some(quota), Some(period)) = (asked.cpu.quota, kernel.cpu.quota, kernel.cpu.period) {
        lines.push(format!("CPU: {quota} µs in each {period} µs"));
    }
    if let (Some(_), Some(pids)) = (asked.pids, kernel.pids) {
        lines.push(format!("processes: {pids}"));
    }
    for (device, limit) in &kernel.io.devices {
        if let (true, Some(write)) = (asked.io.devices.contains_key(device), limit.wbps) {
            lines.push(format!("writes to device {device}: {write} bytes per second"));
        }
    }
    for line in lines {
        info!(target: "kernel", "{line}");
    }
}
// ANCHOR_END: limits

// ANCHOR: usage
/// What the command has used, when it has ended.
pub fn usage(usage: &Usage) {
    let Usage { memory, cpu, pids, io, pressure } = usage;
    info!(target: "say", "What it has used:");
    let mut absent = Vec::new();
    let mut tell = |name, value: Option<String>| match value {
        Some(value) => info!(target: "kernel", "{name}: {value}"),
        None => absent.push(name),
    };
    let bytes = |bytes: u64| show_bytes(bytes as f64);
    tell("peak memory", memory.peak.map(bytes));
    tell("OOM kills", memory.oom_kills.map(|kills| kills.to_string()));
    let time = cpu.usage.zip(cpu.system);
    let show = |(all, system)| format!("{} ({} of it in the kernel)", show_time(all), show_time(system));
    tell("CPU time", time.map(show));
    let throttled = cpu.throttled.zip(cpu.throttled_periods).zip(cpu.periods);
    let show = |((time, count), all)| format!("for {}, in {count} of {all} periods", show_time(time));
    tell("throttled", throttled.map(show));
    tell("forks refused", pids.max_events.map(|refused| refused.to_string()));
    let disks = io.read_bytes.map(bytes).zip(io.written_bytes.map(bytes));
    tell("read from disks", disks.map(|(read, written)| format!("{read}, written: {written}")));
    if !absent.is_empty() {
        info!(target: "kernel", "not counted here: {}", absent.join(", "));
    }
    for (name, stall) in [("CPU", pressure.cpu), ("memory", pressure.memory), ("disks", pressure.io)] {
        if let Some(stall) = stall {
            info!(target: "kernel", "waited for {name}: {}", show_time(stall.some.total));
        }
    }
}
// ANCHOR_END: usage
