//! Namespaces and cgroups of a test's own, in which everything that a program leaves behind can be counted.
//!
//! The sandbox is a process, `cat` waiting at a pipe, that is PID 1 of a new PID namespace, with a new mount
//! namespace (private, its own `/proc` and `/run/hull`) and a new network namespace (its `lo` up). When the
//! test ends in whatever way, the pipe closes, PID 1 ends, and the kernel kills all that is left in the
//! namespace: pid_namespaces(7). Programs in the sandbox start in a cgroup of its own in each hierarchy.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::write;

use crate::cgroups::Cgroups;
use crate::leaks::State;
use crate::neighbour::Neighbour;
use crate::network::Network;
use crate::poll_until;
use crate::state_directory::{self, StateDirectory};

/// How long the kernel may take to remove what a program has left: it takes down mounts and links late.
const REMOVAL: Duration = Duration::from_secs(5);

/// Fresh mount, network and PID namespaces, fresh cgroups, and what was in them at the start. Needs root.
#[derive(Debug)]
pub struct Sandbox {
    holder: Child,
    interior: Arc<Interior>,
    network: Network,
    /// Kept here, so that the machine next door is there as long as the sandbox.
    neighbours: Vec<Network>,
    cgroups: Cgroups,
    start: State,
    _state_directory: StateDirectory,
}

/// What a program needs to get into the sandbox.
#[derive(Debug)]
pub(crate) struct Interior {
    /// Descriptors of the namespaces: `/proc/PID/ns/*` of the holder.
    pub(crate) mount: OwnedFd,
    pub(crate) network: OwnedFd,
    pub(crate) pid: OwnedFd,
    /// `cgroup.procs` in each hierarchy.
    pub(crate) cgroups: Vec<OwnedFd>,
}

impl Sandbox {
    /// Makes the namespaces. Panics where the kernel refuses; a test asks for `needs!(Root)` first.
    #[expect(clippy::new_without_default, reason = "a default that makes processes would surprise")]
    #[track_caller]
    pub fn new() -> Sandbox {
        let state_directory = StateDirectory::new()
            .unwrap_or_else(|error| panic!("make and lock {}: {error}", state_directory::PATH));
        let cgroups = Cgroups::new();
        // In a thread of its own: unshare with CLONE_NEWPID decides where the next children of the calling
        // thread are born, and a thread in this state can't start threads.
        let holder = thread::spawn(|| -> io::Result<Child> {
            unshare(CloneFlags::CLONE_NEWPID)?;
            let mut command = Command::new("cat");
            command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            // SAFETY: become_holder makes system calls only: it takes no lock and allocates nothing.
            unsafe { command.pre_exec(become_holder) };
            command.spawn()
        });
        let holder = holder.join().expect("the spawning thread");
        let holder = holder.unwrap_or_else(|error| panic!("make the sandbox's namespaces: {error}"));
        let namespace = |name: &str| -> OwnedFd {
            let path = format!("/proc/{}/ns/{name}", holder.id());
            File::open(&path).unwrap_or_else(|error| panic!("open {path}: {error}")).into()
        };
        let interior = Interior {
            mount: namespace("mnt"),
            network: namespace("net"),
            pid: namespace("pid"),
            cgroups: cgroups.doors(),
        };
        let network = Network::of(holder.id() as i32);
        let start = State::read(holder.id(), &network, &cgroups);
        Sandbox {
            holder,
            interior: Arc::new(interior),
            network,
            neighbours: Vec::new(),
            cgroups,
            start,
            _state_directory: state_directory,
        }
    }

    /// The sandbox's PID 1, as the test's own PID namespace sees it: `/proc/PID/mountinfo` is the sandbox's
    /// mount table.
    pub fn pid(&self) -> i32 {
        self.holder.id() as i32
    }

    /// The sandbox's network namespace, which plays the host's.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Joins the sandbox's network to a second one, which plays the internet and the machines of the local
    /// network. Its link and routes are no leaks. Once for a sandbox; needs `Tool("ip")`.
    #[track_caller]
    pub fn neighbour(&mut self) -> Neighbour {
        self.check();
        let neighbour = Neighbour::new(&self.network);
        self.neighbours.push(neighbour.network.clone());
        self.accept();
        neighbour
    }

