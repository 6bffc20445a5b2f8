//! The program's own numbers: counters that only grow, gauges that may fall. A handle is one shared atomic,
//! so moving it from a hot loop costs a few nanoseconds; the table of names is locked only to register and to
//! report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many names (counters and gauges together) one beat reports.
pub const MAX_NAMES: usize = 64;

/// The longest name, in bytes; the rest is cut off.
pub const MAX_NAME_BYTES: usize = 64;

/// A number that only grows. Cloning gives another handle to the same number.
#[derive(Clone, Debug)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more was done.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `n` more were done.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Continues a count that was kept across a restart; never lowers it.
    pub fn raise_to(&self, total: u64) {
        self.0.fetch_max(total, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that may rise and fall. Cloning gives another handle to the same number.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// What it is now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What was last set; 0 before.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    value: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<String, Entry>,
    dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Names {
    table: Mutex<Table>,
}

impl Names {
    pub(crate) fn counter(&self, name: &str) -> Counter {
        Counter(self.register(name, Kind::Counter))
    }

    pub(crate) fn gauge(&self, name: &str) -> Gauge {
        Gauge(self.register(name, Kind::Gauge))
    }

    /// All values, the names among them that are gauges, and how many names found no room.
    pub(crate) fn snapshot(&self) -> (BTreeMap<String, u64>, Vec<String>, u64) {
        let table = self.table();
        let values = table.entries.iter().map(|(name, e)| (name.clone(), e.value.load(Ordering::Relaxed)));
        let gauges =
            table.entries.iter().filter(|(_, e)| e.kind == Kind::Gauge).map(|(name, _)| name.clone());
        (values.collect(), gauges.collect(), table.dropped)
    }

    fn register(&self, name: &str, kind: Kind) -> Arc<AtomicU64> {
        let name = clean(name);
        let mut table = self.table();
        match table.entries.get(&name) {
            Some(entry) if entry.kind == kind => return Arc::clone(&entry.value),
            // The same name as both kinds would make a counter fall; the second user gets a number of its
            // own.
            Some(_) => table.dropped += 1,
            None if table.entries.len() >= MAX_NAMES => table.dropped += 1,
            None => {
                let value = Arc::new(AtomicU64::new(0));
                table.entries.insert(name, Entry { kind, value: Arc::clone(&value) });
                return value;
            }
        }
        Arc::new(AtomicU64::new(0))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clean(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.chars().take(MAX_NAME_BYTES).map(|c| if allowed(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_number() {
        let names = Names::default();
        names.counter("bars").add(2);
        names.counter("bars").increment();
        names.gauge("slots").set(7);
        let (values, gauges, dropped) = names.snapshot();
        assert_eq!(values["bars"], 3);
        assert_eq!(values["slots"], 7);
        assert_eq!(gauges, ["slots"]);
        assert_eq!(dropped, 0);
    }

    #[test]
    fn a_name_too_many_still_counts_but_is_not_reported_and_that_is_told() {
        let names = Names::default();
        for n in 0..MAX_NAMES + 3 {
            names.counter(&format!("c{n}")).increment();
        }
        let (values, _, dropped) = names.snapshot();
        assert_eq!((values.len(), dropped), (MAX_NAMES, 3));
    }

    #[test]
    fn a_name_cannot_forge_a_line_of_a_datagram() {
        assert_eq!(clean("a:1\nREADY=1"), "a_1_READY_1");
    }

    #[test]
    fn a_restored_count_never_falls() {
        let names = Names::default();
        let fills = names.counter("fills");
        fills.raise_to(12);
        fills.raise_to(3);
        assert_eq!(fills.get(), 12);
    }
}
