//! What is written down: who has which address.
//!
//! Several programs give out addresses of one bridge, and each may be killed at any moment. So a directory says what
//! is taken, in each network namespace one of its own:
//!
//! ```text
//! /run/hull/network/4026531840/    named by the namespace's inode
//!     lock                         locked for every change
//!     sysctls                      what we changed, and what it was
//!     hull0/                       a bridge
//!         subnet                   10.77.0.0/16
//!         10.77.0.2                a member: locked for as long as it lives
//! ```
//!
//! The locks are flock(2)'s. Such a lock belongs to an *open file description*, which fork(2) and SCM_RIGHTS share: it
//! is held while anyone has the description open, and the kernel releases it when the last one is killed. A member's
//! file is there before anything else is made for it, so whatever a killed program has left is found by the file that
//! nobody locks. Manual page: [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ch01_pid::flock;
use log::debug;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::members::Bridge;
use crate::{Namespace, Subnet};

const DIRECTORY: &str = "/run/hull/network";
const LOCK: &str = "lock";
const SYSCTLS: &str = "sysctls";

// ANCHOR: transaction
/// The directory of the calling thread's network namespace, locked.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    lock: File,
}

/// Calls `change` with the state locked. Others wait meanwhile.
pub(crate) fn transaction<T>(change: impl FnOnce(&State) -> Result<T>) -> Result<T> {
    let state = State::lock()?;
    let result = change(&state);
    let unlocked = state.unlock();
    let value = result?;
    unlocked?;
    Ok(value)
}

impl State {
    fn lock() -> Result<State> {
        let inode = Namespace::here()?.inode()?;
        let directory = Path::new(DIRECTORY).join(inode.to_string());
        let path = directory.join(LOCK);
        loop {
            // With a mode, whatever the umask: who could write here could make us write elsewhere.
            let above = DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY);
            above.with_context(|| format!("make the directory {DIRECTORY:?}"))?;
            make_directory(&directory)?;
            let mut options = OpenOptions::new();
            let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            let lock = match opened {
                // Another program has just removed the directory.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result.with_context(|| format!("open {path:?}"))?,
            };
            debug!(target: "syscall", "flock({path:?}, LOCK_EX)  one at a time");
            flock(&lock, libc::LOCK_EX).with_context(|| format!("flock {path:?}"))?;
            // Who had the lock may have removed the file: then it is a lock that nobody else will ask for.
            if is_at(&lock, &path)? {
                // An nft that we start holds it too: were we killed, it would go on, and must not do so behind the
                // back of the next one.
                fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty())).context("fcntl(F_SETFD) of the lock")?;
                let state = State { directory, lock };
                state.forget_other_namespace()?;
                return Ok(state);
            }
        }
    }

    /// Removes the directory where nothing is left to write down, and lets others in.
    fn unlock(self) -> Result<()> {
        if self.bridges()?.is_empty() && !self.sysctls().exists() {
            // What is written and then renamed may be there as a draft, of one who was killed.
            self.remove_all_but_lock()?;
            // From here on others make a new one, and may be faster than the next line.
            remove_if_there(&self.directory.join(LOCK))?;
            match fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                result => result.with_context(|| format!("remove {:?}", self.directory))?,
            }
        }
        // Not only closed: a child that was just forked elsewhere in this process may have a copy.
        flock(&self.lock, libc::LOCK_UN).context("unlock the state")
    }
}
// ANCHOR_END: transaction

// ANCHOR: cookie
impl State {
    /// The kernel gives the inode number of a namespace that is gone to a new one, but never its *cookie* (Linux
    /// 5.14). The lock's file holds it, so that we don't put back in this namespace what was changed in another.
    fn forget_other_namespace(&self) -> Result<()> {
        let Some(cookie) = cookie_here()? else { return Ok(()) };
        let (mut lock, mut written) = (&self.lock, String::new());
        lock.read_to_string(&mut written).context("read the lock's file")?;
        if written == cookie.to_string() {
            return Ok(());
        }
        self.remove_all_but_lock().context("remove the state of a network namespace that is gone")?;
        self.lock.set_len(0).context("truncate the lock's file")?;
        let path = self.directory.join(LOCK);
        fs::write(&path, cookie.to_string()).with_context(|| format!("write {path:?}"))
    }
}

impl State {
    fn remove_all_but_lock(&self) -> Result<()> {
        for entry in fs::read_dir(&self.directory).with_context(|| format!("read {:?}", self.directory))? {
            let path = entry.with_context(|| format!("read {:?}", self.directory))?.path();
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false if path.ends_with(LOCK) => Ok(()),
                false => fs::remove_file(&path),
            };
            removed.with_context(|| format!("remove {path:?}"))?;
        }
        Ok(())
    }
}

/// The number of the calling thread's network namespace that no other one ever has; none before Linux 5.14.
fn cookie_here() -> Result<Option<u64>> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("socket(AF_INET) for the namespace's cookie")?;
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes to the number, and the length; both live through the call.
    let result = unsafe {
        let cookie = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, cookie, &raw mut length)
    };
    match Errno::result(result) {
        Ok(_) => Ok(Some(cookie)),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        Err(errno) => Err(errno).context("getsockopt(SO_NETNS_COOKIE)"),
    }
}
// ANCHOR_END: cookie

// ANCHOR: bridges
impl State {
    /// Whether `directory` is one of this namespace's.
    pub(crate) fn has(&self, directory: &Path) -> bool {
        directory.parent() == Some(&self.directory)
    }

    /// Where the sysctls are recorded that we changed.
    pub(crate) fn sysctls(&self) -> PathBuf {
        self.directory.join(SYSCTLS)
    }

    /// All bridges that were made here and not taken down.
    pub(crate) fn bridges(&self) -> Result<Vec<Bridge>> {
        let mut bridges = Vec::new();
        for entry in fs::read_dir(&self.directory).with_context(|| format!("read {:?}", self.directory))? {
            let path = entry.with_context(|| format!("read {:?}", self.directory))?.path();
            if path.is_dir() {
                bridges.extend(Bridge::read(path)?);
            }
        }
        Ok(bridges)
    }

    /// Writes down a bridge, unless it is already.
    pub(crate) fn add_bridge(&self, name: &str, subnet: Subnet) -> Result<Bridge> {
        if let Some(bridge) = self.bridges()?.into_iter().find(|bridge| bridge.name == name) {
            ensure!(
                bridge.subnet == subnet,
                "the bridge {name:?} has the subnet {} and not {subnet}: use that one, or another bridge",
                bridge.subnet
            );
            return Ok(bridge);
        }
        Bridge::make(self.directory.join(name), subnet)
    }
}
// ANCHOR_END: bridges

// ANCHOR: files
/// Whether `path` leads to the file `file`, and not to nothing or to one that was made anew.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool> {
    let open = file.metadata().with_context(|| format!("fstat {path:?}"))?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("stat {path:?}")),
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result.with_context(|| format!("make the directory {path:?}")),
    }
}

pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("remove {path:?}")),
    }
}
// ANCHOR_END: files
