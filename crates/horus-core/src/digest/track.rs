//! One service: what is open, and when it becomes a row.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    COUNTER_NAME_MAX, COUNTERS_EVERY_MIN, COUNTERS_MAX, Counter, DECLARED_MOVED_MIN, DETAIL_BYTES_MAX, Entry,
    Gaps, Heard, IRREGULAR, IRREGULAR_MIN, IRREGULAR_ROWS_PER_HOUR, Instead, Rows, STRETCH_MAX, Ticks,
    USUAL_MEMORY, whole_ms,
};
use crate::ids::{Generation, ServiceName};
use crate::observation::{Beat, Declared, Finding, Observation};
use crate::plan::BeatKind;
use crate::time::Mono;

const HOUR: Duration = Duration::from_secs(3600);

/// What is known of one service, and not written down yet.
#[derive(Debug, Default)]
pub(super) struct Track {
    run: Option<Generation>,
    sources: BTreeMap<BeatKind, Source>,
    /// Usual gaps outlive the instance.
    usual: BTreeMap<BeatKind, Duration>,
    counters: BTreeMap<String, CounterTrack>,
    gauges: BTreeMap<String, Gauge>,
    counters_at: Option<Mono>,
    declared: Option<(Declared, Mono)>,
    extended_until: Mono,
    purse: Purse,
}

/// Rows that irregularity may still make.
#[derive(Debug, Default)]
struct Purse {
    spent: u32,
    since: Mono,
}

impl Purse {
    fn spend(&mut self, now: Mono) -> bool {
        if now.since(self.since) >= HOUR {
            *self = Self { spent: 0, since: now };
        }
        self.spent += 1;
        self.spent <= IRREGULAR_ROWS_PER_HOUR
    }
}

#[derive(Debug, Default)]
struct Source {
    tick: Option<u64>,
    fresh: bool,
    last_fresh: Option<Mono>,
    open: Option<Stretch>,
    instead: BTreeMap<Instead, Run>,
}

#[derive(Debug)]
struct Stretch {
    from: Mono,
    to: Mono,
    ticks: Ticks,
}

#[derive(Debug)]
struct Run {
    from: Mono,
    to: Mono,
    count: u32,
    detail: String,
}

#[derive(Debug)]
struct CounterTrack {
    value: u64,
    moves: u32,
    longest: Duration,
    moved: Mono,
    usual: Duration,
    /// Its row is not to wait for the end of the stretch.
    urgent: bool,
}

#[derive(Debug)]
struct Gauge {
    value: f64,
    written: Option<f64>,
}

impl Gauge {
    /// It became nothing or something, or doubled or halved.
    fn urgent(&self) -> bool {
        self.written.is_none_or(|old| {
            let (small, large) = (old.abs().min(self.value.abs()), old.abs().max(self.value.abs()));
            small * 2.0 <= large && large > 0.0
        })
    }
}

