//! The names of a merged directory.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use log::warn;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Directory, Result, Union};
use crate::whiteout::{self, Name};

/// One name in a merged directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: OsString,
    /// The branch that answers for it.
    pub branch: usize,
    /// Its d_type (libc::DT_DIR...); DT_UNKNOWN where the file system doesn't say.
    pub kind: u8,
    /// Its inode number in that branch.
    pub inode: u64,
}

// ANCHOR: list
impl Union {
    /// All names of a merged directory, without `.` and `..`, unsorted.
    ///
    /// # Errors
    ///
    /// ESTALE: a branch was changed behind the union's back. EIO: a branch has a name there that no layer may
    /// have, such as `.wh..`, or a whiteout that is no regular file.
    pub fn list(&self, directory: &Directory) -> Result<Vec<Listed>> {
        let mut names = Vec::new();
        // What the branches so far hide from those below: their names, and what their whiteouts name.
        let mut hidden: HashSet<OsString> = HashSet::new();
        for (&branch, below) in directory.branches.iter().zip((0..directory.branches.len()).rev()) {
            // They hide nothing of their own branch.
            let mut whiteouts = Vec::new();
            let first = names.len();
            let mut open = Dir::from_fd(self.open_directory(branch, directory, OFlag::O_RDONLY)?)?;
            for entry in open.iter() {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                let kind = entry.file_type();
                match self.classify(branch, directory, name, kind)? {
                    Name::Plain(name) if name == "." || name == ".." || hidden.contains(name) => (),
                    Name::Plain(name) => {
                        names.push(Listed {
                            name: name.into(),
                            branch,
                            kind: d_type(kind),
                            inode: entry.ino(),
                        });
                    }
                    Name::Whiteout(name) if below > 0 => whiteouts.push(name.to_os_string()),
                    _ => (),
                }
            }
            if below > 0 {
                hidden.extend(names[first..].iter().map(|listed| listed.name.clone()));
                hidden.extend(whiteouts);
            }
        }
        Ok(names)
    }

    /// What `name` is; an error where it can't be.
    fn classify<'a>(
        &self,
        branch: usize,
        directory: &Directory,
        name: &'a OsStr,
        kind: Option<Type>,
    ) -> Result<Name<'a>> {
        let class = whiteout::classify(name);
        let is_mark = matches!(class, Name::Whiteout(_) | Name::Opaque);
        let is_right = match kind {
            _ if class == Name::Malformed => false,
            _ if !is_mark => true,
            Some(kind) => kind == Type::File,
            None => self.status(branch, &directory.child(name))?.st_mode & libc::S_IFMT == libc::S_IFREG,
        };
        if !is_right {
            let path = self.branches()[branch].path().join(directory.child(name));
            warn!(
                "{path:?}: a name that no layer may have, or a whiteout that is no regular file; remove it"
            );
            return Err(Errno::EIO);
        }
        Ok(class)
    }
}
// ANCHOR_END: list

fn d_type(kind: Option<Type>) -> u8 {
    match kind {
        None => libc::DT_UNKNOWN,
        Some(Type::Fifo) => libc::DT_FIFO,
        Some(Type::CharacterDevice) => libc::DT_CHR,
        Some(Type::Directory) => libc::DT_DIR,
        Some(Type::BlockDevice) => libc::DT_BLK,
        Some(Type::File) => libc::DT_REG,
        Some(Type::Symlink) => libc::DT_LNK,
        Some(Type::Socket) => libc::DT_SOCK,
    }
}
