//! Limits as properties of a unit: systemd.resource-control(5), org.freedesktop.systemd1(5).
//!
//! All that systemd has a property for is told to it, since it writes its own idea of a limit again whenever it
//! likes; the rest goes to the cgroup's files alone. Properties and values are those that runc's driver for
//! systemd sets. They have the names of version 2, and systemd converts them where the machine has version 1.

use anyhow::{Context, Result, bail, ensure};

use super::{Unit, devices};
use crate::convert::cpu_shares_to_weight;
use crate::limits::{Bound, Limits};

// ANCHOR: property
/// A property and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// As in org.freedesktop.systemd1(5): `MemoryMax`.
    pub name: String,
    /// Of the type that the property has there.
    pub value: Value,
}

/// A value of one of the types that properties of units have.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `t`. The greatest number stands for no limit.
    Number(u64),
    /// `s`
    String(String),
    /// `as`
    Strings(Vec<String>),
    /// `a(ss)`
    StringPairs(Vec<(String, String)>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers32(Vec<u32>),
}
// ANCHOR_END: property

impl Property {
    /// This property with this value.
    pub fn new(name: impl Into<String>, value: Value) -> Property {
        Property { name: name.into(), value }
    }
}

// ANCHOR: of_unit
/// What a unit starts with.
pub(super) fn of_unit(unit: &Unit, default_slice: &str, version: u32) -> Result<Vec<Property>> {
    let slice = unit.slice.unwrap_or(default_slice).to_string();
    let mut properties = vec![
        Property::new("Description", Value::String(unit.description.to_string())),
        // No dependency on the targets of boot and shutdown, which would end a container in its own order.
        Property::new("DefaultDependencies", Value::Bool(false)),
        // Even one that failed is forgotten with its last process.
        Property::new("CollectMode", Value::String("inactive-or-failed".to_string())),
    ];
    if unit.name.ends_with(".slice") {
        properties.push(Property::new("Wants", Value::Strings(vec![slice])));
    } else {
        ensure!(unit.name.ends_with(".scope"), "{:?} is the name of neither a scope nor a slice", unit.name);
        ensure!(!unit.processes.is_empty(), "systemd makes no scope without processes ({})", unit.name);
        let processes = unit.processes.iter().map(|pid| *pid as u32).collect();
        properties.extend([
            Property::new("Slice", Value::String(slice)),
            Property::new("PIDs", Value::Numbers32(processes)),
            // What is below this cgroup is ours.
            Property::new("Delegate", Value::Bool(true)),
        ]);
    }
    // The controllers are enabled from the start, so that their counters count from the start.
    for controller in ["CPU", "IO", "Memory", "Tasks"] {
        properties.push(Property::new(format!("{controller}Accounting"), Value::Bool(true)));
    }
    if let Some(group) = unit.limits.unified.get("memory.oom.group") {
        let policy = if group.trim() == "1" { "kill" } else { "continue" };
        properties.push(Property::new("OOMPolicy", Value::String(policy.to_string())));
    }
    properties.extend(of_limits(unit.limits, version)?);
    properties.extend(unit.properties.iter().cloned());
    Ok(properties)
}
// ANCHOR_END: of_unit

