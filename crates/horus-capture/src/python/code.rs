//! From an instruction to a line: the table of PEP 626, as CPython 3.11 and later write it.

use super::layout::common;
use super::objects::Heap;
use crate::document::Frame;
use crate::limits::LINE_TABLE_BYTES_MAX;
use crate::memory::{Lost, Memory};

impl<M: Memory> Heap<'_, M> {
    /// The call whose frame is at this address.
    pub(crate) fn call(&self, frame: u64) -> Result<Frame, Lost> {
        let code = self
            .field(frame, self.layout.code)?
            .filter(|object| object.class == "code")
            .ok_or(Lost::Odd("a frame without code"))?
            .address;
        let instruction = self.pages.u64(frame.saturating_add(common::FRAME_INSTRUCTION))?;
        let text = |offset| match self.field(code, offset)? {
            Some(object) if object.class == "str" => self.text(object.address),
            _ => Err(Lost::Odd("code without a name")),
        };
        let first = self.pages.u32(code.saturating_add(self.layout.first_line))?;
        let start = code.saturating_add(self.layout.instructions);
        // A frame that has not begun stands one before its first instruction.
        let position = instruction.saturating_sub(start) / 2;
        let line = line_of(&self.line_table(code)?, first, position);
        Ok(Frame { function: text(common::CODE_NAME)?, file: text(common::CODE_FILE)?, line })
    }

    fn line_table(&self, code: u64) -> Result<Vec<u8>, Lost> {
        let table = self
            .field(code, common::CODE_LINES)?
            .filter(|object| object.class == "bytes")
            .ok_or(Lost::Odd("code without lines"))?
            .address;
        let length = self.pages.u64(table.saturating_add(common::SIZE))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(LINE_TABLE_BYTES_MAX);
        let mut bytes = vec![0; length];
        self.pages.bytes(table.saturating_add(common::BYTES_TEXT), &mut bytes)?;
        Ok(bytes)
    }
}

/// The line of the code unit at `position`. Each entry begins with a byte `1 kind:4 length-1:3`; what follows depends on its
/// kind. Lines are told as differences.
fn line_of(table: &[u8], first: u32, position: u64) -> u32 {
    let mut bytes = table.iter().copied().peekable();
    let mut line = i64::from(first);
    let mut unit = 0_u64;
    while let Some(head) = bytes.next() {
        let (kind, units) = (head >> 3 & 15, u64::from(head & 7) + 1);
        let mut has_line = true;
        match kind {
            15 => has_line = false,
            14 | 13 => line = line.saturating_add(signed(number(&mut bytes))),
            10..=12 => line = line.saturating_add(i64::from(kind) - 10),
            _ => {}
        }
        // The columns that follow are of no interest; the next head has its highest bit set, they have not.
        if kind < 15 {
            while bytes.next_if(|byte| byte & 0x80 == 0).is_some() {}
        }
        if (unit..unit + units).contains(&position) {
            return if has_line { u32::try_from(line).unwrap_or(first) } else { first };
        }
        unit += units;
    }
    first
}

/// Six bits a byte, the lowest first; a seventh says that more follow.
fn number(bytes: &mut impl Iterator<Item = u8>) -> i64 {
    const BITS_MAX: u32 = 54;
    let (mut value, mut shift) = (0_i64, 0);
    for byte in bytes {
        value |= i64::from(byte & 63) << shift;
        shift += 6;
        if byte & 64 == 0 || shift > BITS_MAX {
            break;
        }
    }
    value
}

/// The lowest bit is the sign.
fn signed(value: i64) -> i64 {
    if value & 1 == 1 { -(value >> 1) } else { value >> 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_from_every_kind_of_entry() {
        // No column (+3), one line on, no location, long (-2), short.
        let table = [
            0x80 | 13 << 3,
            6, //
            0x80 | 11 << 3 | 1,
            4,
            9,              //
            0x80 | 15 << 3, //
            0x80 | 14 << 3,
            5,
            0,
            1,
            1, //
            0x80 | 2 << 3,
            0x11,
        ];
        let lines: Vec<u32> = (0..7).map(|position| line_of(&table, 10, position)).collect();
        assert_eq!(lines, [13, 14, 14, 10, 12, 12, 10]);
        assert_eq!(line_of(&[], 7, 0), 7);
        assert_eq!(line_of(&[0x80 | 13 << 3, 0x7f, 0x7f], 7, 0), 7, "a line before the first one is none");
    }
}
