//! Memory in version 2. Swap is limited alone. Kernel documentation: cgroup-v2, "Memory".

use anyhow::{Result, ensure};

use super::bound_if_there;
use crate::file::Directory;
use crate::limits::Memory;
use crate::v1::memory::swap_is_not_counted;
use crate::{Bound, Warning};

// ANCHOR: write
pub(crate) fn write(directory: &Directory, memory: &Memory, warnings: &mut Vec<Warning>) -> Result<()> {
    for (name, is_set) in [
        ("memory.kmem.limit_in_bytes", memory.kernel.is_some()),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp.is_some()),
        ("memory.swappiness", memory.swappiness.is_some()),
        ("memory.oom_control", memory.disable_oom_killer.is_some()),
    ] {
        ensure!(!is_set, "{:?}: version 2 has nothing like {name} of version 1", directory.path);
    }
    // Swap first: with a lower limit of memory, pages would already be on their way out to it.
    if let Some(swap) = memory.swap {
        // The file goes missing with CONFIG_SWAP or by swapaccount=0; the controller is there if memory.max
        // is.
        if directory.has("memory.swap.max") || !directory.has("memory.max") {
            directory.write("memory.swap.max", &swap.to_string(), "swap space, without memory")?;
        } else if swap != Bound::Max {
            warnings.push(swap_is_not_counted());
        }
    }
    if let Some(low) = memory.low {
        directory.write("memory.low", &low.to_string(), "below it nothing is reclaimed")?;
    }
    if let Some(high) = memory.high {
        directory.write("memory.high", &high.to_string(), "beyond it processes are slowed down")?;
    }
    if let Some(max) = memory.max {
        directory.write("memory.max", &max.to_string(), "beyond it the OOM killer strikes")?;
    }
    Ok(())
}
// ANCHOR_END: write

// ANCHOR: read
pub(crate) fn read(directory: &Directory) -> Result<Memory> {
    let bound = |file: &str| bound_if_there(directory, file);
    Ok(Memory {
        max: bound("memory.max")?,
        high: bound("memory.high")?,
        low: bound("memory.low")?,
        swap: bound("memory.swap.max")?,
        ..Memory::default()
    })
}
// ANCHOR_END: read
