//! Objects of a CPython heap, read by somebody who trusts none of them.

use super::layout::{Layout, common};
use crate::limits::{DICT_ENTRIES_MAX, SET_SLOTS_MAX, TEXT_BYTES_MAX};
use crate::memory::{Lost, Memory, Pages, is_pointer};

/// `Py_TPFLAGS_INLINE_VALUES` and `Py_TPFLAGS_MANAGED_DICT`.
const FLAG_INLINE_VALUES: u64 = 1 << 2;
const FLAG_MANAGED_DICT: u64 = 1 << 4;

/// Attributes that instances of one class share, at most.
const SHARED_KEYS_MAX: u64 = 64;

/// A heap of one version of CPython.
pub(crate) struct Heap<'a, M> {
    pub(crate) pages: &'a Pages<M>,
    pub(crate) layout: Layout,
}

/// What a word holds, as far as it is told by its class.
pub(crate) struct Object {
    pub(crate) address: u64,
    pub(crate) class: String,
}

impl<M: Memory> Heap<'_, M> {
    fn at(&self, base: u64, offset: u64) -> Result<u64, Lost> {
        self.pages.u64(base.saturating_add(offset))
    }

    /// The object at an address; its class has a name, or there is no object.
    pub(crate) fn object(&self, address: u64) -> Result<Object, Lost> {
        Ok(Object { address, class: self.class_name(address)? })
    }

    /// The object that a field points to, if it points anywhere.
    pub(crate) fn field(&self, of: u64, offset: u64) -> Result<Option<Object>, Lost> {
        match self.pages.pointer(of.saturating_add(offset))? {
            Some(address) => self.object(address).map(Some),
            None => Ok(None),
        }
    }

    fn class(&self, object: u64) -> Result<u64, Lost> {
        if !is_pointer(object) {
            return Err(Lost::Odd("an object at an impossible address"));
        }
        self.pages
            .pointer(object.saturating_add(common::CLASS))?
            .ok_or(Lost::Odd("an object without a class"))
    }

    pub(crate) fn class_name(&self, object: u64) -> Result<String, Lost> {
        let class = self.class(object)?;
        let name = self.at(class, common::CLASS_NAME)?;
        let name = self.pages.c_text(name)?;
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(Lost::Odd("a class without a name"));
        }
        Ok(name)
    }

    /// How many bytes an instance of this object's class has, within reason.
    pub(crate) fn instance_bytes(&self, object: u64) -> Result<u64, Lost> {
        const REASONABLE: std::ops::RangeInclusive<u64> = 16..=1_024;
        let bytes = self.at(self.class(object)?, common::CLASS_INSTANCE_BYTES)?;
        if REASONABLE.contains(&bytes) { Ok(bytes) } else { Err(Lost::Odd("an object of an odd size")) }
    }

    /// The first field of this class, of those that follow the header: its offset and what it points to.
    pub(crate) fn find_field(&self, object: u64, classes: &[&str]) -> Result<Option<(u64, u64)>, Lost> {
        let bytes = self.instance_bytes(object)?;
        for offset in (common::FIRST_FIELD..bytes.saturating_sub(7)).step_by(8) {
            // Not every word is a pointer to an object: those that are not are passed over.
            if let Some(word) = self.pages.pointer(object.saturating_add(offset))?
                && let Ok(class) = self.class_name(word)
                && classes.contains(&class.as_str())
            {
                return Ok(Some((offset, word)));
            }
        }
        Ok(None)
    }

    /// A string.
    pub(crate) fn text(&self, object: u64) -> Result<String, Lost> {
        let length = self.at(object, common::SIZE)?;
        let state = self.pages.u32(object.saturating_add(common::TEXT_STATE))?;
        let (width, is_compact, is_ascii) =
            (u64::from(state >> 2 & 7), state >> 5 & 1 == 1, state >> 6 & 1 == 1);
        if !is_compact || !matches!(width, 1 | 2 | 4) || (is_ascii && width != 1) {
            return Err(Lost::Odd("a string of an odd kind"));
        }
        let header = if is_ascii { self.layout.ascii_text } else { self.layout.other_text };
        let count = length.min(TEXT_BYTES_MAX as u64);
        let mut bytes =
            vec![0; usize::try_from(count * width).map_err(|_| Lost::Odd("a string without end"))?];
        self.pages.bytes(object.saturating_add(header), &mut bytes)?;
        let characters = bytes.chunks_exact(width as usize).map(|unit| {
            let mut code = [0; 4];
            for (to, from) in code.iter_mut().zip(unit) {
                *to = *from;
            }
            char::from_u32(u32::from_le_bytes(code)).unwrap_or(char::REPLACEMENT_CHARACTER)
        });
        Ok(characters.collect())
    }

    fn is_text(&self, object: u64, text: &str) -> Result<bool, Lost> {
        Ok(self.at(object, common::SIZE)? == text.len() as u64 && self.text(object)? == text)
    }

    /// A number that is not negative and fits.
    pub(crate) fn integer(&self, object: u64) -> Result<u64, Lost> {
        let size = self.at(object, common::SIZE)?;
        let digits = if self.layout.minor >= 12 { size >> 3 } else { size };
        let mut value = 0_u64;
        for digit in (0..digits.min(3)).rev() {
            let digit = self.pages.u32(object.saturating_add(common::INTEGER_DIGITS + digit * 4))?;
            value = value.checked_mul(1 << 30).ok_or(Lost::Odd("a number too large"))?;
            value |= u64::from(digit);
        }
        Ok(value)
    }

    /// What a dictionary holds under a name.
    pub(crate) fn get(&self, dictionary: u64, name: &str) -> Result<Option<u64>, Lost> {
        let keys = self
            .pages
            .pointer(dictionary.saturating_add(common::DICT_KEYS))?
            .ok_or(Lost::Odd("a dictionary without keys"))?;
        let values = self.pages.pointer(dictionary.saturating_add(common::DICT_VALUES))?;
        let values = values.map(|values| values.saturating_add(self.layout.values));
        self.search(keys, values, name, DICT_ENTRIES_MAX)
    }

    /// Walks the entries of a table of keys. With `values`, those are in a table of their own.
    fn search(&self, keys: u64, values: Option<u64>, name: &str, most: u64) -> Result<Option<u64>, Lost> {
        const KIND_GENERAL: u8 = 0;
        let log_bytes = self.pages.u8(keys.saturating_add(common::KEYS_INDEX_BYTES))?;
        let kind = self.pages.u8(keys.saturating_add(common::KEYS_KIND))?;
        let count = self.at(keys, common::KEYS_ENTRIES)?;
        if log_bytes > 40 || kind > 2 {
            return Err(Lost::Odd("a dictionary of an odd kind"));
        }
        let entries = keys.saturating_add(common::KEYS_INDICES).saturating_add(1 << log_bytes);
        // A general entry begins with the hash of its key.
        let (stride, skip) = if kind == KIND_GENERAL { (24, 8) } else { (16, 0) };
        for position in 0..count.min(most) {
            let entry = entries.saturating_add(position * stride + skip);
            let Some(key) = self.pages.pointer(entry)? else { continue };
            // A key of another kind than text may have any layout: its size alone has to differ to be passed over.
            if !self.is_text(key, name).unwrap_or(false) {
                continue;
            }
            let place = values.map_or(entry.saturating_add(8), |values| values.saturating_add(position * 8));
            return self.pages.pointer(place);
        }
        if count > most { Err(Lost::TooMuch("65,536 entries in one dictionary")) } else { Ok(None) }
    }

    /// A name in a module.
    pub(crate) fn in_module(&self, modules: u64, module: &str, name: &str) -> Result<Option<u64>, Lost> {
        let Some(module) = self.get(modules, module)? else { return Ok(None) };
        match self.pages.pointer(module.saturating_add(common::FIRST_FIELD))? {
            Some(dictionary) => self.get(dictionary, name),
            None => Ok(None),
        }
    }

    /// An attribute of an ordinary instance, wherever this version keeps it.
    pub(crate) fn attribute(&self, object: u64, name: &str) -> Result<Option<u64>, Lost> {
        let class = self.class(object)?;
        let flags = self.at(class, common::CLASS_FLAGS)?;
        if flags & FLAG_MANAGED_DICT == 0 {
            return Ok(None);
        }
        let before =
            |bytes: u64| object.checked_sub(bytes).ok_or(Lost::Odd("an object at an impossible address"));
        let (values, dictionary) = match self.layout.minor {
            11 => (self.pages.pointer(before(32)?)?, self.pages.pointer(before(24)?)?),
            12 => {
                let word = self.pages.u64(before(24)?)?;
                // The lowest bit says which of the two it is; the values lie one byte further.
                if word & 1 == 1 {
                    (Some(word.wrapping_add(1)), None)
                } else {
                    (None, is_pointer(word).then_some(word))
                }
            }
            _ => {
                let bytes = self.instance_bytes(object)?;
                let inline = (flags & FLAG_INLINE_VALUES != 0)
                    .then(|| object.saturating_add(bytes + self.layout.values));
                (inline, self.pages.pointer(before(24)?)?)
            }
        };
        match (dictionary, values) {
            (Some(dictionary), _) => self.get(dictionary, name),
            (None, Some(values)) => {
                let keys = self
                    .pages
                    .pointer(class.saturating_add(self.layout.shared_keys))?
                    .ok_or(Lost::Odd("a class without keys"))?;
                self.search(keys, Some(values), name, SHARED_KEYS_MAX)
            }
            (None, None) => Ok(None),
        }
    }

    /// The members of a set, at most `most`; and how many it counts.
    pub(crate) fn members(&self, set: u64, most: usize) -> Result<(Vec<u64>, u64), Lost> {
        let (used, mask) = (self.at(set, common::SET_USED)?, self.at(set, common::SET_MASK)?);
        if mask.checked_add(1).is_none_or(|slots| !slots.is_power_of_two()) || used > mask.saturating_add(1) {
            return Err(Lost::Odd("a set that is none"));
        }
        let table = self.at(set, common::SET_TABLE)?;
        let mut members = Vec::new();
        for slot in 0..=mask.min(SET_SLOTS_MAX) {
            if members.len() == most {
                break;
            }
            let entry = table.saturating_add(slot * 16);
            // A slot that was emptied has the hash -1 and a dummy.
            if let Some(key) = self.pages.pointer(entry)?
                && self.at(entry, 8)? != u64::MAX
            {
                members.push(key);
            }
        }
        Ok((members, used))
    }

    /// The first item of a list, and how many there are.
    pub(crate) fn first_item(&self, list: u64) -> Result<(Option<u64>, u64), Lost> {
        let count = self.at(list, common::SIZE)?;
        if count == 0 {
            return Ok((None, 0));
        }
        let items = self.at(list, common::LIST_ITEMS)?;
        Ok((self.pages.pointer(items)?, count))
    }

    pub(crate) fn float(&self, object: u64) -> Result<f64, Lost> {
        Ok(f64::from_bits(self.at(object, common::FIRST_FIELD)?))
    }
}
