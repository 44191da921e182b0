//! What several files of tests share.
#![allow(dead_code, reason = "each file of tests uses some of it")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use testing::{Output, Program};

/// The command under test.
pub fn builder() -> Program {
    Program::new(env!("CARGO_BIN_EXE_rootfs-builder"))
}

/// `rootfs-builder build --from SOURCE DIRECTORY`.
pub fn build(source: &str, directory: &Path) -> Program {
    builder().args(["build", "--from", source]).arg(directory)
}

/// A directory that all users can enter.
pub fn shared_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("rootfs-test-").tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Fails with all that the program said unless it ended with this status.
#[track_caller]
pub fn expect_code(output: &Output, code: i32) {
    assert_eq!(output.code, Some(code), "{output:?}");
}

/// Fails unless the error names the object and the errno, and the status is 1.
#[track_caller]
pub fn expect_error(output: &Output, parts: &[&str]) {
    expect_code(output, 1);
    for part in parts {
        assert!(output.stderr.contains(part), "{part:?} is missing in {output:?}");
    }
}
