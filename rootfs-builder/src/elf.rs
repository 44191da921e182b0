//! Reads from an ELF file what the kernel and the dynamic loader will ask for when it is run: elf(5),
//! ld.so(8).
//!
//! `ldd` would tell it too, but it does so by running the file. Reading is safe with any file, and works
//! for another architecture's.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::{DF_1_NODEFLIB, DT_FLAGS_1, DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB};
use elf::abi::{ELFMAGIC, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use elf::dynamic::{Dyn, DynamicTable};
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

use crate::error::Doing;

/// What running an ELF file takes.
#[derive(Debug)]
pub(crate) struct Elf {
    /// Whether it is of 64 bits, and the number of the processor's architecture. A loader passes over
    /// libraries for which these are not the program's.
    pub(crate) machine: (bool, u16),
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
        file.by_ref().take(ELFMAGIC.len() as u64).read_to_end(&mut start).doing("read", path)?;
        if start != ELFMAGIC {
            return Ok(None);
        }
        file.read_to_end(&mut start).doing("read", path)?;
        Elf::parse(&start).map(Some).with_context(|| format!("{path:?} is a damaged ELF file"))
    }

    fn parse(data: &[u8]) -> Result<Elf> {
        let file = ElfBytes::<AnyEndian>::minimal_parse(data)?;
        let segments = Segments::read(&file)?;
        let interpreter = segments.find(PT_INTERP).map(|segment| file.segment_data(&segment)).transpose()?;
        let interpreter = interpreter.map(c_string).transpose()?;

        // By the segment, as the loader does it, not by the section: a file may come without sections.
        let dynamic = segments.find(PT_DYNAMIC).map(|segment| file.segment_data(&segment)).transpose()?;
        let dynamic = DynamicTable::new(file.ehdr.endianness, file.ehdr.class, dynamic.unwrap_or_default());
        // What follows DT_NULL is room that the linker left.
        let dynamic: Vec<Dyn> = dynamic.iter().take_while(|entry| entry.d_tag != DT_NULL).collect();
        let value = |tag| dynamic.iter().find(|entry| entry.d_tag == tag).map_or(0, Dyn::d_val);

        let strings = segments.strings(data, value(DT_STRTAB), value(DT_STRSZ)).unwrap_or_default();
        let texts = |tag| -> Result<Vec<OsString>> {
            let entries = dynamic.iter().filter(|entry| entry.d_tag == tag);
            let text = |entry: &Dyn| {
                strings.get(usize::try_from(entry.d_val())?..).context("a name is outside of the strings")
            };
            entries.map(|entry| c_string(text(entry)?)).collect()
        };
        Ok(Elf {
            machine: (matches!(file.ehdr.class, Class::ELF64), file.ehdr.e_machine),
            interpreter: interpreter.map(PathBuf::from),
            needed: texts(DT_NEEDED)?,
            rpath: texts(DT_RPATH)?.pop(),
            runpath: texts(DT_RUNPATH)?.pop(),
            uses_defaults: value(DT_FLAGS_1) & DF_1_NODEFLIB as u64 == 0,
        })
    }
}

/// What the kernel and the loader map into memory.
struct Segments(Vec<ProgramHeader>);

impl Segments {
    fn read(file: &ElfBytes<AnyEndian>) -> Result<Segments> {
        Ok(Segments(file.segments().context("it has no segments")?.iter().collect()))
    }

    fn find(&self, kind: u32) -> Option<ProgramHeader> {
        self.0.iter().find(|segment| segment.p_type == kind).copied()
    }

    /// The table of strings is given by its address in memory, as the loader needs it; a segment says what
    /// lies there.
    fn strings<'data>(&self, data: &'data [u8], address: u64, size: u64) -> Option<&'data [u8]> {
        self.0.iter().filter(|segment| segment.p_type == PT_LOAD).find_map(|segment| {
            let offset = address.checked_sub(segment.p_vaddr).filter(|offset| *offset < segment.p_filesz)?;
            let start = usize::try_from(segment.p_offset.checked_add(offset)?).ok()?;
            data.get(start..start.checked_add(usize::try_from(size).ok()?)?)
        })
    }
}

/// The text up to the first NUL.
fn c_string(bytes: &[u8]) -> Result<OsString> {
    let text = CStr::from_bytes_until_nul(bytes).context("a text does not end")?;
    Ok(OsStr::from_bytes(text.to_bytes()).to_owned())
}
