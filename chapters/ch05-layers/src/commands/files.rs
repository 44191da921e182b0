// ANCHOR: imports
//! `ls`, `cat`, `rm`: on the stack itself, with no mount.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ch05_layers::{Directory, Union};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::stack::{Stack, Telling};
// ANCHOR_END: imports

// ANCHOR: arguments
/// List a directory: each name with the branches that answer for it
#[derive(clap::Args)]
pub struct Ls {
    #[command(flatten)]
    place: Place,
}

/// Print a file
#[derive(clap::Args)]
pub struct Cat {
    #[command(flatten)]
    place: Place,
}

/// Remove a file or an empty directory
#[derive(clap::Args)]
pub struct Rm {
    /// A directory with all that is in it
    #[arg(long, short)]
    recursive: bool,
    #[command(flatten)]
    place: Place,
}

/// A path in a union.
#[derive(clap::Args)]
pub struct Place {
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    pub stack: Stack,
    /// A path in the union, from its root
    #[arg(default_value = "/")]
    path: PathBuf,
}
// ANCHOR_END: arguments

// ANCHOR: place
impl Place {
    /// Begins to narrate, and opens the stack. The path comes without its leading `/`.
    pub fn open(&self) -> Result<(Union, PathBuf)> {
        self.telling.start()?;
        let mut path = PathBuf::new();
        for component in self.path.components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::RootDir | Component::CurDir => (),
                _ => bail!("{:?}: a path in the union is written without `..`", self.path),
            }
        }
        Ok((self.stack.open()?, path))
    }
}

/// The path as one writes it: from the union's root.
fn from_root(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// The directory that `path` is in, and its name there; none for the root, which is in no directory.
fn parent_of(union: &Union, path: &Path) -> Result<Option<(Directory, OsString)>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let directory = union.walk(parent).with_context(|| format!("look up {:?}", from_root(parent)))?;
    Ok(Some((directory, name.to_owned())))
}
// ANCHOR_END: place

// ANCHOR: ls
impl Ls {
    pub fn run(self) -> Result<u8> {
        let (union, path) = self.place.open()?;
        let shown = from_root(&path);
        let directory = match parent_of(&union, &path)? {
            None => union.root().context("look up the root")?,
            Some((parent, name)) => {
                let entry = union.lookup(&parent, &name).with_context(|| format!("look up {shown:?}"))?;
                if !entry.is_directory() {
                    println!("{:<7} {}", entry.branch, path.display());
                    return Ok(0);
                }
                union.enter(&parent, &name).with_context(|| format!("look up {shown:?}"))?
            }
        };
        let mut names = BTreeMap::new();
        for listed in union.list(&directory).with_context(|| format!("list {shown:?}"))? {
            names.insert(listed.name, listed.branch);
        }
        for (name, branch) in names {
            // A directory may be in many branches.
            let (branches, slash) = match union.enter(&directory, &name) {
                Ok(entered) => (entered.branches, "/"),
                Err(Errno::ENOTDIR) => (vec![branch], ""),
                Err(errno) => return Err(errno).with_context(|| format!("look up {:?}", shown.join(&name))),
            };
            let branches: Vec<String> = branches.iter().map(usize::to_string).collect();
            println!("{:<7} {}{slash}", branches.join(" "), Path::new(&name).display());
        }
        Ok(0)
    }
}
// ANCHOR_END: ls

// ANCHOR: cat
impl Cat {
    pub fn run(self) -> Result<u8> {
        let (union, path) = self.place.open()?;
        let (parent, name) = parent_of(&union, &path)?.context(Errno::EISDIR).context("open \"/\"")?;
        let shown = from_root(&path);
        let entry = union.lookup(&parent, &name).with_context(|| format!("look up {shown:?}"))?;
        // Opened, a FIFO would wait for a writer, and a device do whatever it does.
        let is_file = entry.status.st_mode & libc::S_IFMT == libc::S_IFREG;
        ensure!(is_file, "{shown:?} is not a regular file");
        let file = union.open(entry.branch, &path, OFlag::O_RDONLY);
        let mut file =
            File::from(file.with_context(|| format!("open {shown:?} in branch {}", entry.branch))?);
        io::copy(&mut file, &mut io::stdout()).with_context(|| format!("print {shown:?}"))?;
        Ok(0)
    }
}
// ANCHOR_END: cat

// ANCHOR: rm
impl Rm {
    pub fn run(self) -> Result<u8> {
        let (union, path) = self.place.open()?;
        let (parent, name) = parent_of(&union, &path)?.context(Errno::EBUSY).context("rmdir \"/\"")?;
        self.remove(&union, &parent, &name)?;
        Ok(0)
    }

    fn remove(&self, union: &Union, parent: &Directory, name: &OsString) -> Result<()> {
        let path = from_root(&parent.child(name));
        let entry = union.lookup(parent, name).with_context(|| format!("look up {path:?}"))?;
        if entry.is_directory() && self.recursive {
            let directory = union.enter(parent, name).with_context(|| format!("look up {path:?}"))?;
            for listed in union.list(&directory).with_context(|| format!("list {path:?}"))? {
                self.remove(union, &directory, &listed.name)?;
            }
        }
        // The whiteout has to stand in the top branch: so its directory has to, first.
        let parent = union.raise(&parent.path).map_err(|errno| refused(errno, &path))?;
        match entry.is_directory() {
            true => union.remove_directory(&parent, name),
            false => union.remove(&parent, name),
        }
        .map_err(|errno| refused(errno, &path))
    }
}

fn refused(errno: Errno, path: &Path) -> anyhow::Error {
    let hint = match errno {
        Errno::EROFS => " (the top branch is not read-write: --branch DIR=rw)",
        Errno::ENOTEMPTY => " (-r removes what is in it too)",
        _ => "",
    };
    anyhow!(errno).context(format!("remove {path:?}{hint}"))
}
// ANCHOR_END: rm
