//! What the sections of a program's file tell about who made it. Pure, and without trust: whoever is watched wrote the file.
//!
//! Only the names of sections are read. They stay when symbols are stripped; a packed program has none, and is nobody's.

use std::io;

/// Most sections of a file that are read. Programs have some thirty.
pub const MAX_SECTIONS: usize = 512;
/// Longest table of their names, in bytes.
pub const MAX_NAMES: usize = 64 * 1_024;

/// The file's header: of 52 bytes, or of 64.
const HEADER: usize = 64;
const MAGIC: &[u8] = b"\x7fELF";

/// Whether the Go linker made the program of this file. `read` reads at a place of the file, as far as there is something, and
/// tells how many bytes it got. What is no ELF file, or an odd one, is not of Go.
pub fn is_go(mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
    let mut header = [0; HEADER];
    let length = read(0, &mut header)?;
    let Some(table) = Table::of(header.get(..length).unwrap_or_default()) else { return Ok(false) };
    let mut sections = vec![0; table.entry * table.count];
    let length = read(table.start, &mut sections)?;
    sections.truncate(length);
    let Some((start, size)) = table.names(&sections) else { return Ok(false) };
    let mut names = vec![0; size.min(MAX_NAMES)];
    let length = read(start, &mut names)?;
    names.truncate(length);
    let of_go = |entry: &[u8]| table.name(entry).and_then(|at| text(&names, at)).is_some_and(is_of_go);
    Ok(sections.chunks_exact(table.entry).any(of_go))
}

/// Sections that only the Go linker writes. The table of its functions has a prefix where the program may lie anywhere.
fn is_of_go(name: &[u8]) -> bool {
    matches!(name, b".go.buildinfo" | b".note.go.buildid") || name.ends_with(b".gopclntab")
}

/// The bytes up to the next zero.
fn text(names: &[u8], at: u64) -> Option<&[u8]> {
    names.get(usize::try_from(at).ok()?..)?.split(|byte| *byte == 0).next()
}

/// Where the table of sections is, and how its numbers are written.
#[derive(Clone, Copy, Debug)]
struct Table {
    wide: bool,
    little: bool,
    start: u64,
    entry: usize,
    count: usize,
    names: usize,
}

impl Table {
    fn of(header: &[u8]) -> Option<Self> {
        let class = *header.strip_prefix(MAGIC)?.first()?;
        let (wide, little) = (class == 2, *header.get(5)? == 1);
        let blank = Self { wide, little, start: 0, entry: 0, count: 0, names: 0 };
        let half = |at| blank.number(header, at, 2).and_then(|number| usize::try_from(number).ok());
        let (offset, halves, least) = if wide { (40, 58, 64) } else { (32, 46, 40) };
        let start = blank.number(header, offset, blank.word())?;
        let (entry, count, names) = (half(halves)?, half(halves + 2)?, half(halves + 4)?);
        let usual = entry == least && (1..=MAX_SECTIONS).contains(&count);
        (usual && start > 0).then_some(Self { start, entry, count, names, ..blank })
    }

    fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }

    /// Where the name of a section is in the table of names.
    fn name(&self, entry: &[u8]) -> Option<u64> {
        self.number(entry, 0, 4)
    }

    /// Where the table of names is, and its size.
    fn names(&self, sections: &[u8]) -> Option<(u64, usize)> {
        let entry = sections.chunks_exact(self.entry).nth(self.names)?;
        let (offset, size) = if self.wide { (24, 32) } else { (16, 20) };
        let start = self.number(entry, offset, self.word())?;
        let size = self.number(entry, size, self.word())?;
        Some((start, usize::try_from(size).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with sections of these names, and nothing in them.
    fn file(wide: bool, little: bool, names: &[&str]) -> Vec<u8> {
        let put = |bytes: &mut Vec<u8>, at: usize, size: usize, number: usize| {
            let number = (number as u64).to_be_bytes();
            let mut number = number[8 - size..].to_vec();
            if little {
                number.reverse();
            }
            bytes[at..at + size].copy_from_slice(&number);
        };
        let entry = if wide { 64 } else { 40 };
        let (word, offset, halves) = if wide { (8, 40, 58) } else { (4, 32, 46) };
        let mut bytes = vec![0; 64 + entry * names.len()];
        bytes[..4].copy_from_slice(MAGIC);
        (bytes[4], bytes[5]) = (1 + u8::from(wide), 2 - u8::from(little));
        put(&mut bytes, offset, word, 64);
        for (place, number) in [(0, entry), (2, names.len()), (4, names.len() - 1)] {
            put(&mut bytes, halves + place, 2, number);
        }
        let mut table = Vec::new();
        for (number, name) in names.iter().enumerate() {
            put(&mut bytes, 64 + number * entry, 4, table.len());
            table.extend(name.bytes().chain([0]));
        }
        let last = 64 + (names.len() - 1) * entry;
        let (at, size) = if wide { (24, 32) } else { (16, 20) };
        let end = bytes.len();
        put(&mut bytes, last + at, word, end);
        put(&mut bytes, last + size, word, table.len());
        bytes.extend(table);
        bytes
    }

    fn says(bytes: &[u8]) -> bool {
        let read = |at: u64, into: &mut [u8]| {
            let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            let length = rest.len().min(into.len());
            into[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        };
        is_go(read).unwrap()
    }

    #[test]
    fn a_program_of_go_is_known_by_its_sections() {
        for (wide, little) in [(true, true), (true, false), (false, true), (false, false)] {
            for name in [".go.buildinfo", ".note.go.buildid", ".gopclntab", ".data.rel.ro.gopclntab"] {
                assert!(says(&file(wide, little, &["", ".text", name, ".shstrtab"])), "{name}");
            }
            assert!(!says(&file(wide, little, &["", ".text", ".note.gnu.build-id", ".shstrtab"])));
        }
    }

    #[test]
    fn what_is_cut_off_or_no_program_is_not_of_go() {
        let whole = file(true, true, &["", ".text", ".go.buildinfo", ".shstrtab"]);
        let name = whole.windows(13).position(|bytes| bytes == b".go.buildinfo").unwrap();
        for length in 0..name + 13 {
            assert!(!says(&whole[..length]), "{length}");
        }
        assert!(!says(b"#!/bin/sh\n"));
    }
}
