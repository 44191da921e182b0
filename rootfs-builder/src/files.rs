//! Making files whose modes do not depend on the caller's umask(2).
//!
//! mkdir(2) and open(2) take the bits of the umask away from the mode that they are given, so with a umask
//! of 077 the users inside could not even enter `/`. chmod(2) knows no umask, so every mode is set by it.
//!
//! Each function here first looks whether a signal has asked the build to stop.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;

use crate::error::Doing;
use crate::interrupt;

/// Makes a directory, unless there is one, and gives it `mode`.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    interrupt::check()?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other.doing("mkdir", path)?,
    }
    set_mode(path, mode)
}

/// Writes a file, in place of the one that may be there.
pub(crate) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    interrupt::check()?;
    let mut file = create(path)?;
    file.write_all(content).doing("write", path)?;
    set_mode(path, mode)
}

/// Copies a file's content. Set-user-ID bits, owners and extended attributes stay behind on purpose: a
/// program in a tree that anyone can enter must not give more rights than its caller has.
pub(crate) fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let mut source = File::open(from).doing("open", from)?;
    let mut copy = create(to)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        interrupt::check()?;
        match source.read(&mut buffer).doing("read", from)? {
            0 => return set_mode(to, mode),
            length => copy.write_all(&buffer[..length]).doing("write", to)?,
        }
    }
}

/// Makes a symbolic link at `path`.
pub(crate) fn make_link(target: &Path, path: &Path) -> Result<()> {
    interrupt::check()?;
    symlink(target, path).doing("symlink", path)
}

/// A new, empty file. What stood there is unlinked first, since writing into it could follow a symbolic
/// link out of the tree: Debian's /etc/resolv.conf may be one to /run.
fn create(path: &Path) -> Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).doing("unlink", path),
        _ => File::create_new(path).doing("create", path),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).doing("chmod", path)
}