    /// The sandbox's own cgroup, in the hierarchy that has this controller (`memory`), as its directory;
    /// nothing where no hierarchy has it. On version 1 the sandbox's programs stand in this cgroup. On
    /// version 2 its controllers are enabled for its children, and programs stand in its leaf `programs`.
    pub fn cgroup(&self, controller: &str) -> Option<PathBuf> {
        self.cgroups.directory(controller).map(PathBuf::from)
    }

    /// The sandbox's own cgroup in the hierarchy of version 2, where there is one, with or without
    /// controllers.
    pub fn cgroup_v2(&self) -> Option<PathBuf> {
        self.cgroups.directory_v2().map(PathBuf::from)
    }

    /// Gives the sandbox's cgroups to the plain user, as systemd does with `Delegate=yes`.
    #[track_caller]
    pub fn delegate_cgroups(&self) {
        self.cgroups.delegate();
    }

    /// Takes what is in the sandbox now for its start: what the test itself has put there is no leak.
    pub fn accept(&mut self) {
        self.start = self.state();
    }

    /// Panics when there is more in the sandbox than at its start, and still is after 5 seconds: mounts,
    /// processes with the namespaces they hold, cgroups, links, addresses, routes, changed sysctls, a changed
    /// nftables ruleset (where `nft` is installed), files in `/run/hull` other than locks (`lock`, `*.lock`).
    /// Names each. A sandbox checks itself when it is dropped.
    #[track_caller]
    pub fn check(&self) {
        self.check_within(REMOVAL);
    }

    /// Like [`Sandbox::check`], with another limit than 5 seconds.
    #[track_caller]
    pub fn check_within(&self, limit: Duration) {
        let mut leaks = Vec::new();
        let clean = poll_until(Instant::now() + limit, || {
            leaks = self.state().more_than(&self.start);
            leaks.is_empty().then_some(())
        });
        assert!(clean.is_some(), "left behind in the sandbox:\n  {}", leaks.join("\n  "));
    }

    fn state(&self) -> State {
        State::read(self.holder.id(), &self.network, &self.cgroups)
    }

    pub(crate) fn interior(&self) -> Arc<Interior> {
        Arc::clone(&self.interior)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A panic during a panic would abort the test binary, and hide the first one.
        let failed = !thread::panicking()
            && std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.check())).is_err();
        self.holder.kill().expect("kill the sandbox");
        self.holder.wait().expect("wait for the sandbox");
        let removed = self.cgroups.remove(REMOVAL);
        assert!(!failed, "the sandbox was not clean at its end: see above");
        if !thread::panicking() {
            removed.expect("remove the sandbox's cgroups");
        }
    }
}

/// What PID 1 does to itself before it becomes `cat`. System calls only: this runs between fork and exec.
fn become_holder() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    // Without this, what is mounted in the sandbox would be mounted on the host too, where `/` is shared.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?;
    mount(Some("tmpfs"), state_directory::PATH, Some("tmpfs"), flags, Some("mode=0755"))?;
    set_loopback_up()?;
    forward_nothing()?;
    // Orphans come to PID 1. With SIGCHLD ignored, which exec keeps, the kernel reaps them.
    // SAFETY: no handler of ours is installed, so no code can run at a bad moment.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    Ok(())
}

/// Makes the calling thread's new network namespace a host that is no router. It has taken over this machine's setting,
/// and a machine with Docker is one.
///
/// # Errors
///
/// The errno of open(2) or write(2).
pub fn forward_nothing() -> io::Result<()> {
    let file = open("/proc/sys/net/ipv4/ip_forward", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&file, b"0")?;
    Ok(())
}

/// `ip link set lo up`: netdevice(7).
pub(crate) fn set_loopback_up() -> io::Result<()> {
    // SAFETY: ifreq is a plain C structure; all zeros is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the descriptor is open, and closed again; ioctl reads one ifreq, which lives until it returns.
    unsafe {
        let socket = Errno::result(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        Errno::result(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request))?;
        Errno::result(libc::close(socket))?;
    }
    Ok(())
}
