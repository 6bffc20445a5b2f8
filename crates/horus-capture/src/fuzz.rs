//! For fuzz targets only: walks over memory that no interpreter has made.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use crate::limits::{CHAIN_MAX, LOOPS_MAX, PAGES_MAX, TASKS_MAX};
use crate::memory::{Lost, Memory, Pages};
use crate::python::tasks::{Census, census};
use crate::python::{Layout, common};

/// Where the made heap begins.
const BASE: u64 = 0x10_0000;

const PAGE: usize = 4_096;

/// The same bytes again and again, at every address: each pointer of a dream leads somewhere.
struct Dream<'a> {
    bytes: &'a [u8],
    read: &'a Cell<usize>,
}

impl Memory for Dream<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        self.read.set(self.read.get() + 1);
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let start = usize::try_from(address).map_err(io::Error::other)? % self.bytes.len();
        let dream = self.bytes.iter().copied().cycle().skip(start);
        into.iter_mut().zip(dream).for_each(|(to, from)| *to = from);
        Ok(into.len())
    }
}

/// Walks over `bytes` as if they were a heap of each known version, from a `sys.modules` at `modules`.
pub fn walk(bytes: &[u8], modules: u64) {
    let read = Cell::new(0);
    for minor in 11..=13 {
        read.set(0);
        let pages = Pages::new(Dream { bytes, read: &read });
        if let Some(layout) = Layout::of(3, minor)
            && let Ok(Some(found)) = census(&pages, layout, modules, Duration::ZERO)
        {
            check(&found);
        }
        assert!(read.get() <= PAGES_MAX, "{} pages", read.get());
    }
}

fn check(census: &Census) {
    assert!(census.tasks.len() <= 2 * TASKS_MAX && census.loops.len() <= LOOPS_MAX, "{census:?}");
    assert!(census.tasks.iter().all(|task| task.chain.len() <= CHAIN_MAX), "{census:?}");
    assert!(census.loops.iter().all(|found| found.lag_ms.is_none_or(f64::is_finite)), "{census:?}");
}

/// A file of a program, its tables read and a stack unwound by them.
pub mod file {
    use std::io::Cursor;

    use horus_sys::memory::Region;
    use object::read::ReadCache;

    use crate::limits::{SECTIONS_BYTES_MAX, TEXT_BYTES_MAX, UNWIND_FRAMES_MAX};
    use crate::native::Stack;
    use crate::native::modules::{Modules, tables};
    use crate::native::symbols::Symbols;
    use crate::native::unwind::Unwinder;

    /// Where the file is mapped, and where the stack lies.
    const START: u64 = 0x5500_0000_0000;
    const TOP: u64 = 0x7fff_0000_0000;
    /// Where the code is in the small file.
    const CODE: u64 = 0x200;
    const CODE_BYTES: u64 = 0x40;

    /// How many calls are found in a stack of these words if this file is mapped as a whole, and the name of the innermost one.
    pub fn unwind(bytes: &[u8], stack: &[u8]) -> (usize, Option<String>) {
        let region = Region {
            start: START,
            end: START + 0x1000,
            offset: 0,
            executable: true,
            identity: (0, 0, 1),
            path: None,
        };
        let mut room = SECTIONS_BYTES_MAX;
        let name = Symbols::read(Cursor::new(bytes)).and_then(|symbols| symbols.at(CODE + 4));
        assert!(name.as_ref().is_none_or(|name| name.len() <= TEXT_BYTES_MAX));
        let Ok((bias, sections)) = tables(&ReadCache::new(Cursor::new(bytes)), &region, &mut room) else {
            return (0, name);
        };
        let read: usize = sections.values().map(|(_, bytes)| bytes.len()).sum();
        assert!(read as u64 <= SECTIONS_BYTES_MAX && read <= bytes.len().saturating_mul(2), "{read} bytes");
        let mut modules = Modules::imagined(region, bias, sections);
        let stack = Stack { tid: 1, instruction: START + CODE + 4, top: TOP, bytes: stack.to_vec() };
        let found = Unwinder::new(&mut modules).addresses(&stack).len();
        assert!(found <= UNWIND_FRAMES_MAX, "{found} calls");
        (found, name)
    }

