//! Names of functions in one file.

use std::fs::File;

use object::read::{ReadCache, ReadCacheOps, SymbolIndex};
use object::{Object as _, ObjectSymbol as _, ObjectSymbolTable as _, SymbolKind};

use crate::limits::{SYMBOLS_MAX, TEXT_BYTES_MAX};

/// Where functions begin, in order, and the file that has their names. The names of all would be megabytes: only those that
/// are asked for are read.
pub(crate) struct Symbols<R: ReadCacheOps = File> {
    functions: Vec<Function>,
    file: Option<ReadCache<R>>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self { functions: Vec::new(), file: None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    start: u64,
    size: u64,
    index: usize,
    dynamic: bool,
}

impl<R: ReadCacheOps> Symbols<R> {
    /// The functions of a file; `None` if it is no file of programs.
    pub(crate) fn read(file: R) -> Option<Self> {
        let cache = ReadCache::new(file);
        let mut functions = Vec::new();
        {
            let elf = object::File::parse(&cache).ok()?;
            for (dynamic, symbols) in [(false, elf.symbols()), (true, elf.dynamic_symbols())] {
                for symbol in symbols.take(SYMBOLS_MAX) {
                    if symbol.kind() == SymbolKind::Text && symbol.address() != 0 {
                        let index = symbol.index().0;
                        functions.push(Function {
                            start: symbol.address(),
                            size: symbol.size(),
                            index,
                            dynamic,
                        });
                    }
                }
            }
        }
        functions.sort_unstable();
        Some(Self { functions, file: Some(cache) })
    }

    /// The function at an address of the file, for people.
    pub(crate) fn at(&self, address: u64) -> Option<String> {
        let behind = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions.get(behind.checked_sub(1)?)?;
        if address.checked_sub(function.start)? >= function.size.max(1) {
            return None;
        }
        let elf = object::File::parse(self.file.as_ref()?).ok()?;
        let table = if function.dynamic { elf.dynamic_symbol_table() } else { elf.symbol_table() }?;
        let symbol = table.symbol_by_index(SymbolIndex(function.index)).ok()?;
        let name = symbol.name().ok()?;
        let mut name = format!("{:#}", rustc_demangle::demangle(name));
        let end = (0..=TEXT_BYTES_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at))?;
        name.truncate(end);
        Some(name)
    }
}
