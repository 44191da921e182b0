//! Plays operations on the union as plain code, without a mount. What the kernel does above a file system (it
//! follows symlinks, checks permissions, keeps descriptors) is not there, so only root's operations on names
//! are played.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ch05_layers::union::{Make, Owner, attributes, xattr};
use ch05_layers::{Directory, Union};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::time::TimeSpec;

use super::case::Operation;
use super::differences::World;
use super::model;
use super::tree::{Facts, Inode, Kind, Tree};
use super::words::{Flags, Place};

pub struct Code(pub Union);

const ROOT: Owner = Owner { user: 0, group: 0 };

impl Code {
    /// Plays an operation, whose paths lead over no symlink; None where only the kernel could.
    pub fn call(&self, operation: &Operation) -> Option<Result<(), Errno>> {
        Some(match operation {
            Operation::WriteFile { path, flags, content } => self.write(path, *flags, &content.bytes()),
            Operation::MakeDirectory { path, mode } => self.make(path, &Make::Directory, mode.0),
            Operation::Symlink { target, path } => {
                self.make(path, &Make::Symlink(PathBuf::from(&target.0)), 0o777)
            }
            Operation::Fifo { path, mode } => self.make(path, &Make::Node(0), libc::S_IFIFO | mode.0),
            Operation::RemoveDirectory { path } => {
                self.change(path, |parent, name| self.0.remove_directory(parent, name))
            }
            Operation::Unlink { path } => self.change(path, |parent, name| self.0.remove(parent, name)),
            Operation::Link { from, to } => {
                self.change_two(from, to, |from, name, to, new_name| self.0.link(from, name, to, new_name))
            }
            Operation::Rename { from, to, flags } => self.change_two(from, to, |from, name, to, new_name| {
                self.0.rename(from, name, to, new_name, *flags)
            }),
            Operation::ChangeMode { path, mode } => {
                self.alter(path, |object| attributes::set_mode(object, mode.0))
            }
            Operation::ChangeOwner { path, user, group } => {
                self.alter(path, |object| attributes::set_owner(object, Some(*user), Some(*group)))
            }
            Operation::ChangeTime { path, seconds } => self.alter(path, |object| {
                attributes::set_times(object, TimeSpec::UTIME_OMIT, TimeSpec::new(*seconds, 987_654_321))
            }),
            Operation::SetXattr { path, name, value, flags } => {
                self.alter(path, |object| xattr::set(object, &c_string(name), &value.bytes(), *flags))
            }
            Operation::RemoveXattr { path, name } => {
                self.alter(path, |object| xattr::remove(object, &c_string(name)))
            }
            _ => return None,
        })
    }

