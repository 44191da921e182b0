//! Says what is wrong with a root file system, ours or any other, without running anything from it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::errno::Errno;

use crate::error::Doing;
use crate::loader::{Loader, PROGRAM_DIRECTORIES};
use crate::tree::{inside, walk};

/// What the kernel's file systems, devices and temporary files need.
const DIRECTORIES: [&str; 7] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/etc"];

/// Something that will not work inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file that it concerns, as seen from inside.
    pub path: PathBuf,
    /// What is wrong, in a sentence without the path.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.what)
    }
}

/// Looks for what would go wrong in the root file system `directory`: directories that are missing, no
/// /bin/sh, no user 0, programs whose loader or libraries are not there, links that lead nowhere. An empty
/// list is good news.
///
/// # Errors
///
/// A [`crate::SystemCallError`] when `directory` is no directory or may not be read.
pub fn check(directory: &Path) -> Result<Vec<Problem>> {
    fs::read_dir(directory).doing("read the directory", directory)?;
    let mut problems = Vec::new();
    let mut report = |path: &Path, what: String| problems.push(Problem { path: path.to_owned(), what });
    for path in DIRECTORIES.map(Path::new) {
        match walk(directory, path) {
            Ok(walk) if inside(directory, &walk.real).is_dir() => {}
            Ok(_) => report(path, "is not a directory".to_owned()),
            Err(error) => report(path, errno_text(&error)),
        }
    }
    if let Ok(metadata) = fs::symlink_metadata(directory.join("tmp")) {
        if metadata.permissions().mode() & 0o7777 != 0o1777 {
            report(
                Path::new("/tmp"),
                "its mode is not 1777, so not all users can write there safely".to_owned(),
            );
        }
    }
    for path in ["/etc/passwd", "/etc/group"].map(Path::new) {
        match read(directory, path) {
            Ok(text) if text.lines().any(|line| line.split(':').nth(2) == Some("0")) => {}
            Ok(_) => report(path, "has no entry with the id 0".to_owned()),
            Err(error) => report(path, errno_text(&error)),
        }
    }
    if let Err(error) = walk(directory, Path::new("/bin/sh")) {
        report(Path::new("/bin/sh"), errno_text(&error));
    }
    problems.extend(check_programs(directory)?);
    Ok(problems)
}

/// Checks that all that the programs load is there.
fn check_programs(root: &Path) -> Result<Vec<Problem>> {
    let loader = Loader::new(root)?;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for directory in PROGRAM_DIRECTORIES.map(Path::new) {
        for program in programs(root, directory)? {
            let found = match walk(root, &program) {
                // 250 links to one busybox are one program.
                Ok(walk) if !seen.insert(walk.real.clone()) => continue,
                Ok(walk) => check_program(&loader, root, &walk.real),
                Err(error) => Err(anyhow::anyhow!(errno_text(&error))),
            };
            problems.extend(found.err().map(|error| Problem { path: program, what: format!("{error:#}") }));
        }
    }
    Ok(problems)
}

fn check_program(loader: &Loader, root: &Path, real: &Path) -> Result<()> {
    let metadata = fs::metadata(inside(root, real)).doing("stat", real)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES).doing("execute", real);
    }
    loader.files_of(real).map(drop)
}

/// The entries of a directory of programs; none if it is missing.
fn programs(root: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let real = match walk(root, directory) {
        Ok(walk) => walk.real,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing("look up", directory),
    };
    let mut programs = Vec::new();
    for entry in fs::read_dir(inside(root, &real)).doing("read the directory", &real)? {
        programs.push(real.join(entry.doing("read the directory", &real)?.file_name()));
    }
    programs.sort();
    Ok(programs)
}

fn read(root: &Path, path: &Path) -> std::io::Result<String> {
    fs::read_to_string(inside(root, &walk(root, path)?.real))
}

fn errno_text(error: &std::io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}
