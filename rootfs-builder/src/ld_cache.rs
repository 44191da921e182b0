//! /etc/ld.so.cache: where ldconfig(8) has written down which file each library name stands for.
//!
//! The GNU C library's loader looks here before it looks into its default directories. The format is
//! described in glibc's sysdeps/generic/dl-cache.h: a header, an array of entries, and the strings that
//! these point to.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::error::Doing;

/// The format since 1999. Before glibc 2.32 a file could begin with an older one, which this one follows.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";

/// `magic[20]`, `nlibs`, `len_strings`, `flags[4]`, `extension_offset`, `unused[12]`.
const HEADER_SIZE: usize = 48;

/// flags, key, value, osversion (4 bytes each), hwcap (8 bytes).
const ENTRY_SIZE: usize = 24;

/// The names and their paths, in the file's order.
#[derive(Debug, Default)]
pub(crate) struct LdCache {
    entries: Vec<(OsString, PathBuf)>,
}

impl LdCache {
    /// Reads the cache. One that does not exist, as with musl, is as good as an empty one.
    pub(crate) fn read(path: &Path) -> Result<LdCache> {
        let data = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LdCache::default()),
            other => other.doing("read", path)?,
        };
        LdCache::parse(&data).with_context(|| format!("{path:?} is damaged: run ldconfig as root"))
    }

    fn parse(data: &[u8]) -> Result<LdCache> {
        let start = data.windows(MAGIC.len()).position(|window| window == MAGIC);
        // Offsets count from the magic on.
        let data = &data[start.context("it has no magic glibc-ld.so.cache1.1")?..];
        let count = number(data, MAGIC.len())?;
        ensure!(count <= data.len() / ENTRY_SIZE, "it is too short for {count} entries");
        let mut entries = Vec::with_capacity(count);
        for index in 0..count {
            let entry = HEADER_SIZE + index * ENTRY_SIZE;
            let key = text(data, number(data, entry + 4)?)?;
            let value = text(data, number(data, entry + 8)?)?;
            entries.push((key.to_owned(), PathBuf::from(value)));
        }
        Ok(LdCache { entries })
    }

    /// All paths for a name. There are several where the library exists for several architectures, or in
    /// variants for newer processors (glibc-hwcaps), of which the loader takes the best that the processor
    /// can run.
    pub(crate) fn paths<'a>(&'a self, name: &'a OsStr) -> impl Iterator<Item = &'a Path> {
        self.entries.iter().filter(move |(key, _)| key == name).map(|(_, path)| path.as_path())
    }
}

/// A 32-bit number in this machine's byte order: each machine writes its own cache.
fn number(data: &[u8], offset: usize) -> Result<usize> {
    let bytes = data.get(offset..offset + 4).context("it is too short")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?) as usize)
}

/// The string at an offset, up to its NUL.
fn text(data: &[u8], offset: usize) -> Result<&OsStr> {
    let tail = data.get(offset..).context("a string lies beyond its end")?;
    let length = tail.iter().position(|byte| *byte == 0).context("a string has no end")?;
    Ok(OsStr::from_bytes(&tail[..length]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(key: u32) -> Vec<u8> {
        let mut data = MAGIC.to_vec();
        data.extend(1u32.to_ne_bytes());
        data.resize(HEADER_SIZE + 4, 0);
        data.extend(key.to_ne_bytes());
        data.extend(82u32.to_ne_bytes());
        data.resize(HEADER_SIZE + ENTRY_SIZE, 0);
        data.extend(b"libx.so.1\0/opt/libx.so.1\0");
        data
    }

    #[test]
    fn a_name_is_found_with_its_path_even_after_the_older_format() {
        let mut data = b"ld.so-1.7.0\0\0\0\0\0".to_vec();
        data.extend(cache(72));
        let cache = LdCache::parse(&data).unwrap();
        let paths: Vec<_> = cache.paths(OsStr::new("libx.so.1")).collect();
        assert_eq!(paths, [Path::new("/opt/libx.so.1")]);
        assert_eq!(cache.paths(OsStr::new("liby.so.1")).count(), 0);
    }

    #[test]
    fn a_damaged_cache_is_an_error_and_no_panic() {
        for length in 0..cache(72).len() - 1 {
            LdCache::parse(&cache(72)[..length]).unwrap_err();
        }
        LdCache::parse(&cache(u32::MAX)).unwrap_err();
    }
}