    /// The smallest file that has all of it: one function, its unwind table and its name.
    pub fn small() -> Vec<u8> {
        const NAMES: &[u8] = b"\0.text\0.eh_frame\0.symtab\0.strtab\0.shstrtab\0rebalance\0";
        const EH_FRAME: u64 = 0x300;
        // One common entry: the return address lies 8 bytes below the frame, the frame 8 bytes above the stack pointer.
        let mut eh_frame: Vec<u8> = vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b];
        eh_frame.extend([0x0c, 7, 8, 0x90, 1, 0, 0]);
        let at = EH_FRAME + eh_frame.len() as u64;
        eh_frame.extend(20_u32.to_le_bytes());
        eh_frame.extend(28_u32.to_le_bytes());
        let code = (CODE.wrapping_sub(at + 8) as u32).to_le_bytes();
        eh_frame.extend(code.into_iter().chain((CODE_BYTES as u32).to_le_bytes()));
        eh_frame.extend([0; 8 + 4]);
        let mut symbols = vec![0; 24];
        symbols.extend(43_u32.to_le_bytes());
        symbols.extend([0x12, 0, 1, 0]);
        symbols.extend(CODE.to_le_bytes().into_iter().chain(CODE_BYTES.to_le_bytes()));

        let mut file = vec![0; 0x700];
        let mut put = |at: usize, bytes: &[u8]| {
            file.get_mut(at..at + bytes.len())
                .into_iter()
                .flatten()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
        };
        let words = |list: &[u64]| -> Vec<u8> { list.iter().flat_map(|word| word.to_le_bytes()).collect() };
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[3, 0, 62, 0, 1]);
        put(32, &words(&[64, 0x500]));
        put(52, &[64, 0, 56, 0, 1, 0, 64, 0, 6, 0, 5]);
        put(64, &[1, 0, 0, 0, 5]);
        put(72, &words(&[0, 0, 0, 0x700, 0x700, 0x1000]));
        put(EH_FRAME as usize, &eh_frame);
        put(0x400, &symbols);
        put(0x480, NAMES);
        // Name, kind, flags, address, place, bytes, link, of which the first is local, alignment, bytes of an entry.
        let (names, length) = (0x480, NAMES.len() as u64);
        type Section = (u32, u32, u64, u64, u64, u32, u32, u64);
        let sections: [Section; 5] = [
            (1, 1, 6, CODE, CODE_BYTES, 0, 0, 0),
            (7, 1, 2, EH_FRAME, eh_frame.len() as u64, 0, 0, 0),
            (17, 2, 0, 0x400, symbols.len() as u64, 4, 1, 24),
            (25, 3, 0, names, length, 0, 0, 0),
            (33, 3, 0, names, length, 0, 0, 0),
        ];
        for (position, (name, kind, flags, place, bytes, link, info, entry)) in
            sections.into_iter().enumerate()
        {
            let at = 0x500 + 64 * (position + 1);
            put(at, &name.to_le_bytes());
            put(at + 4, &kind.to_le_bytes());
            put(at + 8, &words(&[flags, place, place, bytes]));
            put(at + 40, &link.to_le_bytes());
            put(at + 44, &info.to_le_bytes());
            put(at + 48, &words(&[8, entry]));
        }
        file
    }

    #[cfg(test)]
    #[test]
    fn the_small_file_is_understood() {
        // Each word of the stack is the address behind a call in the function.
        let stack = (START + CODE + 9).to_le_bytes().repeat(300);
        let (found, name) = unwind(&small(), &stack);
        assert_eq!(name.as_deref(), Some("rebalance"));
        assert_eq!(found, if cfg!(target_arch = "x86_64") { UNWIND_FRAMES_MAX } else { found });
    }
}

/// A small heap of a version of CPython: one loop with a timer, and one task that awaits a future. Then it is bent.
#[derive(Clone)]
pub struct Heap {
    layout: Layout,
    bytes: Vec<u8>,
    modules: u64,
}

impl Memory for &Heap {
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        let unmapped = || io::Error::other("unmapped");
        let from =
            address.checked_sub(BASE).and_then(|from| usize::try_from(from).ok()).ok_or_else(unmapped)?;
        let there = self.bytes.get(from..).ok_or_else(unmapped)?;
        let count = there.len().min(into.len());
        into.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        Ok(count)
    }
}

impl Heap {
    /// That of Python 3.`minor`, from 11 to 13.
    pub fn new(minor: u64) -> Self {
        let layout = Layout::of(3, minor.clamp(11, 13)).unwrap_or_else(|| unreachable!("these are known"));
        let mut heap = Self { layout, bytes: Vec::new(), modules: 0 };
        heap.modules = heap.interpreter();
        let whole = heap.bytes.len().next_multiple_of(PAGE);
        heap.bytes.resize(whole, 0);
        heap
    }

