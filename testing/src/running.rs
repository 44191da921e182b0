//! A program that runs: its output as it comes, signals, keys typed on its terminal, and its end.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::capture::Capture;
use crate::process_tree::session_and_descendants;
use crate::{poll_until, terminal};

/// How long after a program's end its output is still awaited, while a child of it holds the pipe open.
const OUTPUT_AFTER_EXIT: Duration = Duration::from_secs(5);

/// How a program ended and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit status, if the program exited.
    pub code: Option<i32>,
    /// The signal, if one killed the program.
    pub signal: Option<i32>,
    /// The standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// The standard error output.
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => writeln!(formatter, "exit status {code}")?,
            (None, signal) => writeln!(formatter, "killed by signal {}", signal.unwrap_or_default())?,
        }
        write!(formatter, "--- stdout\n{}\n--- stderr\n{}\n---", self.stdout, self.stderr)
    }
}

/// A running program. When it is dropped before its end, it is killed with all its children, and reaped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    description: String,
    deadline: Instant,
    stdout: Arc<Capture>,
    stderr: Arc<Capture>,
    terminal: Option<File>,
    /// What is sent here is typed on the terminal.
    keyboard: Option<Sender<Vec<u8>>>,
    ended: bool,
    /// The plain user's home, kept until the program is done with it.
    _home: Option<TempDir>,
}

impl Running {
    pub(crate) fn new(
        mut child: Child,
        description: String,
        deadline: Instant,
        terminal: Option<File>,
        stdin: Vec<u8>,
        home: Option<TempDir>,
    ) -> Running {
        let keyboard = match (&terminal, child.stdin.take()) {
            (Some(terminal), _) => Some(start_writing(terminal.try_clone().expect("dup"))),
            (None, Some(pipe)) => Some(start_writing(pipe)),
            (None, None) => None,
        };
        if let Some(keyboard) = keyboard.as_ref().filter(|_| !stdin.is_empty()) {
            keyboard.send(stdin).expect("the writing thread");
        }
        // A pipe ends with what was given; a terminal stays.
        let keyboard = keyboard.filter(|_| terminal.is_some());
        let stdout = match &terminal {
            Some(terminal) => Capture::start(Some(terminal.try_clone().expect("dup"))),
            None => Capture::start(child.stdout.take()),
        };
        let stderr = Capture::start(child.stderr.take());
        Running {
            child,
            description,
            deadline,
            stdout,
            stderr,
            terminal,
            keyboard,
            ended: false,
            _home: home,
        }
    }

    /// The process id, as the test's own PID namespace sees it.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to the program alone, not to its children.
    #[track_caller]
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill touches no memory; the child is not yet reaped, so the pid is still its own.
        let result = unsafe { libc::kill(self.pid(), signal) };
        Errno::result(result).unwrap_or_else(|errno| panic!("kill({}, {signal}): {errno}", self.pid()));
    }

    /// Waits for the program's end. Panics at the time limit, with the output so far.
    ///
    /// Children that outlive the program are left alone: a leak must stay visible to the test that looks for
    /// it.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        if poll_until(self.deadline, || self.has_exited().then_some(())).is_none() {
            self.panic_with_output("did not end in time");
        }
        let deadline = Instant::now() + OUTPUT_AFTER_EXIT;
        self.stdout.wait_for_end(deadline);
        self.stderr.wait_for_end(deadline);
        let status = self.child.wait().expect("wait");
        self.ended = true;
        Output {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// The next line of the standard output, without its end. Panics when the output ends first, or at the
    /// time limit.
    #[track_caller]
    pub fn stdout_line(&mut self) -> String {
        self.line(Arc::clone(&self.stdout))
    }

    /// The next line of the standard error output; otherwise like [`Running::stdout_line`].
    #[track_caller]
    pub fn stderr_line(&mut self) -> String {
        self.line(Arc::clone(&self.stderr))
    }

    #[track_caller]
    fn line(&mut self, stream: Arc<Capture>) -> String {
        match stream.take_up_to("\n", self.deadline) {
            Some(line) => line.trim_end_matches(['\r', '\n']).to_string(),
            None => self.panic_with_output("did not print another line"),
        }
    }

    /// Waits until `text` appears in the standard output, after what was returned before. Returns everything
    /// up to its end. Panics when it does not appear within `limit`.
    #[track_caller]
    pub fn expect(&mut self, text: &str, limit: Duration) -> String {
        match self.stdout.take_up_to(text, Instant::now() + limit) {
            Some(output) => output,
            None => self.panic_with_output(&format!("did not print {text:?}")),
        }
    }

    /// Types a line on the program's terminal, with the Enter key.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        self.type_keys(&format!("{line}\r"));
    }

    /// Types characters on the program's terminal: `"\x03"` is Ctrl-C, `"\x1a"` Ctrl-Z, `"\x04"` Ctrl-D.
    #[track_caller]
    pub fn type_keys(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_ref().expect("a program with .pty()");
        // Where the thread has ended, so has the program, and nobody reads what is typed.
        keyboard.send(keys.into()).unwrap_or_default();
    }

    /// Changes the size of the program's terminal, as a user who drags the window's corner.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        terminal::resize(self.terminal.as_ref().expect("a program with .pty()"), rows, columns);
    }

    /// Whether the program has ended. It stays a zombie, so that its pid stays its own.
    fn has_exited(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let state = waitid(Id::Pid(Pid::from_raw(self.pid())), flags).expect("waitid");
        !matches!(state, WaitStatus::StillAlive)
    }

    #[track_caller]
    fn panic_with_output(&mut self, what: &str) -> ! {
        self.kill_all();
        panic!(
            "{} {what}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.description,
            self.stdout.text(),
            self.stderr.text()
        );
    }

    /// Kills the program, its session and its descendants, and reaps the program.
    fn kill_all(&mut self) {
        if self.ended {
            return;
        }
        for pid in session_and_descendants(self.pid()) {
            // SAFETY: kill touches no memory. A process that has just ended makes it fail, which is as well.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        self.child.wait().expect("wait");
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// A thread that writes what it is sent. A program that reads nothing makes the writer wait, and its end does
/// not wake the writer on every kernel; that must not stop the test.
fn start_writing(mut to: impl Write + Send + 'static) -> Sender<Vec<u8>> {
    let (sender, receiver) = channel::<Vec<u8>>();
    thread::spawn(move || receiver.into_iter().try_for_each(|text| to.write_all(&text)));
    sender
}
