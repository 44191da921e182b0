//! Chapter 5: its own files, in layers.
//!
//! A container's root file system is a *union*: a stack of directories, called *branches*, seen as one. Only the
//! top branch is written to. What a container deletes from a lower branch stays there, hidden by a file in the top one,
//! a *whiteout*. AuFS did this, and gave images their form; overlayfs does it in today's kernels. Manual pages:
//! [mount(8)](https://man7.org/linux/man-pages/man8/mount.8.html), fuse(4); kernel: Documentation/filesystems/overlayfs.rst.
//!
//! What stands here, in the order in which the book tells it:
//!
//! - [`branch`]: a directory of the stack. [`whiteout`]: the names that AuFS keeps for itself.
//! - [`union`]: AuFS's rules as plain code over directories: lookup, merge, copy-up, deletion. No mount.
//! - `fuse`: the same union as a live file system.
//! - [`overlay`]: the kernel's own union, and the conversion between its marks and `.wh.` files.
//! - [`layers`]: Docker's three layers: diff, commit, size. [`temporary`]: what is not ready yet, or for one run only.

pub mod branch;
#[cfg(feature = "fuse")]
pub mod fuse;
pub mod layers;
mod lock;
pub mod overlay;
pub mod temporary;
pub mod union;
pub mod whiteout;

pub use branch::{Branch, Mode};
pub use union::{Directory, Entry, Union};
