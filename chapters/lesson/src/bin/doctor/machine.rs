//! What several checks ask about: read, or tried, once.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getegid, geteuid};

use crate::distribution::Distribution;
use lesson::probe::{Refusal, in_child};
use lesson::view::View;

/// The machine, as far as several checks need it.
pub struct Machine {
    /// Which commands mend things here.
    pub distribution: Distribution,
    /// Who runs the checks.
    pub user: Uid,
    /// Whether a mount namespace may be made without a user namespace: what sudo gives, and uid 0 in a
    /// container often has not.
    pub root: bool,
    /// What the doctor sees: its mounts and cgroups.
    pub(crate) view: View,
    /// What came of making a user namespace and using a capability in it.
    pub(crate) user_namespace: std::result::Result<String, Refusal>,
}

impl Machine {
    /// Looks at this machine.
    pub fn here() -> Result<Self> {
        Ok(Machine {
            distribution: Distribution::here(),
            user: geteuid(),
            root: in_child(|| private_mounts(CloneFlags::empty())).is_ok(),
            view: View::here()?,
            user_namespace: in_child(|| {
                enter_user_namespace(CloneFlags::CLONE_NEWNS)?;
                private_mounts(CloneFlags::empty())
            }),
        })
    }

    /// Makes namespaces as a lesson would: directly as root, else in a user namespace. To be called in a
    /// child.
    pub(crate) fn isolate(&self, namespaces: CloneFlags) -> std::result::Result<(), Refusal> {
        if self.root { leave(namespaces) } else { enter_user_namespace(namespaces) }
    }

    /// Whether [`Machine::isolate`] can work at all.
    pub(crate) fn can_isolate(&self) -> bool {
        self.root || self.user_namespace.is_ok()
    }
}

/// Becomes root of a new user namespace, with further new namespaces. To be called in a child.
pub(crate) fn enter_user_namespace(namespaces: CloneFlags) -> std::result::Result<(), Refusal> {
    let (user, group) = (geteuid(), getegid());
    leave(CloneFlags::CLONE_NEWUSER | namespaces)?;
    // Who could drop a group could use what is forbidden to that group; so without privilege over the outer
    // namespace a group is mapped only when setgroups(2) has been given up. user_namespaces(7).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

/// Makes a mount namespace, cuts its propagation to the old one, and mounts a tmpfs on `/tmp` there. To be
/// called in a child.
pub(crate) fn private_mounts(namespaces: CloneFlags) -> std::result::Result<String, Refusal> {
    leave(CloneFlags::CLONE_NEWNS | namespaces)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| Refusal::new("mount(\"/\", MS_REC|MS_PRIVATE)", errno))?;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Refusal::new("mount a tmpfs", errno))?;
    Ok(String::new())
}

fn leave(namespaces: CloneFlags) -> std::result::Result<(), Refusal> {
    unshare(namespaces).map_err(|errno| {
        let names: Vec<&str> = namespaces.iter_names().map(|(name, _)| name).collect();
        Refusal::new(format!("unshare({})", names.join("|")), errno)
    })
}

pub(crate) fn write(path: &str, text: &str) -> std::result::Result<(), Refusal> {
    fs::write(path, text).map_err(|error| refusal(format!("write {path}"), &error))
}

/// An error of the standard library as what it was made from.
pub(crate) fn refusal(operation: impl Into<String>, error: &std::io::Error) -> Refusal {
    let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Refusal::new(operation, errno)
}

/// The value of a sysctl, if this kernel has it: `kernel.unprivileged_userns_clone`.
pub(crate) fn sysctl(name: &str) -> Option<String> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Where a program is. The directories of the system's tools are searched too: a plain user's PATH often
/// lacks them.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|directory| directory.join(program)).find(|file| {
        fs::metadata(file).is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
    })
}
