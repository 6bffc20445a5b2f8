//! The files that a process has mapped: their unwind tables and the names in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use horus_sys::memory::{Region, open_mapped};
use object::read::{ReadCache, ReadCacheOps};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};

use super::symbols::Symbols;
use crate::document::NativeFrame;
use crate::limits::{MODULES_MAX, SECTION_BYTES_MAX, SECTIONS_BYTES_MAX};

/// One mapped file.
pub(crate) struct Module {
    /// Its name, without its folder.
    pub(crate) name: String,
    /// From its first mapping to the end of its last.
    pub(crate) range: std::ops::Range<u64>,
    /// What has to be added to the addresses in the file.
    pub(crate) bias: u64,
    /// Sections by name: where they are in the file's own addresses, and what they hold.
    pub(crate) sections: BTreeMap<&'static str, (std::ops::Range<u64>, Vec<u8>)>,
    /// The program itself, not a library.
    own: bool,
    region: Region,
    symbols: Option<Symbols>,
}

/// Those files in which a frame may be.
pub(crate) struct Modules {
    pid: i32,
    pub(crate) all: Vec<Module>,
}

/// Of which the ranges are needed, and those whose bytes are.
const SECTIONS: [(&str, bool); 4] =
    [(".text", false), (".eh_frame", true), (".eh_frame_hdr", true), (".got", false)];

impl Modules {
    /// Reads the tables of every file into which one of `words` points: all others cannot be on a stack.
    pub(crate) fn of(
        pid: i32,
        regions: &[Region],
        words: impl Iterator<Item = u64>,
        missing: &mut Vec<String>,
    ) -> Self {
        let mut wanted = std::collections::BTreeSet::new();
        for word in words {
            let position = regions.partition_point(|region| region.end <= word);
            if let Some(region) =
                regions.get(position).filter(|region| region.executable && region.start <= word)
                && region.path.is_some()
            {
                wanted.insert(region.identity);
            }
        }
        let own = own_file(pid);
        let mut room = SECTIONS_BYTES_MAX;
        let mut all = Vec::new();
        if wanted.len() > MODULES_MAX {
            missing.push(format!("native stacks: only {MODULES_MAX} of {} files are read", wanted.len()));
        }
        for identity in wanted.into_iter().take(MODULES_MAX) {
            let parts: Vec<&Region> = regions.iter().filter(|region| region.identity == identity).collect();
            let Some(first) = parts.first() else { continue };
            let end = parts.iter().map(|region| region.end).max().unwrap_or(first.end);
            let name = first.path.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            match read(pid, first, &mut room) {
                Ok((bias, sections)) => all.push(Module {
                    name,
                    range: first.start..end,
                    bias,
                    sections,
                    own: own == Some(identity),
                    region: (*first).clone(),
                    symbols: None,
                }),
                Err(error) => missing.push(format!("native stacks: {name}: {error}")),
            }
        }
        Self { pid, all }
    }

    /// One file that nobody has mapped.
    pub(crate) fn imagined(region: Region, bias: u64, sections: Sections) -> Self {
        let range = region.start..region.end;
        let module =
            Module { name: "imagined".to_owned(), range, bias, sections, own: true, region, symbols: None };
        Self { pid: 0, all: vec![module] }
    }

    /// What is at an address.
    pub(crate) fn frame(&mut self, address: u64) -> NativeFrame {
        let pid = self.pid;
        let Some(module) = self.all.iter_mut().find(|module| module.range.contains(&address)) else {
            return NativeFrame { function: None, module: String::new(), address, own: false };
        };
        let within = address.wrapping_sub(module.bias);
        let symbols = module.symbols.get_or_insert_with(|| {
            open_mapped(pid, &module.region).ok().and_then(Symbols::read).unwrap_or_default()
        });
        let function = symbols.at(within);
        NativeFrame { function, module: module.name.clone(), address: within, own: module.own }
    }
}

/// Device and inode of the program.
fn own_file(pid: i32) -> Option<(u32, u32, u64)> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let regions = horus_sys::memory::regions(pid).ok()?;
    regions.into_iter().find(|region| region.path.as_ref() == Some(&program)).map(|region| region.identity)
}

pub(crate) type Sections = BTreeMap<&'static str, (std::ops::Range<u64>, Vec<u8>)>;

fn read(pid: i32, region: &Region, room: &mut u64) -> io::Result<(u64, Sections)> {
    let file: File = open_mapped(pid, region)?;
    tables(&ReadCache::new(file), region, room)
}

/// The bias and the sections of one file. Whatever is in it, it is read within bounds.
pub(crate) fn tables<R: ReadCacheOps>(
    cache: &ReadCache<R>,
    region: &Region,
    room: &mut u64,
) -> io::Result<(u64, Sections)> {
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let elf = object::File::parse(cache).map_err(|error| odd(&error.to_string()))?;
    let segment = elf
        .segments()
        .find(|segment| {
            let (offset, size) = segment.file_range();
            (offset..offset.saturating_add(size.max(1))).contains(&region.offset)
        })
        .or_else(|| elf.segments().next())
        .ok_or_else(|| odd("no segment"))?;
    let bias = region
        .start
        .wrapping_sub(region.offset)
        .wrapping_sub(segment.address().wrapping_sub(segment.file_range().0));
    let mut sections = Sections::new();
    for (name, with_bytes) in SECTIONS {
        let Some(section) = elf.section_by_name(name) else { continue };
        let range = section.address()..section.address().saturating_add(section.size());
        let bytes = if with_bytes {
            let size = section.file_range().map_or(0, |(_, size)| size);
            if size > SECTION_BYTES_MAX || size > *room {
                return Err(odd("its unwind tables are too large"));
            }
            *room -= size;
            section.data().map_err(|error| odd(&error.to_string()))?.to_vec()
        } else {
            Vec::new()
        };
        sections.insert(name, (range, bytes));
    }
    Ok((bias, sections))
}
