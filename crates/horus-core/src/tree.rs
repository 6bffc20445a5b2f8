//! Limits of a whole tree: of all that came from a service, together.
//!
//! The limits of a *process* (`setrlimit`) are inherited and counted anew by each one: a hundred children may use a hundred
//! times as much. Those of a *tree* are kept by the kernel in the control group of the service, so they can be changed
//! while it runs, and somebody has to have a control group with the right controller. Whether that is so is a fact about
//! the machine, told beside the limit and never assumed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a whole tree may use. `None`: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TreeLimits {
    /// Memory in use, bytes. Whoever needs more is killed by the kernel, and all of the tree with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time. One more is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Processor time, per cent of one processor. Who wants more waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
}

/// One thing that can be limited for a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TreeLimit {
    /// [`TreeLimits::memory_bytes`].
    Memory,
    /// [`TreeLimits::tasks`].
    Tasks,
    /// [`TreeLimits::cpu_percent`].
    Cpu,
}

impl TreeLimit {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Tasks, Self::Cpu];

    /// Its key below `limits.tree`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Tasks => "tasks",
            Self::Cpu => "cpu",
        }
    }
}

impl TreeLimits {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What is limited, and to what, for people.
    pub fn told(&self) -> impl Iterator<Item = (TreeLimit, String)> {
        let all = [
            (TreeLimit::Memory, self.memory_bytes.map(|bytes| Bytes(bytes).to_string())),
            (TreeLimit::Tasks, self.tasks.map(|tasks| tasks.to_string())),
            (TreeLimit::Cpu, self.cpu_percent.map(|share| format!("{share} % of a processor"))),
        ];
        all.into_iter().filter_map(|(limit, value)| Some((limit, value?)))
    }
}

/// An amount of memory for people: `512 MiB`, `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let Some((shift, unit)) = units.into_iter().find(|(shift, _)| self.0 >> shift > 0) else {
            return write!(f, "{} bytes", self.0);
        };
        // One digit after the point, cut and not rounded: a limit is never told larger than it is.
        let (whole, rest) = (self.0 >> shift, self.0 & ((1 << shift) - 1));
        match ((rest >> (shift - 10)) * 10) >> 10 {
            0 => write!(f, "{whole} {unit}"),
            tenths => write!(f, "{whole}.{tenths} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_their_largest_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (512 << 20, "512 MiB"),
            (3 << 29, "1.5 GiB"),
            ((2 << 30) - 1, "1.9 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_limited_is_not_told() {
        assert!(TreeLimits::default().is_none());
        assert_eq!(TreeLimits::default().told().count(), 0);
        let some = TreeLimits { cpu_percent: Some(150), memory_bytes: Some(1 << 30), tasks: None };
        let told: Vec<_> = some.told().collect();
        let expected =
            [(TreeLimit::Memory, "1 GiB".to_owned()), (TreeLimit::Cpu, "150 % of a processor".to_owned())];
        assert_eq!(told, expected);
    }
}
