//! Chapter 4: what a process may use.
//!
//! A *cgroup* is a set of processes whose use of memory, processor, disk and process numbers the kernel
//! counts, and holds below a limit. It is a directory of a file system that the kernel makes up: mkdir(2)
//! makes a cgroup, a pid written to `cgroup.procs` moves a process into it, and its limits and counters are
//! files. A child is born in its parent's cgroup. What counts and limits one resource is a *controller*
//! (memory, cpu, pids, io...); a tree of cgroups is a *hierarchy*. Version 1 has a hierarchy per controller,
//! version 2 one for all. Manual page: [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html);
//! kernel documentation: [cgroup-v2](https://docs.kernel.org/admin-guide/cgroup-v2.html),
//! [cgroup-v1](https://docs.kernel.org/admin-guide/cgroup-v1/index.html).
//!
//! What stands here, in the order in which a cgroup lives:
//!
//! - [`hierarchies`]: which hierarchies this machine has, and where they are mounted.
//! - [`place`]: where a cgroup may go: what delegation is, and the rule of no internal processes.
//! - [`cgroup`]: made, entered, frozen, killed, removed. [`owned`]: until a value is dropped.
//!   [`sweep`]: what a killed program has left.
//! - [`limits`]: what its processes may use. `v1`, `v2`: how each version takes and tells that;
//!   [`convert`]: from one to the other. [`devices`]: which device files they may open.
//! - [`usage`]: what they have used.
//! - `systemd`: a cgroup that systemd makes.

pub mod cgroup;
pub mod convert;
mod delegation;
pub mod devices;
mod file;
pub mod hierarchies;
pub mod limits;
mod lock;
pub mod owned;
pub mod place;
pub mod sweep;
#[cfg(feature = "systemd")]
pub mod systemd;
pub mod usage;
mod v1;
mod v2;
mod why;

pub use cgroup::{Cgroup, Warning};
pub use hierarchies::{Hierarchies, Hierarchy, Version};
pub use limits::{Bound, Limits};
pub use owned::Owned;
pub use place::Place;
pub use usage::Usage;
