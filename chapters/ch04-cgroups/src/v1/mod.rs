//! How version 1 takes limits, and tells them and what was used.
//!
//! Each controller is older than any common style: bytes here and pages there, nanoseconds here and ticks
//! there, `-1` for no limit. Kernel documentation: cgroup-v1.

pub(crate) mod cpu;
pub(crate) mod io;
pub(crate) mod memory;
pub(crate) mod usage;

use anyhow::Result;

use crate::Bound;
use crate::file::Directory;

// ANCHOR: value
/// A limit as version 1 takes it.
pub(crate) fn value(bound: Bound) -> String {
    match bound {
        Bound::At(number) => number.to_string(),
        Bound::Max => "-1".into(),
    }
}

/// A limit as version 1 tells it. `-1` comes back as the largest number of whole pages; the mask covers the
/// largest pages there are.
pub(crate) fn bound(text: &str) -> Result<Bound> {
    const ALL_PAGES: u64 = i64::MAX as u64 & !0xffff;
    match text {
        "-1" => Ok(Bound::Max),
        text => text.parse().map(|bound| if bound >= Bound::At(ALL_PAGES) { Bound::Max } else { bound }),
    }
}

/// The limit in a file, where there is one.
pub(crate) fn bound_if_there(directory: &Directory, file: &str) -> Result<Option<Bound>> {
    directory.read_if_there(file)?.map(|text| bound(&text)).transpose()
}
// ANCHOR_END: value
