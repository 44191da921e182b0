//! From values of version 1 to those of version 2, and back.
//!
//! The OCI runtime specification was written for version 1: a configuration has `cpu.shares`, and one limit for
//! memory and swap together, even where the machine has version 2. Each runtime must convert alike, or the same
//! container gets another part of the machine from each. The table that they follow is crun's:
//! [crun(1), "CGROUP v2"](https://github.com/containers/crun/blob/main/crun.1.md#cgroup-v2). What is not here
//! is the same number in both versions.
//!
//! In the specification a weight of 0 means "not set", and so here `None` comes of it.

use anyhow::{Result, bail};

use crate::limits::Bound;

// ANCHOR: shares
/// The least and the most of `cpu.shares`: `MIN_SHARES` and `MAX_SHARES` in the kernel.
const SHARES: (u64, u64) = (2, 1 << 18);
/// The least and the most of `cpu.weight` and of `io.weight`: `CGROUP_WEIGHT_MIN` and `CGROUP_WEIGHT_MAX`.
const WEIGHT: (u64, u64) = (1, 10_000);
/// The least and the most of `blkio.weight`.
const BLKIO_WEIGHT: (u64, u64) = (10, 1000);

/// The `cpu.weight` for `cpu.shares`.
///
/// Each has a least value, a default and a most: 2, 1024, 2^18 and 1, 100, 10000. Until 2025 runtimes drew a
/// straight line between the ends. It makes 39 of 1024, so a container was worth less than half of any process
/// beside it. This curve goes through all three: with `L` the logarithm of the shares to the base 2, it is 10
/// to the power of `(L² + 125 L) / 612 - 7 / 34`, rounded up. runc has it since 1.3.2
/// ([opencontainers/cgroups #20](https://github.com/opencontainers/cgroups/pull/20)), crun since 1.23
/// ([containers/crun #1767](https://github.com/containers/crun/pull/1767)).
pub fn cpu_shares_to_weight(shares: u64) -> Option<u64> {
    if shares == 0 {
        return None;
    }
    let logarithm = (shares.clamp(SHARES.0, SHARES.1) as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    Some((10_f64.powf(exponent).ceil() as u64).clamp(WEIGHT.0, WEIGHT.1))
}

/// The `cpu.shares` for `cpu.weight`: the most of which [`cpu_shares_to_weight`] makes this weight.
pub fn cpu_weight_to_shares(weight: u64) -> Option<u64> {
    if weight == 0 {
        return None;
    }
    let (mut least, mut most) = SHARES;
    // The curve only rises, so the place is found by halving.
    while least < most {
        let middle = (least + most).div_ceil(2);
        match cpu_shares_to_weight(middle) <= Some(weight) {
            true => least = middle,
            false => most = middle - 1,
        }
    }
    Some(least)
}
// ANCHOR_END: shares

// ANCHOR: blkio
/// The `io.weight` for `blkio.weight`, on a straight line between the ends: 10 to 1000, 1 to 10000. The defaults
/// (500 and 100) are no image of each other.
pub fn blkio_weight_to_io_weight(weight: u64) -> Option<u64> {
    let above = weight.clamp(BLKIO_WEIGHT.0, BLKIO_WEIGHT.1) - BLKIO_WEIGHT.0;
    let line = WEIGHT.0 + above * (WEIGHT.1 - WEIGHT.0) / (BLKIO_WEIGHT.1 - BLKIO_WEIGHT.0);
    (weight != 0).then_some(line)
}

/// The `blkio.weight` for `io.weight`. What [`blkio_weight_to_io_weight`] made comes back as it was.
pub fn io_weight_to_blkio_weight(weight: u64) -> Option<u64> {
    let above = weight.clamp(WEIGHT.0, WEIGHT.1) - WEIGHT.0;
    // Rounded up, since the way there rounds down.
    let line = BLKIO_WEIGHT.0 + (above * (BLKIO_WEIGHT.1 - BLKIO_WEIGHT.0)).div_ceil(WEIGHT.1 - WEIGHT.0);
    (weight != 0).then_some(line)
}
// ANCHOR_END: blkio

// ANCHOR: swap
/// The limit of swap alone, which version 2 has, for a limit of memory and swap together, which version 1 and the
/// specification have. As runc does, no limit of memory means none of swap where that is not set.
///
/// # Errors
///
/// A limit of both that is less than that of memory, or that can't be divided since memory has none.
pub fn memory_and_swap_to_swap(both: Option<Bound>, memory: Option<Bound>) -> Result<Option<Bound>> {
    match (both, memory) {
        (None, Some(Bound::Max)) => Ok(Some(Bound::Max)),
        (None, _) => Ok(None),
        (Some(Bound::Max), _) => Ok(Some(Bound::Max)),
        (Some(both), Some(Bound::Max)) => Ok(Some(both)),
        (Some(Bound::At(both)), Some(Bound::At(memory))) => match both.checked_sub(memory) {
            Some(swap) => Ok(Some(Bound::At(swap))),
            None => bail!(
                "the limit of memory and swap together, {both} bytes, is below that of memory alone, {memory}"
            ),
        },
        (Some(Bound::At(both)), None) => bail!(
            "cgroup v2 limits swap alone: of {both} bytes of memory and swap, how much is swap depends on \
             the limit of memory, and there is none"
        ),
    }
}

/// The limit of memory and swap together for one of swap alone.
pub fn swap_to_memory_and_swap(swap: Bound, memory: Bound) -> Bound {
    match (swap, memory) {
        (Bound::At(swap), Bound::At(memory)) => Bound::At(swap.saturating_add(memory)),
        _ => Bound::Max,
    }
}
// ANCHOR_END: swap
