//! A question to the kernel that changes the process that asks, so a forked child asks it: it joins or makes
//! namespaces, mounts, says what happened, and is gone with all that it made. fork(2), _exit(2).

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2};

/// A call that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked, for example `unshare(CLONE_NEWUSER)`.
    pub operation: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Refusal {
    /// The call `operation`, and the errno with which it was refused.
    pub fn new(operation: impl Into<String>, errno: Errno) -> Self {
        Refusal { operation: operation.into(), errno }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} ({:?})", self.operation, self.errno.desc(), self.errno)
    }
}

/// Runs `question` in a forked child and returns its answer.
///
/// The answer comes through a pipe and not as an exit status, which would be lost where the caller has set
/// SIGCHLD to be ignored.
pub fn in_child(question: impl FnOnce() -> Result<String, Refusal>) -> Result<String, Refusal> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Refusal::new("pipe2", errno))?;
    // SAFETY: the child never returns from this block: it runs `question` and leaves by `_exit`. It may
    // allocate, which is sound after a fork in a process with several threads too, as glibc and musl take
    // malloc's locks around fork(2); `question` uses nothing else that another thread could have locked.
    let child = match unsafe { fork() }.map_err(|errno| Refusal::new("fork", errno))? {
        ForkResult::Child => {
            drop(reader);
            // A panic must not unwind into the caller's frames: there it would run the parent's destructors.
            let written = catch_unwind(AssertUnwindSafe(|| {
                File::from(writer).write_all(encode(question()).as_bytes()).is_ok()
            }));
            // SAFETY: `_exit` runs no destructor and flushes no buffer that the child has in common with the
            // parent.
            unsafe { libc::_exit(i32::from(written.ok() != Some(true))) }
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    let mut answer = String::new();
    let read = File::from(reader).read_to_string(&mut answer);
    // ECHILD: the caller ignores SIGCHLD, or its own waiting has taken this child; there is nothing left to
    // do.
    match waitpid(child, None) {
        Ok(_) | Err(Errno::ECHILD) => {}
        Err(errno) => return Err(Refusal::new("waitpid", errno)),
    }
    read.map_err(|error| {
        Refusal::new("read the child's answer", Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    })?;
    // A child that was killed has said nothing.
    decode(&answer).unwrap_or_else(|| Err(Refusal::new("read the child's answer", Errno::EPIPE)))
}

/// The errno (0: success), a space, and the answer or the operation.
fn encode(answer: Result<String, Refusal>) -> String {
    match answer {
        Ok(text) => format!("0 {text}"),
        Err(refusal) => format!("{} {}", refusal.errno as i32, refusal.operation),
    }
}

fn decode(answer: &str) -> Option<Result<String, Refusal>> {
    let (number, text) = answer.split_once(' ')?;
    Some(match number.parse().ok()? {
        0 => Ok(text.to_owned()),
        errno => Err(Refusal::new(text, Errno::from_raw(errno))),
    })
}
