//! Why a branch answers for a path, or does not.
//!
//! Here the union's rules stand a second time, from the other side: not name by name through all branches,
//! but branch by branch for the whole path. What a branch says counts until one above it has ended the
//! search.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::{Directory, Result, Union};
use crate::branch::Mode;
use crate::whiteout::{self, Name, OPAQUE};

// ANCHOR: verdict
/// What one branch says of a path. Printed, it is a line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The branch's index.
    pub branch: usize,
    /// Its path, as it was given.
    pub path: PathBuf,
    /// What may be done to it.
    pub mode: Mode,
    /// What it has at the path.
    pub found: Found,
    /// What in a branch above hides that; None: it counts.
    pub hidden: Option<Hider>,
    /// Whether it is what the union shows: it counts, and no branch above has anything that counts.
    pub answers: bool,
    /// What in it hides the path in the branches below, if anything does. A path in the branch.
    pub hides: Option<PathBuf>,
}

/// What a branch has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Neither the path nor a whiteout on the way.
    Nothing,
    /// An object of this type (libc::S_IFREG...).
    Object(u32),
    /// This name on the way is no directory.
    NotADirectory(PathBuf),
    /// The whiteout at this path.
    Whiteout(PathBuf),
    /// It could not be asked.
    Failed(Errno),
}

/// What hides a path from the branches below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hider {
    /// The branch that has it.
    pub branch: usize,
    /// A whiteout, an opaque mark or an object that is no directory.
    pub path: PathBuf,
}
// ANCHOR_END: verdict

// ANCHOR: explain
impl Union {
    /// What each branch says of `path`, the top one first.
    ///
    /// # Errors
    ///
    /// EINVAL: there is a `..` in the path, or a name that AuFS keeps for itself.
    pub fn explain(&self, path: &Path) -> Result<Vec<Verdict>> {
        let names = names(path)?;
        let mut hider: Option<Hider> = None;
        let mut is_answered = false;
        let mut verdicts = Vec::new();
        for (index, branch) in self.branches().iter().enumerate() {
            let (found, hides) = self.ask(index, &names).unwrap_or_else(|errno| (Found::Failed(errno), None));
            let answers = !is_answered && hider.is_none() && matches!(found, Found::Object(_));
            is_answered |= answers;
            let (mode, hidden, path) = (branch.mode(), hider.clone(), branch.path().into());
            hider = hider.or_else(|| hides.clone().map(|path| Hider { branch: index, path }));
            verdicts.push(Verdict { branch: index, path, mode, found, hidden, answers, hides });
        }
        Ok(verdicts)
    }

    /// What `branch` alone has at the path, and what in it ends the search.
    fn ask(&self, branch: usize, names: &[&OsStr]) -> Result<(Found, Option<PathBuf>)> {
        let mut at = Directory { path: PathBuf::new(), branches: vec![branch] };
        let mut hides = self.is_opaque(branch, &at.path)?.then(|| PathBuf::from(OPAQUE));
        let mut kind = libc::S_IFDIR;
        for (index, name) in names.iter().enumerate() {
            let whiteout = at.path.join(whiteout::of(name));
            let has_whiteout = self.has_whiteout(branch, &at, name)?;
            at.path.push(name);
            let path = &at.path;
            kind = match self.status(branch, path) {
                Ok(status) => status.st_mode & libc::S_IFMT,
                Err(Errno::ENOENT) if has_whiteout => {
                    return Ok((Found::Whiteout(whiteout.clone()), hides.or(Some(whiteout))));
                }
                Err(Errno::ENOENT) => return Ok((Found::Nothing, hides)),
                Err(errno) => return Err(errno),
            };
            let is_last = index + 1 == names.len();
            if kind != libc::S_IFDIR {
                let found = if is_last { Found::Object(kind) } else { Found::NotADirectory(path.clone()) };
                return Ok((found, hides.or(Some(path.clone()))));
            }
            if self.is_opaque(branch, path)? {
                hides = hides.or_else(|| Some(path.join(OPAQUE)));
            }
            // Its own whiteout beside it has the same effect.
            hides = hides.or_else(|| has_whiteout.then_some(whiteout));
        }
        Ok((Found::Object(kind), hides))
    }
}

fn names(path: &Path) -> Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if matches!(whiteout::classify(name), Name::Plain(_)) => names.push(name),
            Component::RootDir | Component::CurDir => (),
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(names)
}
// ANCHOR_END: explain

impl fmt::Display for Verdict {
    /// `1 ro /layers/base: a file; hidden by etc/.wh.motd of branch 0`
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} {:<4} {}: {}", self.branch, self.mode, self.path.display(), self.found)?;
        let is_whiteout = matches!(self.found, Found::Whiteout(_));
        match (&self.hidden, &self.found) {
            (_, Found::Nothing | Found::Failed(_)) => Ok(()),
            (Some(hider), _) => {
                write!(formatter, "; hidden by {} of branch {}", hider.path.display(), hider.branch)
            }
            (None, Found::Object(libc::S_IFDIR)) => {
                let part = if self.answers { "it answers" } else { "merged into those above" };
                write!(formatter, "; {part}")?;
                match &self.hides {
                    Some(mark) => write!(formatter, "; {} hides those below", mark.display()),
                    None => Ok(()),
                }
            }
            (None, Found::Object(_)) if self.answers => write!(formatter, "; it answers"),
            // A directory above has the name already: this one is no part of it.
            (None, Found::Object(_)) => write!(formatter, "; hidden by the directory of a branch above"),
            (None, _) if is_whiteout => write!(formatter, "; hides the path in all branches below"),
            (None, _) => write!(formatter, "; hides those below"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Found::Nothing => write!(formatter, "nothing"),
            Found::Object(libc::S_IFDIR) => write!(formatter, "a directory"),
            Found::Object(libc::S_IFREG) => write!(formatter, "a file"),
            Found::Object(libc::S_IFLNK) => write!(formatter, "a symbolic link"),
            Found::Object(libc::S_IFCHR | libc::S_IFBLK) => write!(formatter, "a device"),
            Found::Object(libc::S_IFIFO) => write!(formatter, "a FIFO"),
            Found::Object(_) => write!(formatter, "a socket"),
            Found::NotADirectory(path) => write!(formatter, "{} is no directory", path.display()),
            Found::Whiteout(path) => write!(formatter, "the whiteout {}", path.display()),
            Found::Failed(errno) => write!(formatter, "can't be asked: {} ({errno:?})", errno.desc()),
        }
    }
}
