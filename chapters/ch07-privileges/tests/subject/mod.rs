//! A process that does something to itself and then waits, so that it can be looked at from outside.
//!
//! The claims of this chapter are about a process's credentials. Threads share some of them and not others,
//! and most can't be taken back; so each claim has a process of its own. It is a copy of one that has a single
//! thread (see `forked`): of libtest's, with a thread for each test, a copy may have locks for ever that another thread
//! held at that moment, those of the backtrace that an error has with RUST_BACKTRACE=1 among them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, geteuid, pause, pipe2, setgroups, setresgid, setresuid};
use testing::{PlainUser, process};

/// As whom the process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// As who runs the tests.
    Ourselves,
    /// As the plain user.
    PlainUser,
    /// As root of a user namespace that the plain user has made, in which no other user is.
    RootOfNamespace,
}

/// A copy of this process in the middle of a test. It is killed when it is dropped.
pub struct Subject {
    pub pid: i32,
    words: BufReader<File>,
}

impl Subject {
    /// Runs `life` in a copy of this process, which waits after it. What `life` returns is its last word.
    pub fn start(who: Who, life: impl FnOnce(&mut File) -> Result<String>) -> Subject {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let user = PlainUser::get();
        // SAFETY: this process has a single thread, so its copy is whole.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                Subject { pid: child.as_raw(), words: BufReader::new(File::from(read)) }
            }
            ForkResult::Child => {
                drop(read);
                let mut write = File::from(write);
                let lived =
                    catch_unwind(AssertUnwindSafe(|| begin_as(who, &user).and_then(|()| life(&mut write))));
                let word = lived.unwrap_or_else(|_| Err(anyhow!("panicked")));
                let word = word.unwrap_or_else(|error| format!("failed: {error:#}"));
                writeln!(write, "{}", word.replace('\n', " ")).unwrap_or_default();
                drop(write);
                loop {
                    pause();
                }
            }
        }
    }

    /// The next word that it says; nothing once it executes another program.
    pub fn word(&mut self) -> String {
        let mut word = String::new();
        self.words.read_line(&mut word).unwrap();
        word.trim_end().to_string()
    }

    /// Waits until it is the program `sleep`. Its last word says too little: exec(2) closes our pipe before
    /// it gives the new program its credentials.
    #[track_caller]
    pub fn sleeps(&mut self) {
        assert_eq!(self.word(), "");
        let sleeps = || self.status("Name") == "sleep" && self.status("State").starts_with('S');
        testing::poll(Duration::from_secs(30), || sleeps().then_some(()));
    }

    /// A line of its `/proc/PID/status`.
    pub fn status(&self, key: &str) -> String {
        process::status(self.pid, key).unwrap_or_else(|| panic!("no {key} of process {}", self.pid))
    }

    /// A set of capabilities of it: `CapEff`...
    pub fn set(&self, key: &str) -> u64 {
        u64::from_str_radix(&self.status(key), 16).unwrap()
    }

    /// Its five sets: inheritable, permitted, effective, bounding, ambient.
    pub fn sets(&self) -> [u64; 5] {
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|key| self.set(key))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.pid);
        kill(pid, Signal::SIGKILL).unwrap();
        waitpid(pid, None).unwrap();
    }
}

/// Gives up root for good.
pub fn become_plain_user(user: &PlainUser) -> Result<()> {
    if geteuid().is_root() {
        setgroups(&[user.gid])?;
        setresgid(user.gid, user.gid, user.gid)?;
        setresuid(user.uid, user.uid, user.uid)?;
        // The change of user has given our files in /proc to root.
        nix::sys::prctl::set_dumpable(true)?;
    }
    Ok(())
}

fn begin_as(who: Who, user: &PlainUser) -> Result<()> {
    if who == Who::Ourselves {
        return Ok(());
    }
    become_plain_user(user)?;
    if who == Who::RootOfNamespace {
        unshare(CloneFlags::CLONE_NEWUSER).context("unshare")?;
        fs::write("/proc/self/setgroups", "deny").context("setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {} 1", user.uid)).context("uid_map")?;
        fs::write("/proc/self/gid_map", format!("0 {} 1", user.gid)).context("gid_map")?;
    }
    Ok(())
}

/// Becomes a program: the last thing that a life does.
pub fn exec(program: &str, arguments: &[&str]) -> Result<String> {
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let arguments: Vec<_> = [program].iter().chain(arguments).map(|argument| text(argument)).collect();
    nix::unistd::execvp(&text(program), &arguments).with_context(|| format!("exec {program}"))?;
    unreachable!()
}

/// What a call answers: `ok`, or the errno's name.
pub fn answer<T>(result: Result<T, nix::Error>) -> String {
    result.map_or_else(|errno| format!("{errno:?}"), |_| "ok".to_string())
}
