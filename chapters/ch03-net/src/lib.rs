//! Chapter 3: a network of its own.
//!
//! A *network namespace* has links (network devices), addresses, routes, sockets, firewall rules and sysctls of its
//! own. A new one has nothing but a loopback device that is down: a process in it can't even reach itself. Manual
//! page: [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
//!
//! What stands here, in the order in which a container gets its network:
//!
//! - [`namespace`]: the namespace as an object, to be named, and to be entered by one thread.
//! - [`loopback`]: `lo` up. A runtime needs no more; the rest is an engine's, behind the feature `bridge`.
//! - [`subnet`], [`lease`]: an address that nobody else has, for as long as its owner lives.
//! - [`network`]: a bridge on the host, and a cable from it to the container. [`netlink`]: the kernel's
//!   interface to links, addresses, routes and limits.
//! - [`interface`]: the container's end: address and default route.
//! - [`sysctl`], [`firewall`]: the host forwards, translates addresses, and lets nobody else in.
//! - [`publication`], [`proxy`]: a port of the host's that leads inside.
//! - [`rate`]: how much may pass in a second. [`resolv`]: who answers for names.
//! - [`pasta`]: a network for those who aren't root.

pub mod loopback;
pub mod namespace;
pub mod pasta;
pub mod publication;
pub mod rate;
pub mod resolv;
pub mod subnet;

#[cfg(feature = "bridge")]
pub mod firewall;
#[cfg(feature = "bridge")]
pub mod interface;
#[cfg(feature = "bridge")]
pub mod lease;
#[cfg(feature = "bridge")]
mod members;
#[cfg(feature = "bridge")]
pub mod netlink;
#[cfg(feature = "bridge")]
pub mod network;
#[cfg(feature = "bridge")]
pub mod proxy;
#[cfg(feature = "bridge")]
mod state;
#[cfg(feature = "bridge")]
mod sweep;
#[cfg(feature = "bridge")]
pub mod sysctl;

#[cfg(feature = "bridge")]
pub use interface::Address;
#[cfg(feature = "bridge")]
pub use lease::Lease;
pub use namespace::Namespace;
#[cfg(feature = "bridge")]
pub use network::{Connection, Network, Options};
pub use publication::{Protocol, Publication};
pub use rate::Rate;
pub use subnet::Subnet;
