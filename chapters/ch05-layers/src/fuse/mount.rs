//! The mount: how a process becomes the server of a file system.
//!
//! Who opens /dev/fuse and gives the descriptor to a new mount of the type `fuse` reads from it, from then
//! on, what processes do in that mount. To mount takes CAP_SYS_ADMIN; /dev/fuse itself is open to all. For
//! everybody else there is fusermount3(1), which is set-user-id root: it mounts (with `nosuid` and `nodev`)
//! and hands the descriptor over, through a socket. Manual pages: fuse(4), mount.fuse3(8).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use ch02_mount::{Attributes, Setting, Tree};
use fuser::{Config, MountOption, SessionACL};
use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, stat};
use nix::sys::statfs::statfs;
use nix::unistd::{getegid, geteuid};

use super::Options;
use super::filesystem::FileSystem;

/// What the mount table shows: `aufs on /mnt type fuse.aufs`.
const NAME: &str = "aufs";

// ANCHOR: mount
/// Mounts, and answers the kernel's first request.
pub(super) fn mount(
    filesystem: FileSystem,
    mountpoint: &Path,
    options: &Options,
) -> Result<fuser::Session<FileSystem>> {
    remove_dead(mountpoint)?;
    let status = stat(mountpoint).with_context(|| format!("the mount point {mountpoint:?}"))?;
    let is_directory = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
    ensure!(is_directory, anyhow!(Errno::ENOTDIR).context(format!("the mount point {mountpoint:?}")));
    let mut config = Config::default();
    config.n_threads = Some(options.threads.max(1));
    if !geteuid().is_root() {
        return mount_by_helper(filesystem, mountpoint, options, config);
    }
    // A descriptor for each thread: they read requests without a common queue of those in work.
    config.clone_fd = true;
    let is_read_only = !filesystem.union.is_writable();
    let device = mount_directly(mountpoint, options, is_read_only)?;
    let session = fuser::Session::from_fd(filesystem, device, SessionACL::All, config);
    session.with_context(|| format!("the first request of the mount {mountpoint:?}"))
}

/// As root, here or in a user namespace.
fn mount_directly(mountpoint: &Path, options: &Options, is_read_only: bool) -> Result<OwnedFd> {
    let place = open(mountpoint, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let place = place.with_context(|| format!("open the mount point {mountpoint:?}"))?;
    let device = open_device()?;
    let (descriptor, user, group) =
        (device.as_raw_fd().to_string(), geteuid().to_string(), getegid().to_string());
    let mut settings = vec![
        Setting::Text("source", NAME),
        Setting::Text("subtype", NAME),
        Setting::Text("fd", &descriptor),
        // Of the type and mode that the root has until it is asked for.
        Setting::Text("rootmode", "40755"),
        Setting::Text("user_id", &user),
        Setting::Text("group_id", &group),
        // The kernel compares owner, mode and access list with the caller. Else each would have the server's
        // rights.
        Setting::Flag("default_permissions"),
    ];
    if options.allow_other {
        // A server can make those wait who use its mount, so a mount is for its maker alone; unless he says
        // so.
        settings.push(Setting::Flag("allow_other"));
    }
    let attributes = if is_read_only { Attributes::READ_ONLY } else { Attributes::NONE };
    Tree::new("fuse", &settings, attributes)?.attach(place, mountpoint)?;
    Ok(device.into())
}

fn open_device() -> Result<File> {
    let path = "/dev/fuse";
    info!(target: "syscall", "open({path:?}, O_RDWR)  who reads from it is a file system's server");
    OpenOptions::new().read(true).write(true).open(path).with_context(|| {
        format!("open {path:?} (missing: `modprobe fuse`; in a container: it needs --device /dev/fuse)")
    })
}
// ANCHOR_END: mount

// ANCHOR: helper
/// As another user.
fn mount_by_helper(
    filesystem: FileSystem,
    mountpoint: &Path,
    options: &Options,
    mut config: Config,
) -> Result<fuser::Session<FileSystem>> {
    config.mount_options = vec![
        MountOption::FSName(NAME.into()),
        MountOption::Subtype(NAME.into()),
        MountOption::DefaultPermissions,
    ];
    if !filesystem.union.is_writable() {
        config.mount_options.push(MountOption::RO);
    }
    if options.allow_other {
        config.acl = SessionACL::All;
    }
    info!(target: "syscall", "execve(\"fusermount3\", {mountpoint:?})  it is set-user-id root, mounts for us, and hands /dev/fuse over");
    fuser::Session::new(filesystem, mountpoint, &config).with_context(|| {
        format!(
            "mount {mountpoint:?} by fusermount3 (the package fuse3 has it; `allow_other` needs `user_allow_other` in /etc/fuse.conf)"
        )
    })
}
// ANCHOR_END: helper

// ANCHOR: unmount
/// Unmounts. False: it may be in use still, detached from its place, by us or by somebody else before.
pub(super) fn unmount(mountpoint: &Path) -> Result<bool> {
    if !geteuid().is_root() {
        return unmount_by_helper(mountpoint);
    }
    info!(target: "syscall", "umount2({mountpoint:?}, 0)  the server's read ends with ENODEV");
    match umount2(mountpoint, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => {
            warn!("{mountpoint:?} is in use: it is detached");
            detach(mountpoint)?;
            Ok(false)
        }
        // Somebody else has unmounted it, or detached it under its users.
        Err(Errno::EINVAL) => Ok(false),
        result => result.map(|()| true).with_context(|| format!("umount2 {mountpoint:?}")),
    }
}

/// Takes the mount off its place, whoever uses it.
pub(super) fn detach(mountpoint: &Path) -> Result<()> {
    if !geteuid().is_root() {
        ensure!(run_helper(&["-u", "-z"], mountpoint)?, "fusermount3 -u -z {mountpoint:?} failed");
        return Ok(());
    }
    info!(target: "syscall", "umount2({mountpoint:?}, MNT_DETACH)");
    match umount2(mountpoint, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EINVAL) => Ok(()),
        result => result.with_context(|| format!("umount2 {mountpoint:?} with MNT_DETACH")),
    }
}

fn unmount_by_helper(mountpoint: &Path) -> Result<bool> {
    if run_helper(&["-u"], mountpoint)? {
        return Ok(true);
    }
    detach(mountpoint).map(|()| false)
}

fn run_helper(arguments: &[&str], mountpoint: &Path) -> Result<bool> {
    info!(target: "syscall", "execve(\"fusermount3\", {arguments:?}, {mountpoint:?})");
    let status = std::process::Command::new("fusermount3").args(arguments).arg("--").arg(mountpoint).status();
    Ok(status.context("run fusermount3 (the package fuse3 has it)")?.success())
}

/// A mount whose server was killed, together with who started it, is still there: each access fails with
/// ENOTCONN. It is no use to anyone, so it is taken away.
///
/// # Errors
///
/// statfs(2)'s, umount2(2)'s, or fusermount3's.
pub fn remove_dead(mountpoint: &Path) -> Result<()> {
    // The kernel may still know the attributes that stat(2) asks for; statfs(2) always comes to the server.
    match statfs(mountpoint) {
        Err(Errno::ENOTCONN) => {
            info!(target: "syscall", "statfs({mountpoint:?}): ENOTCONN  its server is dead: the mount is taken away");
            detach(mountpoint)
        }
        result => result.map(drop).with_context(|| format!("the mount point {mountpoint:?}")),
    }
}
// ANCHOR_END: unmount
