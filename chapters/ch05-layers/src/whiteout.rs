//! The names that AuFS keeps for itself.
//!
//! A lower branch is never written to, so a deletion must be a thing that is *added* on top. For AuFS it is
//! an empty file whose name is `.wh.` and the name that it hides: the *whiteout*. Image layers took these
//! names over: they are in every layer's tar archive, whatever file system runs the container. Format:
//! [image-spec, layer.md](https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

// ANCHOR: whiteout
/// What every name begins with that AuFS keeps for itself.
pub const PREFIX: &str = ".wh.";
/// In a directory: nothing of the same directory in lower branches shows through.
pub const OPAQUE: &str = ".wh..wh..opq";
/// In the root of the top branch: where a copy is put together, unseen.
pub const WORK: &str = ".wh..wh.work";
/// The longest name that can be made: its whiteout must be a name too (255 bytes, NAME_MAX).
pub const LONGEST_NAME: usize = 255 - PREFIX.len();

/// What a name in a branch is to the union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A name as any other.
    Plain(&'a OsStr),
    /// `.wh.NAME`: NAME is deleted.
    Whiteout(&'a OsStr),
    /// `.wh..wh..opq`
    Opaque,
    /// Another `.wh..wh.` name: AuFS's own, never shown.
    Reserved,
    /// A whiteout of nothing, of `.` or of `..`: `.wh.`, `.wh..`, `.wh...`: no layer may have it.
    Malformed,
}

/// What `name`, found in a branch, is.
pub fn classify(name: &OsStr) -> Name<'_> {
    match name.as_bytes().strip_prefix(PREFIX.as_bytes()) {
        None => Name::Plain(name),
        Some(b"" | b"." | b"..") => Name::Malformed,
        Some(b".wh..opq") => Name::Opaque,
        Some(hidden) if hidden.starts_with(PREFIX.as_bytes()) => Name::Reserved,
        Some(hidden) => Name::Whiteout(OsStr::from_bytes(hidden)),
    }
}

/// The name of the file that hides `name`.
pub fn of(name: &OsStr) -> OsString {
    let mut whiteout = OsString::with_capacity(PREFIX.len() + name.len());
    whiteout.push(PREFIX);
    whiteout.push(name);
    whiteout
}
// ANCHOR_END: whiteout
