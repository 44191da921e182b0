// ANCHOR: owned
//! A cgroup that goes with the value that stands for it.

use std::ops::Deref;

use anyhow::Result;

use crate::{Cgroup, Hierarchies, Place, sweep};

/// A cgroup of a lesson's. Dropped, it is emptied and removed: on an error, too, nothing stays.
#[derive(Debug)]
pub struct Owned(Option<Cgroup>);

impl Owned {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// As for [`Cgroup::create`].
    pub fn create(place: &Place) -> Result<Owned> {
        Ok(Owned(Some(Cgroup::create(place)?)))
    }

    /// Makes one that is [near](Place::near) our own, and has a name that begins with `prefix`; what killed
    /// programs have left under such names is swept away first.
    ///
    /// # Errors
    ///
    /// As for [`Place::near`], [`sweep::sweep`] and [`Cgroup::create`].
    pub fn near(hierarchies: &Hierarchies, prefix: &str, controllers: &[&str]) -> Result<Owned> {
        // Two programs may have the same pid, in two PID namespaces, so the time is in the name too.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("{prefix}{}-{:x}", std::process::id(), now.as_micros() & 0xff_ffff);
        let place = Place::near(hierarchies, &name, controllers)?;
        sweep::sweep(&place, prefix)?;
        Owned::create(&place)
    }

    /// The cgroup, to be dropped where no destructor runs.
    pub fn take(&mut self) -> Owned {
        Owned(self.0.take())
    }

    /// Kills what is still in it, and removes it.
    ///
    /// # Errors
    ///
    /// As for [`Cgroup::kill_all`] and [`Cgroup::remove`].
    pub fn remove(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), end)
    }
}

fn end(cgroup: Cgroup) -> Result<()> {
    cgroup.kill_all()?;
    cgroup.remove()
}

impl Deref for Owned {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        self.0.as_ref().expect("it is there until it is removed")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(end) {
            eprintln!("error: {error:#}");
        }
    }
}
// ANCHOR_END: owned
