//! Give a filter to the kernel: seccomp(2).
//!
//! A filter can't be taken off again, and all children have it, through fork and exec. More than one may be
//! installed: all of them run at each call, and of their answers the strictest counts. `/proc/PID/status`
//! says so: `Seccomp: 2` is a process with filters, `Seccomp_filters` their number (Linux 5.9).
//!
//! An unprivileged process may install a filter if it has given up new privileges: else it could run a setuid
//! program under a filter that lies to it (a setuid(2) that does nothing and returns 0).
//!
//! A filter that asks a supervisor ([`super::notify`]) comes back with a descriptor, the *listener*. It is in
//! the hands of the very process that is filtered from now on, and must get to the supervisor. That takes a
//! call, and the filter may hold just this one until the supervisor, which has no listener yet, answers:
//! neither goes on, ever. (runc sends it with write(2), and refuses policies that notify of `write`.)
//! [`install_and_send`] has no such exception: a thread that has no filter sends it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;

use anyhow::{Context, Error, Result, bail};
use log::info;
use nix::errno::Errno;

use super::policy::{Action, Flag};
use super::program::code::RETURN;
use super::program::returned;
use super::{Listener, Program};

// ANCHOR: flags
/// SECCOMP_FILTER_FLAG_* of `<linux/seccomp.h>`.
fn bits(flags: &[Flag]) -> libc::c_ulong {
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            Flag::ThreadSync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            Flag::WaitKillable => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        }
    })
}
// ANCHOR_END: flags

// ANCHOR: install
/// Installs the program for this thread and its children; with [`Flag::ThreadSync`] for all threads of the
/// process. `notifies`: it has a supervisor, and the listener comes back; it is close-on-exec.
///
/// # Errors
///
/// EACCES: neither no_new_privs nor CAP_SYS_ADMIN. EINVAL: a flag or an action that this kernel doesn't know,
/// which is told by name; or a program that it doesn't take. EBUSY: `notifies`, and an earlier filter has a
/// listener already (at most one). ENOMEM: the filters of this process have more than 32768 instructions.
/// ESRCH: a thread can't be synchronised.
pub fn install(program: &Program, flags: &[Flag], notifies: bool) -> Result<Option<Listener>> {
    // About answers of a supervisor: where there is none the kernel refuses it (EINVAL). A policy may have it
    // all the same, and libseccomp leaves it off.
    let has_meaning = |flag: &Flag| notifies || *flag != Flag::WaitKillable;
    let flags: Vec<Flag> = flags.iter().copied().filter(has_meaning).collect();
    let mut bits = bits(&flags);
    let mut names: Vec<String> = flags.iter().map(Flag::to_string).collect();
    if notifies {
        bits |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        names.push("SECCOMP_FILTER_FLAG_NEW_LISTENER".to_string());
    }
    if notifies && flags.contains(&Flag::ThreadSync) {
        // Without it the call returns the number of a thread that can't be synchronised, which could as well
        // be the listener's. Linux 5.7.
        bits |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        names.push("SECCOMP_FILTER_FLAG_TSYNC_ESRCH".to_string());
    }
    let shown = if names.is_empty() { "0".to_string() } else { names.join("|") };
    let length = program.0.len();
    let call = format!("seccomp(SECCOMP_SET_MODE_FILTER, {shown}, {{{length} instructions}})");
    info!(target: "syscall", "{call}  from here on each system call is filtered");
    let result = set_mode_filter(program, bits);
    let result = result.map_err(|errno| explain(errno, program, bits));
    let result = result
        .with_context(|| format!("seccomp(SECCOMP_SET_MODE_FILTER, {shown}, {length} instructions)"))?;
    match (notifies, result) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        (true, listener) => Ok(Some(Listener::from(unsafe { OwnedFd::from_raw_fd(listener) }))),
        (false, 0) => Ok(None),
        (false, thread) => bail!("seccomp: the filter is not installed: thread {thread} has another one"),
    }
}

/// What seccomp(2) returns: 0, the listener, or with TSYNC the thread in whose filters ours do not fit.
fn set_mode_filter(program: &Program, bits: libc::c_ulong) -> Result<i32, Errno> {
    let program = libc::sock_fprog {
        // Too long for 16 bits is too long for the kernel: it answers EINVAL to 0xffff too.
        len: u16::try_from(program.0.len()).unwrap_or(u16::MAX),
        filter: program.0.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions from `filter`, which outlives the call, and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, bits, &raw const program) };
    Errno::result(result).map(|result| result as i32)
}
// ANCHOR_END: install

// ANCHOR: explain
/// The errno, with what it means here.
fn explain(errno: Errno, program: &Program, bits: libc::c_ulong) -> Error {
    let why = match errno {
        Errno::EACCES => "it takes no_new_privs, or CAP_SYS_ADMIN in the user namespace".to_string(),
        Errno::EBUSY => {
            "an earlier filter of this process has a listener; a process has at most one".to_string()
        }
        Errno::ENOMEM => "all filters of a process together may have 32768 instructions".to_string(),
        Errno::ESRCH => "another thread has filters that this one lacks".to_string(),
        Errno::ENOSYS => "this kernel has no seccomp, or a filter hides it".to_string(),
        Errno::EINVAL => match unknown(program, bits) {
            unknown if unknown.is_empty() => "the kernel does not take this program".to_string(),
            unknown => format!("this kernel does not know {}", unknown.join(", ")),
        },
        errno => return errno.into(),
    };
    Error::from(errno).context(why)
}

