//! Chapter 2: a mount table of its own.
//!
//! A *mount* attaches a tree of files at a directory. The list of all mounts belongs to a *mount namespace*:
//! a process in a namespace of its own can mount and unmount without a trace outside. chroot(2) moves a
//! pointer and leaves the host's whole tree in place behind it; pivot_root(2) in a mount namespace takes that
//! tree away. Manual page:
//! [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
//!
//! What stands here, in the order in which a container's files are put together:
//!
//! - [`propagation`]: no mount of ours may appear outside.
//! - [`tree`]: the mount as an object: made or copied, given its attributes, attached. [`attributes`]:
//!   read-only, nosuid...
//! - [`resolve`]: a path inside a root file system that may lie about where it leads.
//! - [`proc`], [`sysfs`], [`dev`]: what a root file system needs from the kernel.
//! - [`volume`]: a directory of the host's, inside.
//! - [`mask`]: what the container must not read or write in them.
//! - [`pivot`]: the new root takes the old one's place.
//! - [`container`]: all of it, in this order.
//! - [`streams`]: a terminal from inside, for whoever sits at one outside.

pub mod attributes;
pub mod container;
pub mod dev;
mod filesystem;
mod late;
pub mod mask;
pub mod pivot;
pub mod proc;
pub mod propagation;
pub mod resolve;
pub mod streams;
pub mod sysfs;
pub mod tree;
pub mod volume;

pub use attributes::Attributes;
pub use container::{build_root, build_root_on};
pub use late::unescape;
pub use propagation::Propagation;
pub use resolve::Root;
pub use streams::Streams;
pub use tree::{Change, Setting, Tree};
pub use volume::Volume;
