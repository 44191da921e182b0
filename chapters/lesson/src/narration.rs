//! Narration: the logger that prints what a lesson does, step by step.
//!
//! Libraries describe each system call at the moment they make it, through the facade of the crate `log`. The
//! target of a line says what it is:
//!
//! - `syscall`: a step, numbered: the call as one would write it in C, two spaces, the reason.
//! - `say`: a sentence of the lesson.
//! - `kernel`: what was read back from the kernel after a step.
//!
//! Warnings and errors, of any target, are printed as such, with `--quiet` too.
//!
//! A lesson is more than one process, and its steps are counted through all of them: the counter stands in a
//! page of memory that a child shares with its parent. Each process prints its own lines, at once, to a copy
//! of the standard error that the lesson began with; so a line is never late, and none is lost when a process
//! is killed.
//!
//! With `--step` each step waits for Enter before it is done. That is read from `/dev/tty`, opened early:
//! standard input belongs to the command, and inside a container there may be no `/dev/tty`.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A step whose line is longer has its reason on a line of its own; other lines are broken.
const WIDTH: usize = 100;

/// What prints.
#[derive(Debug)]
pub(crate) struct Narration {
    /// A copy of standard error: the command's own may be another one later, such as a new terminal.
    output: File,
    /// Where Enter is read from, with `--step`.
    terminal: Option<File>,
    /// Whether to use colour: on a terminal, unless NO_COLOR is set.
    colour: bool,
    /// What children have in common with it.
    shared: &'static Shared,
    /// The process that began the lesson. Others are its children.
    host: u32,
}

/// In memory that this process shares with its children.
#[derive(Debug)]
struct Shared {
    /// The number of the last step.
    steps: AtomicU32,
    /// A signal has asked one of them for the end: none waits for a key any more.
    is_over: AtomicBool,
}

static NARRATION: OnceLock<Narration> = OnceLock::new();

impl Narration {
    /// Installs the logger. With `quiet` it prints warnings and errors alone, and other lines cost one atomic load.
    pub(crate) fn start(quiet: bool, step: bool) -> Result<&'static Narration> {
        let output = std::io::stderr().as_fd().try_clone_to_owned().context("duplicate standard error")?;
        let colour =
            output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = step.then(|| File::open("/dev/tty")).transpose();
        let terminal = terminal.context("open \"/dev/tty\": --step waits for Enter, and needs a terminal")?;
        let (shared, host) = (shared_memory()?, std::process::id());
        let narration =
            NARRATION.get_or_init(|| Narration { output: output.into(), terminal, colour, shared, host });
        log::set_logger(narration).map_err(|error| anyhow!("install the narration: {error}"))?;
        log::set_max_level(if quiet { LevelFilter::Warn } else { LevelFilter::Info });
        Ok(narration)
    }

    /// The descriptors without which a child can't narrate. All are close-on-exec.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(&self.output), self.terminal.as_ref()].into_iter().flatten().map(AsFd::as_fd)
    }

    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Prints `text`, narration or not.
    pub(crate) fn print(&self, text: &str) {
        // A reader who has closed standard error wants no lines; the lesson goes on without them.
        (&self.output).write_all(text.as_bytes()).unwrap_or_default();
    }

    fn step(&self, text: &str) {
        let number = self.shared.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let who = if std::process::id() == self.host { "host " } else { "child" };
        let (call, reason) = text.split_once("  ").unwrap_or((text, ""));
        let gap = if call.len() + reason.len() + 12 > WIDTH { "\n            " } else { "  " };
        self.print(&match (self.colour, reason.is_empty()) {
            (_, true) => format!("{number:>3} {who}  {call}\n"),
            (false, false) => format!("{number:>3} {who}  {call}{gap}# {reason}\n"),
            (true, false) => {
                format!("\x1b[36m{number:>3} {who}\x1b[0m  {call}{gap}\x1b[2m# {reason}\x1b[0m\n")
            }
        });
        if let Some(mut terminal) = self.terminal.as_ref() {
            // Up to the end of the line: one key at a time, since another process may read the next line.
            let mut key = [0];
            while self.waits_for_key(terminal.as_fd())
                && terminal.read(&mut key).is_ok_and(|length| length == 1)
                && key != *b"\n"
            {}
        }
    }

    /// Waits for a key; says no when a signal has asked for the end. A child that is made after the signal came has not
    /// got it, and would wait for a key while its parent waits for it.
    fn waits_for_key(&self, terminal: BorrowedFd) -> bool {
        let goes_on = !self.shared.is_over.load(Ordering::Relaxed) && waits_for_key(terminal);
        self.shared.is_over.fetch_or(!goes_on, Ordering::Relaxed);
        goes_on
    }
}

impl Log for Narration {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let text = record.args().to_string();
        match (record.level(), record.target()) {
            (Level::Error, _) => self.print(&format!("error: {text}\n")),
            (Level::Warn, _) => self.print(&format!("warning: {text}\n")),
            (_, "syscall") => self.step(&text),
            (_, "kernel") => self.print(&format!("       = {}\n", wrap(&text).join("\n         "))),
            _ if self.colour => self.print(&format!("\x1b[1m{text}\x1b[0m\n")),
            _ => self.print(&format!("{text}\n")),
        }
    }

    fn flush(&self) {}
}

/// Waits for a key; says no when a signal asks for the end, which a lesson that has much to take down keeps for later:
/// the steps that are left should not wait for anyone then.
fn waits_for_key(terminal: BorrowedFd) -> bool {
    let ends: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
    // Not to take the signal: only to hear of one that is blocked.
    let Ok(signals) = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC) else { return true };
    let mut sources =
        [PollFd::new(terminal, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    while poll(&mut sources, PollTimeout::NONE) == Err(Errno::EINTR) {}
    sources[1].any() != Some(true)
}

/// The text in lines that fit, broken at its spaces.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() + 9 <= WIDTH => *line += &format!(" {word}"),
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// What this process and its children share; all of it is zero.
fn shared_memory() -> Result<&'static Shared> {
    let (length, writable) = (size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a new mapping, at an address that the kernel chooses, disturbs no memory that is in use.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), length, writable, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return Err(anyhow!(Errno::last()).context("mmap of what the narration shares"));
    }
    // SAFETY: the page is zeroed, aligned, large enough, and never unmapped. Processes that share it use what is
    // in it as atomics only, of which zero is a value.
    Ok(unsafe { &*page.cast::<Shared>() })
}
