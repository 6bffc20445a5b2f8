//! The target's memory as the walkers see it: through a cache of pages, with a budget, never trusted.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;

use thiserror::Error;

use crate::limits::{PAGES_MAX, TEXT_BYTES_MAX};

/// Granularity of reading. A mapping of every system that we know begins and ends on such a border.
const PAGE: usize = 4_096;

/// Below this nothing is ever mapped: a pointer into it is none.
const LOWEST: u64 = 4_096;

/// Where bytes come from: a process, or a dream of one.
pub(crate) trait Memory {
    /// Reads from `address` on; how many bytes came.
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// The memory of a living process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfProcess(pub(crate) i32);

impl Memory for OfProcess {
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        horus_sys::memory::read(self.0, address, into)
    }
}

/// Why a walk ended without an answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Lost {
    /// A pointer that leads nowhere.
    #[error("nothing to read at {0:#x}")]
    Unmapped(u64),
    /// Something that cannot be what it should be.
    #[error("{0}")]
    Odd(&'static str),
    /// We may not look.
    #[error("permission")]
    Denied,
    /// It ended meanwhile.
    #[error("the process is not there any more")]
    Gone,
    /// A limit of ours.
    #[error("more than {0}")]
    TooMuch(&'static str),
}

/// Pages that were read, each at most once: within one walk everything is as it was when it was first seen.
pub(crate) struct Pages<M> {
    memory: M,
    pages: RefCell<HashMap<u64, Box<[u8; PAGE]>>>,
    left: Cell<usize>,
}

impl<M: Memory> Pages<M> {
    pub(crate) fn new(memory: M) -> Self {
        Self { memory, pages: RefCell::default(), left: Cell::new(PAGES_MAX) }
    }

    /// Fills `into` or fails.
    pub(crate) fn bytes(&self, address: u64, into: &mut [u8]) -> Result<(), Lost> {
        let mut done = 0_usize;
        while done < into.len() {
            let at = address.checked_add(done as u64).ok_or(Lost::Unmapped(address))?;
            let (page, within) = (at & !(PAGE as u64 - 1), (at % PAGE as u64) as usize);
            self.load(page)?;
            let count = (PAGE - within).min(into.len() - done);
            let pages = self.pages.borrow();
            let from = pages.get(&page).and_then(|page| page.get(within..within + count));
            let to = into.get_mut(done..done + count);
            from.zip(to).map(|(from, to)| to.copy_from_slice(from)).ok_or(Lost::Unmapped(at))?;
            done += count;
        }
        Ok(())
    }

    fn load(&self, page: u64) -> Result<(), Lost> {
        if page < LOWEST {
            return Err(Lost::Unmapped(page));
        }
        if self.pages.borrow().contains_key(&page) {
            return Ok(());
        }
        let left = self.left.get().checked_sub(1).ok_or(Lost::TooMuch("8,192 pages of memory"))?;
        self.left.set(left);
        let mut bytes = Box::new([0; PAGE]);
        match self.memory.read(page, bytes.as_mut_slice()) {
            Ok(PAGE) => {
                self.pages.borrow_mut().insert(page, bytes);
                Ok(())
            }
            Ok(_) => Err(Lost::Unmapped(page)),
            Err(error) => Err(match horus_sys::fact::Missing::from(&error) {
                horus_sys::fact::Missing::Denied => Lost::Denied,
                horus_sys::fact::Missing::Gone => Lost::Gone,
                _ => Lost::Unmapped(page),
            }),
        }
    }

    pub(crate) fn u64(&self, address: u64) -> Result<u64, Lost> {
        let mut bytes = [0; 8];
        self.bytes(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    pub(crate) fn u32(&self, address: u64) -> Result<u32, Lost> {
        let mut bytes = [0; 4];
        self.bytes(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    pub(crate) fn u8(&self, address: u64) -> Result<u8, Lost> {
        let mut byte = [0];
        self.bytes(address, &mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    /// A pointer to something that has an alignment, or nothing.
    pub(crate) fn pointer(&self, address: u64) -> Result<Option<u64>, Lost> {
        let pointer = self.u64(address)?;
        Ok(is_pointer(pointer).then_some(pointer))
    }

    /// A text that ends with a zero byte.
    pub(crate) fn c_text(&self, address: u64) -> Result<String, Lost> {
        let mut text = Vec::new();
        while text.len() < TEXT_BYTES_MAX {
            match self.u8(address.saturating_add(text.len() as u64))? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                byte => text.push(byte),
            }
        }
        Err(Lost::Odd("a name without an end"))
    }
}

/// Could it be the address of an object?
pub(crate) fn is_pointer(word: u64) -> bool {
    (LOWEST..1 << 56).contains(&word) && word.is_multiple_of(8)
}