impl Track {
    pub(super) fn observe(&mut self, rows: &mut Rows, name: &ServiceName, observation: &Observation) {
        use Observation as O;
        let single = |rows: &mut Rows, run: Generation, what| rows.push(Some(name), Some(run), what);
        match observation {
            O::Spawned(instance) => self.begin(rows, name, instance.generation, Entry::Spawned),
            O::Adopted(instance) => self.begin(rows, name, instance.generation, Entry::Adopted),
            O::SpawnFailed { generation, error } => {
                single(rows, *generation, Entry::StartFailed(short(error)));
            }
            O::StartLost { generation } => single(rows, *generation, Entry::StartLost),
            O::Exited { generation, exit, strays } => {
                if self.run == Some(*generation) {
                    self.close(rows, name);
                }
                single(rows, *generation, Entry::Exited { exit: *exit, strays: *strays });
            }
            O::Gone { generation, killed } => single(rows, *generation, Entry::Gone(*killed)),
            // An attempt that waits for a lock is told by its events; no detector hears of it.
            O::Unit { .. }
            | O::Blocked { .. }
            | O::SignalFailed { .. }
            | O::SaidStopping { .. }
            | O::SaidStuck { .. }
            | O::SaidStatus { .. }
            | O::SaidStep { .. }
            | O::KernelView { .. }
            | O::Counts { .. }
            | O::Activity { .. } => {}
            O::Captured { generation, stage, finding } => {
                let (stage, finding) = (*stage, Box::new(without_output(finding)));
                single(rows, *generation, Entry::Captured { stage, finding });
            }
            O::Beat { generation, .. }
            | O::NoBeat { generation, .. }
            | O::SaidReady { generation }
            | O::AskedForTime { generation, .. }
                if self.run != Some(*generation) => {}
            O::Beat { beat, .. } => self.hear(rows, name, beat),
            O::NoBeat { source, fault, detail, .. } => {
                let now = rows.now;
                self.source(*source).instead(now, Instead::Miss(*fault), detail);
            }
            O::SaidReady { generation } => {
                single(rows, *generation, Entry::SaidReady);
                let now = rows.now;
                self.source(BeatKind::Notify).last_fresh = Some(now);
            }
            O::AskedForTime { generation, extend } => {
                let until = rows.now + *extend;
                if until > self.extended_until + DECLARED_MOVED_MIN && self.purse.spend(rows.now) {
                    self.extended_until = until;
                    single(rows, *generation, Entry::AskedForTime(whole_ms(*extend)));
                }
            }
        }
    }

    fn source(&mut self, kind: BeatKind) -> &mut Source {
        self.sources.entry(kind).or_default()
    }

    fn begin(&mut self, rows: &mut Rows, name: &ServiceName, run: Generation, what: Entry) {
        self.close(rows, name);
        self.run = Some(run);
        self.sources.clear();
        self.counters.clear();
        self.gauges.clear();
        self.counters_at = None;
        self.declared = None;
        self.extended_until = Mono::default();
        rows.push(Some(name), Some(run), what);
    }

    fn hear(&mut self, rows: &mut Rows, name: &ServiceName, beat: &Beat) {
        let now = rows.now;
        self.hear_declared(rows, name, beat);
        let (run, kind) = (self.run, beat.source);
        let source = self.sources.entry(kind).or_default();
        if source.is_fresh(beat) {
            let usual = self.usual.entry(kind).or_default();
            let gap = source.last_fresh.map(|before| now.since(before));
            let irregular = gap.is_some_and(|gap| is_irregular(gap, *usual) && self.purse.spend(now));
            let mut out = Out { rows, name, run, kind };
            match gap {
                Some(gap) if !irregular => source.go_on(&mut out, now, gap, beat.tick.is_some()),
                _ => {
                    source.close(&mut out);
                    source.open = Some(Stretch::new(now, kind, beat.tick.is_some()));
                    if gap.is_none() {
                        // The first tick of an instance is not to be lost.
                        source.close(&mut out);
                    }
                }
            }
            source.last_fresh = Some(now);
            if let Some(gap) = gap {
                learn(usual, gap);
            }
        } else {
            source.instead(now, Instead::Still, "");
        }
        self.hear_counters(now, beat);
        self.write_counters(rows, name, false);
    }

    fn hear_declared(&mut self, rows: &mut Rows, name: &ServiceName, beat: &Beat) {
        let Some(declared) = beat.declared else { return };
        let now = rows.now;
        let until = match declared {
            Declared::Busy(left) => now + left,
            _ => Mono::default(),
        };
        let moved = |old: Mono| old.since(until).max(until.since(old)) > DECLARED_MOVED_MIN;
        let same = match self.declared {
            None => declared == Declared::Ok,
            Some((Declared::Busy(_), old)) => matches!(declared, Declared::Busy(_)) && !moved(old),
            Some((old, _)) => old == declared,
        };
        if !same && self.purse.spend(now) {
            self.declared = Some((declared, until));
            rows.push(Some(name), self.run, Entry::Declares(declared));
        }
    }

