//! What survives: a journal of intents and outcomes, and a snapshot. After a `SIGKILL` at any instant at most
//! the step that was not yet acknowledged is lost, and nothing is ever filled twice.
//!
//! ```text
//!   decide -> intent on disk -> venue -> outcome on disk (= acknowledged) -> books -> snapshot, by rename, about once a second
//!                 |                          |                                            |
//!   killed here:  no outcome: the paper      no harm: recovery books                      recovery has
//!                 venue keeps no other       it from the journal                          less to read
//!                 record, so it did not
//!                 happen: `abandoned`
//! ```
//!
//! Recovery is: snapshot, then every journal record after it, through the same `Ledger::apply` as in trading,
//! then the identities of the books. A torn last line is cut off; anything else that does not fit stops the
//! program from trading, since wrong books are worse than none. A flat file and a rename, not a database: two
//! files that a person can read with `tail`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ledger::{Fill, Ledger, LedgerError, Order, OrderId};
use crate::tape::Second;
use crate::venue::Rejection;

/// The version of both files. A program refuses files of another version.
const VERSION: u32 = 1;

/// At this size the journal is set aside (one old one is kept) after a snapshot that covers it.
const JOURNAL_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// A journal or snapshot larger than this is not read.
const READ_LIMIT_BYTES: u64 = 4 * JOURNAL_LIMIT_BYTES;

const JOURNAL: &str = "journal.jsonl";
const OLD_JOURNAL: &str = "journal.old.jsonl";
const SNAPSHOT: &str = "snapshot.json";
const LOCK: &str = "lock";

#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    #[error("{what} {} failed", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("another trading program works on {}", path.display())]
    Locked { path: PathBuf },
    #[error("{} is not what this program wrote: {why}", path.display())]
    Corrupt { path: PathBuf, why: String },
    #[error("the recovered books are wrong")]
    Books { source: LedgerError },
}

/// How much was done since the state directory began; the beat's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) bars: u64,
    pub(crate) signals: u64,
    pub(crate) passed: u64,
    pub(crate) orders: u64,
    pub(crate) orders_filled: u64,
    pub(crate) orders_rejected: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    version: u32,
    /// The last journal record that is contained.
    sequence: u64,
    /// The next second of the tape to be played.
    pub(crate) next: Second,
    pub(crate) next_order: OrderId,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
}

impl Snapshot {
    pub(crate) fn fresh(next: Second, ledger: Ledger) -> Self {
        Self { version: VERSION, sequence: 0, next, next_order: OrderId(1), ledger, tally: Tally::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Intent(Order),
    Fill(Fill),
    Rejected {
        order: OrderId,
        why: Rejection,
    },
    /// Found without an outcome after a crash: it did not happen.
    Abandoned {
        order: OrderId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    v: u32,
    sequence: u64,
    record: Record,
}

#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    journal: File,
    journal_bytes: u64,
    sequence: u64,
    /// Held for as long as the program lives.
    _lock: File,
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) snapshot: Snapshot,
    /// Records booked from the journal because the snapshot was older.
    pub(crate) replayed: usize,
    /// Orders that had no outcome.
    pub(crate) abandoned: Vec<OrderId>,
    /// Whether a half-written last line was cut off.
    pub(crate) torn: bool,
}

impl Store {
    /// Locks `dir` (made if missing) and reconciles what is in it; `fresh` if there is nothing.
    pub(crate) fn open(dir: &Path, fresh: Snapshot) -> Result<(Self, Recovered), StoreError> {
        fs::create_dir_all(dir).map_err(io_error("creating", dir))?;
        let lock = lock(&dir.join(LOCK))?;
        let snapshot = read_snapshot(&dir.join(SNAPSHOT))?.unwrap_or(fresh);
        let path = dir.join(JOURNAL);
        let mut journal = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io_error("opening", &path))?;
        let (lines, whole_bytes, torn) = read_journal(&mut journal, &path)?;
        if torn {
            journal.set_len(whole_bytes).map_err(io_error("cutting", &path))?;
        }
        let mut store = Self {
            dir: dir.to_owned(),
            journal,
            journal_bytes: whole_bytes,
            sequence: snapshot.sequence,
            _lock: lock,
        };
        let mut recovered = store.reconcile(snapshot, lines, torn)?;
        for order in &recovered.abandoned {
            store.append(&Record::Abandoned { order: *order })?;
        }
        store.save(&mut recovered.snapshot)?;
        Ok((store, recovered))
    }

