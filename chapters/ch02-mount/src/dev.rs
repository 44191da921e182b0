//! /dev: the few devices that every program may expect.
//!
//! The host's /dev leads to the disks. A container gets a new tmpfs with what is harmless: null, zero, full,
//! random, urandom, tty; a devpts of its own for terminals; shared memory; and links. A device file is a pair
//! of numbers, major and minor, that name a driver; making one takes CAP_MKNOD over the host, so in a user
//! namespace the host's files are bound instead. The list is that of the OCI runtime specification ("Default
//! Devices"). Manual pages: mknod(2), null(4), random(4), tty(4), pts(4), shm_overview(7).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use log::{Level, debug, info};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use crate::tree::Setting::Text;
use crate::{Attributes, Root, Tree};

// ANCHOR: lists
/// Name, major and minor number: the kernel's `Documentation/admin-guide/devices.txt`.
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links, and where they lead.
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
// ANCHOR_END: lists

// ANCHOR: dev
/// Mounts a minimal /dev inside `root`.
///
/// # Errors
///
/// Names the device or the mount that failed.
pub fn mount(root: &Root) -> Result<()> {
    let place = root.mount_point(Path::new("/dev"))?;
    // No NO_DEV here: this is the one place where device files must work.
    let options = [Text("mode", "755"), Text("size", "65536k")];
    let tree = Tree::new("tmpfs", &options, Attributes::NO_SUID | Attributes::STRICT_ATIME)?;
    tree.attach(&place, Path::new("/dev"))?;
    // Everything else is made below the new mount's own descriptor: `place` is what it covers.
    let dev = Root::from(tree);

    info!(
        target: "syscall",
        "mknodat(dev, \"null\", S_IFCHR | 0666, makedev(1, 3))  and zero, full, random, urandom, tty"
    );
    let mut bound = false;
    for (name, major, minor) in DEVICES {
        bound |= device(&dev, name, major, minor)?;
    }
    if bound {
        info!(target: "say", "Only root over the host may make device files, so the host's own are bound.");
    }
    mount_pts(&dev)?;
    mount_shm(&dev)?;
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).with_context(|| format!("symlink /dev/{name}"))?;
    }
    Ok(())
}
// ANCHOR_END: dev

// ANCHOR: device
/// Makes one character device in `dev`, or binds the host's where only the host's root may make one; tells
/// whether it did.
fn device(dev: &Root, name: &str, major: u64, minor: u64) -> Result<bool> {
    let all = Mode::from_bits_truncate(0o666);
    debug!(target: "syscall", "mknodat(dev, {name:?}, S_IFCHR | 0666, makedev({major}, {minor}))  a device");
    match mknodat(dev, name, SFlag::S_IFCHR, all, makedev(major, minor)) {
        // Only root over the host may make one: a device file opens a driver, whoever made the file.
        Err(Errno::EPERM) => return bind_device(dev, name, major, minor).map(|()| true),
        result => result.with_context(|| format!("mknod /dev/{name}"))?,
    }
    // The caller's umask may have taken bits away.
    fchmodat(dev, name, all, FchmodatFlags::FollowSymlink).with_context(|| format!("chmod /dev/{name}"))?;
    Ok(false)
}

fn bind_device(dev: &Root, name: &str, major: u64, minor: u64) -> Result<()> {
    let host = host_device(name, major, minor)?;
    let place = dev.file(Path::new(name))?;
    host.attach(&place, &Path::new("/dev").join(name))
}

/// A copy of the host's device file, and of nothing that only has its name: where the host is a container of
/// somebody else's, its `/dev/null` could be any file.
pub(crate) fn host_device(name: &str, major: u64, minor: u64) -> Result<Tree> {
    let path = Path::new("/dev").join(name);
    let host = Tree::copy_at(AT_FDCWD, &path, false, Level::Debug)?;
    let status = fstat(&host).with_context(|| format!("stat {path:?}"))?;
    let is_device = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    ensure!(
        is_device && status.st_rdev == makedev(major, minor),
        "{path:?} of the host is not the device {major}:{minor}"
    );
    Ok(host)
}
// ANCHOR_END: device

// ANCHOR: pts
/// A devpts of its own: the container's terminals have numbers of their own, and it can't open the host's.
fn mount_pts(dev: &Root) -> Result<()> {
    let place = directory(dev, "pts", 0o755)?;
    let attributes = Attributes::NO_SUID | Attributes::NO_EXEC;
    // Group 5 is tty: programs such as write(1) rely on it. In a user namespace it may not exist; devpts says
    // EINVAL.
    let options = [Text("mode", "620"), Text("ptmxmode", "666"), Text("gid", "5")];
    let tree = match Tree::new("devpts", &options, attributes) {
        Err(error) if error.root_cause().downcast_ref() == Some(&Errno::EINVAL) => {
            info!(
                target: "say",
                "No group 5 (tty) is mapped here, so terminals belong to their users' own group."
            );
            Tree::new("devpts", &options[..2], attributes)?
        }
        result => result?,
    };
    tree.attach(&place, Path::new("/dev/pts"))
}

/// Memory that processes share by name: shm_open(3).
fn mount_shm(dev: &Root) -> Result<()> {
    let place = directory(dev, "shm", 0o1777)?;
    let attributes = Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let tree = Tree::new("tmpfs", &[Text("mode", "1777"), Text("size", "65536k")], attributes)?;
    tree.attach(&place, Path::new("/dev/shm"))
}
// ANCHOR_END: pts

// ANCHOR: console
/// Makes the terminal `slave` the container's /dev/console, the place for messages to whoever watches it.
///
/// # Errors
///
/// Those of the bind.
pub fn console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let path = Path::new("/dev/console");
    let place = root.file(path)?;
    Tree::copy_at(slave.as_fd(), Path::new(""), false, Level::Debug)?.attach(&place, path)
}
// ANCHOR_END: console

fn directory(dev: &Root, name: &str, mode: u32) -> Result<OwnedFd> {
    mkdirat(dev, name, Mode::from_bits_truncate(mode)).with_context(|| format!("mkdir /dev/{name}"))?;
    dev.find(Path::new(name), OFlag::O_PATH | OFlag::O_DIRECTORY).with_context(|| format!("open /dev/{name}"))
}
