//! Extended attributes of the object that a path names, symlinks not followed: `xattr(7)`. nix has no wrapper
//! for them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no path here has a NUL")
}

fn name_of(name: &str) -> CString {
    CString::new(name).expect("no name here has a NUL")
}

pub fn set(path: &Path, name: &str, value: &[u8], flags: i32) -> nix::Result<()> {
    let (path, name) = (c_string(path), name_of(name));
    // SAFETY: both strings end with NUL, and the value's pointer and length are those of one slice.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    Errno::result(result).map(drop)
}

pub fn remove(path: &Path, name: &str) -> nix::Result<()> {
    let (path, name) = (c_string(path), name_of(name));
    // SAFETY: both strings end with NUL.
    Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

pub fn get(path: &Path, name: &str) -> nix::Result<Vec<u8>> {
    let (path, name) = (c_string(path), name_of(name));
    let mut value = vec![0; 65536];
    // SAFETY: both strings end with NUL, and the buffer's pointer and length are those of one vector.
    let result =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(Errno::result(result)? as usize);
    Ok(value)
}

/// All names, sorted.
pub fn list(path: &Path) -> nix::Result<Vec<String>> {
    let path = c_string(path);
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: the path ends with NUL, and the buffer's pointer and length are those of one vector.
    let result = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    buffer.truncate(Errno::result(result)? as usize);
    let names = buffer.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}