    fn reconcile(
        &mut self,
        mut snapshot: Snapshot,
        lines: Vec<Line>,
        torn: bool,
    ) -> Result<Recovered, StoreError> {
        let mut open: BTreeMap<OrderId, ()> = BTreeMap::new();
        let mut replayed = 0;
        for line in lines.into_iter().filter(|line| line.sequence > snapshot.sequence) {
            if line.sequence != self.sequence + 1 {
                let why = format!("record {} follows record {}", line.sequence, self.sequence);
                return Err(StoreError::Corrupt { path: self.dir.join(JOURNAL), why });
            }
            self.sequence = line.sequence;
            replayed += 1;
            match line.record {
                Record::Intent(order) => {
                    snapshot.next_order = OrderId(order.id.0 + 1);
                    snapshot.next = snapshot.next.max(order.decided.next());
                    snapshot.tally.orders += 1;
                    open.insert(order.id, ());
                }
                Record::Fill(fill) => {
                    open.remove(&fill.order);
                    snapshot.ledger.apply(&fill).map_err(|source| StoreError::Books { source })?;
                    snapshot.tally.orders_filled += 1;
                }
                Record::Rejected { order, .. } => {
                    open.remove(&order);
                    snapshot.tally.orders_rejected += 1;
                }
                Record::Abandoned { order } => drop(open.remove(&order)),
            }
        }
        snapshot.ledger.check().map_err(|source| StoreError::Books { source })?;
        Ok(Recovered { snapshot, replayed, abandoned: open.into_keys().collect(), torn })
    }

    /// Writes one record down; when this returns, it survives a crash.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        let path = self.dir.join(JOURNAL);
        let line = Line { v: VERSION, sequence: self.sequence + 1, record: record.clone() };
        let mut text = serde_json::to_vec(&line).map_err(|e| StoreError::Io {
            what: "writing to",
            path: path.clone(),
            source: e.into(),
        })?;
        text.push(b'\n');
        let written = self.journal.write_all(&text).and_then(|()| self.journal.sync_data());
        written.map_err(io_error("writing to", &path))?;
        self.sequence += 1;
        self.journal_bytes += text.len() as u64;
        Ok(())
    }

    /// Replaces the snapshot, whole or not at all.
    pub(crate) fn save(&mut self, snapshot: &mut Snapshot) -> Result<(), StoreError> {
        snapshot.sequence = self.sequence;
        let (path, draft) = (self.dir.join(SNAPSHOT), self.dir.join("snapshot.json.new"));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(&serde_json::to_vec(snapshot)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            sync_dir(&self.dir)
        };
        write().map_err(io_error("saving", &path))?;
        if self.journal_bytes >= JOURNAL_LIMIT_BYTES { self.rotate() } else { Ok(()) }
    }

    /// All of the journal is in the snapshot: it may go.
    fn rotate(&mut self) -> Result<(), StoreError> {
        let path = self.dir.join(JOURNAL);
        let renew = || {
            fs::rename(&path, self.dir.join(OLD_JOURNAL))?;
            let journal = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            sync_dir(&self.dir).map(|()| journal)
        };
        self.journal = renew().map_err(io_error("rotating", &path))?;
        self.journal_bytes = 0;
        Ok(())
    }
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io_error("opening", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(io_error("locking", path)(source)),
    }
}