    fn hear_counters(&mut self, now: Mono, beat: &Beat) {
        for (name, value) in &beat.progress {
            let room = self.counters.len() < COUNTERS_MAX && name.len() <= COUNTER_NAME_MAX;
            match self.counters.get_mut(name) {
                Some(counter) if counter.value != *value => {
                    let gap = now.since(counter.moved);
                    counter.urgent |= gap >= COUNTERS_EVERY_MIN && is_irregular(gap, counter.usual);
                    learn(&mut counter.usual, gap);
                    counter.longest = counter.longest.max(gap);
                    counter.moves = counter.moves.saturating_add(1);
                    (counter.value, counter.moved) = (*value, now);
                }
                Some(_) => {}
                None if !room => {}
                None => {
                    let new = CounterTrack {
                        value: *value,
                        moves: 1,
                        longest: Duration::ZERO,
                        moved: now,
                        usual: Duration::ZERO,
                        urgent: true,
                    };
                    self.counters.insert(name.clone(), new);
                }
            }
        }
        for (name, value) in &beat.gauges {
            if let Some(gauge) = self.gauges.get_mut(name) {
                gauge.value = *value;
            } else if self.gauges.len() < COUNTERS_MAX && name.len() <= COUNTER_NAME_MAX {
                self.gauges.insert(name.clone(), Gauge { value: *value, written: None });
            }
        }
    }

    fn write_counters(&mut self, rows: &mut Rows, name: &ServiceName, all: bool) {
        let now = rows.now;
        let since = self.counters_at.map(|at| now.since(at));
        let urgent = || {
            self.counters.values().any(|counter| counter.urgent) || self.gauges.values().any(Gauge::urgent)
        };
        let due = all
            || since.is_none_or(|since| since >= STRETCH_MAX || (since >= COUNTERS_EVERY_MIN && urgent()));
        if !due {
            return;
        }
        let mut changed = BTreeMap::new();
        for (counter, track) in self.counters.iter_mut().filter(|(_, track)| track.moves > 0) {
            let entry = Counter {
                value: track.value,
                moves: track.moves,
                longest_ms: whole_ms(track.longest),
                moved_before_ms: whole_ms(now.since(track.moved)),
            };
            changed.insert(counter.clone(), entry);
            (track.moves, track.longest, track.urgent) = (0, Duration::ZERO, false);
        }
        let mut gauges = BTreeMap::new();
        for (gauge, track) in self.gauges.iter_mut().filter(|(_, track)| track.written != Some(track.value)) {
            track.written = Some(track.value);
            gauges.insert(gauge.clone(), track.value);
        }
        if changed.is_empty() && gauges.is_empty() {
            return;
        }
        self.counters_at = Some(now);
        if !changed.is_empty() {
            rows.push(Some(name), self.run, Entry::Counters(changed));
        }
        if !gauges.is_empty() {
            rows.push(Some(name), self.run, Entry::Gauges(gauges));
        }
    }

    /// Writes down what has been open for long, and that a silence has begun.
    pub(super) fn sweep(&mut self, rows: &mut Rows, name: &ServiceName) {
        let (now, run) = (rows.now, self.run);
        for (kind, source) in &mut self.sources {
            let usual = self.usual.get(kind).copied().unwrap_or_default();
            let silent = source.last_fresh.is_none_or(|at| is_irregular(now.since(at), usual));
            let mut out = Out { rows, name, run, kind: *kind };
            if silent {
                source.close_ticks(&mut out);
                source.close_runs(&mut out, STRETCH_MAX);
            } else if source.open.as_ref().is_some_and(|open| now.since(open.from) >= STRETCH_MAX) {
                source.close_ticks(&mut out);
            }
        }
        self.write_counters(rows, name, false);
    }

    /// Writes down everything.
    pub(super) fn close(&mut self, rows: &mut Rows, name: &ServiceName) {
        let run = self.run;
        for (kind, source) in &mut self.sources {
            source.close(&mut Out { rows, name, run, kind: *kind });
        }
        self.write_counters(rows, name, true);
    }
}

/// Where rows about one source go.
struct Out<'a> {
    rows: &'a mut Rows,
    name: &'a ServiceName,
    run: Option<Generation>,
    kind: BeatKind,
}

impl Out<'_> {
    fn push(&mut self, at: Mono, what: Entry) {
        self.rows.push_at(at, Some(self.name), self.run, what);
    }
}

