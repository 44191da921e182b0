//! Who has which address of a bridge, as it is written down: a directory for the bridge, a file for each address that
//! is taken, locked for as long as its owner lives (`state.rs`). To be used with the state locked.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::info;
use nix::errno::Errno;

use crate::Subnet;
use crate::state::{State, make_directory, remove_if_there};
use ch01_pid::flock;

const SUBNET: &str = "subnet";

// ANCHOR: bridge
/// A bridge and its members, as they are written down.
#[derive(Clone, Debug)]
pub(crate) struct Bridge {
    pub(crate) name: String,
    pub(crate) subnet: Subnet,
    directory: PathBuf,
}

impl Bridge {
    /// Reads what is written down; nothing where its writer was killed before anything else was made.
    pub(crate) fn read(directory: PathBuf) -> Result<Option<Bridge>> {
        let name = name_of(&directory);
        let path = directory.join(SUBNET);
        let subnet = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            result => result.with_context(|| format!("read {path:?}"))?,
        };
        if subnet.is_empty() {
            fs::remove_dir_all(&directory).with_context(|| format!("remove {directory:?}"))?;
            return Ok(None);
        }
        let subnet = subnet.parse().with_context(|| format!("read {path:?}"))?;
        Ok(Some(Bridge { name, subnet, directory }))
    }

    /// Writes it down, without members.
    pub(crate) fn make(directory: PathBuf, subnet: Subnet) -> Result<Bridge> {
        make_directory(&directory)?;
        let path = directory.join(SUBNET);
        fs::write(&path, subnet.to_string()).with_context(|| format!("write {path:?}"))?;
        Ok(Bridge { name: name_of(&directory), subnet, directory })
    }

    /// The addresses that are taken, by the living or the dead.
    pub(crate) fn members(&self) -> Result<Vec<Ipv4Addr>> {
        let entries = fs::read_dir(&self.directory).with_context(|| format!("read {:?}", self.directory))?;
        let mut members = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("read {:?}", self.directory))?.file_name();
            members.extend(name.to_str().and_then(|name| name.parse::<Ipv4Addr>().ok()));
        }
        Ok(members)
    }

    /// Takes an address, unless somebody has it.
    pub(crate) fn take(&self, address: Ipv4Addr) -> Result<Option<File>> {
        let path = self.path(address);
        let mut options = OpenOptions::new();
        let member = match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            result => result.with_context(|| format!("make {path:?}"))?,
        };
        info!(target: "syscall", "open({path:?}, O_CREAT | O_EXCL), flock(LOCK_EX)  this address is taken while we live");
        flock(&member, libc::LOCK_EX | libc::LOCK_NB).with_context(|| format!("flock {path:?}"))?;
        Ok(Some(member))
    }

    /// Whether nobody holds the address any more.
    pub(crate) fn is_dead(&self, address: Ipv4Addr) -> Result<bool> {
        let path = self.path(address);
        let member = File::open(&path).with_context(|| format!("open {path:?}"))?;
        match flock(&member, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => Ok(true),
            Err(Errno::EWOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).with_context(|| format!("flock {path:?}")),
        }
    }

    /// Gives the address back.
    pub(crate) fn free(&self, address: Ipv4Addr) -> Result<()> {
        remove_if_there(&self.path(address))
    }

    /// Forgets a bridge that has no members.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_if_there(&self.directory.join(SUBNET))?;
        fs::remove_dir(&self.directory).with_context(|| format!("remove {:?}", self.directory))
    }

    /// The file of a member.
    pub(crate) fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.directory.join(address.to_string())
    }

    /// Whether this is a bridge of the namespace that `state` is of.
    pub(crate) fn is_of(&self, state: &State) -> bool {
        state.has(&self.directory)
    }
}
// ANCHOR_END: bridge

fn name_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
