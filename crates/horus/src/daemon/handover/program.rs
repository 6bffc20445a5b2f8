//! Which program this is, told apart from others of the same version by what the linker wrote into it.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use horus_sys::spawn;
use serde::{Deserialize, Serialize};

/// Longest table of notes or load commands that is read, in bytes.
const TABLE_MAX: usize = 64 * 1024;

/// Most program headers that are looked at.
const HEADERS_MAX: u16 = 64;

/// Digits of a build that are shown: enough to tell two apart, few enough to read aloud.
const DIGITS: usize = 12;

/// One build of Horus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// "0.1.0"
    pub(super) version: String,
    /// Begins the linker's identifier of the file; `None` if there is none in it.
    pub(super) build: Option<String>,
}

impl Program {
    /// The one that this process executes. Read once: the file may be replaced at any time.
    pub(crate) fn of_process() -> &'static Self {
        static OWN: OnceLock<Program> = OnceLock::new();
        OWN.get_or_init(|| {
            let open = spawn::own_program().map(|(file, _)| File::from(file));
            let open = open.or_else(|_| File::open(std::env::current_exe()?));
            let build = open.ok().and_then(|file| build_of(&file));
            Self { version: env!("CARGO_PKG_VERSION").to_owned(), build }
        })
    }
}

impl fmt::Display for Program {
    /// `0.1.0 (build 3f2a91c07be4)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.build {
            Some(build) => write!(f, "{} (build {build})", self.version),
            None => f.write_str(&self.version),
        }
    }
}

/// The identifier that the linker gave the file: the build id of an ELF file, the UUID of a Mach-O one.
fn build_of(file: &File) -> Option<String> {
    let head = read(file, 0, 64)?;
    let id = match head.get(..4)? {
        b"\x7fELF" if head.get(4..6)? == [2, 1] => elf_build(file, &head)?,
        [0xcf, 0xfa, 0xed, 0xfe] => mach_o_uuid(file, &head)?,
        _ => return None,
    };
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(digits.chars().take(DIGITS).collect())
}

fn elf_build(file: &File, head: &[u8]) -> Option<Vec<u8>> {
    const NOTES: u32 = 4;
    let (table, size, count) = (u64_at(head, 32)?, u16_at(head, 54)?, u16_at(head, 56)?);
    (0..count.min(HEADERS_MAX)).find_map(|number| {
        let header = read(file, table + u64::from(number) * u64::from(size), 56)?;
        if u32_at(&header, 0)? != NOTES {
            return None;
        }
        let length = usize::try_from(u64_at(&header, 32)?).ok()?.min(TABLE_MAX);
        build_in_notes(&read(file, u64_at(&header, 8)?, length)?)
    })
}

/// Each note: three lengths and kinds, then name and content, both filled up to four bytes.
fn build_in_notes(mut notes: &[u8]) -> Option<Vec<u8>> {
    const BUILD_ID: u32 = 3;
    let padded = |length: u32| usize::try_from(length).ok().map(|length| length.next_multiple_of(4));
    loop {
        let (name, content, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let start = 12 + padded(name)?;
        let length = usize::try_from(content).ok()?;
        if kind == BUILD_ID && notes.get(12..16)? == b"GNU\0" {
            return Some(notes.get(start..start.checked_add(length)?)?.to_vec());
        }
        notes = notes.get(start.checked_add(padded(content)?)?..)?;
    }
}

fn mach_o_uuid(file: &File, head: &[u8]) -> Option<Vec<u8>> {
    const UUID: u32 = 0x1b;
    let length = usize::try_from(u32_at(head, 20)?).ok()?.min(TABLE_MAX);
    let commands = read(file, 32, length)?;
    let mut rest = commands.as_slice();
    loop {
        let size = usize::try_from(u32_at(rest, 4)?).ok()?;
        if u32_at(rest, 0)? == UUID {
            return Some(rest.get(8..24)?.to_vec());
        }
        rest = rest.get(size.max(8)..)?;
    }
}

fn read(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn elf(notes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&2_u16.to_le_bytes());
        for (kind, length) in [(1_u32, 0_usize), (4, notes.len())] {
            let mut header = vec![0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&176_u64.to_le_bytes());
            header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            bytes.extend(header);
        }
        bytes.extend(notes);
        bytes
    }

    fn note(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [4, content.len() as u32, kind].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend(b"GNU\0");
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_linkers_word_is_found_in_both_formats() {
        let notes = [note(1, &[9; 5]), note(3, &[0xab, 0xcd, 1, 2, 3, 4, 5, 6])].concat();
        assert_eq!(build_of(&file(&elf(&notes))).as_deref(), Some("abcd01020304"));
        let mut mach_o = vec![0; 32];
        mach_o[..4].copy_from_slice(&[0xcf, 0xfa, 0xed, 0xfe]);
        mach_o[20..24].copy_from_slice(&40_u32.to_le_bytes());
        for (kind, size) in [(0x19_u32, 16_u32), (0x1b, 24)] {
            mach_o.extend([kind, size].into_iter().flat_map(u32::to_le_bytes));
            mach_o.resize(mach_o.len() + size as usize - 8, 7);
        }
        assert_eq!(build_of(&file(&mach_o)).as_deref(), Some("070707070707"));
    }

    #[test]
    fn whatever_is_no_program_has_no_build() {
        let long = note(3, &[1; 20]);
        for bytes in [b"".as_slice(), b"#!/bin/sh\nexit 1\n", &[0xff; 200], &elf(&[]), &elf(&long[..18])] {
            assert_eq!(build_of(&file(bytes)), None);
        }
        // Lengths that lead out of the file, and round in circles.
        let mut wild = elf(&note(1, &[1; 4]));
        wild[176..180].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(build_of(&file(&wild)), None);
    }

    #[test]
    fn this_very_program_has_one_where_linkers_write_them() {
        let own = Program::of_process();
        assert_eq!(own.version, env!("CARGO_PKG_VERSION"));
        if let Some(build) = &own.build {
            assert_eq!(build.len(), DIGITS);
            assert_eq!(own.to_string(), format!("{} (build {build})", own.version));
        }
    }
}
