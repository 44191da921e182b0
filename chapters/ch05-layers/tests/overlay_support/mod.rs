//! What the tests of overlayfs share: a mount namespace for a test, layers, and a layer as one string of bytes.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use ch05_layers::union::xattr;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Runs `test` with an empty directory, in a mount namespace of its own. A namespace belongs to a thread: when this one
/// ends, all that it mounted is gone, and the directory can be removed.
pub fn in_mount_namespace(test: impl FnOnce(&Path) + Send + 'static) {
    // A plain user may say where.
    let place = std::env::var_os("HULL_TEST_INSIDE").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(place).unwrap();
    let path = directory.path().to_path_buf();
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS)");
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("make / private");
        test(&path);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
    directory.close().expect("remove the test's directory");
}

/// Makes the files of a layer: a path that ends with `/` is a directory, `=` stands between a file and its content.
pub fn layer(directory: &Path, files: &[&str]) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    for file in files {
        let (name, content) = file.split_once('=').unwrap_or((file, ""));
        let path = directory.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
        }
    }
    directory.to_path_buf()
}

/// A device 0:0, as mknod(1) makes it.
pub fn device(path: &Path) {
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(0, 0)).unwrap();
}

pub fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    xattr::set(File::open(path).unwrap(), &CString::new(name).unwrap(), value, 0).unwrap();
}

/// The names of a file's attributes.
pub fn attributes(path: &Path) -> Vec<String> {
    let names = xattr::list(File::open(path).unwrap()).unwrap();
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into()).collect();
    names.sort();
    names
}

/// All paths below `directory`, sorted; a directory's with `/`, a file's with `=` and its content.
pub fn view(directory: &Path) -> Vec<String> {
    fn collect(directory: &Path, prefix: &str, paths: &mut Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                paths.push(format!("{path}/"));
                collect(&entry.path(), &format!("{path}/"), paths);
            } else if kind.is_file() {
                paths.push(format!("{path}={}", fs::read_to_string(entry.path()).unwrap()));
            } else {
                paths.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(directory, "", &mut paths);
    paths
}

/// The layer as an archive: content, owners, modes, times to the nanosecond, hard links, devices, attributes.
pub fn archive(layer: &Path, more: &[&str]) -> Vec<u8> {
    let names = "--pax-option=exthdr.name=%f,delete=atime,delete=ctime";
    let output = Command::new("tar")
        .args(["--create", "--format=posix", names, "--sort=name", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*"])
        .args(more)
        .arg("-C")
        .args([layer.as_os_str(), OsStr::from_bytes(b".")])
        .output()
        .expect("run tar");
    assert!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Compares without printing two archives.
#[track_caller]
pub fn assert_same(one: &[u8], other: &[u8], claim: &str) {
    if one != other {
        let difference =
            one.iter().zip(other).position(|(one, other)| one != other).unwrap_or(one.len().min(other.len()));
        let near = |bytes: &[u8]| {
            let near = &bytes[difference.saturating_sub(600)..bytes.len().min(difference + 200)];
            String::from_utf8_lossy(near).replace('\0', "")
        };
        panic!("{claim}: the archives differ at byte {difference}:\n{}\nand\n{}", near(one), near(other));
    }
}
