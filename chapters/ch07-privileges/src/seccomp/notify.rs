//! A supervisor that answers calls: seccomp_unotify(2).
//!
//! Where a filter returns SECCOMP_RET_USER_NOTIF, the kernel holds the calling thread, and who has the
//! filter's *listener* reads which call it is, and answers: with a value or an errno that the call returns,
//! or that it may be made after all (CONTINUE). So a supervisor outside does for a container what the
//! container may not do itself: a mount, a device node, a module. Linux 5.0; descriptors can be given since
//! 5.9.
//!
//! CONTINUE is no decision about security. What a pointer points to can be changed by another thread between
//! the supervisor's look and the kernel's own: time of check, time of use. Who wants to decide by a path must
//! make the call itself, with its own copy of the path, and return what came of it; or hand over a descriptor
//! ([`Listener::add_fd`]).
//!
//! And the thread may be gone at any time, killed or interrupted, and its pid be another's. So what was read
//! from it is good only if [`Listener::is_waiting`] says so *afterwards*.

use std::ffi::OsString;
use std::fs::File;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ch01_pid::passing;
use log::info;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

// ANCHOR: listener
/// The supervisor's end of a filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// By which it is answered. Never given twice.
    pub id: u64,
    /// The thread, as our PID namespace sees it; 0 where it doesn't.
    pub pid: Pid,
    /// The call's number.
    pub number: i32,
    /// Whose number: AUDIT_ARCH_*, as [`super::architecture::Architecture::audit`].
    pub architecture: u32,
    /// What stands in the registers.
    pub arguments: [u64; 6],
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It returns this.
    Value(i64),
    /// It returns -1 with this errno.
    Errno(Errno),
    /// The kernel makes it, as if there were no filter: see the warning above. Linux 5.5.
    Continue,
}

impl From<OwnedFd> for Listener {
    /// One that came through a socket.
    fn from(descriptor: OwnedFd) -> Listener {
        Listener(descriptor)
    }
}

impl AsFd for Listener {
    /// For poll(2): POLLIN when a call waits, POLLHUP when the last process with the filter is gone (Linux
    /// 5.9).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
// ANCHOR_END: listener

// ANCHOR: receive
impl Listener {
    /// Waits for the next call. None: no process has the filter any more.
    ///
    /// # Errors
    ///
    /// What poll(2) and ioctl(2) return.
    pub fn receive(&self) -> Result<Option<Notification>> {
        loop {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result.context("poll the listener")?,
            };
            let events = polled[0].revents().unwrap_or(PollFlags::POLLERR);
            if events.contains(PollFlags::POLLIN) {
                match self.receive_now()? {
                    // It was killed or interrupted since poll saw it.
                    None => continue,
                    notification => return Ok(notification),
                }
            }
            ensure!(events.contains(PollFlags::POLLHUP), "poll the listener: {events:?}");
            return Ok(None);
        }
    }

