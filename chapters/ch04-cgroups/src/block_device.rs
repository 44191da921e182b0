// ANCHOR: block_device
//! Which disk is below a directory?
//!
//! A limit of a disk is set for the numbers of its block device. stat(2) tells on which device a file is, but some
//! file systems have several devices, or none, and say a number that is no device's: its major number is 0. Then
//! the mount table tells more (proc_pid_mountinfo(5)). A partition has no limits of its own: /sys/dev/block leads
//! from it to its disk (sysfs(5)).

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ch02_mount::unescape;
use ch04_cgroups::limits::Device;

/// A disk, and the file system on it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its numbers.
    pub device: Device,
    /// The kernel's name for it: `vda`.
    pub name: String,
    /// The type of the file system: `ext4`.
    pub file_system: String,
}

impl fmt::Display for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} (device {}, {})", self.name, self.device, self.file_system)
    }
}

/// The disk on which what is written to `directory` ends.
///
/// # Errors
///
/// Says where the way to a disk ends: at a tmpfs, at a network file system.
pub fn of(directory: &Path) -> Result<Disk> {
    let directory = directory.canonicalize().with_context(|| format!("find {directory:?}"))?;
    let mount = mount_of(&directory)?;
    // A union of directories: what is written goes to the upper one.
    if let Some(upper) = mount.options.split(',').find_map(|option| option.strip_prefix("upperdir=")) {
        return of(Path::new(upper))
            .with_context(|| format!("the upper directory of the overlay at {directory:?}"));
    }
    let metadata = directory.metadata().with_context(|| format!("stat {directory:?}"))?;
    let device = match device(metadata.dev()) {
        Device { major: 0, .. } => device_of_source(&mount)?,
        device => device,
    };
    let (device, name) = whole_disk(device)?;
    Ok(Disk { device, name, file_system: mount.file_system })
}

/// The file of a device, which the mount table names as its source.
fn device_of_source(mount: &Mount) -> Result<Device> {
    let Mount { file_system, source, .. } = mount;
    let metadata = fs::metadata(source).ok().filter(|metadata| metadata.file_type().is_block_device());
    let metadata = metadata
        .with_context(|| format!("{:?} is a {file_system}, which is on no disk", mount.mount_point))?;
    Ok(device(metadata.rdev()))
}

fn device(number: u64) -> Device {
    Device { major: libc::major(number), minor: libc::minor(number) }
}

/// From a partition to its disk.
fn whole_disk(device: Device) -> Result<(Device, String)> {
    let link = PathBuf::from(format!("/sys/dev/block/{device}"));
    let mut directory = link.canonicalize().with_context(|| format!("readlink {link:?}"))?;
    if directory.join("partition").exists() {
        ensure!(directory.pop(), "{directory:?} has no parent");
    }
    let file = directory.join("dev");
    let numbers = fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((numbers.trim().parse()?, name))
}
// ANCHOR_END: block_device

// ANCHOR: mountinfo
/// What a line of the mount table says of one mount.
struct Mount {
    mount_point: PathBuf,
    file_system: String,
    source: PathBuf,
    options: String,
}

/// The mount that `path` is on: the last one in the table on the longest beginning of the path.
fn mount_of(path: &Path) -> Result<Mount> {
    let file = "/proc/self/mountinfo";
    let table = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
    let mounts = table.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.mount_point));
    // Of equals, max_by_key returns the last.
    match mounts.max_by_key(|mount| mount.mount_point.components().count()) {
        Some(mount) => Ok(mount),
        None => bail!("{path:?} is on no mount of {file:?}"),
    }
}

/// `27 1 254:0 / /mnt rw,relatime shared:1 - ext4 /dev/vda rw`.
fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some(Mount {
        mount_point: unescape(before.split(' ').nth(4)?),
        file_system: after.next()?.into(),
        source: unescape(after.next()?),
        options: unescape(after.next()?).to_string_lossy().into_owned(),
    })
}
// ANCHOR_END: mountinfo
