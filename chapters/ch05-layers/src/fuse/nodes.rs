//! Nodes: what the kernel remembers of a FUSE file system, and what the server remembers of the same.
//!
//! A path is looked up name by name: FUSE_LOOKUP carries the *node id* of a directory and one name, and the
//! answer carries the node id of what was found. From then on the kernel asks by id alone ("read node 17"),
//! and keeps the name, the id and the attributes in its caches. So the server must know what 17 is, until the
//! kernel has let go of it: every answer with an id counts as one reference, and FUSE_FORGET gives back as
//! many as it says. On the kernel's side a node is an inode.
//!
//! A node here knows its names and not its path: a directory above it may be renamed. It holds no descriptor
//! either, unless it is open; there may be a million nodes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use fuser::BackingId;
use nix::errno::Errno;

use super::directories::Listing;
use super::numbers::{Numbers, ROOT, Source};
use crate::union::{Entry, Result};

// ANCHOR: node
/// One object of the union that the kernel knows.
#[derive(Debug)]
pub(super) struct Node {
    /// Its inode number: also its id, unless it is a file's second node (see [`Nodes::supersede`]).
    pub(super) number: u64,
    /// The topmost branch that has it.
    pub(super) branch: usize,
    /// Of a directory: the branches that show through. None: not asked yet.
    pub(super) branches: Option<Vec<usize>>,
    /// Ids of directories, and names in them: several for hard links, none for what is deleted and still
    /// open.
    names: Vec<(u64, OsString)>,
    /// How often the kernel got its id, and did not give it back.
    lookups: u64,
    /// How many nodes have a name in this directory.
    children: usize,
    /// While it is open.
    pub(super) open: Option<Box<Open>>,
    /// What was last known of it, once it has no name.
    pub(super) removed: Option<Box<libc::stat>>,
    /// The file has another node now; this one belongs to those who had it open.
    pub(super) is_superseded: bool,
    /// It may be mapped into somebody's memory, and change without a request to us.
    pub(super) is_mapped: bool,
    /// It has no extended attributes, as far as is known.
    pub(super) has_no_attributes: bool,
    /// Of a directory: what it held when it was last read.
    pub(super) listing: Option<Arc<Listing>>,
}

/// How a node is open.
#[derive(Debug)]
pub(super) struct Open {
    /// By how many handles.
    pub(super) handles: usize,
    /// The file, as one of them has opened it.
    pub(super) file: Arc<File>,
    /// In passthrough: the file that the kernel reads and writes by itself, and the branch that it is in.
    pub(super) backing: Option<(Arc<BackingId>, usize)>,
}
// ANCHOR_END: node

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: HashMap<u64, Node>,
    /// By inode number, the id where it is another.
    second: HashMap<u64, u64>,
    pub(super) numbers: Numbers,
}

impl Node {
    fn new(number: u64, branch: usize) -> Node {
        Node {
            number,
            branch,
            branches: None,
            names: Vec::new(),
            lookups: 0,
            children: 0,
            open: None,
            removed: None,
            is_superseded: false,
            is_mapped: false,
            has_no_attributes: false,
            listing: None,
        }
    }
}

// ANCHOR: lookup
impl Nodes {
    /// With the root directory, which is there without a lookup, in `branches`; inode numbers of `device` are
    /// shown as they are.
    pub(super) fn new(branches: Vec<usize>, device: u64) -> Nodes {
        let mut root = Node::new(ROOT, branches[0]);
        root.branches = Some(branches);
        root.lookups = 1;
        Nodes { nodes: HashMap::from([(ROOT, root)]), second: HashMap::new(), numbers: Numbers::new(device) }
    }

    /// The node with this id. ESTALE: the kernel should not know it any more.
    pub(super) fn get(&self, id: u64) -> Result<&Node> {
        self.nodes.get(&id).ok_or(Errno::ESTALE)
    }

