//! In which surroundings a program starts: what its process does to itself between fork and exec.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, setsid, write};

use crate::deny::deny;
use crate::network::Network;
use crate::plain_user::PlainUser;
use crate::sandbox::Interior;

/// What the child of fork does before exec, in the order in which the kernel needs it.
pub(crate) struct Surroundings {
    pub(crate) sandbox: Option<Arc<Interior>>,
    pub(crate) network: Option<Network>,
    pub(crate) terminal: bool,
    pub(crate) directory: Option<CString>,
    pub(crate) user: Option<PlainUser>,
    pub(crate) denied: Option<(libc::c_long, Errno)>,
}

impl Surroundings {
    /// System calls only: this runs between fork and exec.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setsid()?;
        if self.terminal {
            // SAFETY: TIOCSCTTY takes an integer; descriptor 0 is the new terminal.
            Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        if let Some(sandbox) = &self.sandbox {
            for procs in &sandbox.cgroups {
                // 0 means the process that writes.
                write(procs, b"0")?;
            }
            setns(sandbox.mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
            setns(sandbox.network.as_fd(), CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(network) = &self.network {
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(user) = &self.user {
            user.become_in_child()?;
        }
        if let Some(directory) = &self.directory {
            chdir(directory.as_c_str())?;
        }
        if self.sandbox.is_none() {
            // Ctrl-C ends the test binary, but not a program in another session. A sandbox kills its own.
            set_pdeathsig(Signal::SIGKILL)?;
        }
        if let Some((number, errno)) = self.denied {
            deny(number, errno)?;
        }
        Ok(())
    }
}
