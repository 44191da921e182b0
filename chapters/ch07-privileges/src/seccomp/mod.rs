//! Which system calls there are at all: seccomp(2).
//!
//! The kernel is a program with some 400 entries, and each is a place where it can have a hole. A container
//! needs few of the rarer ones. A *filter* is a small program that the kernel runs at each system call of a
//! process, on the call's number and the values of its arguments, and which says whether the call is made,
//! fails, kills, or is answered by somebody else. It stays for life, through fork and exec. Manual pages:
//! seccomp(2), seccomp_unotify(2).
//!
//! What stands here, in the order in which a policy becomes a filter:
//!
//! - [`policy`]: what is to happen to which call: the model of the OCI specification, and its text. Docker's
//!   default policy is built in.
//! - [`architecture`], [`syscalls`]: whose calls, and which number a name has there.
//! - [`program`]: the machine that filters run on. [`compile`](mod@compile): from a policy to a program.
//! - [`install`](mod@install): the program into the kernel. [`notify`]: a supervisor that answers calls.
//!
//! # Why a compiler of our own
//!
//! The crate `seccompiler` writes a program for one architecture, and knows no supervisor. `libseccomp`,
//! which runc and crun use, knows all, but it is a C library, and slow where a container waits for it.
//! `scripts/bench seccomp` compares: Docker's default policy for x86_64, x86 and x32 (Linux 6.18, medians).
//!
//! | | instructions | to compile | a call that hangs on its argument | a forbidden call |
//! |---|---|---|---|---|
//! | no filter | | | 100 ns | |
//! | ours | 473 | 0.34 ms | 125 ns | 89 ns |
//! | libseccomp as a list | 1048 | 14 ms | 198 ns | 162 ns |
//! | libseccomp as a tree (runc) | 1293 | 23 ms | 126 ns | 89 ns |
//!
//! A call that is always allowed (78 ns) costs 6 to 8 ns more with each of them: the kernel knows such calls
//! from the filter's installation on, and runs no filter for them (Linux 5.11).

pub mod architecture;
pub mod compile;
pub mod install;
pub mod notify;
mod parse;
pub mod policy;
pub mod program;
pub mod syscalls;
mod template;

pub use compile::compile;
pub use install::install;
pub use notify::Listener;
pub use policy::{Policy, Template};
pub use program::Program;
