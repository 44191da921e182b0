//! Where a cgroup goes, and whether it may.
//!
//! In version 1 a program may make cgroups below its own, in each hierarchy where the directory belongs to
//! it. Version 2 has two rules more:
//!
//! - *No internal processes*: a cgroup that hands controllers down to those below it has no processes itself,
//!   lest they compete with their own children. Only the topmost cgroup of all is free of this. So a program
//!   that sits in a cgroup can't limit one right below, unless it first moves out, into a leaf beside it.
//! - *Delegation*: a tree has one manager, mostly systemd, which may undo what others write into its part. It
//!   can give a subtree away (`Delegate=yes`): it makes the cgroup, hands its files over to the user, and
//!   never touches what is below.
//!
//! Kernel documentation: cgroup-v2, "No Internal Process Constraint" and "Delegation"; systemd's
//! <https://systemd.io/CGROUP_DELEGATION>.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nix::unistd::Pid;

use crate::{Hierarchies, Hierarchy, Version, delegation};

// ANCHOR: place
/// Where a cgroup is, or is to be: a path in each hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    spots: Vec<Spot>,
    /// Which controllers of version 2 are to be handed down to it; all, without a list.
    controllers: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    hierarchy: Hierarchy,
    /// From the hierarchy's root, as /proc/PID/cgroup has it.
    path: PathBuf,
}

impl Place {
    /// The same path in every hierarchy, from its root: a `cgroupsPath` of the OCI runtime specification. All
    /// controllers that there are will be handed down to it.
    ///
    /// # Errors
    ///
    /// When the path is not absolute, or has `..` in it.
    pub fn at(hierarchies: &Hierarchies, path: &Path) -> Result<Place> {
        let is_plain = !path.components().any(|component| component.as_os_str() == "..");
        ensure!(path.is_absolute() && is_plain, "{path:?} is no absolute path of a cgroup, without `..`");
        let spot = |hierarchy: &Hierarchy| {
            // Where only a part of the tree is mounted, that part is all there is.
            let below = path.strip_prefix("/").unwrap_or(path);
            Spot { hierarchy: hierarchy.clone(), path: hierarchy.root.join(below) }
        };
        Ok(Place { spots: hierarchies.iter().map(spot).collect(), controllers: None })
    }

    /// Where a process is.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn of(hierarchies: &Hierarchies, pid: Pid) -> Result<Place> {
        let spot = |hierarchy: &Hierarchy| {
            Ok(Spot { hierarchy: hierarchy.clone(), path: hierarchies.path_of(pid, hierarchy)? })
        };
        Ok(Place { spots: hierarchies.iter().map(spot).collect::<Result<_>>()?, controllers: None })
    }

    /// A new cgroup `name`, as near to our own as these controllers can be had: for a lesson. They alone are
    /// handed down, since that changes what others have.
    ///
    /// In version 1: below our own cgroup. In version 2: below our own, if it was delegated to us, and then
    /// what is in it moves into a leaf; else below the nearest above it that hands the controllers down, or
    /// may. A controller that can't be had there is no error yet: a limit that needs it will be one.
    ///
    /// # Errors
    ///
    /// When /proc can't be read, or a process can't be moved into the leaf.
    pub fn near(hierarchies: &Hierarchies, name: &str, controllers: &[&str]) -> Result<Place> {
        let mut place = Place::of(hierarchies, Pid::this())?;
        for spot in &mut place.spots {
            if spot.hierarchy.version == Version::V2 {
                spot.path = delegation::parent_for(&spot.hierarchy, &spot.path, controllers)?;
            }
        }
        place.controllers = Some(controllers.iter().map(ToString::to_string).collect());
        Ok(place.below(name))
    }

    /// One level down, in every hierarchy.
    pub fn below(&self, name: &str) -> Place {
        let spot = |spot: &Spot| Spot { hierarchy: spot.hierarchy.clone(), path: spot.path.join(name) };
        Place { spots: self.spots.iter().map(spot).collect(), controllers: self.controllers.clone() }
    }
}
// ANCHOR_END: place

// ANCHOR: permission
/// Whether cgroups with a controller can be made at all: as root; by others where a subtree was delegated to
/// them.
///
/// # Errors
///
/// What to do about it.
pub fn may_make_cgroups(hierarchies: &Hierarchies) -> Result<()> {
    delegation::check(hierarchies)
}

/// Executes this program, which lies at `program`, once more in a cgroup that systemd makes and delegates to it: by
/// `systemd-run --user --scope -p Delegate=yes`. It keeps its pid, its terminal and its descriptors.
///
/// # Errors
///
/// When there is no systemd of the user's, or this is the second execution already.
pub fn re_execute_delegated(program: &Path) -> Result<Infallible> {
    delegation::re_execute(program)
}
// ANCHOR_END: permission

impl Place {
    /// Each hierarchy with the directory on disk, and the place in that hierarchy alone.
    pub(crate) fn on_disk(&self) -> Result<Vec<(Place, &Hierarchy, PathBuf)>> {
        let one = |spot: &Spot| Place { spots: vec![spot.clone()], controllers: self.controllers.clone() };
        let spots = self.spots.iter();
        spots.map(|spot| Ok((one(spot), &spot.hierarchy, spot.hierarchy.directory(&spot.path)?))).collect()
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.spots.iter().any(|spot| spot.hierarchy.has(controller))
    }

    pub(crate) fn wants(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_none_or(|all| all.iter().any(|one| one == controller))
    }
}

impl fmt::Display for Place {
    /// As in `/a in memory, /b in v2`.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let spots = self.spots.iter().map(|spot| format!("{:?} in {}", spot.path, spot.hierarchy));
        formatter.write_str(&spots.collect::<Vec<_>>().join(", "))
    }
}
