//! Chapter 0: change the root directory.
//!
//! Each process has a *root directory*: the directory where the kernel starts when it looks up a path that
//! begins with `/`. It is one pointer in the kernel's `struct fs_struct`, beside the pointer to the current
//! directory. A child inherits both. [chroot(2)](https://man7.org/linux/man-pages/man2/chroot.2.html) moves
//! the first one, and nothing else: not the current directory, not an open file, not the mounts.
//!
//! What stands here:
//!
//! - [`root`]: enter a root directory, and tell which one a process stands in.
//! - [`exec`](mod@exec): replace this process by a command, found in the PATH of the new root.
//! - [`escape`](mod@escape): walk out again. It is the reason why chroot is no security boundary.

pub mod escape;
pub mod exec;
pub mod root;

pub use escape::escape;
pub use exec::{ExecError, exec, exit_code};
pub use root::{Identity, enter};
