// ANCHOR: memory
//! What happens to a process that takes more memory than it may?

use std::convert::Infallible;
use std::hint::black_box;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use ch01_pid::spawn::exit_now;
use ch04_cgroups::{Bound, Limits, limits};
use log::info;

use super::{Measurement, Stage, Watch};
use crate::plot::Unit;
use crate::report::{counted, counted_bytes, how_it_ended};

const LIMIT: u64 = 64 << 20;

/// Memory up to the limit, and then the OOM killer.
pub fn run(stage: &mut Stage) -> Result<()> {
    info!(target: "say", "Memory. A process may have 64 MiB and no swap, and takes a MiB after the other.");
    let memory = limits::Memory {
        max: Some(Bound::At(LIMIT)),
        // Or the kernel would move its pages to the disk, and the process would be slow instead of dead.
        swap: Some(Bound::At(0)),
        ..Default::default()
    };
    let Some(cgroup) = stage.cgroup(&Limits { memory, ..Default::default() })? else { return Ok(()) };
    let mut child = stage.start(&cgroup, None, || take_memory(2 * LIMIT))?;
    let measurement = Measurement {
        name: "memory",
        unit: Unit::Bytes,
        limit: LIMIT as f64,
        interval: Duration::from_millis(50),
        expected: Duration::from_millis(1800),
        at_most: Duration::from_secs(20),
    };
    Watch::new(stage, measurement)
        .until_end(&cgroup, &child, |_, usage| usage.memory.current.map(|bytes| bytes as f64))?;
    let status = child.wait()?;
    let memory = cgroup.usage()?.memory;
    let (end, kills) = (how_it_ended(status), counted(memory.oom_kills));
    info!(target: "kernel", "the process {end}; OOM kills: {kills}");
    info!(target: "kernel", "the most memory that it had: {}", counted_bytes(memory.peak));
    cgroup.remove()
}

/// Takes memory, a MiB every 25 milliseconds. An address alone costs nothing: the kernel gives a page when it
/// is written to for the first time.
fn take_memory(bytes: u64) -> Infallible {
    const MIB: usize = 1 << 20;
    let mut memory: Vec<u8> = Vec::with_capacity(bytes as usize);
    while memory.len() + MIB <= memory.capacity() {
        memory.resize(memory.len() + MIB, 1);
        black_box(&memory);
        sleep(Duration::from_millis(25));
    }
    exit_now(0)
}
// ANCHOR_END: memory
