//! Memory in version 1: swap is not limited alone, but together with memory.
//!
//! So there are two limits, of which that of both (*memsw*) must never be the lower one: which is written
//! first depends on the direction. Kernel documentation: cgroup-v1/memory.

use anyhow::{Result, bail};

use super::{bound_if_there, value};
use crate::convert::swap_to_memory_and_swap;
use crate::file::Directory;
use crate::limits::Memory;
use crate::{Bound, Warning};

pub(crate) const MEMORY: &str = "memory.limit_in_bytes";
pub(crate) const BOTH: &str = "memory.memsw.limit_in_bytes";

// ANCHOR: write
pub(crate) fn write(directory: &Directory, memory: &Memory, warnings: &mut Vec<Warning>) -> Result<()> {
    if memory.high.is_some() {
        bail!("{:?}: version 1 has no limit like memory.high", directory.path);
    }
    write_max_and_swap(directory, memory, warnings)?;
    if let Some(low) = memory.low {
        let reason = "a hint: what is below it is reclaimed last";
        directory.write("memory.soft_limit_in_bytes", &value(low), reason)?;
    }
    if let Some(kernel) = memory.kernel {
        directory.write("memory.kmem.limit_in_bytes", &value(kernel), "the kernel's own memory")?;
    }
    if let Some(buffers) = memory.kernel_tcp {
        directory.write("memory.kmem.tcp.limit_in_bytes", &value(buffers), "the buffers of TCP")?;
    }
    if let Some(swappiness) = memory.swappiness {
        directory.write("memory.swappiness", &swappiness.to_string(), "swap rather, or drop caches")?;
    }
    if let Some(disable) = memory.disable_oom_killer {
        directory.write("memory.oom_control", if disable { "1" } else { "0" }, "wait, or be killed")?;
    }
    Ok(())
}
// ANCHOR_END: write

// ANCHOR: order
fn write_max_and_swap(directory: &Directory, memory: &Memory, warnings: &mut Vec<Warning>) -> Result<()> {
    if memory.max.is_none() && memory.swap.is_none() {
        return Ok(());
    }
    let old_max = super::bound(&directory.read(MEMORY)?)?;
    let max = memory.max.unwrap_or(old_max);
    let write_max = || directory.write(MEMORY, &value(max), "beyond it the OOM killer strikes");

    let Some(old_both) = bound_if_there(directory, BOTH)? else {
        if memory.swap.is_some_and(|swap| swap != Bound::Max) {
            warnings.push(swap_is_not_counted());
        }
        return write_max();
    };
    let both = match (memory.swap, old_both, old_max) {
        (Some(Bound::At(_)), _, _) if max == Bound::Max => {
            bail!("{:?}: version 1 can't limit swap where memory has no limit", directory.path)
        }
        (Some(swap), _, _) => swap_to_memory_and_swap(swap, max),
        // Swap keeps the limit that it had.
        (None, Bound::At(both), Bound::At(old_max)) => {
            swap_to_memory_and_swap(Bound::At(both.saturating_sub(old_max)), max)
        }
        (None, _, _) => Bound::Max,
    };
    let write_both = || directory.write(BOTH, &value(both), "memory and swap together");
    if both >= old_both {
        write_both()?;
        write_max()
    } else {
        write_max()?;
        write_both()
    }
}
// ANCHOR_END: order

/// The kernel has no accounting of swap, or it is switched off: CONFIG_SWAP, `swapaccount=0`.
pub(crate) fn swap_is_not_counted() -> Warning {
    Warning(
        "swap is not limited, since this kernel does not count it: at the limit, memory goes there".into(),
    )
}

// ANCHOR: read
pub(crate) fn read(directory: &Directory) -> Result<Memory> {
    let bound = |file: &str| bound_if_there(directory, file);
    let max = bound(MEMORY)?;
    let swap = match (bound(BOTH)?, max) {
        (Some(Bound::At(both)), Some(Bound::At(max))) => Some(Bound::At(both.saturating_sub(max))),
        (both, _) => both,
    };
    let disabled = directory.read_if_there("memory.oom_control")?;
    Ok(Memory {
        max,
        high: None,
        low: bound("memory.soft_limit_in_bytes")?,
        swap,
        kernel: bound("memory.kmem.limit_in_bytes")?,
        kernel_tcp: bound("memory.kmem.tcp.limit_in_bytes")?,
        swappiness: directory.read_if_there("memory.swappiness")?.and_then(|text| text.parse().ok()),
        disable_oom_killer: disabled
            .and_then(|text| crate::file::value_of(&text, "oom_kill_disable"))
            .map(|value| value == 1),
    })
}
// ANCHOR_END: read
