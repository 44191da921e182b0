//! An address that nobody else has.
//!
//! It is taken by a file in /run/hull/network, which says so as long as somebody locks it (`state.rs`). It must be taken
//! before the container starts, which has to know it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use log::error;

use crate::Address;
use crate::members::Bridge;
use crate::state::{State, is_at, transaction};
use crate::sweep::{bury, link_of, sweep};

// ANCHOR: lease
/// An address of a bridge's subnet. It is taken until the lease is left or dropped, or all who hold its descriptor
/// are dead; then whatever was made for it is removed by the next one to come or go.
#[derive(Debug)]
pub struct Lease {
    bridge: Bridge,
    address: Ipv4Addr,
    member: File,
    is_over: bool,
}

impl Lease {
    pub(crate) fn new(bridge: Bridge, address: Ipv4Addr, member: File) -> Lease {
        Lease { bridge, address, member, is_over: false }
    }

    /// What the container's interface is given.
    pub fn address(&self) -> Address {
        let subnet = self.bridge.subnet;
        Address { address: self.address, prefix: subnet.prefix(), gateway: subnet.gateway() }
    }

    /// The host's end of the cable.
    pub fn link(&self) -> String {
        link_of(self.address)
    }

    /// Lets the lease live on without this object, as long as another process holds its descriptor.
    pub fn detach(mut self) {
        self.is_over = true;
    }

    /// Gives the address back, and removes all that was made for it: ports, cable, and with the last member the
    /// bridge, the firewall's table, and what the host was changed for.
    ///
    /// # Errors
    ///
    /// Says what could not be removed. The next one to come or go tries again.
    pub fn leave(mut self) -> Result<()> {
        self.give_back()
    }
}
// ANCHOR_END: lease

// ANCHOR: leave
impl Lease {
    /// Whether the address is this lease's yet: its file may have been deleted, and made anew by another.
    pub(crate) fn check(&self, state: &State) -> Result<()> {
        self.check_namespace(state)?;
        let path = self.bridge.path(self.address);
        ensure!(is_at(&self.member, &path)?, "the lease of {} is lost: {path:?} was deleted", self.address);
        Ok(())
    }

    /// A child in a namespace of its own may have a copy of this object, which must do no harm there.
    fn check_namespace(&self, state: &State) -> Result<()> {
        ensure!(
            self.bridge.is_of(state),
            "the lease of {} is of another network namespace than the calling thread's",
            self.address
        );
        Ok(())
    }

    fn give_back(&mut self) -> Result<()> {
        // Whatever happens: not a second time.
        self.is_over = true;
        transaction(|state| {
            self.check_namespace(state)?;
            let path = self.bridge.path(self.address);
            let is_deleted = !fs::exists(&path).with_context(|| format!("stat {path:?}"))?;
            // Else another one has made the file anew, and the address is theirs: nobody is given an address that
            // has a cable, so this lease has none.
            if is_deleted || is_at(&self.member, &path)? {
                // So that the sweep knows of it, where the whole directory was deleted.
                let bridge = state.add_bridge(&self.bridge.name, self.bridge.subnet)?;
                bury(&bridge, self.address)?;
            }
            sweep(state)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_over {
            if let Err(error) = self.give_back() {
                error!("give back the address {}: {error:#}", self.address);
            }
        }
    }
}
// ANCHOR_END: leave

impl AsFd for Lease {
    /// What keeps the lease. A process that is given it (by ch01's `Spawn::keep`, or SCM_RIGHTS) holds it too.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.member.as_fd()
    }
}
