//! Take capabilities away from this process: the two halves around the change of user.

use std::fmt;

use anyhow::{Context, Result, anyhow};
use log::info;
use nix::errno::Errno;

use super::sets::{capset, prctl};
use super::{Capability, CapabilitySet, Sets};

// ANCHOR: not_granted
/// A capability that was asked for and can't be had. The OCI specification wants a warning, and no failure: a
/// configuration for a newer kernel, or for a stronger parent, still runs, with less power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotGranted {
    /// Which.
    pub capability: Capability,
    /// Why not.
    pub why: Why,
}

/// Why a capability can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The running kernel does not have it: it is beyond `/proc/sys/kernel/cap_last_cap`.
    UnknownToKernel,
    /// This process does not have it itself, and nobody can give what they do not have.
    NotHeld,
    /// It was asked for in the effective set and not in the permitted one.
    NotPermitted,
    /// It was asked for in the ambient set and not in the permitted and the inheritable one.
    NotInheritable,
    /// A [securebit](super::Securebits) forbids to raise it in the ambient set.
    Locked,
}

impl fmt::Display for NotGranted {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let why = match self.why {
            Why::UnknownToKernel => "this kernel does not know it",
            Why::NotHeld => "this process does not have it itself",
            Why::NotPermitted => "effective, it must be permitted too",
            Why::NotInheritable => "ambient, it must be permitted and inheritable too",
            Why::Locked => "the securebit NO_CAP_AMBIENT_RAISE is set",
        };
        write!(formatter, "{} is not granted: {why}", self.capability)
    }
}
// ANCHOR_END: not_granted

// ANCHOR: before_user_change
impl Sets {
    /// Before the change of user: drops what is not in [`bounding`](Sets::bounding) from the bounding set,
    /// and has the kernel keep the permitted set over the change.
    ///
    /// # Errors
    ///
    /// EPERM: a capability is to leave the bounding set, and CAP_SETPCAP is not effective; or the securebit
    /// KEEP_CAPS is locked. None is passed over in silence: root would have it again after exec.
    pub fn before_user_change(&self) -> Result<()> {
        let mut dropped = CapabilitySet::EMPTY;
        for capability in (CapabilitySet::all()? - self.bounding).iter() {
            let number = i32::from(capability.number());
            // Asked first: to drop what is gone already needs CAP_SETPCAP too, and that may be gone with it.
            let answer =
                prctl(libc::PR_CAPBSET_READ, number, 0).with_context(|| format!("ask for {capability}"))?;
            if answer != 0 {
                prctl(libc::PR_CAPBSET_DROP, number, 0).map_err(|errno| drop_error(capability, errno))?;
                dropped = dropped.with(capability);
            }
        }
        info!(
            target: "syscall",
            "prctl(PR_CAPBSET_DROP, CAP_...)  {} times: no exec brings these back, not even of a setuid file",
            dropped.len()
        );
        info!(target: "syscall", "prctl(PR_SET_KEEPCAPS, 1)  a change from root would empty the permitted set");
        prctl(libc::PR_SET_KEEPCAPS, 1, 0)
            .context("prctl(PR_SET_KEEPCAPS) (is the securebit KEEP_CAPS locked?)")?;
        Ok(())
    }
}

fn drop_error(capability: Capability, errno: Errno) -> anyhow::Error {
    let hint = match errno {
        Errno::EPERM => {
            " (it needs CAP_SETPCAP: before the rest is dropped; as a plain user, in a user namespace)"
        }
        _ => "",
    };
    anyhow!(errno).context(format!("prctl(PR_CAPBSET_DROP, {capability}){hint}"))
}
// ANCHOR_END: before_user_change

// ANCHOR: apply
impl Sets {
    /// After the change of user: sets the effective, permitted, inheritable and ambient sets. Returns what
    /// was asked for and can't be had, each once.
    ///
    /// # Errors
    ///
    /// The errno of capset(2) or prctl(2).
    pub fn apply(&self) -> Result<Vec<NotGranted>> {
        let (granted, refused) = self.grantable(&Sets::own()?, CapabilitySet::all()?);
        info!(
            target: "syscall",
            "capset({{ effective: {:#x}, permitted: {:#x}, inheritable: {:#x} }})  {} of {} are left",
            granted.effective.bits(),
            granted.permitted.bits(),
            granted.inheritable.bits(),
            granted.permitted.len(),
            CapabilitySet::all()?.len(),
        );
        capset(&granted)?;
        // exec would clear it; but up to there another change of user would keep what it should not.
        prctl(libc::PR_SET_KEEPCAPS, 0, 0).context("prctl(PR_SET_KEEPCAPS, 0)")?;
        let refused = [refused, set_ambient(granted.ambient)?].concat();
        Ok(one_for_each(refused))
    }

    /// What of these a process that has `own` can take, on a kernel that knows `known`; and what not. The
    /// rules are capset(2)'s. It would refuse the whole set for one capability (EPERM), and one that it does
    /// not know it would pass over in silence.
    fn grantable(&self, own: &Sets, known: CapabilitySet) -> (Sets, Vec<NotGranted>) {
        let mut refused = Vec::new();
        let mut limit = |asked: CapabilitySet, limit: CapabilitySet, why: Why| {
            let not_granted = |capability| {
                let why = if known.contains(capability) { why } else { Why::UnknownToKernel };
                NotGranted { capability, why }
            };
            refused.extend((asked - limit).iter().map(not_granted));
            asked & limit
        };
        let bounding = limit(self.bounding, own.bounding, Why::NotHeld);
        let permitted = limit(self.permitted, own.permitted, Why::NotHeld);
        let effective = limit(self.effective, self.permitted, Why::NotPermitted) & permitted;
        let inheritable = (own.inheritable | own.permitted) & (own.inheritable | own.bounding);
        let inheritable = limit(self.inheritable, inheritable, Why::NotHeld);
        let ambient = limit(self.ambient, self.permitted & self.inheritable, Why::NotInheritable)
            & permitted
            & inheritable;
        (Sets { effective, permitted, inheritable, bounding, ambient }, refused)
    }
}

/// Makes the ambient set this one. Returns what the kernel refuses.
fn set_ambient(ambient: CapabilitySet) -> Result<Vec<NotGranted>> {
    // It may be inherited from whoever started us: systemd's AmbientCapabilities= is of this kind.
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)
        .context("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let mut refused = Vec::new();
    for capability in ambient.iter() {
        info!(
            target: "syscall",
            "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {capability})  it stays over exec, without uid 0"
        );
        let number = i32::from(capability.number());
        match prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number) {
            // That it is permitted and inheritable we have seen to, so this is the third reason.
            Err(Errno::EPERM) => refused.push(NotGranted { capability, why: Why::Locked }),
            raised => {
                raised
                    .with_context(|| format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {capability})"))?;
            }
        }
    }
    Ok(refused)
}
// ANCHOR_END: apply

/// The first reason for each capability: one that is not held would be told for each of the sets.
fn one_for_each(refused: Vec<NotGranted>) -> Vec<NotGranted> {
    let mut once: Vec<NotGranted> = Vec::new();
    for not_granted in refused {
        if once.iter().all(|other| other.capability != not_granted.capability) {
            once.push(not_granted);
        }
    }
    once.sort_by_key(|not_granted| not_granted.capability);
    once
}
