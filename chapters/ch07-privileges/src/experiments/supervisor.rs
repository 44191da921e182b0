// ANCHOR: supervisor
//! A filter that asks.
//!
//! Where the policy says `notify`, the calling process waits, and a supervisor outside is asked. It can
//! refuse the call with a reason of its own, let the kernel make it, or answer in the kernel's place: here it
//! opens a file for the process that the process could not have found. Manual page: seccomp_unotify(2).

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use ch01_pid::spawn::exit_now;
use ch01_pid::{Spawn, passing};
use ch07_privileges::no_new_privs;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::install::install_and_send;
use ch07_privileges::seccomp::notify::{Answer, Notification};
use ch07_privileges::seccomp::{Listener, Program, Template, compile, syscalls};
use lesson::{Lesson, untold};
use log::info;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_dumpable;

const POLICY: &str = "\
default allow
architectures
notify mkdir mkdirat openat
";
const DIRECTORY: &str = "/tmp/of-the-supervisor";
const FILE: &str = "/no/such/file";

/// A child with the filter, and this process as its supervisor.
pub fn run(lesson: &Lesson) -> Result<()> {
    info!(target: "say", "A filter that asks this process, for mkdir and open.");
    let policy = POLICY.parse::<Template>()?.policy(Default::default());
    let program = compile(&policy)?;
    let (supervisor, child) = UnixStream::pair().context("socketpair")?;
    let spawn = Spawn::new().keep(lesson.descriptors()).keep([child.as_fd()]).dies_with_parent();
    let held = spawn.start(|report| {
        report.close();
        supervised(&program, child.as_fd())?;
        exit_now(0)
    })?;
    let mut held = held.release(None)?;
    drop(child);
    let listener = Listener::from(passing::receive(supervisor.as_fd()).context("receive the listener")?);
    while let Some(notification) = untold(|| listener.receive())? {
        decide(&listener, &notification)?;
    }
    held.wait()?;
    Ok(())
}

/// What the child does, and what it is told.
fn supervised(program: &Program, socket: BorrowedFd) -> Result<()> {
    // The supervisor reads the paths in this process's memory, for which it must have the right to trace it.
    // In a user namespace of ours it hasn't: this process's memory is older than that.
    set_dumpable(true).context("prctl(PR_SET_DUMPABLE, 1)")?;
    untold(|| {
        no_new_privs::set()?;
        install_and_send(program, &[], socket, b"listener")
    })?;
    let made = fs::create_dir(DIRECTORY);
    let errno =
        made.err().and_then(|error| error.raw_os_error()).map_or(Errno::UnknownErrno, Errno::from_raw);
    info!(target: "kernel", "child: mkdir({DIRECTORY:?}) returns {errno:?}");
    let mut text = String::new();
    let read = File::open(FILE).and_then(|mut file| file.read_to_string(&mut text));
    match read {
        Ok(_) => info!(target: "kernel", "child: open({FILE:?}) is a file that says {text:?}"),
        Err(error) => info!(target: "kernel", "child: open({FILE:?}): {error}"),
    }
    Ok(())
}
// ANCHOR_END: supervisor

// ANCHOR: decide
/// The supervisor's answer to one call.
fn decide(listener: &Listener, notification: &Notification) -> Result<()> {
    let name = Architecture::native().and_then(|native| syscalls::name(native, notification.number as u32));
    let name = name.unwrap_or_else(|| "a call".to_owned());
    // The calls that end in `at` have a directory before the path.
    let argument = if name.ends_with("at") { 1 } else { 0 };
    let Some(path) = untold(|| listener.read_path(notification, argument))? else { return Ok(()) };
    match path.to_str() {
        Some(DIRECTORY) => {
            info!(
                target: "say",
                "Supervisor: {name}({path:?})? The answer is EDQUOT, which the kernel would not have given."
            );
            listener.respond(notification.id, Answer::Errno(Errno::EDQUOT))?;
        }
        Some(FILE) => {
            info!(target: "say", "Supervisor: {name}({path:?})? Here is a file of mine.");
            let mut file = File::from(memfd_create("answer", MFdFlags::MFD_CLOEXEC).context("memfd_create")?);
            file.write_all(b"written by the supervisor")
                .and_then(|()| file.rewind())
                .context("write the answer")?;
            listener.add_fd(notification.id, file.as_fd(), true)?;
        }
        // What the path points to may have changed by the time that the kernel looks. That is no harm here:
        // nothing is forbidden.
        _ => drop(untold(|| listener.respond(notification.id, Answer::Continue))?),
    }
    Ok(())
}
// ANCHOR_END: decide