    /// Exchanges a word.
    pub fn bend(&mut self, place: usize, word: u64) {
        let words = self.bytes.len() / 8;
        // Small numbers become addresses within: a bend that leads nowhere is found at once.
        let word = if word < 1 << 16 { BASE + word / 8 * 8 } else { word };
        self.put(BASE + (place % words.max(1) * 8) as u64, word);
    }

    /// How many tasks the walk finds.
    ///
    /// # Errors
    /// Why it ended.
    pub fn tasks(&self) -> Result<usize, String> {
        let found = census(&Pages::new(self), self.layout, self.modules, Duration::from_secs(1));
        let found = found.map_err(|lost: Lost| lost.to_string())?.unwrap_or_default();
        check(&found);
        Ok(found.tasks.len())
    }

    fn put(&mut self, address: u64, word: u64) {
        self.put_bytes(address, &word.to_ne_bytes());
    }

    fn put_bytes(&mut self, address: u64, bytes: &[u8]) {
        let from = usize::try_from(address.saturating_sub(BASE)).unwrap_or(usize::MAX);
        let place = self.bytes.get_mut(from..from.saturating_add(bytes.len()));
        place.into_iter().flatten().zip(bytes).for_each(|(to, from)| *to = *from);
    }

    /// Room, with as much in front of it for what lies before an object.
    fn room(&mut self, bytes: usize) -> u64 {
        const BEFORE: usize = 32;
        let start = self.bytes.len() + BEFORE;
        self.bytes.resize((start + bytes).next_multiple_of(16), 0);
        BASE + start as u64
    }

    fn class(&mut self, name: &str, instance_bytes: u64, flags: u64) -> u64 {
        let text = self.room(name.len() + 1);
        self.put_bytes(text, name.as_bytes());
        let class = self.room(1_024);
        self.put(class + common::CLASS_NAME, text);
        self.put(class + common::CLASS_INSTANCE_BYTES, instance_bytes);
        self.put(class + common::CLASS_FLAGS, flags);
        class
    }

    /// An object of a class of its own, with these words in it.
    fn object(&mut self, class: &str, words: &[(u64, u64)]) -> u64 {
        const MANAGED_DICT: u64 = 1 << 4;
        let class = self.class(class, 256, MANAGED_DICT);
        let object = self.room(320);
        self.put(object + common::CLASS, class);
        for (offset, word) in words {
            self.put(object + offset, *word);
        }
        object
    }

    fn text(&mut self, text: &str) -> u64 {
        const COMPACT_ASCII: u64 = 1 << 6 | 1 << 5 | 1 << 2;
        let object =
            self.object("str", &[(common::SIZE, text.len() as u64), (common::TEXT_STATE, COMPACT_ASCII)]);
        self.put_bytes(object + self.layout.ascii_text, text.as_bytes());
        object
    }

    fn dictionary(&mut self, entries: &[(&str, u64)]) -> u64 {
        const UNICODE: u8 = 1;
        let keys = self.room(64 + entries.len() * 16);
        self.put_bytes(keys + common::KEYS_INDEX_BYTES, &[3, UNICODE]);
        self.put(keys + common::KEYS_ENTRIES, entries.len() as u64);
        for (position, (name, value)) in entries.iter().enumerate() {
            let entry = keys + common::KEYS_INDICES + 8 + position as u64 * 16;
            let name = self.text(name);
            self.put(entry, name);
            self.put(entry + 8, *value);
        }
        self.object("dict", &[(common::DICT_KEYS, keys)])
    }

    /// An instance with attributes in a dictionary, which every version finds in the same place.
    fn instance(&mut self, class: &str, attributes: &[(&str, u64)]) -> u64 {
        let dictionary = self.dictionary(attributes);
        let object = self.object(class, &[]);
        self.put(object - 24, dictionary);
        object
    }

    fn coroutine(&mut self, awaited: u64) -> u64 {
        const SUSPENDED: u8 = 0xff;
        let (file, name) = (self.text("/bot/bot.py"), self.text("place_order"));
        let lines = self.object("bytes", &[(common::SIZE, 2)]);
        self.put_bytes(lines + common::BYTES_TEXT, &[0x80 | 13 << 3, 2]);
        let words = [(common::CODE_FILE, file), (common::CODE_NAME, name), (common::CODE_LINES, lines)];
        let code = self.object("code", &words);
        let Layout { frame, frame_state, instructions, .. } = self.layout;
        let coroutine = self.object(
            "coroutine",
            &[
                (frame + self.layout.code, code),
                (frame + common::FRAME_INSTRUCTION, code + instructions),
                (frame + common::FRAME_STACK_TOP, 1),
                (frame + common::FRAME_VALUES, awaited),
            ],
        );
        self.put_bytes(coroutine + frame_state, &[SUSPENDED]);
        coroutine
    }

