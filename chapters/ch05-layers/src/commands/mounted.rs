// ANCHOR: imports
//! A union that is mounted, by either backend, and goes with the value that stands for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ch01_pid::attend::Console;
use ch01_pid::{Child, Signals, attend};
use ch05_layers::Mode;
use ch05_layers::branch::Given;
use ch05_layers::fuse::{Options, Server};
use ch05_layers::layers::Layers;
use ch05_layers::overlay::{Form, Marks, Overlay};
use clap::ValueEnum;
use lesson::Lesson;
use log::{info, warn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::statfs::statfs;
use nix::unistd::{geteuid, pipe2};

use super::mount_table::mount_at;
// ANCHOR_END: imports

// ANCHOR: backend
/// Who makes one tree of the branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// AuFS's rules, in a program: a FUSE file system whose server is a process of ours
    Aufs,
    /// overlayfs, in the kernel: it reads its own marks in the branches, not `.wh.` files
    Overlay,
}

impl Backend {
    /// AuFS where FUSE can be used, else overlayfs, which is said.
    pub fn choose() -> Backend {
        match can_use_fuse() {
            Ok(()) => Backend::Aufs,
            Err(refusal) => {
                let refusal = lesson::describe(&refusal);
                info!(target: "say", "FUSE can't be used here ({refusal}), so overlayfs makes the union.");
                Backend::Overlay
            }
        }
    }

    /// In which form it marks what is deleted.
    pub fn form(self) -> Result<Form> {
        Ok(match self {
            Backend::Aufs => Form::Aufs,
            Backend::Overlay => Form::Overlay(Marks::of_this_process()?),
        })
    }
}

fn can_use_fuse() -> Result<()> {
    let device = "/dev/fuse";
    let opened = File::options().read(true).write(true).open(device);
    opened.map(drop).with_context(|| format!("open {device:?}"))
}

/// A union at a mount point. Dropped, it is unmounted.
pub struct Mounted {
    mountpoint: PathBuf,
    /// The mount's number in the mount table: others may mount and unmount at the same place.
    mount: Option<u64>,
    by: By,
    /// How the server died, once that is known.
    death: Option<String>,
}

enum By {
    Server(Server),
    /// With the work directory that goes with the mount, where there is one.
    Kernel {
        work: Option<PathBuf>,
    },
    /// Unmounted.
    Nobody,
}
// ANCHOR_END: backend

// ANCHOR: start
impl Mounted {
    /// Mounts the union of `branches` at `mountpoint`. `options` are those of a FUSE server.
    pub fn start(
        lesson: &Lesson,
        backend: Backend,
        branches: &[Given],
        mountpoint: &Path,
        options: &Options,
    ) -> Result<Mounted> {
        match backend {
            Backend::Aufs => Mounted::served(lesson, branches.to_vec(), mountpoint, options),
            Backend::Overlay => mount_overlay(branches, mountpoint),
        }
    }

    /// Mounts a container of a store, with the backend that it was made for.
    pub fn container(lesson: &Lesson, layers: &Layers, id: &str, options: &Options) -> Result<Mounted> {
        let mountpoint = layers.mountpoint(id)?;
        if layers.form(id)? == Form::Aufs {
            return Mounted::served(lesson, layers.branches(id)?, &mountpoint, options);
        }
        layers.overlay(id)?.overlay().mount(&mountpoint)?;
        Mounted::at(&mountpoint, By::Kernel { work: None })
    }

    fn served(
        lesson: &Lesson,
        branches: Vec<Given>,
        mountpoint: &Path,
        options: &Options,
    ) -> Result<Mounted> {
        if geteuid().is_root() {
            // Anyone else asks fusermount3, which can.
            can_use_fuse().context("FUSE can't be used here; overlayfs does without: --backend overlay")?;
        }
        info!(target: "say", "A process of ours serves the union as a FUSE file system.");
        let server = Server::start_with_log(branches, mountpoint, options, &lesson.descriptors())?;
        Mounted::at(mountpoint, By::Server(server))
    }

    fn at(mountpoint: &Path, by: By) -> Result<Mounted> {
        Ok(Mounted { mountpoint: mountpoint.into(), mount: mount_at(mountpoint)?, by, death: None })
    }

