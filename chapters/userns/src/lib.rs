//! Become root in a user namespace of one's own.
//!
//! A *user namespace* has its own user and group numbers, and its own root. A process that makes one gets all
//! capabilities in it: over the namespaces that it makes from there, never over the host's. Two files say
//! which number inside is which number outside: `/proc/PID/uid_map` and `gid_map`. This is how the lessons
//! run without sudo; chapter 7 explains it. Manual page:
//! [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
//!
//! An ordinary user may map one number alone: their own. For more, the administrator sets ranges aside in
//! `/etc/subuid` and `/etc/subgid` ([subuid(5)](https://man7.org/linux/man-pages/man5/subuid.5.html)), and
//! the setuid programs newuidmap(1) and newgidmap(1) write the maps.
//!
//! - [`become_root`]: the whole way, for a program that has just started.
//! - [`map`]: the maps, what the kernel takes for one ([`map::check`]), and who may write them
//!   ([`map::write_for`]: those of a child, by whichever way is open).
//! - [`subordinate`]: the ranges of a user.

mod check;
pub mod map;
pub mod subordinate;
mod write;

use std::io::Write;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

pub use map::{IdMap, Ids};
use subordinate::Ranges;

// ANCHOR: mapping
/// Which numbers exist in the new namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Root is the user, and the numbers from 1 on are the user's subordinate ranges.
    Ranges {
        /// The map of the users.
        users: Vec<IdMap>,
        /// The map of the groups.
        groups: Vec<IdMap>,
    },
    /// Root is the user, and there is no other number: files of anyone else show as `nobody`, and chown
    /// fails.
    Single {
        /// Why there are no ranges.
        reason: String,
    },
}
// ANCHOR_END: mapping

// ANCHOR: become_root
/// Moves this process into a new user namespace, in which it is root.
///
/// # Errors
///
/// The errno of unshare(2), with the likely cause: EPERM or ENOSPC where the machine forbids user namespaces,
/// EINVAL where this process has several threads.
pub fn become_root() -> Result<Mapping> {
    // Asked first: inside, the user's name and number are gone.
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let maps = Ranges::of_user(user)
        .map(|ranges| (map::with_ranges(user, &ranges.users), map::with_ranges(group, &ranges.groups)));

    // Only a process that stands outside may write more than one line. So one stays outside, and waits for us
    // to be in.
    let helper = maps.and_then(|(users, groups)| Ok((Outside::start(&users, &groups)?, users, groups)));
    info!(
        target: "syscall",
        "unshare(CLONE_NEWUSER)  a user namespace: all capabilities, over nothing of the host's"
    );
    unshare(CloneFlags::CLONE_NEWUSER).map_err(unshare_error)?;

    let written = helper.and_then(|(helper, users, groups)| {
        helper.write_maps()?;
        Ok(Mapping::Ranges { users, groups })
    });
    written.or_else(|refusal| {
        map::write_single(user, group)?;
        Ok(Mapping::Single { reason: format!("{refusal:#}") })
    })
}
// ANCHOR_END: become_root

fn unshare_error(errno: Errno) -> anyhow::Error {
    let hint = match errno {
        Errno::EPERM => {
            "this machine forbids it: a sysctl (kernel.unprivileged_userns_clone), a seccomp filter of a container, \
             or a chroot around this process"
        }
        Errno::ENOSPC | Errno::EUSERS => "the limit user.max_user_namespaces is reached, or 0",
        Errno::EINVAL => {
            "the process has several threads, or this kernel has no user namespaces (CONFIG_USER_NS)"
        }
        _ => "unshare(2) lists the reasons",
    };
    anyhow!(errno).context(format!("unshare(CLONE_NEWUSER) ({hint})"))
}

// ANCHOR: outside
/// A shell that stays in the old user namespace, to run newuidmap(1) and newgidmap(1) from there.
struct Outside(Child);

impl Outside {
    fn start(users: &[IdMap], groups: &[IdMap]) -> Result<Outside> {
        let target = std::process::id();
        let (users, groups) = (map::arguments(users), map::arguments(groups));
        // `read` fails at the end of file, which comes when we end before we have made the namespace.
        let script = format!("read go && newuidmap {target} {users} && newgidmap {target} {groups}");
        let shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start sh, which is to run newuidmap")?;
        Ok(Outside(shell))
    }

    fn write_maps(mut self) -> Result<()> {
        info!(target: "syscall", "newuidmap, newgidmap  write the maps from outside: root inside is this user");
        let mut go = self.0.stdin.take().expect("the shell was started with a pipe");
        go.write_all(b"go\n").context("write to the shell that runs newuidmap")?;
        drop(go);
        let output = self.0.wait_with_output().context("wait for newuidmap")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "newuidmap: {}", words.trim().replace('\n', "; "));
        Ok(())
    }
}
// ANCHOR_END: outside
