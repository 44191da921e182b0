//! What the programs of the plain user share during one run of a test binary: their cache, in which a lesson makes its
//! root file system, and one copy of each program. To make both anew for each program costs an emulated machine many
//! seconds.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::plain_user::plain_user_directory;

struct Shared {
    directory: PathBuf,
    /// Whose it is: a process that a test forks ends as well.
    process: u32,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// The directory. It is removed when the test binary ends.
fn directory() -> &'static Path {
    let shared = SHARED.get_or_init(|| {
        // SAFETY: the handler is a function of the C calling convention that does not unwind.
        unsafe { libc::atexit(remove) };
        Shared { directory: plain_user_directory().keep(), process: std::process::id() }
    });
    &shared.directory
}

/// Runs at exit, where no destructor of a static does.
extern "C" fn remove() {
    if let Some(shared) = SHARED.get().filter(|shared| shared.process == std::process::id()) {
        // What can't be removed stays in /tmp: too late to fail a test.
        fs::remove_dir_all(&shared.directory).unwrap_or_default();
    }
}

/// The plain user's cache directory.
pub(crate) fn cache() -> PathBuf {
    directory().join("cache")
}

/// A copy of `program` at `name`, on the same file system as the directory that is shared: a second name of the one
/// copy that is made.
pub(crate) fn copy(program: &Path, name: &Path) -> std::io::Result<()> {
    let metadata = fs::metadata(program)?;
    // A test may write another program to the same path.
    let version = [
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime() as u64,
        metadata.mtime_nsec() as u64,
    ];
    let version = version.map(|number| number.to_string()).join("-");
    let copy = directory().join(version);
    if !copy.exists() {
        let unfinished = tempfile::NamedTempFile::new_in(directory())?.into_temp_path();
        fs::copy(program, &unfinished)?;
        // Not in the place of one that another test has made meanwhile: link(2) by a third, which has just looked that
        // one up, would meet a file without a name (ENOENT).
        match unfinished.persist_noclobber(&copy) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => return Err(error.error),
            _ => {}
        }
    }
    fs::hard_link(&copy, name)
}
