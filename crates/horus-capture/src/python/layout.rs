//! The few numbers that differ between minor versions of CPython, as its own headers give them for 64-bit builds.
//!
//! Only what cannot be found by type stands here. Fields of tasks, timers and futures are found by what they point to, which
//! is why a distribution's patches do not disturb the walk. Tests on every interpreter that the machine has keep them true.

/// Where things are in objects of one minor version, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) minor: u64,
    /// Text behind the header of an ASCII, and of any other string.
    pub(crate) ascii_text: u64,
    pub(crate) other_text: u64,
    /// In a code object.
    pub(crate) first_line: u64,
    pub(crate) instructions: u64,
    /// In a coroutine or generator.
    pub(crate) frame_state: u64,
    pub(crate) frame: u64,
    /// In a frame.
    pub(crate) code: u64,
    /// In a class: the keys that its instances share.
    pub(crate) shared_keys: u64,
    /// In the values of a dictionary that shares its keys.
    pub(crate) values: u64,
}

/// The same in all of them.
pub(crate) mod common {
    /// In an object: its class, its size (or length).
    pub(crate) const CLASS: u64 = 8;
    pub(crate) const SIZE: u64 = 16;
    /// In a class.
    pub(crate) const CLASS_NAME: u64 = 24;
    pub(crate) const CLASS_INSTANCE_BYTES: u64 = 32;
    pub(crate) const CLASS_FLAGS: u64 = 168;
    /// In a string.
    pub(crate) const TEXT_STATE: u64 = 32;
    /// In a code object.
    pub(crate) const CODE_FILE: u64 = 112;
    pub(crate) const CODE_NAME: u64 = 128;
    pub(crate) const CODE_LINES: u64 = 136;
    /// In a frame.
    pub(crate) const FRAME_INSTRUCTION: u64 = 56;
    pub(crate) const FRAME_STACK_TOP: u64 = 64;
    pub(crate) const FRAME_VALUES: u64 = 72;
    /// In a dictionary, and in its keys.
    pub(crate) const DICT_KEYS: u64 = 32;
    pub(crate) const DICT_VALUES: u64 = 40;
    pub(crate) const KEYS_INDEX_BYTES: u64 = 9;
    pub(crate) const KEYS_KIND: u64 = 10;
    pub(crate) const KEYS_ENTRIES: u64 = 24;
    pub(crate) const KEYS_INDICES: u64 = 32;
    /// In a set.
    pub(crate) const SET_USED: u64 = 24;
    pub(crate) const SET_MASK: u64 = 32;
    pub(crate) const SET_TABLE: u64 = 40;
    /// The first field of an object that wraps one other: a weak reference, a module's dictionary, an iterator of a coroutine.
    pub(crate) const FIRST_FIELD: u64 = 16;
    pub(crate) const BYTES_TEXT: u64 = 32;
    pub(crate) const LIST_ITEMS: u64 = 24;
    pub(crate) const INTEGER_DIGITS: u64 = 24;
}

impl Layout {
    /// That of a version, if it is one of those that were tried.
    pub(crate) fn of(major: u64, minor: u64) -> Option<Self> {
        let newer = Self {
            minor,
            ascii_text: 40,
            other_text: 56,
            first_line: 68,
            instructions: 192,
            frame_state: 67,
            frame: 72,
            code: 0,
            shared_keys: 880,
            values: 0,
        };
        match (major, minor) {
            (3, 11) => Some(Self {
                ascii_text: 48,
                other_text: 72,
                first_line: 72,
                instructions: 184,
                frame_state: 75,
                frame: 80,
                code: 32,
                shared_keys: 872,
                ..newer
            }),
            (3, 12) => Some(newer),
            (3, 13) => Some(Self { instructions: 200, values: 8, ..newer }),
            _ => None,
        }
    }
}
