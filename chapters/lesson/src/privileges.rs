//! The powers that a lesson needs, and how it comes by them.
//!
//! The calls that make a container need capabilities. Root has them. A plain user gets them in a user namespace of their
//! own, which the crate `userns` makes. Where that is forbidden too, sudo is left. Manual pages: capabilities(7),
//! user_namespaces(7).

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use log::info;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use userns::Mapping;

use crate::probe::{Refusal, in_child};

/// What the kernel demands for mount(2), pivot_root(2) and new namespaces: bit 21 of the set (capabilities(7)).
const CAP_SYS_ADMIN: u32 = 21;

// ANCHOR: privileges
/// Where this process has its powers from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// It is the host's root (or that of the container it was started in).
    Root,
    /// It is a plain user's process, and root in a user namespace of its own.
    UserNamespace(Mapping),
}

/// Makes sure that this process has the powers of root: over the host if it has them already, else in a new user
/// namespace. Where neither works and somebody sits at the terminal, offers sudo; with a "yes" it does not return.
///
/// # Errors
///
/// Says in one sentence what forbids it, with the errno, and which command to type.
pub fn acquire() -> Result<Privileges> {
    if geteuid().is_root() && has_capability(CAP_SYS_ADMIN)? {
        return Ok(Privileges::Root);
    }
    info!(target: "say", "You are not root here, so the lesson makes a user namespace in which you are.");
    match user_namespace() {
        Ok(mapping) => Ok(Privileges::UserNamespace(mapping)),
        Err(error) => offer_sudo(error),
    }
}
// ANCHOR_END: privileges

// ANCHOR: user_namespace
fn user_namespace() -> Result<Mapping> {
    let mapping = userns::become_root()?;
    if let Mapping::Single { reason } = &mapping {
        info!(target: "kernel", "only one user and one group exist in it: {reason}");
    }
    // Ubuntu's AppArmor lets anyone make the namespace, and then denies the capabilities in it.
    in_child(use_capability).map_err(|Refusal { operation, errno }| {
        anyhow!(errno).context(format!(
            "{operation} in the new user namespace (a security module denies its capabilities; on Ubuntu \
             `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them until the next boot)"
        ))
    })?;
    Ok(mapping)
}

/// Makes a mount table of its own and changes it, which takes CAP_SYS_ADMIN.
fn use_capability() -> Result<String, Refusal> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| Refusal::new("unshare(CLONE_NEWNS)", errno))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| Refusal::new("mount(\"/\", MS_PRIVATE)", errno))?;
    Ok(String::new())
}
// ANCHOR_END: user_namespace

/// Whether a capability is in this process's effective set.
fn has_capability(number: u32) -> Result<bool> {
    let file = "/proc/self/status";
    let status = std::fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.with_context(|| format!("{file:?} has no line CapEff"))?;
    let set =
        u64::from_str_radix(set.trim(), 16).with_context(|| format!("read the line CapEff of {file:?}"))?;
    Ok(set >> number & 1 == 1)
}

// ANCHOR: sudo
fn offer_sudo(error: anyhow::Error) -> Result<Privileges> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let program = std::env::current_exe().context("find this program's own path")?;
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let command = format!("sudo {} {}", program.display(), words.join(" "));
    if !stdin().is_terminal() || !stderr().is_terminal() {
        bail!(error.context(format!(
            "this user may not have a user namespace of its own; as root it works: {command}"
        )));
    }
    eprint!(
        "This machine does not let you have a user namespace: {}\nUse sudo? [y/N] ",
        crate::describe(&error)
    );
    stderr().flush().context("write to standard error")?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).context("read the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        bail!(error.context("no privileges"));
    }
    let failure = Command::new("sudo").arg(program).args(arguments).exec();
    let errno = Errno::from_raw(failure.raw_os_error().unwrap_or_default());
    Err(anyhow!(errno).context("execve \"sudo\""))
}
// ANCHOR_END: sudo
