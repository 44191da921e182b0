//! A network namespace as a test uses it: its own code, or a program, in there. network_namespaces(7).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Program;
use crate::sandbox::{forward_nothing, set_loopback_up};

/// A network namespace. It lives as long as a copy of this, without any process in it.
#[derive(Clone, Debug)]
pub struct Network {
    namespace: Arc<OwnedFd>,
}

impl Network {
    /// The network namespace that a process is in: a container's, by the pid that the test sees.
    #[track_caller]
    pub fn of(pid: i32) -> Network {
        Network::open(&format!("/proc/{pid}/ns/net"))
    }

    /// A new one, its `lo` up, that forwards nothing.
    #[expect(clippy::new_without_default, reason = "a default that makes a namespace would surprise")]
    #[track_caller]
    pub fn new() -> Network {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
            set_loopback_up().expect("set lo up");
            forward_nothing().expect("forward nothing");
            Network::open("/proc/thread-self/ns/net")
        });
        made.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    #[track_caller]
    fn open(path: &str) -> Network {
        let file = File::open(path).unwrap_or_else(|error| panic!("open {path}: {error}"));
        Network { namespace: Arc::new(file.into()) }
    }

    /// Runs `action` in a thread that has joined the namespace, and returns its result. Sockets that it makes
    /// stay in the namespace, wherever they are used. `/proc/sys/net` and `/proc/thread-self/net` are the
    /// namespace's there; `/proc/self/net` is not, since it shows the first thread's.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns(CLONE_NEWNET)");
                action()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a line of shell there, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        let output = Program::new("sh").args(["-ec", line]).in_network(self).run();
        assert_eq!(output.code, Some(0), "{line}: {output}");
        output.stdout
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
