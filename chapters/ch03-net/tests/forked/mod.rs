//! A process with a single thread, as a lesson is: what makes processes by `Spawn` refuses to run in a test's threads.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};
use testing::Network;

/// A copy of this process in the middle of a test. It is killed, as by kill -9, when it is dropped.
pub struct Forked {
    pid: Pid,
    lines: BufReader<File>,
}

impl Forked {
    /// Runs `life` in a copy of this process, in `network`; the first line that it says is its result, or the error.
    pub fn start(network: &Network, life: impl FnOnce(&mut File) -> Result<()> + Send) -> Forked {
        network.run(|| {
            let (read, write) = pipe().unwrap();
            // SAFETY: the child has this thread alone. It takes no lock that another one of libtest's threads may have
            // held: it prints nothing, and glibc's allocator is made to be forked.
            match unsafe { fork() }.unwrap() {
                ForkResult::Parent { child } => {
                    Forked { pid: child, lines: BufReader::new(File::from(read)) }
                }
                ForkResult::Child => {
                    drop(read);
                    let mut write = File::from(write);
                    if let Err(error) = life(&mut write) {
                        writeln!(write, "{error:#}").unwrap_or_default();
                    }
                    // SAFETY: _exit(2) ends the process and touches no memory of it.
                    unsafe { libc::_exit(0) }
                }
            }
        })
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
        waitpid(self.pid, None).unwrap();
    }
}
