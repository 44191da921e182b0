//! Chapter 1: a process that is PID 1.
//!
//! A *PID namespace* is a table of process numbers of its own. The first process in it gets number 1 and is
//! its init: it adopts orphans, it is shielded from signals that it has no handler for, and when it dies the
//! kernel kills everything else in the namespace. Namespaces nest: a process has a number in its own
//! namespace and in each one above, which `NSpid` in `/proc/PID/status` lists. Manual page:
//! [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html).
//!
//! What stands here, in the order in which a process meets it:
//!
//! - [`clone`]: the system call that makes a process, with new namespaces.
//! - [`spawn`]: the one way in which all of hull makes a process. The child waits at a gate until the host's
//!   half of the work is done.
//! - [`through`]: the same for a child that is born into what another process has: a process in the middle
//!   joins that, and makes the child.
//! - [`child`]: the child as its parent holds it: by a pidfd.
//! - [`report`]: how an error in the child reaches the parent.
//! - [`descriptors`]: which file descriptors the child must not inherit.
//! - [`signals`], [`init`](mod@init): what PID 1 has to do.
//! - [`terminal`]: a terminal of its own, for shells.
//! - [`attend`](mod@attend): the parent's half while the command runs.
//! - [`lock`]: by which what a killed program leaves is told from what a living one has.
//! - [`interrupted`]: the end by a signal, where there is no command that it could be passed on to.

pub mod attend;
pub mod child;
pub mod clone;
pub mod descriptors;
pub mod init;
pub mod interrupted;
pub mod lock;
pub mod passing;
mod relay;
pub mod report;
pub mod signals;
pub mod spawn;
pub mod terminal;
pub mod through;
mod wait;

pub use attend::{attend, is_interactive};
pub use child::Child;
pub use init::init;
pub use interrupted::Interrupted;
pub use lock::flock;
pub use report::{ChildError, Report, exit_code};
pub use signals::Signals;
pub use spawn::{Held, Spawn};
pub use through::Passage;
