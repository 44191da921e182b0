//! Capabilities: root's power, in pieces.
//!
//! The kernel never asks "is this root?". It asks for one capability, in the user namespace that owns what is
//! to be changed. Uid 0 is strong only because exec(2) and setuid(2) give it all of them. So a process can be
//! root and weak, or a plain user who may do one thing more.
//!
//! A process has five sets. *Effective*: what counts when the kernel asks. *Permitted*: what it may make
//! effective. *Bounding*: what exec can ever give; what has left it never comes back. *Inheritable* and
//! *ambient*: what stays over exec, see [`Sets::over_exec`]. A child has its parent's sets. Manual page:
//! [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html); interface: capset(2),
//! prctl(2), the lines `Cap*` of `/proc/PID/status`.
//!
//! A container's process takes its user and its capabilities in an order that each step needs:
//!
//! ```text
//!   Sets::before_user_change   bounding set: needs CAP_SETPCAP, so before anything is lost
//!                              PR_SET_KEEPCAPS: setuid(2) would empty the permitted set
//!   user::become_user          needs CAP_SETGID and CAP_SETUID
//!   Sets::apply                capset(2), then ambient, which must be in permitted and inheritable
//!   no_new_privs, seccomp, exec
//! ```

mod grant;
mod names;
mod securebits;
mod set;
mod sets;

pub use grant::{NotGranted, Why};
pub use names::Capability;
pub use securebits::Securebits;
pub use set::CapabilitySet;
pub use sets::Sets;
