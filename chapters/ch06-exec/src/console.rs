//! A terminal inside, for who stands outside.
//!
//! The terminal of a joined command comes from the container's own devpts, or its name (`tty`, /dev/pts/0) would mean
//! nothing inside. So it is made by the process that has joined; its master is then sent out, through a Unix socket,
//! to whoever serves the terminal: our own parent, or the program that listens at the path that
//! `runc --console-socket` gives.
//!
//! Unlike the child of chapter 2, which has just made its /dev, a process that joins finds there what the container's
//! root has left: at /dev/ptmx a FIFO (to open it would wait for ever), a link, another device (to open it may do
//! something). So a file is first opened without being opened (O_PATH), and looked at. CVE-2025-52565 was runc's
//! trust in such a path. Manual pages: pts(4), openat2(2), unix(7).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ch01_pid::terminal::{Pty, send_master};
use ch02_mount::Root;
use log::info;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, fstatfs};

// ANCHOR: console_socket
/// A socket on whose other side somebody waits for a terminal's master.
#[derive(Debug)]
pub struct ConsoleSocket(UnixStream);

/// How long the path in an address of a Unix socket may be: `sun_path` of unix(7), less the NUL at its end.
const LONGEST: usize = 107;

impl ConsoleSocket {
    /// Connects to the stream socket at `path`, a path of the host's, which may be of any length.
    ///
    /// # Errors
    ///
    /// Names `path`: ENOENT; ECONNREFUSED where nobody listens; that it is no socket.
    pub fn connect(path: &Path) -> Result<ConsoleSocket> {
        let doing = || format!("connect to the console socket {path:?}");
        let socket = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).with_context(doing)?;
        // Of any other file connect(2) says ECONNREFUSED, as if somebody might listen there later.
        let status = fstat(&socket).with_context(doing)?;
        ensure!(kind(&status) == SFlag::S_IFSOCK, "{}: it is no socket", doing());
        let name = match path.as_os_str().len() {
            0..=LONGEST => path.to_path_buf(),
            // The same socket, by a name that is short: that of our descriptor.
            _ => PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd())),
        };
        info!(target: "syscall", "connect(socket, {path:?})  to whoever serves the terminal");
        Ok(ConsoleSocket(UnixStream::connect(name).with_context(doing)?))
    }

    /// Sends the master.
    ///
    /// # Errors
    ///
    /// sendmsg(2)'s errno: EPIPE where the other side is gone.
    pub fn send(&self, master: &OwnedFd) -> Result<()> {
        send_master(self.0.as_fd(), master).context("send the terminal's master to the console socket")
    }
}
// ANCHOR_END: console_socket

// ANCHOR: open_pty
/// A new terminal from the devpts of the root in which this process stands, whatever lies at /dev/ptmx.
///
/// # Errors
///
/// What was found in place of a devpts, and of a multiplexer. It does not wait for a FIFO, and opens no device but
/// the multiplexer. (It does wait where the path leads through a FUSE file system whose server does not answer: there
/// every call does.)
pub fn open_pty() -> Result<Pty> {
    let root = Root::open(Path::new("/"))?;
    let master = open_in_devpts(&root).or_else(|in_devpts| {
        // As on hosts where /dev/pts/ptmx has mode 000, and /dev/ptmx is a device file that all may open.
        let node = open_node(&root);
        node.map_err(|error| anyhow!("open a terminal's multiplexer: {in_devpts:#}; {error:#}"))
    })?;
    Pty::of(master).context("a terminal of the devpts at /dev/pts")
}

/// Opens the multiplexer in the devpts at /dev/pts. In a devpts nobody can make a file: what is called `ptmx` there is
/// the kernel's, unless something was mounted over it.
fn open_in_devpts(root: &Root) -> Result<OwnedFd> {
    let directory = root.find(Path::new("/dev/pts"), OFlag::O_PATH | OFlag::O_DIRECTORY);
    let directory = directory.context("openat2 \"/dev/pts\"")?;
    is_of(&directory, DEVPTS_SUPER_MAGIC).context("/dev/pts is no devpts")?;
    info!(target: "syscall", "openat2(devpts, \"ptmx\", RESOLVE_NO_XDEV)  a new terminal from the container's own devpts");
    let how = OpenHow::new().flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS,
    );
    openat2(&directory, "ptmx", how).map_err(|errno| match errno {
        Errno::EXDEV => anyhow!("openat2 \"/dev/pts/ptmx\": something was mounted over it (EXDEV)"),
        errno => anyhow!(errno).context("openat2 \"/dev/pts/ptmx\""),
    })
}

/// Opens the device file /dev/ptmx, wherever a link leads, once it is known that it is one.
fn open_node(root: &Root) -> Result<OwnedFd> {
    let node = root.find(Path::new("/dev/ptmx"), OFlag::O_PATH).context("openat2 \"/dev/ptmx\"")?;
    let status = fstat(&node).context("fstat \"/dev/ptmx\"")?;
    // 5:2 is the multiplexer's number: the kernel's Documentation/admin-guide/devices.txt.
    let is_multiplexer = kind(&status) == SFlag::S_IFCHR && status.st_rdev == makedev(5, 2);
    ensure!(is_multiplexer, "/dev/ptmx is {}, and no terminal multiplexer", describe(&status)?);

    // The only way from a file that was looked at to the same file opened is the link of its descriptor.
    let proc =
        root.find(Path::new("/proc"), OFlag::O_PATH | OFlag::O_DIRECTORY).context("openat2 \"/proc\"")?;
    is_of(&proc, PROC_SUPER_MAGIC).context("/proc is no procfs")?;
    let link = format!("/proc/self/fd/{}", node.as_raw_fd());
    info!(target: "syscall", "open({link:?})  a new terminal: this is the device file /dev/ptmx, which was looked at");
    // Not to wait, if something was mounted over this link in the meantime.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = open(Path::new(&link), flags, Mode::empty()).with_context(|| format!("open {link:?}"))?;
    let same = |now: FileStat| (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino);
    ensure!(same(fstat(&master).context("fstat of the multiplexer")?), "{link:?} leads to another file");
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR)).context("fcntl(F_SETFL)")?;
    Ok(master)
}
// ANCHOR_END: open_pty

/// Refuses a file that is not on a file system of this kind.
fn is_of(file: &OwnedFd, kind: FsType) -> Result<()> {
    let found = fstatfs(file).context("fstatfs")?.filesystem_type();
    match found == kind {
        true => Ok(()),
        false => bail!("the file system there is of the kind {:#x} (statfs(2))", found.0),
    }
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
}

/// What a file is, for people.
fn describe(status: &FileStat) -> Result<String> {
    let (major, minor) = (nix::sys::stat::major(status.st_rdev), nix::sys::stat::minor(status.st_rdev));
    Ok(match kind(status) {
        SFlag::S_IFCHR => format!("the character device {major}:{minor}"),
        SFlag::S_IFBLK => format!("the block device {major}:{minor}"),
        SFlag::S_IFIFO => "a FIFO".into(),
        SFlag::S_IFDIR => "a directory".into(),
        SFlag::S_IFSOCK => "a socket".into(),
        SFlag::S_IFREG => "a regular file".into(),
        other => format!("a file of the kind {:#o}", other.bits()),
    })
}
