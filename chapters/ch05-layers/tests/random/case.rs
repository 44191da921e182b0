//! A case: the layers that it starts with, and the steps that are played on them. As a text it can be kept,
//! sent and replayed:
//!
//! ```text
//! layer
//! file a/b 0644 0 x*5000
//! layer
//! whiteout a/b
//! play
//! mkdir a/b 0755
//! user rename a/b c 0
//! ```

use std::fmt;
use std::str::FromStr;

use super::words::{Bytes, Flags, Mode, Place};

/// Declares an enum whose variants are written as one line of words, and read back from it.
macro_rules! lines {
    ($(#[$attribute:meta])* $enum:ident { $($(#[$comment:meta])* $word:literal $variant:ident { $($field:ident: $kind:ty),* })* }) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $enum { $($(#[$comment])* $variant { $($field: $kind),* }),* }

        impl fmt::Display for $enum {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($enum::$variant { $($field),* } => {
                        formatter.write_str($word)?;
                        $(write!(formatter, " {}", $field)?;)*
                    })*
                }
                Ok(())
            }
        }

        impl FromStr for $enum {
            type Err = String;
            fn from_str(line: &str) -> Result<$enum, String> {
                let mut words = line.split_whitespace();
                let parsed = match words.next().unwrap_or_default() {
                    $($word => $enum::$variant { $($field: word(line, words.next())?),* },)*
                    _ => return Err(format!("{line}: no known line")),
                };
                match words.next() {
                    None => Ok(parsed),
                    Some(more) => Err(format!("{line}: {more} is too much")),
                }
            }
        }
    };
}

fn word<T: FromStr>(line: &str, word: Option<&str>) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    let word = word.ok_or(format!("{line}: a word is missing"))?;
    word.parse().map_err(|error| format!("{line}: {error}"))
}

lines! {
    /// What a layer holds. Directories above are made where they are missing; what can't be made where
    /// something else stands already is left out, so that each list of items is a layer.
    Item {
        "dir" Directory { path: Place, mode: Mode, user: u32 }
        "file" File { path: Place, mode: Mode, user: u32, content: Bytes }
        "symlink" Symlink { path: Place, target: Place }
        "fifo" Fifo { path: Place, mode: Mode }
        "link" Link { path: Place, to: Place }
        "xattr" Xattr { path: Place, name: String, value: Bytes }
        "whiteout" Whiteout { path: Place }
        "opaque" Opaque { path: Place }
    }
}

lines! {
    /// One system call, or a few that belong together. A slot holds a descriptor that is kept open over other
    /// operations.
    Operation {
        "open" Open { slot: usize, path: Place, flags: Flags, mode: Mode }
        "close" Close { slot: usize }
        "pwrite" Write { slot: usize, offset: i64, content: Bytes }
        "pread" Read { slot: usize }
        "ftruncate" TruncateOpen { slot: usize, length: i64 }
        "fallocate" Allocate { slot: usize, mode: i32, offset: i64, length: i64 }
        "fstat" StatOpen { slot: usize }
        "fchmod" ModeOpen { slot: usize, mode: Mode }
        "fsync" Sync { slot: usize }
        /// Lists the directory that a slot holds.
        "flist" ListOpen { slot: usize }
        /// Makes a file in the directory that a slot holds.
        "openat" MakeIn { slot: usize, name: Place, mode: Mode }
        /// Open, write, close.
        "write" WriteFile { path: Place, flags: Flags, content: Bytes }
        "mkdir" MakeDirectory { path: Place, mode: Mode }
        "rmdir" RemoveDirectory { path: Place }
        "unlink" Unlink { path: Place }
        "symlink" Symlink { target: Place, path: Place }
        "mkfifo" Fifo { path: Place, mode: Mode }
        "link" Link { from: Place, to: Place }
        "rename" Rename { from: Place, to: Place, flags: u32 }
        "chmod" ChangeMode { path: Place, mode: Mode }
        "chown" ChangeOwner { path: Place, user: u32, group: u32 }
        /// Sets the time of the last change; that of the last access is left.
        "utimens" ChangeTime { path: Place, seconds: i64 }
        "truncate" Truncate { path: Place, length: i64 }
        "setxattr" SetXattr { path: Place, name: String, value: Bytes, flags: i32 }
        "removexattr" RemoveXattr { path: Place, name: String }
        "read" ReadFile { path: Place }
        "list" List { path: Place }
        "stat" Stat { path: Place }
        /// The kernel drops what it remembers of the mount, and tells the file system to forget.
        "forget" Forget {}
    }
}

impl Operation {
    /// The paths that it names.
    pub fn places(&self) -> Vec<Place> {
        self.clone().places_mut().into_iter().map(|place| place.clone()).collect()
    }

    /// The same, to be changed.
    pub fn places_mut(&mut self) -> Vec<&mut Place> {
        match self {
            Operation::Link { from, to } | Operation::Rename { from, to, .. } => vec![from, to],
            Operation::MakeIn { name, .. } => vec![name],
            Operation::Open { path, .. }
            | Operation::WriteFile { path, .. }
            | Operation::MakeDirectory { path, .. }
            | Operation::RemoveDirectory { path }
            | Operation::Unlink { path }
            | Operation::Symlink { path, .. }
            | Operation::Fifo { path, .. }
            | Operation::ChangeMode { path, .. }
            | Operation::ChangeOwner { path, .. }
            | Operation::ChangeTime { path, .. }
            | Operation::Truncate { path, .. }
            | Operation::SetXattr { path, .. }
            | Operation::RemoveXattr { path, .. }
            | Operation::ReadFile { path }
            | Operation::List { path }
            | Operation::Stat { path } => vec![path],
            _ => vec![],
        }
    }
}

/// An operation, and who does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// By uid and gid 1000, without the capabilities that override permissions; else by root.
    pub as_user: bool,
    pub operation: Operation,
}

/// Layers, the lowest first, and what is done to their union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub layers: Vec<Vec<Item>>,
    pub steps: Vec<Step>,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", if self.as_user { "user " } else { "" }, self.operation)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            writeln!(formatter, "layer")?;
            layer.iter().try_for_each(|item| writeln!(formatter, "{item}"))?;
        }
        writeln!(formatter, "play")?;
        self.steps.iter().try_for_each(|step| writeln!(formatter, "{step}"))
    }
}

impl FromStr for Case {
    type Err = String;
    fn from_str(text: &str) -> Result<Case, String> {
        let mut case = Case { layers: Vec::new(), steps: Vec::new() };
        let mut playing = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (as_user, operation) = match line.strip_prefix("user ") {
                Some(operation) => (true, operation),
                None => (false, line),
            };
            match line {
                "layer" => case.layers.push(Vec::new()),
                "play" => playing = true,
                _ if playing => case.steps.push(Step { as_user, operation: operation.parse()? }),
                _ => case.layers.last_mut().ok_or("an item before the first layer")?.push(line.parse()?),
            }
        }
        Ok(case)
    }
}
