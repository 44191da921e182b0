//! Plays steps below one root: the same system calls for the union's mount, overlayfs and the plain
//! directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, RenameFlags};
use nix::fcntl::{fallocate, openat, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode as Bits, UtimensatFlags, fchmod, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};
use nix::unistd::{ftruncate, linkat, mkdir, mkfifo, setfsgid, setfsuid, truncate, unlinkat};

use super::case::{Operation, Step};
use super::tree::{Facts, Kind};
use super::words::Place;
use super::xattr;

/// What a step's operation tells the program that calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Content(Vec<u8>),
    Names(Vec<String>),
    Facts(Box<Facts>),
    Error(Errno),
    /// The slot is empty, so there was nothing to call.
    Nothing,
}

/// The user that steps without privileges are done by.
const USER: u32 = 1000;

/// A place where steps are played, and the descriptors that are open there.
pub struct Player {
    root: PathBuf,
    /// Where to tell the kernel to forget.
    mount: Option<PathBuf>,
    slots: [Option<File>; 3],
}

impl Player {
    pub fn new(root: PathBuf, mount: Option<PathBuf>) -> Player {
        Player { root, mount, slots: [None, None, None] }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What stat(2) says of the file that a path leads to.
    pub fn metadata(&self, place: &Place) -> Option<fs::Metadata> {
        fs::metadata(self.root.join(&place.0)).ok()
    }

    /// What fstat(2) says of the file in a slot.
    pub fn open_metadata(&self, slot: usize) -> Option<fs::Metadata> {
        self.slots[slot].as_ref()?.metadata().ok()
    }

    /// Empties a slot.
    pub fn close(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Plays one step, as its user.
    pub fn play(&mut self, step: &Step) -> Answer {
        if step.as_user {
            setfsgid(Gid::from_raw(USER));
            setfsuid(Uid::from_raw(USER));
        }
        let answer = self.operate(&step.operation);
        // The kernel gives the capabilities back together with the uid.
        setfsuid(Uid::from_raw(0));
        setfsgid(Gid::from_raw(0));
        match answer {
            Ok(answer) => answer,
            Err(error) => Answer::Error(Errno::from_raw(error.raw_os_error().unwrap_or_default())),
        }
    }

    fn operate(&mut self, operation: &Operation) -> io::Result<Answer> {
        let root = self.root.clone();
        let at = |place: &Place| root.join(&place.0);
        match operation {
            Operation::Open { slot, .. } => {
                self.slots[*slot] = None;
                self.slots[*slot] = Some(self.open(operation)?);
            }
            Operation::Close { slot } => self.close(*slot),
            Operation::Write { slot, .. }
            | Operation::Read { slot }
            | Operation::TruncateOpen { slot, .. }
            | Operation::Allocate { slot, .. }
            | Operation::StatOpen { slot }
            | Operation::ModeOpen { slot, .. }
            | Operation::Sync { slot }
            | Operation::ListOpen { slot }
            | Operation::MakeIn { slot, .. } => {
                let Some(file) = &self.slots[*slot] else { return Ok(Answer::Nothing) };
                return on_open(file, operation);
            }
            Operation::WriteFile { path, flags, content } => {
                let mut file = open(&at(path), flags.0, 0o644)?;
                file.write_all(&content.bytes())?;
            }
            Operation::MakeDirectory { path, mode } => mkdir(&at(path), bits(mode.0))?,
            Operation::RemoveDirectory { path } => unlinkat(AT_FDCWD, &at(path), UnlinkatFlags::RemoveDir)?,
            Operation::Unlink { path } => unlinkat(AT_FDCWD, &at(path), UnlinkatFlags::NoRemoveDir)?,
            Operation::Symlink { target, path } => symlink(&target.0, at(path))?,
            Operation::Fifo { path, mode } => mkfifo(&at(path), bits(mode.0))?,
            Operation::Link { from, to } => {
                linkat(AT_FDCWD, &at(from), AT_FDCWD, &at(to), AtFlags::empty())?;
            }
            Operation::Rename { from, to, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                renameat2(AT_FDCWD, &at(from), AT_FDCWD, &at(to), flags)?;
            }
            Operation::ChangeMode { path, mode } => {
                fchmodat(AT_FDCWD, &at(path), bits(mode.0), FchmodatFlags::FollowSymlink)?;
            }
            Operation::ChangeOwner { path, user, group } => lchown(at(path), Some(*user), Some(*group))?,
            Operation::ChangeTime { path, seconds } => {
                let (omitted, time) = (TimeSpec::UTIME_OMIT, TimeSpec::new(*seconds, 987_654_321));
                utimensat(AT_FDCWD, &at(path), &omitted, &time, UtimensatFlags::NoFollowSymlink)?;
            }
            Operation::Truncate { path, length } => truncate(&at(path), *length)?,
            Operation::SetXattr { path, name, value, flags } => {
                xattr::set(&at(path), name, &value.bytes(), *flags)?;
            }
            Operation::RemoveXattr { path, name } => xattr::remove(&at(path), name)?,
            Operation::ReadFile { path } => {
                let file = open(&at(path), libc::O_RDONLY, 0)?;
                return read(&file).map(Answer::Content);
            }
            Operation::List { path } => {
                let directory = open(&at(path), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
                return list(directory).map(Answer::Names);
            }
            Operation::Stat { path } => {
                return Facts::read(&at(path)).map(|facts| Answer::Facts(Box::new(facts)));
            }
            Operation::Forget {} => {
                if let Some(mount) = &self.mount {
                    forget(mount)?;
                }
            }
        }
        Ok(Answer::Done)
    }

    fn open(&self, operation: &Operation) -> io::Result<File> {
        let Operation::Open { path, flags, mode, .. } = operation else { unreachable!("{operation}") };
        open(&self.root.join(&path.0), flags.0, mode.0)
    }
}

fn bits(mode: u32) -> Bits {
    Bits::from_bits_retain(mode)
}

/// open(2). Opening a FIFO must not wait for its other end.
fn open(path: &Path, flags: i32, mode: u32) -> io::Result<File> {
    // Not by the standard library, which refuses combinations that the kernel takes.
    let file = nix::fcntl::open(path, OFlag::from_bits_retain(flags | libc::O_NONBLOCK), bits(mode))?;
    Ok(File::from(file))
}

/// The whole content.
fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; 1 << 17];
    let mut length = 0;
    loop {
        match file.read_at(&mut content[length..], length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    content.truncate(length);
    Ok(content)
}

fn list(directory: File) -> io::Result<Vec<String>> {
    let mut directory = Dir::from_fd(directory.into())?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn on_open(file: &File, operation: &Operation) -> io::Result<Answer> {
    match operation {
        Operation::Write { offset, content, .. } => file.write_all_at(&content.bytes(), *offset as u64)?,
        Operation::Read { .. } => return read(file).map(Answer::Content),
        Operation::TruncateOpen { length, .. } => ftruncate(file, *length)?,
        Operation::Allocate { mode, offset, length, .. } => {
            fallocate(file, FallocateFlags::from_bits_retain(*mode), *offset, *length)?;
        }
        Operation::StatOpen { .. } => {
            let metadata = file.metadata()?;
            let kind = if metadata.is_dir() { Kind::Directory } else { Kind::Other };
            return Ok(Answer::Facts(Box::new(Facts::of(kind, &metadata))));
        }
        Operation::ModeOpen { mode, .. } => fchmod(file, bits(mode.0))?,
        Operation::Sync { .. } => file.sync_all()?,
        Operation::ListOpen { .. } => {
            // A description of its own, since the position in a directory belongs to it.
            let here = openat(file, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Bits::empty())?;
            return list(here.into()).map(Answer::Names);
        }
        Operation::MakeIn { name, mode, .. } => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
            openat(file, name.0.as_str(), flags, bits(mode.0))?;
        }
        other => unreachable!("{other} needs no slot"),
    }
    Ok(Answer::Done)
}

/// A remount without any change: it makes the kernel drop all names and inodes of the mount that nobody
/// holds.
fn forget(mount: &Path) -> io::Result<()> {
    nix::mount::mount(None::<&str>, mount, None::<&str>, nix::mount::MsFlags::MS_REMOUNT, None::<&str>)?;
    Ok(())
}

/// Removes all below `root`, and `root`, by plain unlink(2) and rmdir(2), as `rm -r` does.
pub fn remove_all(root: &Path) -> Result<(), String> {
    fs::remove_dir_all(root).map_err(|error| format!("rm -r {root:?}: {error}"))
}
