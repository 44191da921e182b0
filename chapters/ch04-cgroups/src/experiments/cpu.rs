// ANCHOR: cpu
//! How much does a process get that would use a processor all the time?

use std::convert::Infallible;
use std::hint::spin_loop;
use std::time::Duration;

use anyhow::Result;
use ch04_cgroups::{Bound, Limits, limits};
use log::info;

use super::{Measurement, Stage, Watch, rate};
use crate::plot::Unit;
use crate::report::{counted, counted_time};

/// In microseconds: half a processor.
const QUOTA: u64 = 50_000;
const PERIOD: u64 = 100_000;

/// A busy loop with half a processor.
pub fn run(stage: &mut Stage) -> Result<()> {
    info!(target: "say", "CPU. A process that never waits may run for 50 ms in each 100 ms.");
    let cpu = limits::Cpu {
        quota: Some(Bound::At(QUOTA)),
        period: Some(PERIOD),
        // Before all others, so that on a busy machine too it is the quota that holds it.
        weight: Some(10_000),
        ..Default::default()
    };
    let Some(cgroup) = stage.cgroup(&Limits { cpu, ..Default::default() })? else { return Ok(()) };
    let child = stage.start(&cgroup, None, spin)?;
    let duration = Duration::from_secs(3);
    let measurement = Measurement {
        name: "cpu",
        unit: Unit::Cpus,
        limit: QUOTA as f64 / PERIOD as f64,
        // Two periods: a shorter look would see it run, or wait.
        interval: Duration::from_millis(200),
        expected: duration,
        at_most: duration,
    };
    let mut cpus = rate(|usage| usage.cpu.usage);
    let seconds = Watch::new(stage, measurement)
        .until_end(&cgroup, &child, |seconds, usage| Some(cpus(seconds, usage)? / 1e6))?;
    let cpu = cgroup.usage()?.cpu;
    info!(target: "kernel", "in {seconds:.2} s it has run for {}", counted_time(cpu.usage));
    info!(
        target: "kernel",
        "throttled: for {}, in {} of {} periods",
        counted_time(cpu.throttled), counted(cpu.throttled_periods), counted(cpu.periods)
    );
    cgroup.remove()
}

fn spin() -> Infallible {
    loop {
        spin_loop();
    }
}
// ANCHOR_END: cpu