    /// As [`Nodes::get`], to change it.
    pub(super) fn change(&mut self, id: u64) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or(Errno::ESTALE)
    }

    /// The id of what was found as `name` in the directory `parent`, whether the kernel knows it already or
    /// not.
    pub(super) fn identify(&mut self, parent: u64, name: &OsStr, entry: &Entry) -> u64 {
        let number = self.numbers.of(source(parent, name, entry));
        self.id_of(number)
    }

    fn id_of(&mut self, number: u64) -> u64 {
        if let Some(&id) = self.second.get(&number) {
            return id;
        }
        if !self.nodes.get(&number).is_some_and(|node| node.is_superseded) {
            return number;
        }
        let id = self.numbers.fresh();
        self.second.insert(number, id);
        id
    }

    /// The kernel is told of `entry`, found as `name` in the directory `parent`. Returns the node's id.
    pub(super) fn tell(&mut self, parent: u64, name: &OsStr, entry: &Entry) -> Result<u64> {
        let number = self.numbers.of(source(parent, name, entry));
        let id = self.id_of(number);
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(number, entry.branch));
        node.branch = entry.branch;
        node.lookups += 1;
        self.add_name(id, parent, name);
        Ok(id)
    }

    /// The kernel gives `count` references back.
    pub(super) fn forget(&mut self, id: u64, count: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.drop_unused(id);
    }

    /// Drops the node if nobody needs it, and then perhaps the directories that it was in.
    pub(super) fn drop_unused(&mut self, id: u64) {
        let is_used = |node: &Node| node.lookups > 0 || node.children > 0 || node.open.is_some();
        let mut candidates = vec![id];
        while let Some(id) = candidates.pop() {
            if id == ROOT || self.nodes.get(&id).is_none_or(is_used) {
                continue;
            }
            let Some(node) = self.nodes.remove(&id) else { continue };
            if id != node.number {
                self.second.remove(&node.number);
            }
            for (parent, _) in node.names {
                self.count_child(parent, -1);
                candidates.push(parent);
            }
        }
    }
}
// ANCHOR_END: lookup

// ANCHOR: names
impl Nodes {
    /// The node gets a name.
    pub(super) fn add_name(&mut self, id: u64, parent: u64, name: &OsStr) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.removed = None;
        if !node.names.iter().any(|(directory, known)| *directory == parent && known == name) {
            node.names.push((parent, name.into()));
            self.count_child(parent, 1);
        }
    }

    /// The node loses a name.
    pub(super) fn unname(&mut self, id: u64, parent: u64, name: &OsStr) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let before = node.names.len();
        node.names.retain(|(directory, known)| *directory != parent || known != name);
        if node.names.len() < before {
            self.count_child(parent, -1);
            self.drop_unused(parent);
        }
    }

    fn count_child(&mut self, parent: u64, change: isize) {
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children = parent.children.saturating_add_signed(change);
        }
    }

    /// A directory that has the node, and its name there. ENOENT: it is deleted. ESTALE: its name leads to a
    /// newer node.
    pub(super) fn place(&self, id: u64) -> Result<(u64, OsString)> {
        let node = self.get(id)?;
        let gone = if node.is_superseded { Errno::ESTALE } else { Errno::ENOENT };
        node.names.first().cloned().ok_or(gone)
    }

    /// A path of the node from the root of the union. Errors as for [`Nodes::place`].
    pub(super) fn path(&self, id: u64) -> Result<PathBuf> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let node = self.get(at)?;
            let gone = if node.is_superseded { Errno::ESTALE } else { Errno::ENOENT };
            let (parent, name) = node.names.first().ok_or(gone)?;
            names.push(name);
            at = *parent;
        }
        Ok(names.into_iter().rev().collect())
    }

    /// The names in the directory are others now.
    pub(super) fn names_changed(&mut self, directory: u64) {
        if let Some(node) = self.nodes.get_mut(&directory) {
            node.listing = None;
        }
    }
}
// ANCHOR_END: names

// ANCHOR: supersede
impl Nodes {
    /// Gives the file of the node `id` a second node, under the same number, and the names. The first one
    /// stays with those who have it open.
    pub(super) fn supersede(&mut self, id: u64) -> Result<()> {
        let second = self.numbers.fresh();
        let first = self.change(id)?;
        first.is_superseded = true;
        let mut node = Node::new(first.number, first.branch);
        node.names = std::mem::take(&mut first.names);
        self.second.insert(node.number, second);
        self.nodes.insert(second, node);
        Ok(())
    }
}
// ANCHOR_END: supersede

/// What the number of an object hangs on.
pub(super) fn source(parent: u64, name: &OsStr, entry: &Entry) -> Source {
    let has_several_names = !entry.is_directory() && entry.status.st_nlink > 1;
    match entry.branch {
        branch if branch > 0 && has_several_names => Source::Name(parent, name.into()),
        branch => Source::Inode { branch, device: entry.status.st_dev, inode: entry.status.st_ino },
    }
}