impl Stretch {
    fn new(now: Mono, source: BeatKind, numbered: bool) -> Self {
        let gaps = Gaps::default();
        let ticks = Ticks { source, numbered, count: 1, lasted_ms: 0, longest_ms: 0, gaps, missed: 0 };
        Self { from: now, to: now, ticks }
    }
}

impl Source {
    /// The judge's own rule (`Beats::hear`): a tick is fresh if it has moved; a source without one beats by arriving.
    fn is_fresh(&mut self, beat: &Beat) -> bool {
        let fresh = match (beat.tick, self.tick) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(_), None) => self.fresh,
            (Some(new), Some(old)) => new != old,
        };
        self.tick = beat.tick.or(self.tick);
        self.fresh |= fresh;
        fresh
    }

    /// One more regular tick.
    fn go_on(&mut self, out: &mut Out<'_>, now: Mono, gap: Duration, numbered: bool) {
        let missed = self.instead.values().map(|run| run.count).sum::<u32>();
        self.instead.clear();
        match &mut self.open {
            Some(open) => {
                let ticks = &mut open.ticks;
                open.to = now;
                ticks.count = ticks.count.saturating_add(1);
                ticks.missed = ticks.missed.saturating_add(missed);
                ticks.longest_ms = ticks.longest_ms.max(whole_ms(gap));
                ticks.gaps.add(whole_ms(gap));
                if now.since(open.from) >= STRETCH_MAX {
                    self.close_ticks(out);
                }
            }
            None => self.open = Some(Stretch::new(now, out.kind, numbered)),
        }
    }

    fn instead(&mut self, now: Mono, what: Instead, detail: &str) {
        let run = self.instead.entry(what).or_insert_with(|| Run {
            from: now,
            to: now,
            count: 0,
            detail: short(detail),
        });
        run.to = now;
        run.count = run.count.saturating_add(1);
    }

    fn close(&mut self, out: &mut Out<'_>) {
        self.close_ticks(out);
        self.close_runs(out, Duration::ZERO);
    }

    fn close_ticks(&mut self, out: &mut Out<'_>) {
        if let Some(Stretch { from, to, mut ticks }) = self.open.take() {
            ticks.lasted_ms = whole_ms(to.since(from));
            out.push(to, Entry::Ticks(ticks));
        }
    }

    /// Closes all runs, once the oldest of them has lasted for `lasted`.
    fn close_runs(&mut self, out: &mut Out<'_>, lasted: Duration) {
        let now = out.rows.now;
        if !self.instead.values().any(|run| now.since(run.from) >= lasted) {
            return;
        }
        let mut runs: Vec<_> = std::mem::take(&mut self.instead).into_iter().collect();
        runs.sort_by_key(|(what, run)| (run.to, *what));
        for (what, run) in runs {
            let lasted_ms = whole_ms(run.to.since(run.from));
            let heard = Heard { source: out.kind, what, count: run.count, lasted_ms, detail: run.detail };
            out.push(run.to, Entry::Heard(heard));
        }
    }
}

fn is_irregular(gap: Duration, usual: Duration) -> bool {
    gap > usual.saturating_mul(IRREGULAR).max(IRREGULAR_MIN)
}

/// The longest gap lately: grows to twice itself at most by one gap, and is forgotten slowly.
fn learn(usual: &mut Duration, gap: Duration) {
    let share = (gap.as_secs_f64() / USUAL_MEMORY.as_secs_f64()).min(1.0);
    let faded = usual.saturating_sub(usual.mul_f64(share));
    let grown = if usual.is_zero() { gap } else { gap.min(*usual * 2) };
    *usual = faded.max(grown);
}

fn short(text: &str) -> String {
    let end = (0..=DETAIL_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

/// The program's own words stay in the evidence; here only what the judge compares is kept.
fn without_output(finding: &Finding) -> Finding {
    Finding {
        phrase: short(&finding.phrase),
        bundle: None,
        missing: Vec::new(),
        last_lines: Vec::new(),
        ..finding.clone()
    }
}
