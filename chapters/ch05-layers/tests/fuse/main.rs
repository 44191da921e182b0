//! The union as a live file system: what a program sees that uses the mount, beside what the branches have then.
//!
//! Each test mounts a union of its own, in a mount namespace of its own, with the lesson's program, and uses it with plain system
//! calls. What depends on the way that data take is tested with passthrough and without.

mod mounted;

mod attributes;
mod caches;
mod copy_up;
mod directories;
mod files;
mod hostile;
mod names;
mod numbers;
mod plain_user;
mod server;
mod set_id;
