//! The UTS namespace: two names.
//!
//! The host's name, which programs print and put into log lines, and the name of its NIS domain, which hardly
//! anybody uses any more. The namespace holds these two and no more: the release of the kernel, which
//! uname(2) tells beside them, is the same in all. UTS is "UNIX time-sharing system", the name of uname's
//! structure. Manual pages: uts_namespaces(7), sethostname(2).

use std::ffi::OsStr;

use anyhow::{Context, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::sys::utsname::uname;
use nix::unistd::sethostname;

/// The longest name, in bytes (__NEW_UTS_LEN of linux/utsname.h).
pub const LONGEST: usize = 64;

/// The entries of /proc/sys that belong to a UTS namespace.
pub const SYSCTLS: [&str; 2] = ["kernel.hostname", "kernel.domainname"];

// ANCHOR: set
/// Names this UTS namespace: of a process that has not made its own, the host.
///
/// # Errors
///
/// EINVAL: the name is longer than 64 bytes, or has a NUL byte in it. EPERM without CAP_SYS_ADMIN in the user
/// namespace to which the UTS namespace belongs.
pub fn set_hostname(name: &str) -> Result<()> {
    check(name)?;
    info!(target: "syscall", "sethostname({name:?}, {})  the name of this UTS namespace", name.len());
    sethostname(OsStr::new(name)).map_err(|errno| refusal(errno, format!("sethostname {name:?}")))
}

/// Names the NIS domain of this UTS namespace.
///
/// # Errors
///
/// As for [`set_hostname`].
pub fn set_domainname(name: &str) -> Result<()> {
    check(name)?;
    info!(target: "syscall", "setdomainname({name:?}, {})  the NIS domain of this UTS namespace", name.len());
    // SAFETY: the pointer is to as many bytes as are told, and they live through the call.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    Errno::result(result).map(drop).map_err(|errno| refusal(errno, format!("setdomainname {name:?}")))
}
// ANCHOR_END: set

fn check(name: &str) -> Result<()> {
    let refused = |why: String| anyhow!(Errno::EINVAL).context(format!("the name {name:?} {why}"));
    ensure!(name.len() <= LONGEST, refused(format!("has {} bytes; the kernel takes {LONGEST}", name.len())));
    // The kernel would take it, and every reader would see the name end there.
    ensure!(!name.contains('\0'), refused("has a NUL byte in it".into()));
    Ok(())
}

fn refusal(errno: Errno, operation: String) -> anyhow::Error {
    let hint = match errno {
        Errno::EPERM => {
            " (it takes CAP_SYS_ADMIN in the user namespace to which this UTS namespace belongs; unshare(CLONE_NEWUTS) \
             makes one that is ours)"
        }
        _ => "",
    };
    anyhow!(errno).context(format!("{operation}{hint}"))
}

// ANCHOR: names
/// The two names, as the kernel has them now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The host's name.
    pub hostname: String,
    /// The NIS domain; `(none)` where nobody has set it.
    pub domainname: String,
}

/// The names of this process's UTS namespace.
///
/// # Errors
///
/// uname(2)'s errno.
pub fn names() -> Result<Names> {
    let names = uname().context("uname")?;
    let text = |name: &OsStr| name.to_string_lossy().into_owned();
    Ok(Names { hostname: text(names.nodename()), domainname: text(names.domainname()) })
}
// ANCHOR_END: names
