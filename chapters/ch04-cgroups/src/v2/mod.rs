//! How version 2 takes limits, and tells them and what was used.
//!
//! One style for all: `max` for no limit, bytes, microseconds, and files of lines `key number`. Kernel
//! documentation: cgroup-v2, "Controllers".

pub(crate) mod cpu;
pub(crate) mod io;
pub(crate) mod memory;
pub(crate) mod usage;

use anyhow::Result;

use crate::Bound;
use crate::file::Directory;

/// The limit in a file, where there is one.
pub(crate) fn bound_if_there(directory: &Directory, file: &str) -> Result<Option<Bound>> {
    directory.read_if_there(file)?.map(|text| text.parse()).transpose()
}
