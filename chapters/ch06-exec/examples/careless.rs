//! What not to do: this program runs a command in a container, as chapter 6's does, and makes the two classic mistakes.
//!
//! `careless PID DIRECTORY COMMAND [ARGS...]` joins process PID, changes to DIRECTORY there, and runs COMMAND.

use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

// ANCHOR: careless
/// Runs `arguments`, which are those of the command line without the program's name.
pub fn careless(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitCode> {
    let mut arguments = arguments.into_iter();
    let mut argument = || arguments.next().context("usage: careless PID DIRECTORY COMMAND [ARGS...]");
    let pid: i32 = argument()?.to_string_lossy().parse().context("PID is a number")?;
    let (directory, command) = (argument()?, argument()?);

    // The first mistake (CVE-2024-21626): a directory of the host's is open, and not close-on-exec. runc had one of
    // /sys/fs/cgroup, by which it put the process in its cgroup. The command inherits it; and DIRECTORY may be
    // /proc/self/fd/3, since nobody asks afterwards where that has led.
    let _cgroups = open("/sys/fs/cgroup", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;

    // The second mistake (CVE-2019-5736): what joins is this very program, in its file on the host. If COMMAND is a
    // script that begins with `#!/proc/self/exe`, a process of the container's runs from that file.
    join(pid)?;
    let status = Command::new(command).args(arguments).current_dir(directory).status().context("exec")?;
    Ok(ExitCode::from(status.code().unwrap_or(255) as u8))
}
// ANCHOR_END: careless

/// Joins the namespaces of a process. The child that runs the command is the first one in the PID namespace.
fn join(pid: i32) -> Result<()> {
    // SAFETY: the call takes two numbers, and makes a descriptor that nobody else knows.
    let process = unsafe {
        let process = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0)).context("pidfd_open")?;
        OwnedFd::from_raw_fd(process as i32)
    };
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    setns(process, namespaces).context("setns")
}

fn main() -> Result<ExitCode> {
    careless(std::env::args_os().skip(1))
}