    fn receive_now(&self) -> Result<Option<Notification>> {
        let size = notification_size()?.max(size_of::<libc::seccomp_notif>());
        // Zeroed, or the kernel refuses it; in units of 8 bytes, so that it is aligned.
        let mut buffer = vec![0_u64; size.div_ceil(8)];
        // SAFETY: the kernel writes as many bytes as it has told, which the buffer has.
        let result = unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, buffer.as_mut_ptr()) };
        match result {
            Err(Errno::ENOENT | Errno::EINTR) => return Ok(None),
            result => result.context("ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV)")?,
        };
        // SAFETY: the buffer is aligned, not shorter than the structure, and any bits are integers.
        let notification = unsafe { buffer.as_ptr().cast::<libc::seccomp_notif>().read() };
        let libc::seccomp_notif { id, pid, data, .. } = notification;
        let number = data.nr;
        let notification = Notification {
            id,
            pid: Pid::from_raw(pid as i32),
            number,
            architecture: data.arch,
            arguments: data.args,
        };
        info!(target: "syscall", "ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV)  {pid} waits with call {number}");
        Ok(Some(notification))
    }
    // ANCHOR_END: receive

    // ANCHOR: respond
    /// Answers. False: nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// ioctl(2)'s errno: EINVAL for a kernel that can't continue calls, EINPROGRESS for a second answer.
    pub fn respond(&self, id: u64, answer: Answer) -> Result<bool> {
        let (val, error, flags) = match answer {
            Answer::Value(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, -(errno as i32), 0),
            Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut response = libc::seccomp_notif_resp { id, val, error, flags };
        info!(target: "syscall", "ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND)  the answer: {answer:?}");
        // SAFETY: the kernel reads the structure, which is this command's.
        match unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) } {
            Err(Errno::ENOENT) => Ok(false),
            result => result.map(|_| true).context("ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND)"),
        }
    }

    /// Whether the call still waits. What was read from the thread before is then what the thread had.
    ///
    /// # Errors
    ///
    /// Any errno of ioctl(2) but ENOENT.
    pub fn is_waiting(&self, id: u64) -> Result<bool> {
        let mut id = id;
        // SAFETY: the kernel reads the number.
        match unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut id) } {
            Err(Errno::ENOENT) => Ok(false),
            result => result.map(|_| true).context("ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID)"),
        }
    }
    // ANCHOR_END: respond

    // ANCHOR: add_fd
    /// Puts a copy of `descriptor` into the waiting process, close-on-exec, and returns the number that it
    /// has there. With `answers` this number is the answer, in one step: if the process is gone, no
    /// descriptor is left in it. None: nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// ioctl(2)'s errno: EINVAL for `answers` before Linux 5.14, EMFILE.
    pub fn add_fd(&self, id: u64, descriptor: BorrowedFd, answers: bool) -> Result<Option<RawFd>> {
        self.add(id, descriptor, if answers { libc::SECCOMP_ADDFD_FLAG_SEND } else { 0 }, 0)
    }

    /// The same with the number `number`, in the place of what is open there, as dup2(2) does it; without an
    /// answer.
    ///
    /// # Errors
    ///
    /// As [`Listener::add_fd`].
    pub fn replace_fd(&self, id: u64, descriptor: BorrowedFd, number: RawFd) -> Result<Option<RawFd>> {
        self.add(id, descriptor, libc::SECCOMP_ADDFD_FLAG_SETFD, number)
    }

    fn add(
        &self,
        id: u64,
        descriptor: BorrowedFd,
        flags: libc::c_ulong,
        number: RawFd,
    ) -> Result<Option<RawFd>> {
        let mut request = libc::seccomp_notif_addfd {
            id,
            flags: flags as u32,
            srcfd: descriptor.as_raw_fd() as u32,
            newfd: number as u32,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        info!(target: "syscall", "ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD)  it gets a descriptor of ours");
        // SAFETY: the kernel reads the structure, which is this command's.
        match unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut request) } {
            Err(Errno::ENOENT) => Ok(None),
            result => result.map(Some).context("ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD)"),
        }
    }
    // ANCHOR_END: add_fd

    // ANCHOR: read_path
    /// The path to which this argument of the call points. None: nobody waits any more.
    ///
    /// # Errors
    ///
    /// When the thread can't be seen or its memory not be read (it takes the right to trace it), and when no
    /// path is there.
    pub fn read_path(&self, notification: &Notification, argument: usize) -> Result<Option<PathBuf>> {
        let Notification { id, pid, arguments, .. } = *notification;
        ensure!(pid.as_raw() != 0, "the calling thread is not in our PID namespace");
        let address = arguments.get(argument).with_context(|| format!("no argument {argument}"))?;
        let name = format!("/proc/{pid}/mem");
        let memory = File::open(&name).with_context(|| format!("open {name:?}"));
        // Only now is it certain that this is the memory of the thread that waits.
        if !self.is_waiting(id)? {
            return Ok(None);
        }
        let path = read_string(&memory?, *address).with_context(|| format!("read {name:?} at {address:#x}"));
        // And only now that it was waiting while we read.
        match self.is_waiting(id)? {
            true => Ok(Some(PathBuf::from(OsString::from_vec(path?)))),
            false => Ok(None),
        }
    }
    // ANCHOR_END: read_path

    // ANCHOR: pass
    /// Sends it with `text`, which must not be empty, through a Unix socket: as a runtime does, with the
    /// container's state, to the socket that the OCI's `listenerPath` names.
    /// [`super::install::install_and_send`] is what a process calls that is itself filtered.
    ///
    /// # Errors
    ///
    /// sendmsg(2)'s errno.
    pub fn send(&self, socket: impl AsFd, text: &[u8]) -> Result<()> {
        passing::send(socket.as_fd(), self.0.as_fd(), text).context("send the seccomp listener")
    }
    // ANCHOR_END: pass

    /// # Safety
    ///
    /// `argument` is what `command` takes.
    unsafe fn ioctl<T>(&self, command: libc::Ioctl, argument: *mut T) -> Result<i32, Errno> {
        // SAFETY: as the caller promises.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), command, argument) })
    }
}

/// How long the kernel's `struct seccomp_notif` is: a later kernel's may be longer than ours.
fn notification_size() -> Result<usize> {
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: the kernel writes the structure, which outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
    Errno::result(result).context("seccomp(SECCOMP_GET_NOTIF_SIZES)")?;
    Ok(sizes.seccomp_notif.into())
}

/// Up to the byte 0. Read in pieces that do not cross a page, since the next page may not be there.
fn read_string(memory: &File, address: u64) -> Result<Vec<u8>> {
    const PIECE: u64 = 256;
    let mut string = Vec::new();
    while string.len() < libc::PATH_MAX as usize {
        let position = address + string.len() as u64;
        let mut piece = vec![0; (PIECE - position % PIECE) as usize];
        let length = memory.read_at(&mut piece, position)?;
        ensure!(length != 0, "nothing is there");
        match piece[..length].iter().position(|byte| *byte == 0) {
            Some(end) => {
                string.extend_from_slice(&piece[..end]);
                return Ok(string);
            }
            None => string.extend_from_slice(&piece[..length]),
        }
    }
    Err(Errno::ENAMETOOLONG).context("no end of the path within PATH_MAX bytes")
}
