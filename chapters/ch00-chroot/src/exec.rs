//! Become another program.
//!
//! execve(2) keeps the process (its pid, its root directory, its namespaces) and replaces the program that
//! runs in it. This is why everything that makes a container is done first, and exec last: the command never
//! sees how.
//!
//! Not all is replaced. An *ignored* signal stays ignored, and the signal mask stays; a Rust program ignores
//! SIGPIPE and ours block signals, so both are put back first. File descriptors stay open unless they are
//! close-on-exec.
//!
//! Exit statuses follow the shells, env(1) and docker: 126 where the command was found but could not be
//! executed, 127 where it was not found, 125 where the program that should have started it failed.

use std::convert::Infallible;
use std::ffi::{CString, NulError, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use log::info;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::signal::{sigaction, sigprocmask};
use nix::unistd;

// ANCHOR: statuses
/// The exit status of a program of ours that failed before the command could run.
pub const FAILED: u8 = 125;
/// The exit status where the command was found but could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The exit status where the command was not found.
pub const NOT_FOUND: u8 = 127;
// ANCHOR_END: statuses

// ANCHOR: path
/// The PATH that a root file system is given: the one that Debian and Docker use.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// ANCHOR_END: path

// ANCHOR: error
/// Why a command could not be executed.
#[derive(Clone, Debug)]
pub struct ExecError {
    /// The command as it was given; where it was found, the path of the file.
    pub file: PathBuf,
    /// Whether there is such a file.
    pub found: bool,
    /// What execve(2) said.
    pub errno: Errno,
}

impl ExecError {
    /// 126 or 127, as the module's text says.
    pub fn exit_code(&self) -> u8 {
        if self.found { NOT_EXECUTABLE } else { NOT_FOUND }
    }

    /// In plain words, what the errno means here.
    fn reason(&self) -> &'static str {
        match self.errno {
            Errno::ENOENT if self.found => {
                "the file is there, but its interpreter (after #!, or the ELF loader) is not"
            }
            Errno::ENOENT => "there is no such command in this root",
            Errno::EINVAL => "an argument or a variable of the environment has a NUL byte in it",
            Errno::EACCES => "it is not a file that this user may execute",
            Errno::ENOEXEC => "it is not a program for this machine, nor a script that begins with #!",
            _ => "execve(2) lists the reasons",
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let ExecError { file, errno, .. } = self;
        write!(formatter, "execve {file:?}: {} ({errno:?}): {}", errno.desc(), self.reason())
    }
}

impl std::error::Error for ExecError {}

/// The status with which a program of ours ends because of `error`: that of the [`ExecError`] in it, else
/// 125.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<ExecError>().map_or(FAILED, ExecError::exit_code)
}
// ANCHOR_END: error

// ANCHOR: exec
/// Replaces this process by `command`, with `environment` (lines `NAME=value`) as its only environment.
///
/// A command without a `/` is looked up in the PATH of `environment`. Returns only where that failed.
///
/// # Errors
///
/// See [`ExecError`]; its exit code is 126 or 127.
pub fn exec(command: &[OsString], environment: &[OsString]) -> Result<Infallible, ExecError> {
    let name = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let mut failure = ExecError { file: name.into(), found: false, errno: Errno::ENOENT };
    let (Ok(arguments), Ok(variables)) = (c_strings(command), c_strings(environment)) else {
        return Err(ExecError { found: true, errno: Errno::EINVAL, ..failure });
    };
    reset_signals();

    for file in candidates(name, environment) {
        let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { continue };
        if file.exists() {
            info!(target: "syscall", "execve({file:?}, ...)  same process, new program");
        }
        let Err(errno) = unistd::execve(&path, &arguments, &variables);
        // As a shell does: a file that may not be executed does not end the search, but is what we report. A
        // path that was given is reported too where a directory on it is closed to us (EACCES); one of PATH
        // is passed over.
        let found = file.exists() || (errno == Errno::EACCES && file == Path::new(name));
        if found && !failure.found {
            failure = ExecError { file, found, errno };
        }
    }
    Err(failure)
}

/// The paths at which `name` may be, in the order in which they are tried.
fn candidates(name: &OsStr, environment: &[OsString]) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.as_bytes().contains(&b'/') {
        return vec![name.into()];
    }
    let path =
        environment.iter().find_map(|line| line.as_bytes().strip_prefix(b"PATH=")).unwrap_or(PATH.as_bytes());
    std::env::split_paths(OsStr::from_bytes(path)).map(|directory| directory.join(name)).collect()
}
// ANCHOR_END: exec

// ANCHOR: signals
/// Gives the command the signals that a program expects to find: all unblocked, SIGPIPE deadly, and the end
/// of a child told. Others that the caller ignores stay so, as nohup(1) wants it.
fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGPIPE, Signal::SIGCHLD] {
        // SAFETY: SIG_DFL installs no code of ours, so no handler can run in a bad state.
        let reset = unsafe { sigaction(signal, &default) };
        reset.expect("both signals have a default action");
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).expect("the empty mask is valid");
}
// ANCHOR_END: signals

// ANCHOR: environment
/// The environment for a command in a root file system: nothing of the host's but the type of the terminal.
pub fn clean_environment() -> Vec<OsString> {
    let mut environment: Vec<OsString> = vec![format!("PATH={PATH}").into(), "HOME=/root".into()];
    if let Some(terminal) = std::env::var_os("TERM") {
        let mut line = OsString::from("TERM=");
        line.push(terminal);
        environment.push(line);
    }
    environment
}
// ANCHOR_END: environment

/// The environment of this process, for a command that stays on the host's root file system.
pub fn own_environment() -> Vec<OsString> {
    std::env::vars_os()
        .map(|(name, value)| {
            let mut line = name;
            line.push("=");
            line.push(value);
            line
        })
        .collect()
}

// ANCHOR: c_strings
/// The kernel takes C strings, which end at their first NUL: a string that contains one can't be passed.
fn c_strings(list: &[OsString]) -> Result<Vec<CString>, NulError> {
    list.iter().map(|text| CString::new(text.as_bytes())).collect()
}
// ANCHOR_END: c_strings
