// ANCHOR: keyrings
//! Does another container see my keys?
//!
//! There is no namespace of keys. A user has a keyring, and each process of that user reaches it, in
//! whichever container it is; the uid counts, together with the user namespace. So two containers without
//! user namespaces share the keys of every user whose number both have. Manual pages: user-keyring(7),
//! keyrings(7).

use anyhow::{Context, Result};
use ch07_privileges::keyring;
use ch07_privileges::user::{User, become_user};
use lesson::probe::{Refusal, in_child};
use lesson::untold;
use log::info;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use userns::map::{self, Ids};

use super::keys::add_key;
use super::{answer, in_words};

/// Of a number that nobody uses, where there is one: then the keys are not among those of a real user.
const USER: u32 = 0x7000_4321;

/// A key that one container makes is looked for in another one.
pub fn run() -> Result<()> {
    info!(
        target: "say",
        "Two containers with all namespaces but one of users, and a user of the same number in both."
    );
    let exists = map::to_outside(&map::own(Ids::Users)?, USER).is_some();
    let user = exists.then_some(User { uid: USER, gid: USER, ..User::default() });
    let made = in_child(|| {
        enter(&user, false)?;
        let key = add_key(libc::KEY_SPEC_USER_KEYRING)?;
        possess()?;
        // Should nobody come to remove it.
        // SAFETY: the command takes numbers.
        let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SET_TIMEOUT, key, 60) };
        answer("keyctl(KEYCTL_SET_TIMEOUT)", result)?;
        Ok(key.to_string())
    });
    let Ok(made) = made else {
        info!(target: "kernel", "in the first, add_key on the user's keyring: {}", in_words(&made));
        return Ok(());
    };
    let key: libc::c_long = made.parse().context("the number of a key")?;
    info!(target: "kernel", "in the first, add_key on the user's keyring: key {key:08x}");
    for (which, own_users) in [("in the second", false), ("in a third, with a user namespace", true)] {
        let found = in_child(|| enter(&user, own_users).and_then(|()| look_for(key)));
        info!(target: "kernel", "{which}: {}", in_words(&found));
    }
    let removed = in_child(|| enter(&user, false).and_then(|()| unlink(key)));
    removed.map_err(|refusal| anyhow::anyhow!(refusal.errno).context(refusal.operation))?;
    Ok(())
}

/// Namespaces of its own, and the user.
fn enter(user: &Option<User>, own_users: bool) -> Result<(), Refusal> {
    let refused = |error: anyhow::Error| Refusal::new(lesson::describe(&error), Errno::EPERM);
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).map_err(|errno| Refusal::new("unshare", errno))?;
    if let Some(user) = user {
        untold(|| become_user(user)).map_err(refused)?;
    }
    if own_users {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| Refusal::new("unshare(CLONE_NEWUSER)", errno))?;
    }
    // The key is to be reached by the user's keyring alone, not by the session that this process comes from.
    untold(keyring::join_new).map(drop).map_err(refused)
}
// ANCHOR_END: keyrings

// ANCHOR: look_for
/// The key in /proc/keys, and what is in it.
fn look_for(key: libc::c_long) -> Result<String, Refusal> {
    let listed = keyring::list()
        .is_ok_and(|keys| keys.iter().any(|listed| listed.serial.to_string() == format!("{key:08x}")));
    possess()?;
    let mut secret = [0u8; 64];
    // SAFETY: the kernel writes at most as many bytes as it is told, into a buffer that lives through the
    // call.
    let length =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_READ, key, secret.as_mut_ptr(), secret.len()) };
    let read = answer("keyctl(KEYCTL_READ)", length);
    let listed = if listed { "has it" } else { "does not have it" };
    Ok(match read {
        Ok(length) => {
            let secret = String::from_utf8_lossy(&secret[..length as usize]).into_owned();
            format!("/proc/keys {listed}; keyctl(KEYCTL_READ) gives {secret:?}")
        }
        Err(refusal) => format!("/proc/keys {listed}; keyctl(KEYCTL_READ): {:?}", refusal.errno),
    })
}

/// What hangs on a process's own keyrings it possesses, and may read and change.
fn possess() -> Result<(), Refusal> {
    let (user, session) = (libc::KEY_SPEC_USER_KEYRING, libc::KEY_SPEC_SESSION_KEYRING);
    // SAFETY: the command takes numbers.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_LINK, user, session) };
    answer("keyctl(KEYCTL_LINK)", result).map(drop)
}

fn unlink(key: libc::c_long) -> Result<String, Refusal> {
    // SAFETY: the command takes numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_UNLINK, key, libc::KEY_SPEC_USER_KEYRING) };
    answer("keyctl(KEYCTL_UNLINK)", result).map(|_| String::new())
}
// ANCHOR_END: look_for
