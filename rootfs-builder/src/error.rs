//! How a failed system call is told: the operation, the object, and what errno(3) says, in words and as the
//! constant that a manual page uses: `open "/x/y": No such file or directory (ENOENT)`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// A system call on a path that failed.
#[derive(Debug)]
pub struct SystemCallError {
    /// What was tried, such as `open`.
    pub operation: &'static str,
    /// The file on which it was tried.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
}

impl fmt::Display for SystemCallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SystemCallError { operation, path, errno } = self;
        write!(formatter, "{operation} {path:?}: {} ({errno:?})", errno.desc())
    }
}

impl std::error::Error for SystemCallError {}

/// Says of a result which operation it came from.
pub(crate) trait Doing<T> {
    /// Names the operation and the path should this be an error.
    fn doing(self, operation: &'static str, path: &Path) -> anyhow::Result<T>;
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, operation: &'static str, path: &Path) -> anyhow::Result<T> {
        self.map_err(|errno| SystemCallError { operation, path: path.to_owned(), errno }.into())
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, operation: &'static str, path: &Path) -> anyhow::Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(number) => {
                let errno = Errno::from_raw(number);
                SystemCallError { operation, path: path.to_owned(), errno }.into()
            }
            // The standard library's own finding, such as text that is not UTF-8.
            None => anyhow::anyhow!("{operation} {path:?}: {error}"),
        })
    }
}

/// The errno of a failed system call; None for any other error.
pub(crate) fn errno(error: &anyhow::Error) -> Option<Errno> {
    Some(error.downcast_ref::<SystemCallError>()?.errno)
}
