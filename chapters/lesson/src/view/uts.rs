//! The host name of a process: a string in its UTS namespace. uname(2), uts_namespaces(7).
//!
//! The kernel tells it only to a process inside: `/proc/sys/kernel/hostname` answers with the reader's own,
//! whichever path it is reached by. So a forked child joins the namespace and asks there.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::unistd::gethostname;

use super::process::{Process, link_at, open_at};
use super::{Field, Unreadable};
use crate::probe::{Refusal, in_child};

/// The name in the UTS namespace of `process`.
pub fn hostname(process: &Process) -> Field<String> {
    let namespace = process.link("ns/uts")?;
    let answer = if own(process, "ns/uts").as_ref() == Some(&namespace) {
        own_name()
    } else {
        let uts = open_namespace(process, "ns/uts")?;
        // Joining takes CAP_SYS_ADMIN in the user namespace that owns it. Who made that user namespace has
        // all capabilities in it once inside, so there it is joined first. One's own cannot be joined again.
        let user = match process.link("ns/user")? {
            user if own(process, "ns/user").as_ref() == Some(&user) => None,
            _ => Some(open_namespace(process, "ns/user")?),
        };
        in_child(|| {
            if let Err(refusal) = join(&uts, CloneFlags::CLONE_NEWUTS) {
                join(user.as_ref().ok_or(refusal)?, CloneFlags::CLONE_NEWUSER)?;
                join(&uts, CloneFlags::CLONE_NEWUTS)?;
            }
            own_name()
        })
    };
    answer.map_err(|refusal| Unreadable::refused(refusal.operation, refusal.errno))
}

/// The reader's own link, if it has an id in this procfs.
fn own(process: &Process, link: &str) -> Option<String> {
    link_at(process.reader()?, link).ok()
}

fn open_namespace(process: &Process, link: &str) -> Field<OwnedFd> {
    open_at(process.fd(), link, OFlag::O_RDONLY)
        .map_err(|errno| Unreadable::refused(format!("open {link}"), errno))
}

fn join(namespace: &impl AsFd, kind: CloneFlags) -> Result<(), Refusal> {
    setns(namespace, kind).map_err(|errno| Refusal::new(format!("setns({kind:?})"), errno))
}

fn own_name() -> Result<String, Refusal> {
    gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .map_err(|errno| Refusal::new("uname", errno))
}
