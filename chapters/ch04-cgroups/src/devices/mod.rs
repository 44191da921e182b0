//! Which devices a process may open or make.
//!
//! A device node is a door to a driver, and root in a container can make one with mknod(2): `mknod sda b 8 0`
//! in any directory is the host's disk. No file system permission stands in the way of root, so the kernel
//! asks the cgroup at each open and at each mknod: *this* kind of node, with *these* numbers, for *this*
//! access?
//!
//! - [`rules`](Rule): what is asked of both versions, as the OCI runtime specification words it. The last rule
//!   that matches decides; where none matches, the access is denied.
//! - [`v1`]: the answer is a list in the kernel, edited through two files.
//! - [`v2`]: there are no files. The answer is a program that the kernel runs ([`program`] writes it, `bpf`
//!   loads and attaches it).
//!
//! What is open already stays open: the kernel asks at open, never at read or write.
//!
//! Kernel documentation:
//! [devices, v1](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html),
//! [device controller, v2](https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller).

mod bpf;
pub(crate) mod list;
pub mod program;
mod rules;
pub mod v1;
pub mod v2;

pub use rules::{Access, CONTAINER_RULES, Devices, Kind, Rule};
