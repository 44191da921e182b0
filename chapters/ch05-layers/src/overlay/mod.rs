//! overlayfs: the kernel's own union.
//!
//! An *overlay* is a file system that shows several directories, its *layers*, as one. The *lower* layers are
//! only read. The *upper* layer takes all changes, with the help of a *work* directory beside it, where the
//! kernel puts things together before it renames them into the upper layer. It does what AuFS did, and marks
//! what is deleted in another way: a *whiteout* is a character device with the number 0:0 in the place of the
//! name, and a directory is *opaque* by the extended attribute `trusted.overlay.opaque`. Kernel
//! documentation: [overlayfs.rst](https://docs.kernel.org/filesystems/overlayfs.html).
//!
//! - [`Overlay`]: the mount. [`mount`]: the two ways to ask the kernel for it.
//! - [`marks`]: whiteouts and opaque directories, in either union's form.
//! - [`convert`]: a whole layer from one form to the other.

pub mod convert;
mod kept;
pub mod marks;
pub mod mount;
mod walk;

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

pub use marks::{Form, Mark};

// ANCHOR: overlay
/// An overlay mount to be.
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// The layers that are only read, the top one first: at most 500.
    pub lower: Vec<&'a Path>,
    /// The layer that takes the changes, and its work directory: an empty directory in the same mount,
    /// outside of the layer. Without them the overlay is read-only. Both must belong to this overlay alone:
    /// the kernel mounts an upper layer twice, with no more than a warning in its log (it refuses only with
    /// `index=on`), and what the two then show is undefined.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Which extended attributes the layers are marked with.
    pub marks: Marks,
}
// ANCHOR_END: overlay

// ANCHOR: marks
/// The extended attributes in which overlayfs keeps its marks: those that begin with `trusted.overlay.` or
/// with `user.overlay.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`: nobody sees or sets them but root, with CAP_SYS_ADMIN in the initial user
    /// namespace.
    Trusted,
    /// `user.overlay.*`, with the mount option `userxattr` (Linux 5.11): whoever may write to a file can set
    /// them, so a mount in a user namespace works with these.
    User,
}

impl Marks {
    /// What all of these names begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Marks::Trusted => "trusted.overlay.",
            Marks::User => "user.overlay.",
        }
    }

    /// Whether the extended attribute `name` is one of either kind: a mark, or another note of overlayfs's.
    pub(crate) fn have(name: &CStr) -> bool {
        [Marks::Trusted, Marks::User]
            .iter()
            .any(|marks| name.to_bytes().starts_with(marks.prefix().as_bytes()))
    }

    /// Those that this process may use.
    ///
    /// # Errors
    ///
    /// /proc can't be read.
    pub fn of_this_process() -> Result<Marks> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| format!("read {file:?}"));
        let status = read("/proc/self/status")?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.context("/proc/self/status has no line CapEff")?;
        let effective = u64::from_str_radix(effective.trim(), 16).context("the line CapEff")?;
        let namespace = "/proc/self/ns/user";
        let namespace = fs::metadata(namespace).with_context(|| format!("stat {namespace:?}"))?;
        let initial = namespace.ino() == INITIAL_USER_NAMESPACE;
        Ok(if initial && effective & 1 << CAP_SYS_ADMIN != 0 { Marks::Trusted } else { Marks::User })
    }
}

/// The inode number of the user namespace that the kernel starts with: a constant of its interface
/// (USER_NS_INIT_INO in linux/nsfs.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// capabilities(7); the number is from linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
// ANCHOR_END: marks

impl fmt::Display for Marks {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}*", self.prefix())
    }
}
