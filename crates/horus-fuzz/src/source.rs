//! Bytes that decide. When they are used up every further decision is the first choice, so an input always ends.

/// Decisions taken one after the other from bytes.
#[derive(Debug)]
pub struct Source<'a> {
    bytes: &'a [u8],
    /// How deep the value is that is being made.
    pub(crate) depth: usize,
    /// The field that is being made: a hint for what its text should look like.
    pub(crate) field: &'static str,
}

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, depth: 0, field: "" }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte; 0 if there is none.
    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number from 0 to `count - 1`; 0 if `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        let mut number = usize::from(self.byte());
        if count > 256 {
            number = number << 8 | usize::from(self.byte());
        }
        if count > 65_536 {
            number = number << 8 | usize::from(self.byte());
        }
        number.checked_rem(count).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }

    /// One of `choices`.
    pub fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// The rest, undecided.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// The next `length` bytes, or what there is.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// A number: mostly small, sometimes at an edge, sometimes any.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 10] = [
            u64::MAX,
            u64::MAX - 1,
            i64::MAX as u64,
            i64::MAX as u64 + 1,
            u32::MAX as u64,
            i32::MAX as u64 + 1,
            1 << 53,
            1_000,
            60_000,
            86_400_000,
        ];
        match self.byte() % 8 {
            0..=3 => u64::from(self.byte() % 5),
            4 => u64::from(self.byte()),
            5 => u64::from(u16::from_le_bytes([self.byte(), self.byte()])),
            6 => *self.pick(&EDGES),
            _ => {
                let mut all = [0; 8];
                let taken = self.take(8);
                all[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(all)
            }
        }
    }

    /// A finite number with a point. (That numbers are finite is what the targets of the senses assert.)
    pub fn float(&mut self) -> f64 {
        const EDGES: [f64; 8] =
            [0.0, -0.0, 0.1, -1.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 123_456_789.123_456_78];
        let any = match self.byte() % 4 {
            0 => *self.pick(&EDGES),
            1 => f64::from(self.byte()) / 100.0,
            2 => f64::from(u16::from_le_bytes([self.byte(), self.byte()])),
            _ => f64::from_bits(self.number()),
        };
        if any.is_finite() { any } else { 1.0 }
    }

    /// A duration in whole milliseconds: mostly seconds, sometimes absurd.
    pub fn milliseconds(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => 0,
            1 => u64::from(self.byte()),
            2..=5 => 1_000 * u64::from(self.byte()),
            6 => 3_600_000 * u64::from(self.byte()),
            _ => self.number(),
        }
    }
}
