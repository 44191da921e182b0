//! The words of a replayable text: each is what one argument of an operation looks like.

use std::fmt;
use std::str::FromStr;

/// A path below the root of the union, such as `a/b`. Names in it hold no space, so that it is one word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub String);

impl Place {
    /// The names from the first to the last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The directory that it is in, and its name there.
    pub fn parent(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for Place {
    /// A long name is written as `LETTER*LENGTH`: 252 letters would fill the screen.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |name: &str| match name.len() {
            length if length > 100 => format!("{}*{length}", &name[..1]),
            _ => name.to_string(),
        };
        formatter.write_str(&self.names().map(short).collect::<Vec<_>>().join("/"))
    }
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Place, String> {
        let long = |name: &str| match name.split_once('*') {
            Some((letter, length)) => length.parse().map(|length| letter.repeat(length)),
            None => Ok(name.to_string()),
        };
        let names: Result<Vec<_>, _> = text.split('/').map(long).collect();
        names.map(|names| Place(names.join("/"))).map_err(|error| format!("{text}: {error}"))
    }
}

/// The mode of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

impl FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Mode, String> {
        u32::from_str_radix(text, 8).map(Mode).map_err(|error| format!("{text}: {error}"))
    }
}

/// What is written to a file, or the value of an xattr: `x*5000` is 5,000 bytes of `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    pub letter: char,
    pub length: usize,
}

impl Bytes {
    pub fn bytes(self) -> Vec<u8> {
        vec![self.letter as u8; self.length]
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}*{}", self.letter, self.length)
    }
}

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Bytes, String> {
        let (letter, length) = text.split_once('*').ok_or(format!("{text}: not LETTER*LENGTH"))?;
        let letter = letter.chars().next().ok_or(format!("{text}: no letter"))?;
        let length = length.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(Bytes { letter, length })
    }
}

/// Flags of a system call, by their names in C: `O_RDWR|O_CREAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub i32);

/// Each name with its bits. No name is found in the bits of another one.
const FLAGS: &[(&str, i32)] = &[
    ("O_WRONLY", libc::O_WRONLY),
    ("O_RDWR", libc::O_RDWR),
    ("O_CREAT", libc::O_CREAT),
    ("O_EXCL", libc::O_EXCL),
    ("O_TRUNC", libc::O_TRUNC),
    ("O_APPEND", libc::O_APPEND),
    ("O_DIRECTORY", libc::O_DIRECTORY),
    ("O_NOFOLLOW", libc::O_NOFOLLOW),
];

impl fmt::Display for Flags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = FLAGS.iter().filter(|(_, bits)| self.0 & bits != 0).map(|(name, _)| *name);
        let names = named.collect::<Vec<_>>().join("|");
        formatter.write_str(if names.is_empty() { "O_RDONLY" } else { &names })
    }
}

impl FromStr for Flags {
    type Err = String;
    fn from_str(text: &str) -> Result<Flags, String> {
        let bits = |name| match FLAGS.iter().find(|(known, _)| *known == name) {
            Some((_, bits)) => Ok(*bits),
            None if name == "O_RDONLY" => Ok(0),
            None => Err(format!("{name}: no known flag")),
        };
        text.split('|').try_fold(0, |all, name| Ok(all | bits(name)?)).map(Flags)
    }
}
