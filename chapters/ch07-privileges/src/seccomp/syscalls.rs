//! Names and numbers of system calls.
//!
//! A filter sees a number; people write a name. Which number a name has differs from one architecture to the
//! next, and not every name is everywhere: an architecture that came late has no `open`, only `openat`. The
//! table has a row for each name and a column for each architecture. `scripts/syscalls` writes it from the
//! tables that the kernel itself is built with. syscalls(2).

mod table;

use super::architecture::{Architecture, X32_BIT};
use table::{COLUMNS, TABLE};

// ANCHOR: row
/// A line of the table.
struct Row {
    name: Name,
    numbers: [i16; COLUMNS.len()],
}

/// The letters of a name in four large numbers, filled up with zeros. Numbers stand in the order of the
/// names, and are compared in a third of the time: a filter for three architectures looks 1200 names up. And
/// a `&str` would be 16 bytes beside its letters, with 24 more for the loader, which corrects its address in
/// each program it starts.
type Name = [u64; 4];

const fn letters(name: &str) -> Name {
    let (name, mut letters, mut at) = (name.as_bytes(), [0; 4], 0);
    while at < name.len() {
        letters[at / 8] |= (name[at] as u64) << (56 - at % 8 * 8);
        at += 1;
    }
    letters
}

const fn row(name: &str, numbers: [i16; COLUMNS.len()]) -> Row {
    Row { name: letters(name), numbers }
}
// ANCHOR_END: row

/// Calls of 32-bit ARM alone, which are no part of the kernel's table: arch/arm/include/uapi/asm/unistd.h.
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0xf0001),
    ("cacheflush", 0xf0002),
    ("usr26", 0xf0003),
    ("usr32", 0xf0004),
    ("set_tls", 0xf0005),
    ("get_tls", 0xf0006),
];

// ANCHOR: number
/// The number that `name` has there, as it stands in `seccomp_data.nr` (x32: with its bit), if it is there.
pub fn number(architecture: Architecture, name: &str) -> Option<u32> {
    let found = find(name).and_then(|row| u32::try_from(row.numbers[column(architecture)]).ok());
    match architecture {
        Architecture::X32 => found.map(|number| number | X32_BIT),
        Architecture::Arm => {
            found.or_else(|| ARM_PRIVATE.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
        }
        _ => found,
    }
}
// ANCHOR_END: number

/// The name of the call with this number, as it stands in `seccomp_data.nr`.
pub fn name(architecture: Architecture, number: u32) -> Option<String> {
    let (index, plain) = match architecture {
        Architecture::X32 if number & X32_BIT == 0 => return None,
        Architecture::X32 => (column(architecture), number & !X32_BIT),
        _ => (column(architecture), number),
    };
    if let Some((name, _)) = ARM_PRIVATE.iter().find(|(_, private)| *private == plain) {
        return (architecture == Architecture::Arm).then(|| name.to_string());
    }
    let plain = i16::try_from(plain).ok()?;
    let row = TABLE.iter().find(|row| row.numbers[index] == plain)?;
    let letters = row.name.iter().flat_map(|part| part.to_be_bytes()).filter(|letter| *letter != 0);
    Some(letters.map(char::from).collect())
}

/// Whether a call has this name on any architecture.
pub fn is_known(name: &str) -> bool {
    find(name).is_some() || ARM_PRIVATE.iter().any(|(known, _)| *known == name)
}

/// The row of a name.
fn find(name: &str) -> Option<&'static Row> {
    // With a zero at its end it would be taken for the name without.
    if name.len() > size_of::<Name>() || name.contains('\0') {
        return None;
    }
    let letters = letters(name);
    TABLE.binary_search_by(|row| row.name.cmp(&letters)).ok().map(|index| &TABLE[index])
}

/// Where the numbers of an architecture stand. The order of bytes changes no number.
fn column(architecture: Architecture) -> usize {
    let like = match architecture {
        Architecture::Mipsel => Architecture::Mips,
        Architecture::Mipsel64 => Architecture::Mips64,
        Architecture::Mipsel64n32 => Architecture::Mips64n32,
        Architecture::Ppc64le => Architecture::Ppc64,
        Architecture::Sheb => Architecture::Sh,
        other => other,
    };
    COLUMNS.iter().position(|column| *column == like).expect("each architecture has a column")
}
