//! A network for those who aren't root: the program `pasta`.
//!
//! To put a cable between a container and the host one must be root on both sides. A plain user is root in a user
//! namespace of their own, so on the container's side alone. pasta joins the two without a cable: in the container it
//! makes a *tap* device, whose packets it reads as a file, and for each connection that it sees in them it opens an
//! ordinary socket on the host's side, as any program of that user may. podman does the same. Manual page: pasta(1).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ch00_chroot::exec;
use ch01_pid::{Child, Spawn};
use log::{debug, info};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

use crate::Namespace;
use crate::publication::{Protocol, Publication};

/// The device through which pasta reads and writes packets; distributions let everybody open it.
const TUN: &str = "/dev/net/tun";
/// It takes milliseconds; this is for machines that are emulated.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

// ANCHOR: find
/// The program, if it is installed and may open /dev/net/tun.
pub fn find() -> Option<PathBuf> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) {
        debug!(target: "syscall", "open(\"{TUN}\"): {error}; pasta can't work");
        return None;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("pasta")).find(|program| program.is_file())
}
// ANCHOR_END: find

// ANCHOR: start
/// Starts pasta for the network namespace of `pid`, where it makes `eth0`, with the address and the routes of the host's
/// own link, and waits until all is there. It ends when the child is dropped, and with this process.
///
/// It must be a namespace of the user namespace that we are in.
///
/// # Errors
///
/// What pasta said: a port that is taken, a host without a route to anywhere. Those of [`Spawn::start`]: this process
/// must have a single thread.
pub fn start(pasta: &Path, pid: Pid, publications: &[Publication]) -> Result<Child> {
    let arguments = arguments(pasta, publications);
    let environment: Vec<OsString> = std::env::vars_os().map(assignment).collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    info!(target: "syscall", "execve(\"{}\")  it carries packets to and from our sockets", words.join(" "));

    let namespace = Namespace::of(pid)?;
    let (ready, pid_file) = pipe2(OFlag::O_CLOEXEC).context("pipe2 for pasta")?;
    let words = memfd_create("pasta", MFdFlags::MFD_CLOEXEC).context("memfd_create for pasta's words")?;
    let held = Spawn::new()
        .keep([namespace.as_fd(), pid_file.as_fd(), words.as_fd()])
        .dies_with_parent()
        .start(|_| {
            dup2_stdin(&namespace).context("dup2 to 0")?;
            dup2_stdout(&pid_file).context("dup2 to 1")?;
            dup2_stderr(&words).context("dup2 to 2")?;
            Ok(exec(&arguments, &environment)?)
        })?;
    let child = held.release(None)?;
    drop(pid_file);
    wait_until_ready(child, ready.into(), words.into())
}

/// pasta writes its pid into the pipe when all is there, or ends, which closes it.
fn wait_until_ready(mut child: Child, mut ready: File, mut words: File) -> Result<Child> {
    let timeout = PollTimeout::try_from(STARTS_WITHIN).unwrap_or(PollTimeout::MAX);
    let mut sources = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    let count = poll(&mut sources, timeout).context("poll for pasta")?;
    ensure!(count > 0, "pasta is not ready after {} seconds", STARTS_WITHIN.as_secs());
    if ready.read(&mut [0]).context("read pasta's pid")? > 0 {
        return Ok(child);
    }
    let status = child.wait()?;
    let mut text = String::new();
    words.rewind().and_then(|()| words.read_to_string(&mut text)).context("read pasta's words")?;
    bail!("pasta ended with status {status}: {}", text.lines().collect::<Vec<_>>().join("; "))
}
// ANCHOR_END: start

// ANCHOR: arguments
fn arguments(pasta: &Path, publications: &[Publication]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![pasta.into()];
    // A child of ours, not a daemon; errors alone are printed.
    arguments.extend(["--foreground", "--quiet"].map(OsString::from));
    // It sets the device up, since no DHCP client runs in the container.
    arguments.extend(["--config-net", "--ns-ifname", "eth0"].map(OsString::from));
    // Else the gateway's address would lead to the host's 127.0.0.1, and so would the container's own 127.0.0.1, for
    // each port at which a server listens on the host.
    arguments.extend(["--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none"].map(OsString::from));
    // By default it publishes what it finds listening in the container.
    for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let published: Vec<_> =
            publications.iter().filter(|publication| publication.protocol == protocol).map(port).collect();
        let published = if published.is_empty() { vec!["none".to_string()] } else { published };
        arguments.extend(published.into_iter().flat_map(|port| [OsString::from(option), port.into()]));
    }
    // Descriptors that we give it, of all kinds that it may not open itself: it drops its capabilities first, and then
    // has no right to look into /proc/PID of a process that has more. It does not end when the path of the namespace
    // does: this one is there for ever.
    arguments.extend(
        ["--pid", "/proc/self/fd/1", "--netns", "/proc/self/fd/0", "--no-netns-quit"].map(OsString::from),
    );
    arguments
}

/// `127.0.0.1/8080:80`; without an address all of the host's, those of IPv6 too.
fn port(publication: &Publication) -> String {
    let Publication { address, host_port, container_port, .. } = publication;
    let ports = format!("{host_port}:{container_port}");
    if address.is_unspecified() { ports } else { format!("{address}/{ports}") }
}
// ANCHOR_END: arguments

/// `NAME=value`, as execve(2) takes it.
fn assignment((name, value): (OsString, OsString)) -> OsString {
    OsString::from_vec([name.into_vec(), value.into_vec()].join(&b'='))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::arguments;

    #[test]
    fn only_what_is_published_leads_inside() {
        let words = |publications: &[&str]| {
            let publications: Vec<_> = publications.iter().map(|text| text.parse().unwrap()).collect();
            let words = arguments(Path::new("/bin/pasta"), &publications);
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let none = words(&[]);
        assert!(none.contains("--tcp-ports none --udp-ports none"), "{none}");
        let some = words(&["8080:80", "127.0.0.1:81:82", "53:53/udp"]);
        let ports = "--tcp-ports 8080:80 --tcp-ports 127.0.0.1/81:82 --udp-ports 53:53";
        assert!(some.contains(ports), "{some}");
    }
}
