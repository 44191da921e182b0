// ANCHOR: keys
//! Two guards of the kernel's keys: a capability for some commands, and a seccomp filter for all of them.
//!
//! Most of what keyctl(2) does is a matter of the key's own permissions: no capability is asked for, so none
//! can be taken away. Only a filter closes it, which is why Docker's default policy leaves these calls out
//! altogether. Manual pages: keyctl(2), add_key(2).

use anyhow::Result;
use ch07_privileges::capabilities::{Capability, CapabilitySet, Sets};
use ch07_privileges::seccomp::Template;
use ch07_privileges::{no_new_privs, seccomp};
use lesson::probe::Refusal;
use log::info;
use nix::errno::Errno;

use super::{answer, in_words, show, try_with, with_and_without};

/// A key of the process's own is made, and given to another user.
pub fn run() -> Result<()> {
    info!(target: "say", "Keys: what capabilities guard of them, and what a filter does.");
    let answers = with_and_without(Capability::SYS_ADMIN, || Ok(()), give_away)?;
    show("keyctl(KEYCTL_CHOWN)", "CAP_SYS_ADMIN", &answers);
    let add = || add_key(libc::KEY_SPEC_PROCESS_KEYRING).map(|_| "made".to_string());
    let without_any = try_with(CapabilitySet::EMPTY, || Ok(()), add);
    info!(target: "kernel", "add_key without any capability: {}", in_words(&without_any));
    let all = Sets::own()?.permitted;
    let policy = Template::default_policy().policy(CapabilitySet::DEFAULT);
    let program = seccomp::compile(&policy)?;
    let filtered = try_with(
        all,
        || Ok(()),
        || {
            let filter = || {
                no_new_privs::set()?;
                seccomp::install(&program, &policy.flags, false)
            };
            filter().map_err(|error| Refusal::new(lesson::describe(&error), Errno::EINVAL))?;
            add()
        },
    );
    info!(target: "kernel", "add_key with all capabilities and the default filter: {}", in_words(&filtered));
    Ok(())
}

fn give_away() -> Result<String, Refusal> {
    let key = add_key(libc::KEY_SPEC_PROCESS_KEYRING)?;
    // SAFETY: the command takes numbers.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_CHOWN, key, 1, -1) };
    answer("keyctl(KEYCTL_CHOWN)", result).map(|_| "given away".into())
}

/// Makes a key on a keyring; returns its number. The process's own keyring goes with the process.
pub fn add_key(keyring: i32) -> Result<libc::c_long, Refusal> {
    let (kind, name, secret) = (c"user", c"hull-lesson", b"a secret");
    let (kind, name, length) = (kind.as_ptr(), name.as_ptr(), secret.len());
    // SAFETY: the strings are static, the secret's length is told.
    let result = unsafe { libc::syscall(libc::SYS_add_key, kind, name, secret.as_ptr(), length, keyring) };
    answer("add_key", result)
}
// ANCHOR_END: keys
