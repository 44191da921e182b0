// ANCHOR: own_cgroup
//! Chapter 4: a cgroup of the container's own, with a limit on its processes.

use anyhow::Result;
use ch04_cgroups::place::may_make_cgroups;
use ch04_cgroups::{Bound, Hierarchies, Limits, Owned};
use lesson::untold;
use log::info;

/// The cgroups of lessons begin like this, so that the next run finds what one that was killed has left.
const PREFIX: &str = "hull-lesson-";

/// The hierarchies, where this user may make cgroups in them. To be asked before the user becomes root of a
/// user namespace, who has no more rights to them and does not know it.
pub fn find() -> Result<Hierarchies> {
    let hierarchies = Hierarchies::find()?;
    may_make_cgroups(&hierarchies)?;
    Ok(hierarchies)
}

/// Makes it.
pub fn make(hierarchies: &Hierarchies, processes: u64) -> Result<Owned> {
    info!(target: "say", "On the host: a cgroup that holds at most {processes} processes.");
    untold(|| {
        let cgroup = Owned::near(hierarchies, PREFIX, &["pids"])?;
        for warning in cgroup.apply(&Limits { pids: Some(Bound::At(processes)), ..Limits::default() })? {
            info!(target: "say", "Warning: {warning}.");
        }
        Ok(cgroup)
    })
}
// ANCHOR_END: own_cgroup
