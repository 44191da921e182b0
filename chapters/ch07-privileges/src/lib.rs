//! Chapter 7: what a process may do.
//!
//! To be root is not one power, it is many.
//!
//! What stands here:
//!
//! - [`user_namespace`], [`id_map`]: root inside is nobody outside.
//! - [`uts`], [`ipc`], [`cgroup`], [`time`]: the small namespaces.
//! - [`user`]: become another user. [`capabilities`]: root's power, in pieces. [`no_new_privs`]: and none comes back.
//! - [`seccomp`]: which system calls there are at all.
//! - [`rlimits`], [`keyring`]: limits of a process, and the kernel's keys.

pub mod capabilities;
pub mod cgroup;
pub mod id_map;
pub mod ipc;
pub mod keyring;
pub mod no_new_privs;
pub mod rlimits;
pub mod seccomp;
mod status;
pub mod time;
pub mod user;
pub mod user_namespace;
pub mod uts;
