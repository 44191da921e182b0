//! Extended attributes of an object that is held open: names with values, beside its content.
//!
//! They hold what mode and owner can't say: POSIX access lists (`system.posix_acl_access`), file capabilities
//! (`security.capability`), a program's own notes (`user.*`). The calls take a path or a descriptor with its
//! content open; an object that is held by O_PATH is given as its magic link. Manual page:
//! [xattr(7)](https://man7.org/linux/man-pages/man7/xattr.7.html).

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::Result;
use super::attributes::magic_link;
use crate::overlay::Marks;

// ANCHOR: calls
/// setxattr(2); `flags` are XATTR_CREATE, XATTR_REPLACE or 0.
///
/// # Errors
///
/// EEXIST, ENODATA, EOPNOTSUPP (the file system has none of this kind), EPERM, ENOSPC.
pub fn set(object: impl AsFd, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
    let path = magic_link(object.as_fd());
    // SAFETY: both strings end with a zero byte, and `value` has the length given; all outlive the call.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    Errno::result(result).map(drop)
}

/// getxattr(2).
///
/// # Errors
///
/// ENODATA: there is none of this name. EOPNOTSUPP.
pub fn get(object: impl AsFd, name: &CStr) -> Result<Vec<u8>> {
    let path = magic_link(object.as_fd());
    fill(|buffer| {
        // SAFETY: both strings end with a zero byte, and `buffer` has the length given; all outlive the call.
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// listxattr(2): the names, each with a zero byte behind it.
///
/// # Errors
///
/// EOPNOTSUPP.
pub fn list(object: impl AsFd) -> Result<Vec<u8>> {
    let path = magic_link(object.as_fd());
    fill(|buffer| {
        // SAFETY: the string ends with a zero byte, and `buffer` has the length given; both outlive the call.
        unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// removexattr(2).
///
/// # Errors
///
/// ENODATA: there is none of this name. EOPNOTSUPP, EPERM.
pub fn remove(object: impl AsFd, name: &CStr) -> Result<()> {
    let path = magic_link(object.as_fd());
    // SAFETY: both strings end with a zero byte, and outlive the call.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Calls with a buffer that grows until the answer fits.
fn fill(call: impl Fn(&mut [u8]) -> isize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match Errno::result(call(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(length as usize);
                return Ok(buffer);
            }
            // A value or a list is at most 64 KiB (XATTR_SIZE_MAX, XATTR_LIST_MAX).
            Err(Errno::ERANGE) if buffer.len() < 65536 => buffer.resize(65536, 0),
            Err(errno) => return Err(errno),
        }
    }
}
// ANCHOR_END: calls

// ANCHOR: copy
/// All that are there and `wanted`: names with values. None, where the file system knows none.
pub(crate) fn all(object: impl AsFd, wanted: impl Fn(&CStr) -> bool) -> Result<Vec<(CString, Vec<u8>)>> {
    let names = match list(&object) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut attributes = Vec::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::EIO)?;
        if wanted(name) {
            attributes.push((name.to_owned(), get(&object, name)?));
        }
    }
    Ok(attributes)
}

/// Copies all extended attributes that are the object's own.
pub(super) fn copy(from: impl AsFd, to: impl AsFd) -> Result<()> {
    for (name, value) in all(from, |name| !is_of_the_place(name))? {
        match set(&to, &name, &value, 0) {
            // A program's notes may be lost where the top branch's file system has no place for them; what
            // says who may do what, may not. overlayfs draws the same line.
            Err(Errno::EOPNOTSUPP) if !is_about_rights(&name) => (),
            result => result?,
        }
    }
    Ok(())
}

fn is_about_rights(name: &CStr) -> bool {
    [b"security.".as_slice(), b"system."].iter().any(|prefix| name.to_bytes().starts_with(prefix))
}

/// What belongs to the place of an object and not to the object: overlayfs's marks (made for the stack that
/// they stood in), and SELinux's label, which the policy chooses for the new place.
fn is_of_the_place(name: &CStr) -> bool {
    Marks::have(name) || name == c"security.selinux"
}

/// removexattr(2), where there is something to remove.
pub(crate) fn discard(object: impl AsFd, name: &CStr) -> Result<()> {
    match remove(object, name) {
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Takes the access lists off a directory that has inherited some, so that what is made in it inherits none.
pub(super) fn remove_access_lists(directory: impl AsFd) -> Result<()> {
    discard(&directory, c"system.posix_acl_default")?;
    discard(&directory, c"system.posix_acl_access")
}
// ANCHOR_END: copy
