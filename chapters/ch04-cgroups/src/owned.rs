// ANCHOR: owned
//! A cgroup that goes with the value that stands for it.

use std::ops::Deref;

use anyhow::Result;
use ch04_cgroups::{Cgroup, Place};

/// A cgroup of this lesson's. Dropped, it is emptied and removed: on an error, too, nothing stays.
#[derive(Debug)]
pub struct Owned(Option<Cgroup>);

impl Owned {
    /// Makes it.
    pub fn create(place: &Place) -> Result<Owned> {
        Ok(Owned(Some(Cgroup::create(place)?)))
    }

    /// The cgroup, to be dropped where no destructor runs.
    pub fn take(&mut self) -> Owned {
        Owned(self.0.take())
    }

    /// Kills what is still in it, and removes it.
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
            eprintln!("error: {}", lesson::describe(&error));
        }
    }
}
// ANCHOR_END: owned