/// What the program needs and the running kernel doesn't have, by name.
fn unknown(program: &Program, bits: libc::c_ulong) -> Vec<String> {
    let known_flag = |flag: libc::c_ulong| {
        // A known flag gets as far as the program, which is nowhere: EFAULT. The flags are checked one by
        // one, but TSYNC_ESRCH needs TSYNC, and WAIT_KILLABLE_RECV a listener.
        let flag = flag
            | libc::SECCOMP_FILTER_FLAG_TSYNC
            | match flag {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV => {
                    libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
                }
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER => libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
                _ => 0,
            };
        let nowhere = std::ptr::null::<libc::sock_fprog>();
        // SAFETY: the kernel finds no program at address 0, and installs nothing.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flag, nowhere) };
        Errno::result(result) != Err(Errno::EINVAL)
    };
    let flags = [
        (libc::SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"),
        (libc::SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"),
        (libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        (libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
        (libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"),
        (libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
    ];
    let flags = flags.iter().filter(|(flag, _)| bits & flag != 0 && !known_flag(*flag));
    flags.map(|(_, name)| name.to_string()).chain(unknown_actions(program)).collect()
}

fn unknown_actions(program: &Program) -> Vec<String> {
    // Those that came after seccomp(2).
    let young = [Action::KillProcess, Action::Log, Action::Notify];
    let returns = |action: Action| {
        program.0.iter().any(|instruction| instruction.code == RETURN && instruction.k == returned(action))
    };
    let unknown = young.into_iter().filter(|action| returns(*action) && !is_available(*action));
    unknown.map(|action| action.to_string()).collect()
}
// ANCHOR_END: explain

// ANCHOR: available
/// Whether the running kernel knows the action. It takes programs that return one which it doesn't know, and
/// kills the process when they do.
pub fn is_available(action: Action) -> bool {
    let value = returned(action) & libc::SECCOMP_RET_ACTION_FULL;
    // SAFETY: the kernel reads the number, which outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const value) };
    result == 0
}
// ANCHOR_END: available

// ANCHOR: send
/// Installs the program for this thread and sends its listener with `text` through `socket`, a Unix socket.
///
/// From the moment of installation on this thread makes no call before the listener is sent: another thread,
/// which has no filter, sends it, and closes it here. [`Flag::ThreadSync`] would give that thread the filter,
/// so it is left off.
///
/// # Errors
///
/// As [`install`]. EAGAIN where the limit of processes leaves no room for the thread. And sendmsg(2)'s errno, when the filter is installed already: a process that goes on
/// nevertheless has nobody who answers.
pub fn install_and_send(program: &Program, flags: &[Flag], socket: BorrowedFd, text: &[u8]) -> Result<()> {
    let flags: Vec<Flag> = flags.iter().copied().filter(|flag| *flag != Flag::ThreadSync).collect();
    let (socket, text) = (socket.try_clone_to_owned().context("duplicate the socket")?, text.to_vec());
    let listener = Arc::new(AtomicI32::new(NOT_YET));
    let sent: Arc<OnceLock<Result<()>>> = Arc::default();
    let (running, is_running) = mpsc::channel();
    let (for_thread, result) = (listener.clone(), sent.clone());
    let sender = thread::Builder::new().name("send".to_string()).spawn(move || {
        let _ = running.send(());
        let descriptor = loop {
            match for_thread.load(Ordering::Acquire) {
                NOT_YET => thread::yield_now(),
                NONE => return,
                descriptor => break descriptor,
            }
        };
        // SAFETY: the descriptor was made a moment ago, and is ours to close.
        let listener = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let outcome = Listener::from(listener).send(&socket, &text);
        let _ = result.set(outcome);
    });
    let sender = sender.context("start the thread that sends the listener")?;
    // Until it runs, the allocator and the C library may still make calls here for its sake.
    is_running.recv().context("the thread that sends the listener")?;
    let installed = install(program, &flags, true);
    let descriptor = match &installed {
        Ok(Some(listener)) => listener.as_fd().as_raw_fd(),
        _ => NONE,
    };
    listener.store(descriptor, Ordering::Release);
    let handle = installed?;
    // It is the other thread's.
    std::mem::forget(handle);
    while sent.get().is_none() {
        std::hint::spin_loop();
    }
    // Not joined: that would be a call, and one more answer to wait for.
    std::mem::forget(sender);
    match sent.get() {
        // It stays the other thread's too, so its errno is copied.
        Some(Err(error)) => match error.root_cause().downcast_ref::<Errno>() {
            Some(errno) => Err(Error::from(*errno).context(error.to_string())),
            None => bail!("{error:#}"),
        },
        _ => Ok(()),
    }
}

/// There is no listener yet.
const NOT_YET: i32 = -1;
/// There will be none.
const NONE: i32 = -2;
// ANCHOR_END: send
