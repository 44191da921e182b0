//! Limits of a process: rlimits.
//!
//! Each process has 16 of them, a *soft* one that counts and a *hard* one up to which the process may raise
//! the soft one. Anybody may lower a hard one, for good. Children have their parent's. They limit a process
//! (NPROC and some others: all processes of a user), where a cgroup limits a set of processes: a fork gets
//! around most of them. Manual page: [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html);
//! interface: prlimit64(2), `/proc/PID/limits`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow, ensure};
use log::info;
use nix::errno::Errno;
use nix::unistd::Pid;

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// The enum, the kernel's numbers and the names from one list.
macro_rules! resources {
    ($($name:ident $number:ident $text:literal $meaning:literal)+) => {
        /// What a limit limits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Resource {
            $(#[doc = $meaning] $name,)+
        }

        impl Resource {
            /// All 16.
            pub const ALL: [Resource; 16] = [$(Resource::$name),+];

            /// The kernel's name, as the OCI specification has it too: `RLIMIT_NOFILE`.
            pub fn name(self) -> &'static str {
                match self { $(Resource::$name => concat!("RLIMIT_", $text)),+ }
            }

            /// What it limits, and in which unit.
            pub fn meaning(self) -> &'static str {
                match self { $(Resource::$name => $meaning),+ }
            }

            /// The kernel's number: it differs between architectures.
            fn number(self) -> libc::c_long {
                match self { $(Resource::$name => libc::$number as libc::c_long),+ }
            }
        }
    };
}

// ANCHOR: resources
resources! {
    AddressSpace RLIMIT_AS "AS" "bytes of address space"
    Core RLIMIT_CORE "CORE" "bytes of a core file"
    Cpu RLIMIT_CPU "CPU" "seconds of processor time"
    Data RLIMIT_DATA "DATA" "bytes of data segment and private memory"
    FileSize RLIMIT_FSIZE "FSIZE" "bytes of a file that it writes"
    Locks RLIMIT_LOCKS "LOCKS" "nothing since Linux 2.4.25: locks on files"
    LockedMemory RLIMIT_MEMLOCK "MEMLOCK" "bytes of locked memory"
    MessageQueues RLIMIT_MSGQUEUE "MSGQUEUE" "bytes in its user's POSIX message queues"
    Nice RLIMIT_NICE "NICE" "20 minus the best nice value"
    OpenFiles RLIMIT_NOFILE "NOFILE" "the highest file descriptor, plus one"
    Processes RLIMIT_NPROC "NPROC" "processes and threads of its user; root is not limited"
    ResidentSet RLIMIT_RSS "RSS" "nothing since Linux 2.4.30: bytes of resident memory"
    RealtimePriority RLIMIT_RTPRIO "RTPRIO" "the highest real-time priority"
    RealtimeTime RLIMIT_RTTIME "RTTIME" "microseconds under a real-time scheduler without a pause"
    PendingSignals RLIMIT_SIGPENDING "SIGPENDING" "signals queued for its user"
    Stack RLIMIT_STACK "STACK" "bytes of the stack"
}
// ANCHOR_END: resources

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Resource {
    type Err = Error;

    /// The kernel's name, exactly: `RLIMIT_NOFILE`.
    fn from_str(name: &str) -> Result<Resource> {
        let resource = Resource::ALL.into_iter().find(|resource| resource.name() == name);
        resource.ok_or_else(|| {
            anyhow!(Errno::EINVAL).context(format!("{name:?} is no rlimit; getrlimit(2) lists them"))
        })
    }
}

// ANCHOR: limit
/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// What counts.
    pub soft: u64,
    /// How far the soft one may be raised.
    pub hard: u64,
}

impl FromStr for Limit {
    type Err = Error;

    /// As Docker's `--ulimit` has it: `nofile=1024:2048`, `nofile=1024` for both, `unlimited` or `-1` for no
    /// limit.
    fn from_str(text: &str) -> Result<Limit> {
        let (name, values) =
            text.split_once('=').with_context(|| format!("{text:?}: NAME=SOFT[:HARD] is expected"))?;
        let name = name.to_ascii_uppercase();
        let resource = format!("RLIMIT_{}", name.trim_start_matches("RLIMIT_")).parse()?;
        let value = |value: &str| match value {
            "unlimited" | "infinity" | "-1" => Ok(INFINITY),
            value => value
                .parse()
                .with_context(|| format!("{text:?}: {value:?} is no number, and not \"unlimited\"")),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let limit = Limit { resource, soft: value(soft)?, hard: value(hard)? };
        limit.check()?;
        Ok(limit)
    }
}

impl fmt::Display for Limit {
    /// As it is parsed, by the kernel's name: `RLIMIT_NOFILE=1024:2048`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}={}:{}", self.resource, text_of(self.soft), text_of(self.hard))
    }
}

