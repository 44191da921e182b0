//! A whole tree as data: what every name in it is, so that two can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::xattr;

/// What stat(2), the content and the xattrs say of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    /// None for a directory: its size and number of links are the file system's own affair.
    pub size: Option<u64>,
    pub links: Option<u64>,
    pub changed: Changed,
    /// Of a file; of a symlink, its target.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Files with the same one are the same inode. Means nothing outside of its tree.
    pub inode: Inode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Other,
}

/// When a file was last changed. Times that layers have and that steps set lie in 1970: they must be kept to
/// the nanosecond. What is later is the time of a step, which differs from one file system to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    At { seconds: i64, nanoseconds: i64 },
    Now,
}

/// An inode number that equals every other one, so that facts of two trees can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Inode(pub u64);

impl PartialEq for Inode {
    fn eq(&self, _: &Inode) -> bool {
        true
    }
}
impl Eq for Inode {}

/// The facts of each path below a root; the root's own are those of the empty path.
pub type Tree = BTreeMap<String, Facts>;

impl Facts {
    /// Reads them back from the file system.
    pub fn read(path: &Path) -> io::Result<Facts> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_fifo() => Kind::Fifo,
            _ => Kind::Other,
        };
        let content = match kind {
            Kind::File => fs::read(path)?,
            Kind::Symlink => fs::read_link(path)?.into_os_string().into_vec(),
            _ => Vec::new(),
        };
        let mut xattrs = BTreeMap::new();
        for name in xattr::list(path)? {
            let value = xattr::get(path, &name)?;
            xattrs.insert(name, value);
        }
        Ok(Facts { content, xattrs, ..Facts::of(kind, &metadata) })
    }

    /// What the metadata alone says.
    pub fn of(kind: Kind, metadata: &fs::Metadata) -> Facts {
        let counted = kind != Kind::Directory;
        let changed = match metadata.mtime() {
            // A write to a FIFO never reaches the file system, and whether it sets the time differs.
            _ if metadata.file_type().is_fifo() => Changed::Now,
            seconds @ ..1_000_000 => Changed::At { seconds, nanoseconds: metadata.mtime_nsec() },
            _ => Changed::Now,
        };
        Facts {
            kind,
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
            size: counted.then_some(metadata.size()),
            links: counted.then_some(metadata.nlink()),
            changed,
            content: Vec::new(),
            xattrs: BTreeMap::new(),
            inode: Inode(metadata.ino()),
        }
    }

    /// The same, in one line, with long contents cut.
    fn line(&self) -> String {
        let content = match self.content.len() {
            0..40 => String::from_utf8_lossy(&self.content).into_owned(),
            length => format!("{}... ({length} bytes)", String::from_utf8_lossy(&self.content[..10])),
        };
        let Facts { kind, mode, user, group, size, links, changed, xattrs, .. } = self;
        let xattrs: Vec<String> =
            xattrs.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
        format!(
            "{kind:?} {mode:04o} {user}:{group} size {size:?} links {links:?} {changed:?} {xattrs:?} {content}"
        )
    }
}

/// The tree below `root`, its root included.
pub fn read(root: &Path) -> Result<Tree, String> {
    fn below(root: &Path, path: &str, tree: &mut Tree) -> Result<(), String> {
        let here = root.join(path);
        let facts = Facts::read(&here).map_err(|error| format!("reading {path:?}: {error}"))?;
        let kind = facts.kind;
        tree.insert(path.to_string(), facts);
        if kind != Kind::Directory {
            return Ok(());
        }
        let entries = fs::read_dir(&here).map_err(|error| format!("listing {path:?}: {error}"))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("listing {path:?}: {error}"))?;
            let name = entry.file_name().into_string().map_err(|name| format!("{name:?} is no UTF-8"))?;
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            if tree.contains_key(&child) {
                return Err(format!("listing {path:?} shows {child:?} twice"));
            }
            below(root, &child, tree)?;
        }
        Ok(())
    }
    let mut tree = Tree::new();
    below(root, "", &mut tree).map(|()| tree)
}

/// How `got` is not `expected`, path by path.
pub fn difference(expected: &Tree, got: &Tree) -> Option<String> {
    let mut text = String::new();
    let mut paths: Vec<&String> = expected.keys().chain(got.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (expected, got) = (expected.get(path), got.get(path));
        if expected != got {
            let line = |facts: Option<&Facts>| facts.map_or("nothing".to_string(), Facts::line);
            text += &format!("{path:?}\n  expected {}\n  got      {}\n", line(expected), line(got));
        }
    }
    let twins = (twins(expected), twins(got));
    if text.is_empty() && twins.0 != twins.1 {
        text = format!("names of one inode\n  expected {:?}\n  got      {:?}\n", twins.0, twins.1);
    }
    (!text.is_empty()).then_some(text)
}

/// The names that are one inode, for each inode with several.
pub fn twins(tree: &Tree) -> Vec<Vec<&str>> {
    let mut names: HashMap<u64, Vec<&str>> = HashMap::new();
    for (path, facts) in tree {
        names.entry(facts.inode.0).or_default().push(path);
    }
    let mut several: Vec<Vec<&str>> = names.into_values().filter(|names| names.len() > 1).collect();
    several.sort();
    several
}

/// Paths whose inode number changed from `before` to `after` in one tree, and did not in the other one.
pub fn renumbered(plain: (&Tree, &Tree), union: (&Tree, &Tree)) -> Vec<String> {
    let stays = |(before, after): (&Tree, &Tree), path: &str| match (before.get(path), after.get(path)) {
        (Some(before), Some(after)) => Some(before.inode.0 == after.inode.0),
        _ => None,
    };
    let differ = |path: &&String| stays(plain, path) != stays(union, path);
    plain.0.keys().filter(differ).cloned().collect()
}
