//! The mount table of a process: `/proc/PID/mountinfo`, a line for each mount that it can reach.
//! proc_pid_mountinfo(5).
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! (1)(2)(3)   (4)   (5)      (6)      (7)  (8) (9)   (10)         (11)
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount. Spaces in paths are as the kernel writes them: `\040`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that stands here, `/` unless it is a bind mount (4).
    pub root: String,
    /// Where it is mounted, from the process's root (5).
    pub point: String,
    /// Options of this mount (6).
    pub options: String,
    /// Propagation, `shared:N`, `master:N`; empty for a private mount (7).
    pub propagation: String,
    /// The file system's type (9).
    pub kind: String,
    /// A device, or any word where the file system has none (10).
    pub source: String,
    /// Options of the file system, shared by all its mounts (11).
    pub super_options: String,
}

impl Mount {
    /// The mount point as a path that can be opened.
    pub fn point_path(&self) -> PathBuf {
        unescape(&self.point)
    }
}

/// The mounts of a mountinfo file. A line that does not have the documented shape is left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // The number of optional fields varies; a single hyphen ends them.
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    // The source may be empty, so fields are split at every space, not at runs of them.
    let mut file_system = file_system.splitn(3, ' ');
    Some(Mount {
        root: mount.next()?.to_owned(),
        point: mount.next()?.to_owned(),
        options: mount.next()?.to_owned(),
        propagation: mount.collect::<Vec<_>>().join(" "),
        kind: file_system.next()?.to_owned(),
        source: file_system.next()?.to_owned(),
        super_options: file_system.next()?.to_owned(),
    })
}

/// A path as it is, from the kernel's text, where space, tab, newline and backslash are octal: `\040`.
pub fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let octal = bytes.get(position + 1..position + 4).filter(|_| bytes[position] == b'\\');
        let value = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(value.unwrap_or(bytes[position]));
        position += if value.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_and_an_empty_source_keep_their_places() {
        let mounts = parse(
            "36 35 98:0 /a /b rw,noatime shared:1 master:2 - ext4 /dev/x rw\n\
             37 36 0:5 / /c\\040d ro - tmpfs  rw,size=4k\n",
        );
        assert_eq!(mounts[0].propagation, "shared:1 master:2");
        assert_eq!((&*mounts[0].kind, &*mounts[0].root, &*mounts[0].point), ("ext4", "/a", "/b"));
        assert_eq!((&*mounts[1].source, &*mounts[1].super_options), ("", "rw,size=4k"));
        assert_eq!(unescape(&mounts[1].point), PathBuf::from("/c d"));
    }

    #[test]
    fn only_a_whole_octal_escape_is_decoded() {
        assert_eq!(unescape("a\\134b\\"), PathBuf::from("a\\b\\"));
        assert_eq!(unescape("\\9\\01"), PathBuf::from("\\9\\01"));
    }
}
