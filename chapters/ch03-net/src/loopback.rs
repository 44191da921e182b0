//! The loopback device, `lo`.
//!
//! Each network namespace is born with one, and it is down: no packet passes, and 127.0.0.1 is unreachable
//! (ENETUNREACH) though nothing but the process itself is meant. The kernel gives it its addresses, 127.0.0.1 and
//! ::1, as it comes up. Two calls on any socket do it, so no netlink is needed. Manual page:
//! [netdevice(7)](https://man7.org/linux/man-pages/man7/netdevice.7.html).

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

// ANCHOR: up
/// Brings up `lo` in the calling thread's network namespace.
///
/// # Errors
///
/// EPERM without CAP_NET_ADMIN over the namespace.
pub fn up() -> Result<()> {
    // The ioctl goes to whichever device its argument names; the socket only says in which namespace.
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("socket(AF_INET) for the state of \"lo\"")?;
    // SAFETY: the structure is plain data, of which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;

    // SAFETY: both calls take a pointer to an ifreq that lives through them; the first one writes the flags in it.
    unsafe {
        let result = libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request);
        Errno::result(result).context("ioctl(SIOCGIFFLAGS) of \"lo\"")?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
    }
    info!(target: "syscall", "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)  a process reaches itself by 127.0.0.1");
    // SAFETY: as above; the call reads the structure.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(result).context("ioctl(SIOCSIFFLAGS) of \"lo\"")?;
    Ok(())
}
// ANCHOR_END: up
