//! Layers on disk: made from a case's items as AuFS keeps them, and the plain directory that shows the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;

use super::case::Item;
use super::model;
use super::tree::{Changed, Facts, Kind, Tree};
use super::words::Place;
use super::xattr;

/// The mode of a case's root in each branch, so that the plain user can make names there.
const ROOT_MODE: u32 = 0o777;

/// Makes the layer `items`, but for those whiteouts that `without` says, in the new directory `root`.
/// `number` makes its times differ from those of other layers.
pub fn make(root: &Path, items: &[Item], number: usize, without: &BTreeSet<String>) {
    fs::create_dir(root).expect("mkdir");
    set_mode(root, ROOT_MODE);
    for item in items {
        // What can't be made is left out: two items want the same name, or one is below a file.
        let _ = make_item(root, item);
    }
    for whiteout in without {
        fs::remove_file(root.join(whiteout)).expect("unlink");
    }
    let mut seconds = 1000 * (number as i64 + 1);
    set_times(root, &mut seconds);
}

fn make_item(root: &Path, item: &Item) -> std::io::Result<()> {
    match item {
        Item::Directory { path, mode, user } => {
            let path = with_parents(root, path)?;
            fs::create_dir(&path)?;
            lchown(&path, Some(*user), Some(*user))?;
            set_mode(&path, mode.0);
        }
        Item::File { path, mode, user, content } => {
            let path = with_parents(root, path)?;
            fs::File::create_new(&path)?;
            fs::write(&path, content.bytes())?;
            lchown(&path, Some(*user), Some(*user))?;
            set_mode(&path, mode.0);
        }
        Item::Symlink { path, target } => symlink(&target.0, with_parents(root, path)?)?,
        Item::Fifo { path, mode } => {
            let path = with_parents(root, path)?;
            mkfifo(&path, Mode::from_bits_truncate(mode.0))?;
        }
        Item::Link { path, to } => fs::hard_link(root.join(&to.0), with_parents(root, path)?)?,
        Item::Xattr { path, name, value } => xattr::set(&root.join(&path.0), name, &value.bytes(), 0)?,
        Item::Whiteout { path } => {
            let path = with_parents(root, path)?;
            let name = format!(".wh.{}", path.file_name().unwrap_or_default().to_string_lossy());
            fs::File::create_new(path.with_file_name(name))?;
        }
        Item::Opaque { path } => {
            let path = root.join(&path.0);
            fs::create_dir_all(&path)?;
            fs::File::create_new(path.join(".wh..wh..opq"))?;
        }
    }
    Ok(())
}

fn with_parents(root: &Path, path: &Place) -> std::io::Result<PathBuf> {
    let path = root.join(&path.0);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    Ok(path)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Gives each file a time of its own, in 1970; the directories after what they hold.
fn set_times(path: &Path, seconds: &mut i64) {
    if path.symlink_metadata().expect("lstat").is_dir() {
        let mut children: Vec<PathBuf> =
            fs::read_dir(path).expect("readdir").map(|entry| entry.expect("readdir").path()).collect();
        children.sort();
        children.iter().for_each(|child| set_times(child, seconds));
    }
    // Marks have no time of their own: it does not count whether they are there.
    *seconds += i64::from(!model::is_mark(&path.to_string_lossy()));
    set_time(path, *seconds, 123_456_789);
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = TimeSpec::new(seconds, nanoseconds);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).expect("utimensat");
}

/// Makes `tree` in the new directory `root`, without hard links: names of a file below the top are files of
/// their own.
pub fn make_plain(root: &Path, tree: &Tree) {
    for (path, facts) in tree {
        make_plain_entry(&root.join(path), facts);
    }
    // From the last path to the first, so that each directory comes after what it holds.
    for (path, facts) in tree.iter().rev() {
        set_changed(&root.join(path), facts);
    }
}

/// Gives a file the time that `facts` have.
pub fn set_changed(path: &Path, facts: &Facts) {
    if let Changed::At { seconds, nanoseconds } = facts.changed {
        set_time(path, seconds, nanoseconds);
    }
}

fn make_plain_entry(path: &Path, facts: &Facts) {
    match facts.kind {
        Kind::Directory => fs::create_dir(path).expect("mkdir"),
        Kind::File => fs::write(path, &facts.content).expect("write"),
        Kind::Symlink => symlink(std::ffi::OsStr::from_bytes(&facts.content), path).expect("symlink"),
        Kind::Fifo => mkfifo(path, Mode::empty()).expect("mkfifo"),
        Kind::Other => panic!("{path:?}: no layer of a case holds this"),
    }
    lchown(path, Some(facts.user), Some(facts.group)).expect("lchown");
    if facts.kind != Kind::Symlink {
        set_mode(path, facts.mode);
    }
    for (name, value) in &facts.xattrs {
        xattr::set(path, name, value, 0).expect("lsetxattr");
    }
}
