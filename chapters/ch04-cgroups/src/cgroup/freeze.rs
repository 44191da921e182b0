//! All processes of a cgroup stand still: the freezer.
//!
//! Version 1 has a controller for it, version 2 a file in every cgroup. Neither is done when the write
//! returns: a process that is in the midst of a system call goes on until it can be stopped. Kernel
//! documentation: cgroup-v1/freezer-subsystem; cgroup-v2, "cgroup.freeze".

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Cgroup, DEADLINE};
use crate::file::{Directory, value_of};
use crate::{Version, why};

// ANCHOR: freeze
impl Cgroup {
    /// Stops all processes, and returns when they stand still. They can't tell, and can't be stopped from
    /// being killed.
    ///
    /// # Errors
    ///
    /// When there is no freezer, or they do not stand still in time; they are thawed then.
    pub fn freeze(&self) -> Result<()> {
        let directory = self.freezer().context(why::absent("freezer", None))?;
        let frozen = match directory.version() {
            Version::V1 => freeze_v1(directory),
            Version::V2 => freeze_v2(directory),
        };
        frozen.or_else(|error| self.thaw().and(Err(error)))
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    ///
    /// Names the file.
    pub fn thaw(&self) -> Result<()> {
        let directory = self.freezer().context(why::absent("freezer", None))?;
        match directory.version() {
            Version::V1 => directory.write("freezer.state", "THAWED", "the processes go on"),
            Version::V2 => directory.write("cgroup.freeze", "0", "the processes go on"),
        }
    }

    /// Whether its processes stand still, or are about to: here, or in a cgroup above. One that enters does too.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(self.is_frozen_by_v1()? || self.unified().map_or(Ok(false), is_frozen_by_v2)?)
    }

    /// Whether version 1 has frozen them, or is about to. The topmost cgroup can't be frozen, and has no file.
    pub(super) fn is_frozen_by_v1(&self) -> Result<bool> {
        let freezer = self.freezer().filter(|directory| directory.version() == Version::V1);
        let state = freezer.map_or(Ok(None), |directory| directory.read_if_there("freezer.state"))?;
        Ok(state.is_some_and(|state| state != "THAWED"))
    }

    /// Where the freezer is: version 1's in a hybrid, which may lack `cgroup.freeze` (Linux 5.2).
    pub(super) fn freezer(&self) -> Option<&Directory> {
        self.find("freezer").or_else(|| self.unified().filter(|directory| directory.has("cgroup.freeze")))
    }
}
// ANCHOR_END: freeze

// ANCHOR: v2
fn freeze_v2(directory: &Directory) -> Result<()> {
    directory.write("cgroup.freeze", "1", "all processes stand still")?;
    wait(directory, || Ok(value_of(&directory.read("cgroup.events")?, "frozen") == Some(1)))
}

/// Its own switch alone does not tell: the one of a cgroup above holds here too, and `frozen` comes late.
fn is_frozen_by_v2(directory: &Directory) -> Result<bool> {
    let events = directory.read_if_there("cgroup.events")?.unwrap_or_default();
    if value_of(&events, "frozen") == Some(1) {
        return Ok(true);
    }
    let hierarchy = &directory.hierarchy;
    for path in directory.path.ancestors().take_while(|path| path.starts_with(&hierarchy.mount_point)) {
        let above = Directory::open(hierarchy, path).with_context(|| format!("open {path:?}"))?;
        if above.read_if_there("cgroup.freeze")?.as_deref() == Some("1") {
            return Ok(true);
        }
    }
    Ok(false)
}
// ANCHOR_END: v2

// ANCHOR: v1
fn freeze_v1(directory: &Directory) -> Result<()> {
    directory.write("freezer.state", "FROZEN", "all processes stand still")?;
    let mut attempts = 0;
    wait(directory, || {
        let state = directory.read("freezer.state")?;
        // A process that waits for one which is frozen already keeps the state at FREEZING: thawing for a
        // moment lets both go on. A child that was born meanwhile is caught by writing again.
        attempts += 1;
        if state != "FROZEN" {
            if attempts % 50 == 0 {
                directory.write_quietly("freezer.state", "THAWED", "it does not come to rest: once more")?;
                sleep(Duration::from_millis(10));
            }
            directory.write_quietly("freezer.state", "FROZEN", "not all stand still yet")?;
        }
        Ok(state == "FROZEN")
    })
}
// ANCHOR_END: v1

fn wait(directory: &Directory, mut is_frozen: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !is_frozen()? {
        if Instant::now() > deadline {
            bail!("{:?} is not frozen after {DEADLINE:?}: see the states of its processes", directory.path);
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
