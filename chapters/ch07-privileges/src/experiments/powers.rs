// ANCHOR: imports
//! Root's powers, one by one: a call for each, made with a capability and without it.
//!
//! Each call is chosen so that it does no harm where it is allowed: what it changes belongs to the process
//! alone, or the kernel asks for the capability first and then finds that the call means nothing.

use anyhow::Result;
use ch07_privileges::capabilities::Capability;
use lesson::probe::Refusal;
use log::info;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::unistd::{Gid, Uid, fchown};

use super::{answer, show, with_and_without};
// ANCHOR_END: imports

// ANCHOR: powers
/// One of root's powers.
struct Power {
    what: &'static str,
    capability: Capability,
    prepare: fn() -> Result<(), Refusal>,
    call: fn() -> Result<String, Refusal>,
}

const POWERS: [Power; 5] = [
    Power {
        what: "mount(\"tmpfs\")",
        capability: Capability::SYS_ADMIN,
        prepare: own_mounts,
        call: mount_tmpfs,
    },
    Power { what: "fchown(file, 1, 1)", capability: Capability::CHOWN, prepare: nothing, call: give_away },
    Power {
        what: "socket(SOCK_RAW)",
        capability: Capability::NET_RAW,
        prepare: own_network,
        call: raw_socket,
    },
    Power { what: "adjtimex(tick = 0)", capability: Capability::SYS_TIME, prepare: nothing, call: set_tick },
    Power {
        what: "finit_module(-1)",
        capability: Capability::SYS_MODULE,
        prepare: nothing,
        call: load_module,
    },
];

/// Each with all capabilities, and with all but one.
pub fn run() -> Result<()> {
    info!(target: "say", "Take root's powers away, one at a time.");
    for power in &POWERS {
        let answers = with_and_without(power.capability, power.prepare, power.call)?;
        show(power.what, &power.capability.to_string(), &answers);
    }
    info!(
        target: "say",
        "EINVAL and EBADF are answers of a kernel that was ready to do it: no clock ticks 0 times, -1 is no \
         file. ENOSYS: it has no modules."
    );
    Ok(())
}
// ANCHOR_END: powers

// ANCHOR: calls
fn nothing() -> Result<(), Refusal> {
    Ok(())
}

/// A mount table of the process's own, of which nothing reaches the host.
fn own_mounts() -> Result<(), Refusal> {
    let namespace = unshare(CloneFlags::CLONE_NEWNS);
    namespace.map_err(|errno| Refusal::new("unshare(CLONE_NEWNS)", errno))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| Refusal::new("mount(\"/\", MS_PRIVATE)", errno))
}

fn mount_tmpfs() -> Result<String, Refusal> {
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Refusal::new("mount", errno))?;
    Ok("mounted".into())
}

/// Of a file that has no name and is gone with its descriptor.
fn give_away() -> Result<String, Refusal> {
    let file = memfd_create("given-away", MFdFlags::MFD_CLOEXEC);
    let file = file.map_err(|errno| Refusal::new("memfd_create", errno))?;
    fchown(&file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
        .map_err(|errno| Refusal::new("fchown", errno))?;
    Ok("given away".into())
}

/// A network of its own: a user namespace has power over the networks that are made in it, and no other.
pub fn own_network() -> Result<(), Refusal> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Refusal::new("unshare(CLONE_NEWNET)", errno))
}

fn raw_socket() -> Result<String, Refusal> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)
        .map_err(|errno| Refusal::new("socket(SOCK_RAW)", errno))?;
    Ok("made".into())
}

/// Asks for a clock that ticks 0 times in a second. Whoever may set the clock is told that this makes no
/// sense; it is left as it is either way.
fn set_tick() -> Result<String, Refusal> {
    // SAFETY: the structure is plain data, of which zero is a value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_TICK;
    // SAFETY: the call reads and writes the structure, which lives through it.
    let result = unsafe { libc::adjtimex(&mut request) };
    answer("adjtimex", result.into()).map(|state| format!("state {state}"))
}

/// Asks for the module in a file that is not open.
fn load_module() -> Result<String, Refusal> {
    // SAFETY: the number is no descriptor, the string is a static C string.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, -1, c"".as_ptr(), 0) };
    answer("finit_module", result).map(|_| "loaded".into())
}
// ANCHOR_END: calls
