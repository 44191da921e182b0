//! No new privileges by exec.
//!
//! exec(2) of a setuid file makes its caller another user, and of a file with capabilities gives it those. A
//! process that has set `no_new_privs` gets neither, nor do its children, ever: the bit can't be cleared. A
//! process may then bring a seccomp filter without being root, since no setuid program can be led astray by
//! it. Kernel documentation: [no_new_privs](https://docs.kernel.org/userspace-api/no_new_privs.html);
//! interface: prctl(2).

use anyhow::{Context, Result};
use log::info;
use nix::unistd::Pid;

use crate::status;

// ANCHOR: no_new_privs
/// From here on, exec gives this process and its children no privilege that they do not have.
///
/// # Errors
///
/// prctl(2)'s errno: only a seccomp filter refuses this.
pub fn set() -> Result<()> {
    info!(target: "syscall", "prctl(PR_SET_NO_NEW_PRIVS, 1)  setuid files give nothing any more");
    nix::sys::prctl::set_no_new_privs().context("prctl(PR_SET_NO_NEW_PRIVS)")
}

/// Whether a process has set it: `NoNewPrivs` of `/proc/PID/status`.
///
/// # Errors
///
/// Names the file: there is no such process.
pub fn of(pid: Pid) -> Result<bool> {
    Ok(status::line(pid, "NoNewPrivs")? == "1")
}
// ANCHOR_END: no_new_privs
