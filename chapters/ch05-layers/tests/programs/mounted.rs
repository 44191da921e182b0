//! A union that is mounted for a test: one read-only branch below, one read-write on top.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use testing::process::children;
use testing::{Output, Program, Running, Sandbox, poll};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ch05-layers");
pub const LIMIT: Duration = Duration::from_secs(60);

/// The union is seen in the sandbox's mount namespace alone.
pub struct Mounted {
    server: Option<Running>,
    arguments: Vec<String>,
    sandbox: Sandbox,
    directory: TempDir,
}

impl Mounted {
    /// Mounts a union, after `fill` has put something into the lower branch.
    pub fn new(fill: impl FnOnce(&Mounted)) -> Mounted {
        Mounted::with(&[], fill)
    }

    /// The same with more arguments for `mount`.
    pub fn with(arguments: &[&str], fill: impl FnOnce(&Mounted)) -> Mounted {
        let directory = tempfile::tempdir().expect("mkdtemp");
        for name in ["lower", "top", "union"] {
            fs::create_dir(directory.path().join(name)).expect("mkdir");
        }
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let mut mounted = Mounted { server: None, arguments, sandbox: Sandbox::new(), directory };
        fill(&mounted);
        mounted.mount();
        mounted
    }

    /// Starts a server, and waits for the mount.
    pub fn mount(&mut self) {
        let branch = |name: &str, mode: &str| {
            ["--branch".to_string(), format!("{}={mode}", self.directory.path().join(name).display())]
        };
        let mut server = Program::new(PROGRAM)
            .args(["mount", "--quiet", "--allow-other"])
            .args(&self.arguments)
            .args(branch("top", "rw"))
            .args(branch("lower", "ro"))
            .arg(self.union())
            .timeout(Duration::from_secs(3600))
            .in_sandbox(&self.sandbox)
            .spawn();
        while !server.stderr_line().starts_with("ready:") {}
        self.server = Some(server);
    }

    pub fn lower(&self) -> PathBuf {
        self.directory.path().join("lower")
    }

    pub fn top(&self) -> PathBuf {
        self.directory.path().join("top")
    }

    /// The mount point, as programs in the sandbox see it.
    pub fn union(&self) -> PathBuf {
        self.directory.path().join("union")
    }

    /// The same mount, as the test sees it from outside of the sandbox.
    pub fn seen(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.sandbox.pid()));
        root.join(self.union().strip_prefix("/").expect("an absolute path")).join(path)
    }

    /// A program whose working directory is the union.
    pub fn program(&self, name: &str) -> Program {
        Program::new(name).current_dir(self.union()).in_sandbox(&self.sandbox).timeout(LIMIT * 10)
    }

    /// Runs a shell script in the union; it must succeed.
    pub fn shell(&self, script: &str) -> Output {
        let output = self.program("sh").args(["-eu", "-c", script]).run();
        assert_eq!(output.code, Some(0), "{script}\n{output}");
        output
    }

    /// The process that serves the mount, a child of the program.
    pub fn server_process(&self) -> i32 {
        let program = self.server.as_ref().expect("mounted").pid();
        poll(LIMIT, || children(program).first().copied())
    }

    /// Kills the process that serves, as a crash would, and waits until the program has said so and ended.
    pub fn kill_server(&mut self) -> Output {
        kill(Pid::from_raw(self.server_process()), Signal::SIGKILL).expect("kill");
        self.server.take().expect("mounted").wait()
    }

    /// Ends the server; nothing may be left of it.
    pub fn end(mut self) {
        let server = self.server.take().expect("mounted");
        server.signal(libc::SIGTERM);
        let output = server.wait();
        assert_eq!(output.code, Some(0), "{output}");
        self.sandbox.check();
    }
}
