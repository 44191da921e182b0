//! The powers that a lesson needs, and how it comes by them.
//!
//! The calls that make a container need capabilities. Root has them. A plain user gets them in a user
//! namespace of their own, which the crate `userns` makes. Where that is forbidden too, sudo is left. Manual
//! pages: capabilities(7), user_namespaces(7).

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, stderr, stdin};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use log::{LevelFilter, info};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use userns::Mapping;

use crate::probe::{Refusal, in_child};

/// What the kernel demands for mount(2), pivot_root(2) and new namespaces: bit 21 of the set
/// (capabilities(7)).
const CAP_SYS_ADMIN: u32 = 21;

// ANCHOR: privileges
/// What this process is root over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Powers {
    /// All of the host, or of the container in which the lesson runs.
    Host,
    /// A new user namespace, and the namespaces that are made from there: nothing that was there before.
    UserNamespace,
}

/// Makes sure that this process has the powers of root: over the host if it has them already, else in a new
/// user namespace. Where neither works and somebody sits at the terminal, offers sudo; with a "yes" it does
/// not return.
///
/// # Errors
///
/// Says in one sentence what forbids it, with the errno, and which command to type.
pub fn acquire() -> Result<Powers> {
    let is_root = geteuid().is_root();
    if is_root && has_capability(CAP_SYS_ADMIN)? {
        return Ok(Powers::Host);
    }
    let who = if is_root { "You are root without CAP_SYS_ADMIN here" } else { "You are not root here" };
    info!(target: "say", "{who}, so the lesson makes a user namespace in which you are.");
    // In a child first: once this process has moved into a namespace where it can do nothing, sudo can't help
    // it either.
    match in_child(use_namespace) {
        Ok(_) => user_namespace(),
        Err(refusal) if is_root => Err(refusal_in_container(refusal)),
        Err(refusal) => offer_sudo(refusal),
    }
}
// ANCHOR_END: privileges

// ANCHOR: user_namespace
fn user_namespace() -> Result<Powers> {
    let mapping = userns::become_root()?;
    if let Mapping::Single { reason } = &mapping {
        info!(target: "kernel", "only one user and one group exist in it: {reason}");
    }
    Ok(Powers::UserNamespace)
}

/// Makes a user namespace and uses its powers: a mount table of its own, changed. Ubuntu's AppArmor lets
/// anyone make the namespace, and then denies the capabilities in it; only a use of them shows that.
fn use_namespace() -> Result<String, Refusal> {
    // The steps of a trial are no steps of the lesson.
    log::set_max_level(LevelFilter::Off);
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    unshare(namespaces).map_err(|errno| Refusal::new("unshare(CLONE_NEWUSER | CLONE_NEWNS)", errno))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| Refusal::new("mount(\"/\", MS_PRIVATE) in the new user namespace", errno))?;
    // To map root over the host takes CAP_SETFCAP, which root in a container may lack (Linux 5.12).
    let refused = |error: anyhow::Error| {
        let errno = crate::errno_of(error.root_cause());
        Refusal::new(error.to_string(), errno.unwrap_or(Errno::UnknownErrno))
    };
    userns::map::write_single(user, group).map_err(refused)?;
    Ok(String::new())
}
// ANCHOR_END: user_namespace

/// Whether a capability is in this process's effective set.
fn has_capability(number: u32) -> Result<bool> {
    let file = "/proc/self/status";
    let status =
        std::fs::read_to_string(file).with_context(|| format!("read {file:?} (is /proc mounted?)"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.with_context(|| format!("{file:?} has no line CapEff"))?;
    let set =
        u64::from_str_radix(set.trim(), 16).with_context(|| format!("read the line CapEff of {file:?}"))?;
    Ok(set >> number & 1 == 1)
}

// ANCHOR: sudo
fn offer_sudo(refusal: Refusal) -> Result<Powers> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let program = own_path()?;
    let words = [OsString::from("sudo"), program.clone().into()].into_iter().chain(arguments.clone());
    let command = words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let reason = format!(
        "this user can't use a user namespace of its own ({}); as root it works: {command}",
        likely_cause()
    );
    let error = anyhow!(refusal.errno).context(refusal.operation).context(reason);
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(error);
    }
    eprint!("error: {}\nUse sudo now? [y/N] ", crate::describe(&error));
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).context("read the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        return Err(error);
    }
    let failure = Command::new("sudo").arg(program).args(arguments).exec();
    Err(anyhow!(failure).context("execve \"sudo\""))
}

/// Where this program lies, to be executed once more. One that runs from a copy of itself (chapter 6's) still has the
/// name that it was called by.
///
/// # Errors
///
/// readlink(2)'s errno for /proc/self/exe.
pub fn own_path() -> Result<PathBuf> {
    let path = std::env::current_exe().context("find this program's own path")?;
    let name = std::env::args_os().next().map(PathBuf::from);
    Ok(if path.is_file() { path } else { name.unwrap_or(path) })
}
// ANCHOR_END: sudo

// ANCHOR: likely_cause
/// What most often forbids it, on this machine.
fn likely_cause() -> &'static str {
    let is = |sysctl: &str, value: &str| {
        let file = format!("/proc/sys/{sysctl}");
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
    };
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor forbids it; until the next boot, `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows it"
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "a sysctl forbids it; until the next boot, `sudo sysctl -w kernel.unprivileged_userns_clone=1` allows it"
    } else if is("user/max_user_namespaces", "0") {
        "a sysctl forbids it; until the next boot, `sudo sysctl -w user.max_user_namespaces=10000` allows it"
    } else {
        "a security module, a container's filter, or a chroot around this process may forbid it"
    }
}

fn refusal_in_container(refusal: Refusal) -> anyhow::Error {
    anyhow!(refusal.errno).context(refusal.operation).context(
        "this is root without CAP_SYS_ADMIN, as in a container; start that with --privileged, or with --cap-add SYS_ADMIN --cap-add SETFCAP \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
    )
}
// ANCHOR_END: likely_cause

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