    /// A change of a name in the directory above `path`.
    fn change<T>(
        &self,
        path: &Place,
        change: impl FnOnce(&Directory, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let (parent, name) = path.parent();
        // A name that is not there is no reason to raise the directories above it.
        change(&self.0.raise(Path::new(parent))?, OsStr::new(name))
    }

    fn change_two(
        &self,
        from: &Place,
        to: &Place,
        change: impl FnOnce(&Directory, &OsStr, &Directory, &OsStr) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let ((from, name), (to, new_name)) = (from.parent(), to.parent());
        let (from, to) = (self.0.raise(Path::new(from))?, self.0.raise(Path::new(to))?);
        change(&from, OsStr::new(name), &to, OsStr::new(new_name))
    }

    fn make(&self, path: &Place, what: &Make, mode: u32) -> Result<(), Errno> {
        self.change(path, |parent, name| self.0.make(parent, name, what, mode, ROOT).map(drop))
    }

    /// A change of the object itself, after its copy-up.
    fn alter(&self, path: &Place, alter: impl FnOnce(OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        self.change(path, |parent, name| {
            self.0.copy_up(parent, name)?;
            alter(self.0.open(0, &parent.child(name), OFlag::O_PATH)?)
        })
    }

    /// open(2), write(2), as the kernel and a file system do them together.
    fn write(&self, path: &Place, flags: Flags, content: &[u8]) -> Result<(), Errno> {
        let flags = OFlag::from_bits_retain(flags.0);
        let (parent, name) = path.parent();
        let found = self.0.lookup(&self.0.walk(Path::new(parent))?, OsStr::new(name));
        let file: File = match found {
            Err(Errno::ENOENT) if flags.contains(OFlag::O_CREAT) => {
                let what = Make::File(flags & OFlag::O_ACCMODE);
                self.change(path, |parent, name| self.0.make(parent, name, &what, 0o644, ROOT))?.into()
            }
            Err(errno) => return Err(errno),
            Ok(_) if flags.contains(OFlag::O_EXCL) => return Err(Errno::EEXIST),
            Ok(entry) if flags & (OFlag::O_ACCMODE | OFlag::O_TRUNC) == OFlag::O_RDONLY => {
                self.0.open(entry.branch, Path::new(&path.0), OFlag::O_RDONLY)?.into()
            }
            Ok(_) => self
                .change(path, |parent, name| {
                    self.0.copy_up(parent, name)?;
                    self.0.open(0, &parent.child(name), flags & (OFlag::O_ACCMODE | OFlag::O_TRUNC))
                })?
                .into(),
        };
        let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
        match flags.contains(OFlag::O_APPEND) {
            true => file.write_all_at(content, file.metadata().map_err(errno)?.len()).map_err(errno),
            false => (&file).write_all(content).map_err(errno),
        }
    }

    /// The whole tree, as the code lists it and finds it.
    pub fn tree(&self) -> Result<Tree, String> {
        let mut tree = Tree::new();
        let root = self.0.root().map_err(|errno| format!("the root: {errno}"))?;
        let facts =
            Facts::read(self.0.branches()[root.branches[0]].path()).map_err(|error| error.to_string())?;
        tree.insert(String::new(), facts);
        self.below(&root, &mut tree)?;
        Ok(tree)
    }

    fn below(&self, directory: &Directory, tree: &mut Tree) -> Result<(), String> {
        let here = directory.path.to_str().expect("UTF-8");
        let listed = self.0.list(directory).map_err(|errno| format!("list {here:?}: {errno}"))?;
        for listed in listed {
            let name = &listed.name;
            let path = model::join(here, name.to_str().expect("UTF-8"));
            let at = |errno: Errno| format!("{path:?} is listed, and found it is not: {errno}");
            let entry = self.0.lookup(directory, name).map_err(at)?;
            if entry.branch != listed.branch || entry.status.st_ino != listed.inode {
                return Err(format!("{path:?} is listed as {listed:?} and found as {entry:?}"));
            }
            let object = self.0.open(entry.branch, Path::new(&path), OFlag::O_PATH).map_err(at)?;
            let real = std::fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd())).expect("readlink");
            let mut facts = Facts::read(&real).map_err(|error| format!("{real:?}: {error}"))?;
            let kind = facts.kind;
            if entry.branch > 0 && kind != Kind::Directory {
                // Names of a file below the top are files of their own.
                facts.links = Some(1);
                facts.inode = Inode(u64::MAX - tree.len() as u64);
            }
            if tree.insert(path.clone(), facts).is_some() {
                return Err(format!("{path:?} is listed twice"));
            }
            if kind == Kind::Directory {
                self.below(&self.0.enter(directory, name).map_err(at)?, tree)?;
            }
        }
        Ok(())
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("no name here has a NUL")
}

/// The operation with paths that lead over no symlink; None where the kernel refuses it before a file system
/// is asked.
pub fn resolve(operation: &Operation, world: &World) -> Option<Operation> {
    let mut operation = operation.clone();
    let root = world.plain;
    let kind = |place: &Place| Facts::read(&root.join(&place.0)).map(|facts| facts.kind).ok();
    let mut places = Vec::new();
    for place in operation.places_mut() {
        *place = Place(world.resolve(place)?);
        let parent = root.join(place.parent().0);
        parent.is_dir().then_some(())?;
        places.push((place.clone(), kind(place)));
    }
    let (first, first_kind) = places.first()?.clone();
    let second = places.get(1).cloned();
    let possible = match (&operation, second) {
        // Into itself, onto itself or another name of the same inode, or onto a directory above.
        (Operation::Rename { from, to: new, .. }, Some((to, _))) => {
            !world.are_one(from, new)
                && !format!("{}/", first.0).starts_with(&format!("{}/", to.0))
                && !format!("{}/", to.0).starts_with(&format!("{}/", first.0))
        }
        (Operation::Link { .. }, _) => first_kind != Some(Kind::Directory),
        // Symlinks are followed; a directory or a FIFO has no content.
        (Operation::WriteFile { flags, .. }, _) => {
            matches!(first_kind, None | Some(Kind::File)) && flags.0 & libc::O_DIRECTORY == 0
        }
        (Operation::ChangeMode { .. }, _) => first_kind != Some(Kind::Symlink),
        // Only files and directories have `user.` xattrs.
        (Operation::SetXattr { .. } | Operation::RemoveXattr { .. }, _) => {
            matches!(first_kind, None | Some(Kind::File | Kind::Directory))
        }
        _ => true,
    };
    // The kernel says so itself where a name is too long for any file system.
    let too_long = places.iter().any(|(place, _)| place.names().any(|name| name.len() > 255));
    (possible && !too_long).then_some(operation)
}