    /// Everything, up to `sys.modules`.
    fn interpreter(&mut self) -> u64 {
        let float = self.object("float", &[(common::FIRST_FIELD, 1.5_f64.to_bits())]);
        let timer = self.object("TimerHandle", &[(common::FIRST_FIELD, float)]);
        let items = self.room(16);
        self.put(items, timer);
        let timers = self.object("list", &[(common::SIZE, 1), (common::LIST_ITEMS, items)]);
        let ready = self.object("collections.deque", &[(common::SIZE, 2)]);
        let attributes = [("_scheduled", timers), ("_ready", ready)];
        let event_loop = self.instance("_UnixSelectorEventLoop", &attributes);
        let future = self.object("_asyncio.Future", &[(common::FIRST_FIELD, event_loop)]);
        let inner = self.coroutine(future);
        let outer = self.coroutine(inner);
        let name = self.text("execute-signal");
        let fields = [(common::FIRST_FIELD, event_loop), (64, future), (72, outer), (80, name)];
        let task = self.object("_asyncio.Task", &fields);
        let reference = self.object("weakref.ReferenceType", &[(common::FIRST_FIELD, task)]);
        let table = self.room(8 * 16);
        self.put(table + 32, reference);
        let fields = [(common::SET_USED, 1), (common::SET_MASK, 7), (common::SET_TABLE, table)];
        let data = self.object("set", &fields);
        let tasks = self.instance("WeakSet", &[("data", data)]);
        let names = self.dictionary(&[("_all_tasks", tasks), ("_scheduled_tasks", tasks)]);
        let module = self.object("module", &[(common::FIRST_FIELD, names)]);
        self.dictionary(&[("sys", module), ("asyncio.tasks", module)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_heap_is_read_as_it_was_made() {
        for minor in 11..=13 {
            let heap = Heap::new(minor);
            let found = census(&Pages::new(&heap), heap.layout, heap.modules, Duration::from_secs(2))
                .unwrap()
                .unwrap();
            let task = found.tasks.first().unwrap();
            let chain: Vec<String> = task.chain.iter().map(crate::phrase::shown).collect();
            assert_eq!((task.name.as_str(), chain.len()), ("execute-signal", 2));
            assert_eq!(chain.first().map(String::as_str), Some("place_order (bot.py:1)"));
            assert!(task.waits_on.as_ref().unwrap().starts_with("Future at 0x"), "{task:?}");
            let event_loop = found.loops.first().unwrap();
            assert_eq!(
                (event_loop.lag_ms, event_loop.timers, event_loop.ready),
                (Some(500.0), Some(1), Some(2))
            );
        }
    }

    #[test]
    fn a_coroutine_that_awaits_itself_ends_at_the_limit() {
        let mut heap = Heap::new(12);
        let coroutine = heap.coroutine(0);
        heap.put(coroutine + heap.layout.frame + common::FRAME_VALUES, coroutine);
        let name = heap.text("ouroboros");
        let event_loop = heap.instance("Loop", &[]);
        let task = heap.object("_asyncio.Task", &[(16, event_loop), (72, coroutine), (80, name)]);
        let reference = heap.object("weakref.ReferenceType", &[(common::FIRST_FIELD, task)]);
        let table = heap.room(16);
        heap.put(table, reference);
        let data =
            heap.object("set", &[(common::SET_USED, 1), (common::SET_MASK, 0), (common::SET_TABLE, table)]);
        let tasks = heap.instance("WeakSet", &[("data", data)]);
        let names = heap.dictionary(&[("_scheduled_tasks", tasks)]);
        let module = heap.object("module", &[(common::FIRST_FIELD, names)]);
        heap.modules = heap.dictionary(&[("asyncio.tasks", module)]);
        heap.bytes.resize(heap.bytes.len().next_multiple_of(PAGE), 0);
        assert_eq!(heap.tasks(), Ok(1));
    }

    #[test]
    fn a_word_that_leads_nowhere_is_no_evidence() {
        let whole = Heap::new(11);
        let mut lost = 0;
        for place in 0..whole.bytes.len() / 8 {
            let mut heap = whole.clone();
            heap.bend(place, 0x7fff_0000_0000);
            lost += usize::from(heap.tasks().is_err());
        }
        assert!(lost > 20, "{lost} of all words were missed");
    }
}
