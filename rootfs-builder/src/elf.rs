//! Reads from an ELF file what the kernel and the dynamic loader will ask for when it is run: elf(5),
//! ld.so(8).
//!
//! `ldd` would tell it too, but it does so by running the file. Reading is safe with any file, and works
//! for another architecture's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::StringTable;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

use crate::error::Doing;

/// What running an ELF file takes.
#[derive(Debug)]
pub(crate) struct Elf {
    /// The class (32 or 64 bits) and the number of the processor's architecture. A loader passes over
    /// libraries for which these are not the program's.
    pub(crate) machine: (u8, u16),
    /// PT_INTERP: the loader, by its path. A static program has none.
    pub(crate) interpreter: Option<PathBuf>,
    /// DT_NEEDED: the libraries, mostly by name alone.
    pub(crate) needed: Vec<OsString>,
    /// DT_RPATH and DT_RUNPATH: directories to look in, separated by colons.
    pub(crate) rpath: Option<OsString>,
    pub(crate) runpath: Option<OsString>,
    /// Whether the loader looks in its cache and its default directories (no DF_1_NODEFLIB).
    pub(crate) uses_defaults: bool,
}

impl Elf {
    /// Reads a file. None if it does not begin as an ELF file does.
    pub(crate) fn read(path: &Path) -> Result<Option<Elf>> {
        let mut file = File::open(path).doing("open", path)?;
        let mut start = Vec::new();
        file.by_ref().take(elf::ELFMAG.len() as u64).read_to_end(&mut start).doing("read", path)?;
        if start != elf::ELFMAG {
            return Ok(None);
        }
        file.read_to_end(&mut start).doing("read", path)?;
        Elf::parse(&start).map(Some).with_context(|| format!("{path:?} is a damaged ELF file"))
    }

    fn parse(data: &[u8]) -> Result<Elf> {
        match FileKind::parse(data)? {
            FileKind::Elf32 => Ok(parse::<FileHeader32<Endianness>>(data)?),
            FileKind::Elf64 => Ok(parse::<FileHeader64<Endianness>>(data)?),
            kind => bail!("its kind is {kind:?}"),
        }
    }
}

fn parse<Header: FileHeader<Endian = Endianness>>(data: &[u8]) -> object::read::Result<Elf> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut interpreter = None;
    let mut dynamic: &[Header::Dyn] = &[];
    for segment in segments {
        interpreter = segment.interpreter(endian, data)?.or(interpreter);
        dynamic = segment.dynamic(endian, data)?.unwrap_or(dynamic);
    }
    // What follows DT_NULL is room that the linker left.
    let length = dynamic.iter().position(|entry| entry.tag(endian) == elf::DT_NULL).unwrap_or(dynamic.len());
    let dynamic = &dynamic[..length];
    let value = |tag| dynamic.iter().find(|entry| entry.tag(endian) == tag).map(|entry| entry.val(endian));

    // The table of strings is given by its address in memory, as the loader needs it; a segment says what
    // lies there.
    let address = value(elf::DT_STRTAB).unwrap_or(0);
    let size = value(elf::DT_STRSZ).unwrap_or(0);
    let table =
        segments.iter().find_map(|segment| segment.data_range(endian, data, address, size).ok().flatten());
    let strings = StringTable::new(table.unwrap_or_default(), 0, size);
    let texts = |tag| -> object::read::Result<Vec<OsString>> {
        let entries = dynamic.iter().filter(|entry| entry.tag(endian) == tag);
        entries.map(|entry| Ok(OsStr::from_bytes(entry.string(endian, strings)?).to_owned())).collect()
    };

    Ok(Elf {
        machine: (header.e_ident().class.0, header.e_machine(endian).0),
        interpreter: interpreter.map(|path| PathBuf::from(OsStr::from_bytes(path))),
        needed: texts(elf::DT_NEEDED)?,
        rpath: texts(elf::DT_RPATH)?.pop(),
        runpath: texts(elf::DT_RUNPATH)?.pop(),
        uses_defaults: value(elf::DT_FLAGS_1).unwrap_or(0) & elf::DF_1_NODEFLIB.0 == 0,
    })
}
