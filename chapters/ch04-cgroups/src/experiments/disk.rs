// ANCHOR: disk
//! How fast can a process write to a disk that it may write to at 1 MiB a second?

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ch01_pid::spawn::exit_now;
use ch04_cgroups::{Bound, Limits, limits};
use log::info;

use super::{Measurement, Stage, Watch, rate};
use crate::block_device::{self, Disk};
use crate::plot::Unit;
use crate::report::{counted, counted_bytes};

const LIMIT: u64 = 1 << 20;

/// Writes that go to the disk at once, held at the limit.
pub fn run(stage: &mut Stage) -> Result<()> {
    info!(target: "say", "Disk. A process may write 1 MiB in a second, and writes as fast as it can.");
    let (file, directory, disk) = match scratch_file() {
        Ok(found) => found,
        Err(refusals) => {
            info!(target: "say", "This experiment is left out, since no disk was found: {refusals:#}.");
            return Ok(());
        }
    };
    info!(target: "kernel", "the disk below {directory:?} is {disk}");
    let write = limits::IoDevice { wbps: Some(Bound::At(LIMIT)), ..Default::default() };
    let io = limits::Io { devices: BTreeMap::from([(disk.device, write)]), ..Default::default() };
    let Some(cgroup) = stage.cgroup(&Limits { io, ..Default::default() })? else { return Ok(()) };
    let child = stage.start(&cgroup, Some(file.as_fd()), || write_blocks(&file))?;
    let duration = Duration::from_secs(5);
    let measurement = Measurement {
        name: "disk",
        unit: Unit::BytesPerSecond,
        limit: LIMIT as f64,
        interval: Duration::from_millis(200),
        expected: duration,
        at_most: duration,
    };
    let mut written = rate(|usage| usage.io.written_bytes);
    let seconds = Watch::new(stage, measurement).until_end(&cgroup, &child, &mut written)?;
    let io = cgroup.usage()?.io;
    let (written, writes) = (counted_bytes(io.written_bytes), counted(io.writes));
    info!(target: "kernel", "in {seconds:.2} s it has written {written} in {writes} writes");
    cgroup.remove()
}
// ANCHOR_END: disk

// ANCHOR: scratch
/// A file without a name (O_TMPFILE of open(2)), which goes with its last descriptor, on the first of some
/// directories that is on a disk; the disk.
///
/// With O_DIRECT a write does not end in the page cache, from which the kernel would write it to the disk later, on
/// nobody's account in version 1.
fn scratch_file() -> Result<(File, PathBuf, Disk)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let here = std::env::current_dir().ok();
    let directories = [Some(PathBuf::from("/var/tmp")), home, here, Some(PathBuf::from("/tmp"))];
    let mut refusals = Vec::new();
    for directory in directories.into_iter().flatten() {
        match open_scratch(&directory) {
            Ok((file, disk)) => return Ok((file, directory, disk)),
            Err(refusal) => refusals.push(lesson::describe(&refusal)),
        }
    }
    anyhow::bail!(refusals.join("; "))
}

fn open_scratch(directory: &Path) -> Result<(File, Disk)> {
    let disk = block_device::of(directory)?;
    let file = OpenOptions::new()
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE | libc::O_DIRECT)
        .open(directory)
        .with_context(|| format!("open({directory:?}, O_TMPFILE | O_DIRECT)"))?;
    Ok((file, disk))
}
// ANCHOR_END: scratch

// ANCHOR: write_blocks
/// O_DIRECT takes memory that begins where a block of the disk could: 4096 does for all disks.
#[repr(align(4096))]
struct Block([u8; 16 << 10]);

static BLOCK: Block = Block([b'h'; 16 << 10]);

/// Writes the first 4 MiB of the file again and again.
fn write_blocks(file: &File) -> Infallible {
    let length = BLOCK.0.len() as u64;
    for offset in (0..4 << 20).step_by(BLOCK.0.len()).cycle() {
        if let Err(error) = file.write_all_at(&BLOCK.0, offset) {
            eprintln!("error: write {length} bytes with O_DIRECT: {error}");
            exit_now(1)
        }
    }
    exit_now(0)
}
// ANCHOR_END: write_blocks