// ANCHOR: of_limits
/// The limits, at the start or later.
pub(super) fn of_limits(limits: &Limits, version: u32) -> Result<Vec<Property>> {
    let limits = with_unified(limits)?;
    let mut properties = Vec::new();
    let mut number = |name: &str, value: Option<u64>| {
        properties.extend(value.map(|value| Property::new(name, Value::Number(value))));
    };
    number("MemoryMax", limits.memory.max.map(or_most));
    number("MemoryHigh", limits.memory.high.map(or_most));
    number("MemoryLow", limits.memory.low.map(or_most));
    number("MemorySwapMax", limits.memory.swap.map(or_most));
    number("TasksMax", limits.pids.map(or_most));
    let cpu = limits.cpu;
    let weight = cpu.weight.or(cpu.shares.and_then(cpu_shares_to_weight));
    // To systemd, idle is the weight 0, since 252.
    let idle = (cpu.idle == Some(true) && version >= 252).then_some(0);
    number("CPUWeight", idle.or(weight));
    number("CPUQuotaPeriodUSec", cpu.period.filter(|_| version >= 242));
    number("CPUQuotaPerSecUSec", cpu.quota.map(|quota| quota_of_a_second(quota, cpu.period)));
    number("IOWeight", limits.io.weight);
    for (name, list) in [("AllowedCPUs", &limits.cpuset.cpus), ("AllowedMemoryNodes", &limits.cpuset.mems)] {
        if let Some(list) = list.as_deref().filter(|_| version >= 244) {
            properties.push(Property::new(name, Value::Bytes(bits(list)?)));
        }
    }
    if !limits.devices.is_empty() {
        properties.extend(devices::properties(&limits.devices));
    }
    Ok(properties)
}
// ANCHOR_END: of_limits

/// The limits with those of `unified` that have a field of their own in that field.
fn with_unified(limits: &Limits) -> Result<Limits> {
    let mut limits = limits.clone();
    for (file, value) in limits.unified.clone() {
        let value = value.trim();
        let number = || value.parse().with_context(|| format!("{file}: {value:?} is no number"));
        let bound = || value.parse().with_context(|| file.clone());
        match file.as_str() {
            "memory.max" => limits.memory.max = Some(bound()?),
            "memory.high" => limits.memory.high = Some(bound()?),
            "memory.low" => limits.memory.low = Some(bound()?),
            "memory.swap.max" => limits.memory.swap = Some(bound()?),
            "pids.max" => limits.pids = Some(bound()?),
            "cpu.weight" => limits.cpu.weight = Some(number()?),
            "cpu.idle" => limits.cpu.idle = Some(value == "1"),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let quota = words.next().unwrap_or_default().parse();
                limits.cpu.quota = Some(quota.with_context(|| file.clone())?);
                if let Some(period) = words.next() {
                    limits.cpu.period = Some(period.parse().with_context(|| format!("{file}: {period:?}"))?);
                }
            }
            "cpuset.cpus" => limits.cpuset.cpus = Some(value.to_string()),
            "cpuset.mems" => limits.cpuset.mems = Some(value.to_string()),
            _ => {}
        }
    }
    Ok(limits)
}

fn or_most(bound: Bound) -> u64 {
    match bound {
        Bound::At(number) => number,
        Bound::Max => u64::MAX,
    }
}

// ANCHOR: quota
/// Microseconds of processor time in each second. systemd keeps whole percents of a processor; rounded up, the
/// quota that is then written to the cgroup itself still fits in.
fn quota_of_a_second(quota: Bound, period: Option<u64>) -> u64 {
    const SECOND: u64 = 1_000_000;
    const PERCENT: u64 = SECOND / 100;
    const DEFAULT_PERIOD: u64 = 100_000;
    match quota {
        Bound::Max => u64::MAX,
        Bound::At(quota) => {
            let period = period.filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD);
            let in_a_second = quota.saturating_mul(SECOND) / period;
            // More than fits is no limit.
            in_a_second.checked_next_multiple_of(PERCENT).unwrap_or(u64::MAX)
        }
    }
}
// ANCHOR_END: quota

/// `0-2,9` as a set of bits, the least in the first byte.
fn bits(list: &str) -> Result<Vec<u8>> {
    const MOST: usize = 1 << 16;
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let wrong = || format!("{range:?} in the list {list:?} is neither a number nor a range of numbers");
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) =
            (first.parse().with_context(wrong)?, last.parse().with_context(wrong)?);
        if first > last || last >= MOST {
            bail!(wrong());
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        for bit in first..=last {
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(bits)
}
