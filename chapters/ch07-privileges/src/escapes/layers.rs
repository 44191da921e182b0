// ANCHOR: layers
//! Chapter 5: what it leaves in its files for others.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use ch02_mount::{Attributes, Setting, Tree};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::unlink;
use userns::map::{self, Ids};

use super::stage::{Stage, refused, refused_io};
use crate::container::Container;
use crate::inside::Answer;

/// Makes a program with the set-user-id bit in a directory that the host has too, as a layer on the disk is
/// one, or a volume. On the host whoever executes it becomes its owner. So its owner counts, as the host sees
/// it.
pub fn set_user_id(stage: &Stage, container: &Container) -> Result<Answer> {
    let directory = OwnedFd::from(Tree::new("tmpfs", &[Setting::Text("mode", "1777")], Attributes::NONE)?);
    let answer = stage.ask(container, &[directory.as_fd()], || make_program(&directory))?;
    if let Err(refusal) = answer {
        return Ok(Err(refusal));
    }
    let path = format!("/proc/self/fd/{}/program", directory.as_raw_fd());
    let metadata = fs::metadata(&path).context("stat the program")?;
    let has_bit = metadata.mode() & libc::S_ISUID != 0;
    // Where a plain user plays the host, its root is that user.
    let owner =
        map::to_outside(&map::own(Ids::Users)?, metadata.uid()).context("the program has no owner")?;
    Ok(match owner {
        0 if has_bit => Ok("a set-user-id program of root's".into()),
        owner => Err(format!("its owner is {owner}, not root")),
    })
}

fn make_program(directory: &OwnedFd) -> Answer {
    let name = CString::from(c"program");
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the name is a C string that lives through the call; the mode is the one variadic argument that
    // it needs.
    let raw = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o700) };
    let raw = Errno::result(raw).map_err(|errno| refused("openat", errno))?;
    // SAFETY: the kernel has just made this descriptor for us.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
    file.set_permissions(fs::Permissions::from_mode(0o4755)).map_err(|error| refused_io("fchmod", &error))?;
    Ok("made".into())
}

/// A character device with the number 0:0 in the place of a name: overlayfs takes it for "deleted here". It
/// is gone again at once.
pub fn whiteout(stage: &Stage, container: &Container) -> Result<Answer> {
    stage.ask(container, &[], || {
        let file = Path::new("/.hull-whiteout");
        // One that was killed just here may have left it.
        unlink(file).unwrap_or_default();
        let made = mknod(file, SFlag::S_IFCHR, Mode::empty(), 0);
        made.map_err(|errno| refused("mknod(S_IFCHR, 0:0)", errno))?;
        unlink(file).map_err(|errno| refused("unlink", errno))?;
        Ok("made in the image itself".into())
    })
}
// ANCHOR_END: layers