    /// Whether nobody has unmounted it.
    pub fn is_mounted(&self) -> Result<bool> {
        Ok(self.mount.is_some() && mount_at(&self.mountpoint)? == self.mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }
}
// ANCHOR_END: start

// ANCHOR: overlay
/// The top branch, where it is read-write, is overlayfs's upper layer.
fn mount_overlay(branches: &[Given], mountpoint: &Path) -> Result<Mounted> {
    let (top, lower) = match branches {
        [top, lower @ ..] if top.mode == Mode::ReadWrite => (Some(top), lower),
        all => (None, all),
    };
    let work = top.map(|top| work_directory(&top.path)).transpose()?;
    let overlay = Overlay {
        lower: lower.iter().map(|given| given.path.as_path()).collect(),
        upper: top.map(|top| top.path.as_path()).zip(work.as_deref()),
        marks: Marks::of_this_process()?,
    };
    if let Err(error) = overlay.mount(mountpoint) {
        remove_work(work.as_deref())?;
        return Err(error);
    }
    Mounted::at(mountpoint, By::Kernel { work })
}

/// Makes the work directory: `.NAME.work` beside the branch, on the same file system. There overlayfs prepares what it
/// renames into the branch. Where a killed mount has left it, it is used again.
fn work_directory(branch: &Path) -> Result<PathBuf> {
    let name = branch.file_name().with_context(|| format!("the branch {branch:?} has nothing beside it"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".work");
    let work = branch.with_file_name(hidden);
    match fs::create_dir(&work) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(work),
        made => made.map(|()| work.clone()).with_context(|| format!("mkdir {work:?}")),
    }
}

fn remove_work(work: Option<&Path>) -> Result<()> {
    work.map_or(Ok(()), |work| fs::remove_dir_all(work).with_context(|| format!("remove {work:?}")))
}
// ANCHOR_END: overlay

// ANCHOR: attend
/// How often the server is looked at, in milliseconds.
pub const LOOK: u16 = 200;

impl Mounted {
    /// How the server ended, if it did so while the union was mounted.
    pub fn death(&mut self) -> Result<Option<String>> {
        // Where somebody has unmounted it, the server has ended as it should.
        if self.death.is_none() && self.is_mounted()? {
            if let By::Server(server) = &mut self.by {
                self.death = server.death()?;
            }
        }
        Ok(self.death.clone())
    }

    /// Chapter 1's `attend`, for a command that uses the union. Where the server ends before the command, this says so at
    /// once: all that the command would see is ENOTCONN.
    pub fn attend(&mut self, child: Child, signals: &Signals, console: Console) -> Result<u8> {
        let (command_ended, command_runs) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
        // Whether it has said so.
        let watch = || -> Result<bool> {
            // The end of the pipe: the command has ended.
            while poll(&mut [PollFd::new(command_ended.as_fd(), PollFlags::POLLIN)], LOOK) != Ok(1) {
                if let Some(death) = self.death()? {
                    warn!("{death}");
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let (status, watched) = thread::scope(|scope| {
            let watcher = scope.spawn(watch);
            let status = attend(child, signals, console);
            drop(command_runs);
            (status, watcher.join())
        });
        let status = status?;
        let is_told = watched.map_err(|_| anyhow!("the thread that watches the server panicked"))??;
        // The mount dies an instant before the process is gone, and the command may have been quick.
        while self.death()?.is_none() && statfs(&self.mountpoint).err() == Some(Errno::ENOTCONN) {
            thread::sleep(Duration::from_millis(10));
        }
        match self.death()? {
            Some(_) if is_told => {
                bail!("the command ended with status {status}, after its file system had lost its server")
            }
            Some(death) => bail!("{death}; the command ended with status {status}"),
            None => Ok(status),
        }
    }
}
// ANCHOR_END: attend

// ANCHOR: stop
impl Mounted {
    /// The mount, to be dropped where no destructor runs.
    pub fn take(&mut self) -> Mounted {
        let by = std::mem::replace(&mut self.by, By::Nobody);
        Mounted { mountpoint: self.mountpoint.clone(), mount: self.mount, by, death: None }
    }

    /// Unmounts.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.by, By::Nobody) {
            By::Server(server) => server.stop(),
            By::Kernel { work } if !self.is_mounted()? => remove_work(work.as_deref()),
            By::Kernel { work } => unmount_overlay(&self.mountpoint, work.as_deref()),
            By::Nobody => Ok(()),
        }
    }
}

fn unmount_overlay(mountpoint: &Path, work: Option<&Path>) -> Result<()> {
    info!(target: "syscall", "umount2({mountpoint:?}, 0)  the branches stay as they are");
    match umount2(mountpoint, MntFlags::empty()) {
        Err(Errno::EBUSY) => {
            warn!("{mountpoint:?} is in use: it is detached, and goes when its last user has left it");
            umount2(mountpoint, MntFlags::MNT_DETACH)
                .with_context(|| format!("umount2 {mountpoint:?} with MNT_DETACH"))?;
            // Who is still in it may still write.
            return Ok(());
        }
        result => result.with_context(|| format!("umount2 {mountpoint:?}"))?,
    }
    remove_work(work)
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            warn!("{}", lesson::describe(&error));
        }
    }
}
// ANCHOR_END: stop
