//! The name of a layer or a container, which is a name of a directory too.

use anyhow::{Result, ensure};

/// What an init layer is called: the container's name and this.
const INIT: &str = "-init";
/// A directory's name has at most 255 bytes (NAME_MAX), and `ID-init` and a temporary name must fit.
const LONGEST: usize = 128;

// ANCHOR: id
/// Refuses what is no name of a layer.
///
/// The name becomes part of paths below the store. `..` or `a/b` would lead out of it, `.partial` is what the
/// store itself calls a layer in the making, and a colon or a comma has a meaning in the options of a mount.
///
/// # Errors
///
/// Says which rule is broken.
pub(super) fn check(id: &str) -> Result<()> {
    ensure!(!id.is_empty(), "a layer's name can't be empty");
    ensure!(id.len() <= LONGEST, "layer {id:?}: a name has at most {LONGEST} bytes");
    ensure!(
        id.starts_with(|first: char| first.is_ascii_alphanumeric()),
        "layer {id:?}: a name begins with a letter or a digit"
    );
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    ensure!(id.bytes().all(allowed), "layer {id:?}: a name has letters, digits, `_`, `.` and `-` only");
    ensure!(!id.ends_with(INIT), "layer {id:?}: names that end with {INIT:?} are those of init layers");
    Ok(())
}

/// The init layer of container `id`.
pub(super) fn init(id: &str) -> String {
    format!("{id}{INIT}")
}

/// Whether it is the name of an init layer.
pub(super) fn is_init(id: &str) -> bool {
    container_of(id).is_some()
}

/// The container whose init layer has this name.
pub(super) fn container_of(init: &str) -> Option<&str> {
    init.strip_suffix(INIT)
}
// ANCHOR_END: id

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for id in [
            "",
            ".",
            "..",
            "a/b",
            "/a",
            "a\0",
            ".partial-1",
            "-a",
            "a:b",
            "a,b",
            "a-init",
            "é",
            &"a".repeat(129),
        ] {
            assert!(check(id).is_err(), "{id:?} was taken for a name");
        }
        for id in ["a", "0", "alpine-3.20", "web_1", &"a".repeat(128)] {
            check(id).unwrap();
        }
    }
}
