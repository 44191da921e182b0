//! Devices in cgroup version 2: a program, attached to the cgroup.
//!
//! It holds for all processes in the cgroup and below. Where several programs are attached, here or to an
//! ancestor, each must allow: a program can only take away.
//!
//! Needs `CAP_BPF` and `CAP_NET_ADMIN`, or `CAP_SYS_ADMIN`, in the initial user namespace: no capability of a
//! user namespace helps, so a rootless container has no device rules. It needs none: mknod(2) fails in a user
//! namespace, and the nodes that the host has open with the user's own rights only.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;

use super::{Rule, bpf};

// ANCHOR: attach
/// What our program is called, so that we know it from systemd's, which calls its own `sd_devices`.
const NAME: &CStr = c"hull_devices";

/// Makes `rules` hold for the cgroup with this directory.
///
/// The program is pinned to nothing: it lives as long as it is attached, and that is as long as the cgroup.
/// Called again, it replaces what it attached before; programs of others stay.
///
/// # Errors
///
/// With the errno in its chain: EPERM where the capabilities are missing.
pub fn attach(directory: BorrowedFd, rules: &[Rule]) -> Result<()> {
    let instructions = super::program::program(rules);
    info!(
        target: "syscall",
        "bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions}})  {} rules, as a program",
        instructions.len(),
        rules.len()
    );
    let program = bpf::load(&instructions, NAME).map_err(|(errno, log)| {
        let failed = match errno {
            Errno::EPERM => "this needs CAP_SYS_ADMIN outside of any user namespace".to_string(),
            _ => format!("the verifier says: {log}"),
        };
        anyhow!(errno).context(format!("bpf(BPF_PROG_LOAD) for the rules about devices: {failed}"))
    })?;

    loop {
        // If the old program were detached first, all devices would be open for a moment. If the new one were
        // attached first, only what both allow, and an allowed open would fail. BPF_F_REPLACE (Linux 5.6) has
        // no such moment. It works with BPF_F_ALLOW_MULTI alone, and wants to be told which one to replace.
        let ours = ours(directory)?;
        let flags = if ours.is_some() { "BPF_F_ALLOW_MULTI|BPF_F_REPLACE" } else { "BPF_F_ALLOW_MULTI" };
        info!(
            target: "syscall",
            "bpf(BPF_PROG_ATTACH, {{cgroup, program, BPF_CGROUP_DEVICE, {flags}}})  asked at each open of a device"
        );
        match bpf::attach(directory, program.as_fd(), ours.as_ref().map(AsFd::as_fd)) {
            Ok(()) => return Ok(()),
            // Replaced by someone else since we looked: look again.
            Err(Errno::ENOENT) if ours.is_some() => {}
            Err(errno) => {
                let hint = match errno {
                    Errno::EPERM => ": a program on a cgroup above was attached without BPF_F_ALLOW_MULTI",
                    Errno::E2BIG => ": 64 programs are attached already",
                    _ => "",
                };
                return Err(errno).with_context(|| format!("bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE){hint}"));
            }
        }
    }
}
// ANCHOR_END: attach

// ANCHOR: ours
/// The program that we attached to this cgroup before.
fn ours(directory: BorrowedFd) -> Result<Option<OwnedFd>> {
    let identifiers = bpf::attached(directory).context("bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)")?;
    for identifier in identifiers {
        let program = match bpf::open(identifier) {
            Ok(program) => program,
            // Detached since; or a security module (SELinux) hides it, so it is not ours.
            Err(Errno::ENOENT | Errno::EACCES | Errno::EPERM) => continue,
            Err(errno) => {
                return Err(errno).with_context(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {identifier})"));
            }
        };
        let name = bpf::name(program.as_fd())
            .with_context(|| format!("bpf(BPF_OBJ_GET_INFO_BY_FD) of program {identifier}"))?;
        if name == NAME.to_bytes() {
            return Ok(Some(program));
        }
    }
    Ok(None)
}
// ANCHOR_END: ours
