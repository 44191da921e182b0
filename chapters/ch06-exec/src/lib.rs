//! Chapter 6: join what another process already has.
//!
//! `docker exec` makes a process that has the namespaces, the cgroup and the root of a process that runs already.
//! Manual pages: [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html),
//! [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).
//!
//! What stands here, in the order of events:
//!
//! - [`executable`]: our own program, put out of the container's reach.
//! - [`target`]: the process that is joined.
//! - [`namespace`]: a namespace as an object: of a process, or given by a path.
//! - [`join`]: setns(2), in an order that works.
//! - [`root`]: its root directory, and a working directory that is below it.
//! - [`exec`](mod@exec): all of it, and the fork by which a PID namespace takes effect.
//! - [`console`]: a terminal inside, for who stands outside.

pub mod console;
mod credentials;
pub mod exec;
pub mod executable;
pub mod join;
pub mod namespace;
pub mod root;
pub mod target;

pub use exec::Exec;
pub use join::Join;
pub use namespace::{Kind, Namespace};
pub use target::Target;
