//! A program to be run by a test: what it is, and in which surroundings.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::fchown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::network::Network;
use crate::plain_user::{PlainUser, plain_user_directory};
use crate::running::{Output, Running};
use crate::sandbox::{Interior, Sandbox};
use crate::surroundings::Surroundings;
use crate::{poll_until, shared, terminal};

/// A program and how to run it, in the way of [`std::process::Command`].
///
/// It gets a session of its own, so that it and its children can be killed together; nothing of the test's
/// environment but `PATH` and `HOME` (and `NO_COLOR=1`, `LANG=C.UTF-8`), so that a result never depends on
/// who runs the test; and an empty standard input.
#[derive(Clone)]
#[must_use = "a program does nothing until it is run or spawned"]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    directory: Option<PathBuf>,
    timeout: Duration,
    plain_user: bool,
    sandbox: Option<Arc<Interior>>,
    network: Option<Network>,
    terminal: bool,
    denied: Option<(libc::c_long, Errno)>,
}

impl Program {
    /// The program at `path`; a name without a slash is looked up in `PATH`.
    pub fn new(path: impl AsRef<OsStr>) -> Program {
        let mut environment = BTreeMap::new();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                environment.insert(name.into(), value);
            }
        }
        environment.insert("NO_COLOR".into(), "1".into());
        environment.insert("LANG".into(), "C.UTF-8".into());
        Program {
            path: PathBuf::from(path.as_ref()),
            arguments: Vec::new(),
            environment,
            stdin: Vec::new(),
            directory: None,
            timeout: Duration::from_secs(60),
            plain_user: false,
            sandbox: None,
            network: None,
            terminal: false,
            denied: None,
        }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds one argument.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Program {
        self.args([argument])
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Removes an environment variable that a program gets by default.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Program {
        self.environment.remove(name.as_ref());
        self
    }

    /// What the program reads from its standard input, before the end of file.
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Program {
        self.stdin = text.as_ref().to_vec();
        self
    }

    /// The working directory; by default the test's, for a plain user the home directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Program {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// How long the program may take, from its start; 60 seconds by default. After that, the test panics.
    pub fn timeout(mut self, timeout: Duration) -> Program {
        self.timeout = timeout;
        self
    }

    /// Runs the program as [`PlainUser::get`] without supplementary groups. `HOME` is a fresh directory of
    /// that user, removed at the end; the cache directory is one for all programs of the test binary. A
    /// program given by its path is copied to the home: root's build directory may be out of reach.
    pub fn as_plain_user(mut self) -> Program {
        self.plain_user = true;
        self
    }

    /// Runs the program in the sandbox's mount, network and PID namespaces, and in its cgroups.
    pub fn in_sandbox(mut self, sandbox: &Sandbox) -> Program {
        self.sandbox = Some(sandbox.interior());
        self
    }

    /// Runs the program in this network namespace; in a sandbox, it takes the place of the sandbox's.
    pub fn in_network(mut self, network: &Network) -> Program {
        self.network = Some(network.clone());
        self
    }

    /// Lets the plain user reach the systemd that runs for that user: `systemd-run --user`, `systemctl --user`.
    pub fn with_user_manager(self) -> Program {
        let directory = format!("/run/user/{}", PlainUser::get().uid);
        let bus = format!("unix:path={directory}/bus");
        self.as_plain_user().env("XDG_RUNTIME_DIR", directory).env("DBUS_SESSION_BUS_ADDRESS", bus)
    }

    /// Runs the program on a new terminal of 24 rows and 80 columns, its controlling terminal. All that it
    /// prints is then [`Output::stdout`], with the terminal's `\r\n`; [`Program::stdin`] is typed.
    pub fn pty(mut self) -> Program {
        self.terminal = true;
        self
    }

    /// The kernel answers the system call `number` (`libc::SYS_*`) with `errno`, as an old kernel or a
    /// container's filter would.
    pub fn deny(mut self, number: libc::c_long, errno: Errno) -> Program {
        self.denied = Some((number, errno));
        self
    }

    /// Runs the program to its end. Panics when it can't be started, or at the time limit, with the output so
    /// far.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the program. Panics when it can't be started. It is killed when the calling thread ends, so a
    /// thread that starts a program keeps it.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let description = self.describe();
        let home = self.plain_user.then(|| self.move_in());
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(&self.environment);
        let terminal = match self.terminal {
            true => Some(attach_terminal(&mut command, self.plain_user)),
            false => {
                command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
        };
        let surroundings = self.surroundings();
        // SAFETY: enter makes system calls only: it takes no lock and allocates nothing between fork and
        // exec.
        unsafe { command.pre_exec(move || surroundings.enter()) };
        let deadline = Instant::now() + self.timeout;
        let child = start(&mut command, self.sandbox.as_deref());
        // Our copies of the terminal's other end live in the command; while they do, we would never see its
        // end.
        drop(command);
        match child {
            Ok(child) => Running::new(child, description, deadline, terminal, self.stdin, home),
            Err(error) => panic!("start {description}: {error}"),
        }
    }

    /// A fresh home for the plain user, with the program in it.
    fn move_in(&mut self) -> tempfile::TempDir {
        let home = plain_user_directory();
        if self.path.as_os_str().as_bytes().contains(&b'/') {
            let copy = home.path().join(self.path.file_name().expect("a program has a file name"));
            shared::copy(&self.path, &copy)
                .unwrap_or_else(|error| panic!("copy {} to {copy:?}: {error}", self.describe()));
            self.path = copy;
        }
        self.environment.insert("HOME".into(), home.path().into());
        self.environment.insert("XDG_CACHE_HOME".into(), shared::cache().into());
        self.directory.get_or_insert_with(|| home.path().to_owned());
        home
    }

    fn surroundings(&self) -> Surroundings {
        let directory = self.directory.clone();
        // Joining a mount namespace moves the process to that namespace's root directory.
        let directory = directory.or_else(|| {
            self.sandbox.is_some().then(|| std::env::current_dir().expect("the test's working directory"))
        });
        Surroundings {
            sandbox: self.sandbox.clone(),
            network: self.network.clone(),
            terminal: self.terminal,
            directory: directory
                .map(|path| CString::new(path.as_os_str().as_bytes()).expect("a path without NUL")),
            user: self.plain_user.then(PlainUser::get),
            denied: self.denied,
        }
    }

    /// The command line, for messages.
    fn describe(&self) -> String {
        let words =
            std::iter::once(self.path.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Makes the other end of a new terminal the command's standard streams, and returns our end.
fn attach_terminal(command: &mut Command, plain_user: bool) -> fs::File {
    let (master, slave) = terminal::open();
    if plain_user {
        // A terminal belongs to the user who sits at it; programs may open it by its name again.
        fchown(&slave, Some(PlainUser::get().uid.as_raw()), None).expect("fchown the terminal");
    }
    let copy = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("dup"));
    command.stdin(copy(&slave)).stdout(copy(&slave)).stderr(copy(&slave));
    master
}

/// Starts the command; its process is in the PID namespace of the sandbox, where one is given.
fn start(command: &mut Command, sandbox: Option<&Interior>) -> io::Result<Child> {
    let Some(sandbox) = sandbox else { return fork_and_exec(command) };
    // setns with CLONE_NEWPID moves no process: it decides where the next children of the calling thread are
    // born. It must be another thread than the test's, since a thread in this state can't start threads.
    thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            setns(sandbox.pid.as_fd(), CloneFlags::CLONE_NEWPID)?;
            fork_and_exec(command)
        });
        spawner.join().expect("the spawning thread")
    })
}

/// Starts the command, and tries again while its file is busy: a process that another test has just forked
/// still holds, up to its own exec, the descriptor through which we wrote the plain user's copy (ETXTBSY).
fn fork_and_exec(command: &mut Command) -> io::Result<Child> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let started = poll_until(deadline, || match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => None,
        result => Some(result),
    });
    started.unwrap_or_else(|| Err(Errno::ETXTBSY.into()))
}