fn text_of(value: u64) -> String {
    if value == INFINITY { "unlimited".into() } else { value.to_string() }
}
// ANCHOR_END: limit

// ANCHOR: set
impl Limit {
    /// That of a process.
    ///
    /// # Errors
    ///
    /// prlimit64(2)'s errno. ESRCH: there is no such process; EPERM: it is another user's.
    pub fn of(pid: Pid, resource: Resource) -> Result<Limit> {
        let [soft, hard] = prlimit(pid, resource, None)
            .map_err(|errno| anyhow!(errno).context(format!("prlimit64 {resource} of process {pid}")))?;
        Ok(Limit { resource, soft, hard })
    }

    /// Our own.
    ///
    /// # Errors
    ///
    /// Only a seccomp filter refuses this.
    pub fn own(resource: Resource) -> Result<Limit> {
        Limit::of(Pid::from_raw(0), resource)
    }

    /// Sets it for another process: a runtime sets its container's from outside, where it may raise a hard
    /// one. With pid 0 for this process.
    ///
    /// # Errors
    ///
    /// EPERM: the hard limit is above the present one, which needs CAP_SYS_RESOURCE in the first user
    /// namespace; or NOFILE is above `/proc/sys/fs/nr_open`; or the process is another user's. EINVAL: soft
    /// is above hard.
    pub fn set_for(self, pid: Pid) -> Result<()> {
        self.check()?;
        info!(
            target: "syscall",
            "prlimit64({pid}, {}, {{ {}, {} }})  {}",
            self.resource,
            text_of(self.soft),
            text_of(self.hard),
            self.resource.meaning()
        );
        prlimit(pid, self.resource, Some([self.soft, self.hard]))
            .map_err(|errno| self.refusal(pid, errno))?;
        Ok(())
    }

    fn check(self) -> Result<()> {
        ensure!(
            self.soft <= self.hard,
            anyhow!(Errno::EINVAL).context(format!("{self}: the soft limit is above the hard one"))
        );
        Ok(())
    }

    /// The kernel has one EPERM for three reasons; the present limit tells which it was.
    fn refusal(self, pid: Pid, errno: Errno) -> Error {
        let hint = match (errno, Limit::of(pid, self.resource)) {
            (Errno::EPERM, Ok(present))
                if self.hard <= present.hard && self.resource == Resource::OpenFiles =>
            {
                " (above /proc/sys/fs/nr_open)".to_string()
            }
            (Errno::EPERM, Ok(present)) => format!(
                " (the hard limit is {}; to raise it needs CAP_SYS_RESOURCE in the first user namespace{})",
                text_of(present.hard),
                if self.resource == Resource::OpenFiles {
                    ", and /proc/sys/fs/nr_open bounds it"
                } else {
                    ""
                }
            ),
            (Errno::EPERM, Err(_)) => " (the process is another user's)".to_string(),
            (Errno::ESRCH, _) => " (there is no such process)".to_string(),
            _ => String::new(),
        };
        let of = if pid.as_raw() == 0 { String::new() } else { format!(" of process {pid}") };
        anyhow!(errno).context(format!("prlimit64 {self}{of}{hint}"))
    }
}

/// Sets it for this process.
///
/// # Errors
///
/// As for [`Limit::set_for`].
pub fn set(limit: Limit) -> Result<()> {
    limit.set_for(Pid::from_raw(0))
}
// ANCHOR_END: set

/// prlimit64(2): returns what was set before. The structure is two 64-bit numbers on every architecture,
/// unlike that of getrlimit(2).
fn prlimit(pid: Pid, resource: Resource, new: Option<[u64; 2]>) -> Result<[u64; 2], Errno> {
    let mut old = [0u64; 2];
    let new = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    // SAFETY: the kernel reads two numbers from `new` where it is not null, and writes two to `old`; both
    // live until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, pid.as_raw(), resource.number(), new, old.as_mut_ptr()) };
    Errno::result(result).map(|_| old)
}