fn read_snapshot(path: &Path) -> Result<Option<Snapshot>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening", path)(error)),
    };
    let corrupt = |why: String| StoreError::Corrupt { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    file.take(READ_LIMIT_BYTES).read_to_end(&mut bytes).map_err(io_error("reading", path))?;
    let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if snapshot.version != VERSION {
        return Err(corrupt(format!("it has version {}, this program writes {VERSION}", snapshot.version)));
    }
    Ok(Some(snapshot))
}

/// The whole lines, how many bytes they are, and whether there was a torn one after them.
fn read_journal(file: &mut File, path: &Path) -> Result<(Vec<Line>, u64, bool), StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { path: path.to_owned(), why };
    file.seek(SeekFrom::Start(0)).map_err(io_error("reading", path))?;
    let mut bytes = Vec::new();
    let read = file.take(READ_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(io_error("reading", path))?;
    if read as u64 > READ_LIMIT_BYTES {
        return Err(corrupt(format!("it is larger than {READ_LIMIT_BYTES} bytes")));
    }
    // `write_all` may be cut anywhere, but a line that ends was written whole.
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let torn = whole < bytes.len();
    let mut lines = Vec::new();
    for (index, text) in bytes[..whole].split(|b| *b == b'\n').filter(|text| !text.is_empty()).enumerate() {
        let line: Line =
            serde_json::from_slice(text).map_err(|error| corrupt(format!("line {}: {error}", index + 1)))?;
        if line.v != VERSION {
            return Err(corrupt(format!("line {} has version {}", index + 1, line.v)));
        }
        lines.push(line);
    }
    Ok((lines, whole as u64, torn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Side;
    use crate::tape::Symbol;
    use crate::units::{Price, Quantity, Usd};

    fn fresh() -> Snapshot {
        Snapshot::fresh(Second(360), Ledger::new(Usd::new(1000, 0)))
    }

    fn intent(id: u64) -> Record {
        Record::Intent(Order {
            id: OrderId(id),
            symbol: Symbol::Eth,
            side: Side::Buy,
            quantity: Quantity::new(100, 4),
            decided: Second(400 + id),
            reason: "ENTRY".into(),
        })
    }

    fn fill(id: u64) -> Record {
        Record::Fill(Fill {
            order: OrderId(id),
            symbol: Symbol::Eth,
            side: Side::Buy,
            price: Price::new(200_000, 2),
            quantity: Quantity::new(100, 4),
            fee: Usd::new(2, 2),
            second: Second(400 + id),
        })
    }

    #[test]
    fn an_outcome_on_disk_is_booked_though_no_snapshot_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), fresh()).unwrap();
        for record in
            [intent(1), fill(1), intent(2), Record::Rejected { order: OrderId(2), why: Rejection::StaleBook }]
        {
            store.append(&record).unwrap();
        }
        drop(store);
        let (_, recovered) = Store::open(dir.path(), fresh()).unwrap();
        let snapshot = recovered.snapshot;
        assert_eq!((recovered.replayed, recovered.abandoned, recovered.torn), (4, vec![], false));
        assert_eq!(snapshot.ledger.positions[&Symbol::Eth].quantity, Quantity::new(100, 4));
        assert_eq!(snapshot.ledger.cash, Usd::new(97_998, 2));
        assert_eq!(
            (snapshot.next, snapshot.next_order),
            (Second(403), OrderId(3)),
            "no step is decided twice"
        );
        let tally = Tally { orders: 2, orders_filled: 1, orders_rejected: 1, ..Tally::default() };
        assert_eq!(snapshot.tally, tally);
    }

    #[test]
    fn an_intent_without_an_outcome_did_not_happen_and_is_closed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), fresh()).unwrap();
        store.append(&intent(1)).unwrap();
        drop(store);
        let (store, recovered) = Store::open(dir.path(), fresh()).unwrap();
        assert_eq!(recovered.abandoned, [OrderId(1)]);
        assert_eq!(recovered.snapshot.ledger, fresh().ledger);
        drop(store);
        let (_, again) = Store::open(dir.path(), fresh()).unwrap();
        assert!(again.abandoned.is_empty());
        assert_eq!(again.snapshot.next_order, OrderId(2));
    }

    /// The journal is cut at every possible byte, as a crash might.
    #[test]
    fn a_journal_cut_anywhere_recovers_to_what_was_acknowledged() {
        let source = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(source.path(), fresh()).unwrap();
        for record in [intent(1), fill(1), intent(2), fill(2)] {
            store.append(&record).unwrap();
        }
        drop(store);
        let journal = fs::read(source.path().join(JOURNAL)).unwrap();
        let ends: Vec<usize> =
            journal.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        for cut in 0..=journal.len() {
            let dir = tempfile::tempdir().unwrap();
            File::create(dir.path().join(JOURNAL)).unwrap().write_all(&journal[..cut]).unwrap();
            let (mut store, recovered) = Store::open(dir.path(), fresh()).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let fills = [0, 0, 1, 1, 2][whole];
            assert_eq!(recovered.snapshot.ledger.fills, fills, "cut at byte {cut}");
            assert_eq!(recovered.torn, cut != 0 && !ends.contains(&cut));
            // What was torn is gone: the next record does not grow out of it.
            store.append(&intent(3)).unwrap();
            drop(store);
            let (_, again) = Store::open(dir.path(), fresh()).unwrap();
            assert_eq!((again.snapshot.ledger.fills, again.abandoned), (fills, vec![OrderId(3)]));
        }
    }

    #[test]
    fn damage_is_refused_not_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), fresh()).unwrap();
        for record in [intent(1), fill(1), intent(2)] {
            store.append(&record).unwrap();
        }
        drop(store);
        let path = dir.path().join(JOURNAL);
        let text = fs::read_to_string(&path).unwrap();
        let write = |text: &str| File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        let open = || Store::open(dir.path(), fresh()).map(drop).unwrap_err().to_string();
        let without_fill: String =
            text.lines().filter(|l| !l.contains("fill")).map(|l| format!("{l}\n")).collect();
        write(&without_fill);
        assert!(open().ends_with("record 3 follows record 1"));
        write(&text.replacen("\"v\":1", "\"v\":2", 1));
        assert!(open().ends_with("line 1 has version 2"));
        write(&text.replace("intent", "intend"));
        assert!(open().contains("line 1: unknown variant `intend`"));
        write(&text);
        let forged = fs::read_to_string(dir.path().join(SNAPSHOT))
            .unwrap()
            .replace("\"cash\":\"1000\"", "\"cash\":\"2000\"");
        File::create(dir.path().join(SNAPSHOT)).unwrap().write_all(forged.as_bytes()).unwrap();
        assert_eq!(open(), "the recovered books are wrong");
    }

    #[test]
    fn two_programs_never_share_a_state() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path(), fresh()).unwrap();
        assert!(matches!(Store::open(dir.path(), fresh()), Err(StoreError::Locked { .. })));
    }

    #[test]
    fn a_full_journal_is_set_aside_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, recovered) = Store::open(dir.path(), fresh()).unwrap();
        let mut snapshot = recovered.snapshot;
        store.append(&intent(1)).unwrap();
        store.append(&Record::Abandoned { order: OrderId(1) }).unwrap();
        snapshot.next_order = OrderId(2);
        store.journal_bytes = JOURNAL_LIMIT_BYTES;
        store.save(&mut snapshot).unwrap();
        assert_eq!(fs::metadata(dir.path().join(JOURNAL)).unwrap().len(), 0);
        store.append(&intent(2)).unwrap();
        drop(store);
        let (_, recovered) = Store::open(dir.path(), fresh()).unwrap();
        assert_eq!((recovered.replayed, recovered.abandoned), (1, vec![OrderId(2)]));
    }
}
