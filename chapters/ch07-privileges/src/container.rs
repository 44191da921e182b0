// ANCHOR: container
//! What the container is to be, and the files that it gets.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ch00_chroot::enter;
use ch02_mount::{Attributes, Propagation, Root, Setting, Tree, build_root, propagation};
use ch05_layers::overlay::{Marks, Overlay};
use ch07_privileges::capabilities::CapabilitySet;
use ch07_privileges::rlimits::Limit;
use ch07_privileges::seccomp::Policy;
use ch07_privileges::time::Offsets;
use ch07_privileges::user::User;
use ch07_privileges::{id_map, user_namespace};
use lesson::untold;
use log::info;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use userns::IdMap;

/// A container to be. The escapes are tried against it, and against copies of it that lack something.
#[derive(Clone, Debug)]
pub struct Container {
    /// The root file system, on the host.
    pub root: PathBuf,
    /// What becomes of it.
    pub files: Files,
    /// Its namespaces; that of time is made where there are `clocks`.
    pub namespaces: CloneFlags,
    /// Who of the container's users and groups is who outside, where there is a user namespace.
    pub maps: Option<Vec<IdMap>>,
    /// Its name.
    pub hostname: String,
    /// Where its clocks start.
    pub clocks: Option<Offsets>,
    /// Limits of each process.
    pub limits: Vec<Limit>,
    /// Whom the command runs as.
    pub user: User,
    /// What is left of root's power.
    pub capabilities: CapabilitySet,
    /// Whether exec can give more.
    pub no_new_privs: bool,
    /// Which system calls there are; all without one.
    pub policy: Option<Policy>,
    /// For the escapes: what is done around the container leaves a door open.
    pub careless: bool,
}

/// The files of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// The root file system with a layer on top that is the container's own: chapters 2 and 5.
    Layer,
    /// The same without the layer: what it writes stays in the root file system. Chapter 2.
    Shared,
    /// The root file system by chroot(2) alone: chapter 0.
    Chroot,
    /// The host's: chapter 1.
    Host,
}
// ANCHOR_END: container

// ANCHOR: take_files
impl Container {
    /// The host's half, where root of the container is somebody else: the root file system as a mount that is
    /// not attached anywhere. Only the host may give its files other owners; and its path may lead through
    /// directories that are closed to whom the container's root is.
    pub fn take_files(&self) -> Result<Option<Tree>> {
        match &self.maps {
            Some(maps) if shifts(maps) && self.has_own_root() => {
                info!(target: "say", "On the host: the files, with the owners that they are to have inside.");
                self.id_mapped(maps).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn has_own_root(&self) -> bool {
        matches!(self.files, Files::Layer | Files::Shared)
    }

    /// The files are root's, and root of the container is somebody else; so the mount shows them as that
    /// one's.
    fn id_mapped(&self, maps: &[IdMap]) -> Result<Tree> {
        let namespace = user_namespace::with_maps(maps, maps)?;
        match id_map::copy(&self.root, false, namespace.as_fd()) {
            Err(error) if is_refused(&error) => {
                info!(
                    target: "say",
                    "Its files will be nobody's inside, to be read and not to be written: {}.",
                    lesson::describe(&error)
                );
                Tree::copy(&self.root, false)
            }
            result => result,
        }
    }
}

/// Whether some number means another one outside.
pub fn shifts(maps: &[IdMap]) -> bool {
    maps.iter().any(|map| map.inside != map.outside)
}

/// Each file system has to allow id maps, and not all do (EINVAL); so has the kernel (ENOSYS, before 5.12).
fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.root_cause().downcast_ref(), Some(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM))
}
// ANCHOR_END: take_files

// ANCHOR: enter_files
impl Container {
    /// The child's half: makes the files its root.
    pub fn enter_files(&self, files: Option<&Tree>) -> Result<()> {
        match self.files {
            Files::Host => Ok(()),
            Files::Chroot => untold(|| enter(&self.root)),
            Files::Layer | Files::Shared => {
                untold(|| propagation::set(Path::new("/"), Propagation::Private, true))?;
                // Its path may lead through the directory that becomes the stage.
                let own = files.is_none().then(|| untold(|| Tree::copy(&self.root, true))).transpose()?;
                let image = untold(|| files.or(own.as_ref()).map(attach).transpose())?;
                let image = image.context("there is no root file system")?;
                let root = if self.files == Files::Layer { own_layer(&image)? } else { image };
                untold(|| build_root(&root, &[], false))
            }
        }
    }
}

/// Where the child puts its root together. It is a directory of the host's that everybody may walk to; what
/// is mounted on it here is seen by nobody else.
const STAGE: &str = "/tmp";

/// Attaches the root file system below the stage.
fn attach(tree: &Tree) -> Result<PathBuf> {
    let stage = Tree::new("tmpfs", &[Setting::Text("mode", "755")], Attributes::NONE)?;
    stage.attach(Root::open(Path::new(STAGE))?, Path::new(STAGE))?;
    let place = Path::new(STAGE).join("image");
    make_directory(&place)?;
    tree.attach(Root::open(&place)?, &place)?;
    Ok(place)
}

/// Chapter 5: the container writes to a layer of its own. It is in memory, belongs to the user namespace, and
/// goes with the container; on the host there is no file of it.
fn own_layer(image: &Path) -> Result<PathBuf> {
    let place = |name: &str| -> Result<PathBuf> {
        let path = Path::new(STAGE).join(name);
        make_directory(&path).map(|()| path)
    };
    let (upper, work, root) = (place("layer")?, place("work")?, place("root")?);
    let overlay =
        Overlay { lower: vec![image], upper: Some((&upper, &work)), marks: Marks::of_this_process()? };
    info!(
        target: "syscall",
        "mount(\"overlay\", lowerdir=image, upperdir=layer)  what it writes goes to a layer of its own, in \
         memory"
    );
    untold(|| overlay.mount(&root)).context("a layer of its own")?;
    Ok(root)
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("mkdir {path:?}"))
}
// ANCHOR_END: enter_files
