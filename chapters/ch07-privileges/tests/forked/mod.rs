//! Tests in a process with a single thread, as `keel` is. Each can fork a copy of itself, which may do all
//! that a program may: make processes by `Spawn`, and change what it is without changing the test. In
//! libtest's process, with its threads, a copy would inherit locks that nobody will ever open again.

#![allow(dead_code)]

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe, setgroups, setresgid, setresuid};
use testing::PlainUser;

/// The tests of a file by their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        fn main() -> std::process::ExitCode {
            testing::run_tests!($($name),+)
        }
    };
}

/// The copy, as the test sees it. It lives until it is dropped, so that the test can look at it, and is
/// killed then.
pub struct Forked {
    pid: Pid,
    lines: BufReader<File>,
    gate: File,
}

/// What the copy has of the test.
pub struct Life {
    lines: File,
    gate: File,
}

impl Life {
    /// A line for [`Forked::line`].
    pub fn say(&mut self, line: impl Display) {
        writeln!(self.lines, "{line}").unwrap();
    }

    /// Waits until the test calls [`Forked::go`].
    pub fn wait(&mut self) {
        self.gate.read_exact(&mut [0]).unwrap();
    }
}

impl Forked {
    /// Runs `life` in a copy of this process. Where it fails, the next line is the error.
    pub fn start(life: impl FnOnce(&mut Life) -> Result<()>) -> Forked {
        let (read, write) = pipe().unwrap();
        let (gate_in_copy, gate) = pipe().unwrap();
        // SAFETY: this process has a single thread, so its copy is whole.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                Forked { pid: child, lines: BufReader::new(read.into()), gate: gate.into() }
            }
            ForkResult::Child => {
                drop((read, gate));
                dies_with_parent();
                let mut own = Life { lines: write.into(), gate: gate_in_copy.into() };
                let ended = catch_unwind(AssertUnwindSafe(|| life(&mut own)));
                if let Err(error) = ended.unwrap_or_else(|_| Err(anyhow!("panicked"))) {
                    own.say(format!("error: {error:#}"));
                }
                loop {
                    // SAFETY: pause(2) waits for a signal.
                    unsafe { libc::pause() };
                }
            }
        }
    }

    /// As [`Forked::start`], as the plain user.
    pub fn as_plain_user(life: impl FnOnce(&mut Life) -> Result<()>) -> Forked {
        Forked::start(|own| {
            become_plain_user()?;
            dies_with_parent();
            life(own)
        })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        self.gate.write_all(b"!").unwrap();
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
        waitpid(self.pid, None).unwrap();
    }
}

/// A copy can make copies, and the test knows only the first. A change of the user clears it.
pub fn dies_with_parent() {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
}

fn become_plain_user() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = PlainUser::get();
    setgroups(&[]).context("setgroups")?;
    setresgid(user.gid, user.gid, user.gid).context("setresgid")?;
    setresuid(user.uid, user.uid, user.uid).context("setresuid")?;
    // A program that the user has started is its own: a change of the user makes a process non-dumpable.
    nix::sys::prctl::set_dumpable(true).context("prctl(PR_SET_DUMPABLE)")
}

/// A process in new namespaces, of the kinds `flags`, that waits to be killed.
pub fn waiting_in(flags: nix::sched::CloneFlags) -> Forked {
    let mut waiting = Forked::start(|life| {
        nix::sched::unshare(flags).context("unshare")?;
        life.say("ready");
        Ok(())
    });
    assert_eq!(waiting.line(), "ready");
    waiting
}
