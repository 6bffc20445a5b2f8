//! From rows to lives: one time line over all restarts of Horus, and on it what each instance showed at which age.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use horus_core::digest::{Counter, Entry, Heard, Row, STRETCH_MAX, SWEEP_EVERY, Ticks};
use horus_core::ids::{Generation, ServiceName};
use horus_core::observation::{CaptureStage, Declared, Exit, Finding, HostObservation, OperatorRequest};
use horus_core::plan::{BeatKind, Mode, ServicePlan};
use horus_core::reason::Rule;
use horus_core::time::Mono;
use jiff::Timestamp;

/// A shorter time without Horus is no gap.
const UNOBSERVED_MIN: Duration = Duration::from_secs(1);

/// What was heard in so long before a Horus was killed, or before the present while one runs, may not be on disk.
const UNWRITTEN: Duration = Duration::from_secs(STRETCH_MAX.as_secs() + SWEEP_EVERY.as_secs());

/// A silence at the end of a life is one if it is longer than so many of its usual gaps.
const SILENT: u32 = 2;

/// ... and longer than this.
const SILENT_MIN: Duration = Duration::from_millis(1500);

/// Stretches at the end of a life that say what is usual for it.
const USUAL_STRETCHES: usize = 6;

/// There is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// No row at all.
    #[error("nothing was recorded")]
    Empty,
    /// No service did anything.
    #[error("no service ran while it was recorded")]
    NoLives,
}

/// All that was recorded, on one time line.
#[derive(Clone, Debug)]
pub struct History {
    /// The time of day at [`History::start`].
    pub from: Timestamp,
    /// The first moment.
    pub start: Mono,
    /// The last one.
    pub end: Mono,
    /// By service.
    pub services: BTreeMap<ServiceName, Recorded>,
    /// What happened to all, in order.
    pub happened: Vec<(Mono, Happened)>,
    /// Times in which nobody looked, in order, apart from each other.
    pub unobserved: Vec<(Mono, Mono)>,
    /// Rows that are missing or not understood.
    pub missing_rows: u64,
}

/// Something that is told to the candidate when its time comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// A plan came into force. Only the baseline follows it.
    Planned(ServiceName, Box<ServicePlan>),
    /// A service left the plan.
    Unplanned(ServiceName),
    /// Enforce or observe. Only the baseline follows it.
    Mode(Mode),
    /// Of the machine.
    Host(HostObservation),
    /// A person's order.
    Asked(OperatorRequest),
}

/// One service.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Its lives, by their begin.
    pub lives: Vec<Life>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its number in the recording.
    pub generation: Generation,
    /// When it began, or was first heard of.
    pub born: Mono,
    /// Its begin was seen: its age is known.
    pub whole: bool,
    /// The last moment of it.
    pub until: Mono,
    /// How it ended.
    pub ending: Ending,
    /// What was heard, by source, in order.
    pub streams: BTreeMap<BeatKind, Vec<Stretch>>,
    /// What it said beside its beats, in order.
    pub said: Vec<(Mono, Said)>,
    /// What was captured, in order.
    pub captured: Vec<(Mono, CaptureStage, Finding)>,
    /// The first signal that Horus sent, and why. What is heard after it is heard of somebody who is leaving.
    signalled: Option<(Mono, Rule)>,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// By itself, or by a stranger's hand.
    Itself {
        /// How.
        exit: Exit,
        /// What was left of its tree.
        strays: u32,
    },
    /// It never began.
    StartFailed(String),
    /// The judge of that time ended it.
    Judged(Rule),
    /// It was ended by plan: an order, a reload, the end of Horus.
    Planned(Rule),
    /// Its end was not seen.
    Unseen,
    /// It lasts.
    Lasts,
}

/// A stretch of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its first moment.
    pub from: Mono,
    /// Its last one.
    pub to: Mono,
    /// What was heard.
    pub what: Sound,
}

/// What was heard in a stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sound {
    /// Fresh ticks.
    Fresh(Ticks),
    /// Something else.
    Instead(Heard),
}

/// What an instance said beside its ticks.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// `READY=1`
    Ready,
    /// It asked for time.
    AskedForTime(Duration),
    /// Another state.
    Declares(Declared),
    /// Counters have moved.
    Counters(BTreeMap<String, Counter>),
    /// Gauges have moved.
    Gauges(BTreeMap<String, f64>),
}

impl History {
    /// Cuts rows into lives.
    ///
    /// # Errors
    /// If there is nothing to cut.
    pub fn of(rows: &[Row], unknown: u64) -> Result<Self, HistoryError> {
        let first =
            rows.iter().find(|row| !matches!(row.what, Entry::Planned(_))).ok_or(HistoryError::Empty)?;
        let mut cutter = Cutter::new(first, unknown);
        for row in rows {
            cutter.take(row);
        }
        cutter.finish()
    }

    /// The plans of that time are known.
    pub fn has_plans(&self) -> bool {
        self.happened.iter().any(|(_, what)| matches!(what, Happened::Planned(..)))
    }

    /// The time of day of a moment.
    pub fn time_of(&self, moment: Mono) -> Timestamp {
        let time = self.from.checked_add(moment.since(self.start)).unwrap_or(self.from);
        Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
    }

    /// The last moment, by the time of day.
    pub fn to(&self) -> Timestamp {
        self.time_of(self.end)
    }

    /// How long nobody looked, milliseconds.
    pub fn unobserved_ms(&self) -> u64 {
        let lengths = self.unobserved.iter().map(|(from, to)| to.since(*from).as_millis());
        u64::try_from(lengths.sum::<u128>()).unwrap_or(u64::MAX)
    }

    /// When `service` first did anything.
    pub fn enters(&self, service: &ServiceName) -> Option<Mono> {
        self.services.get(service)?.lives.first().map(|life| life.born)
    }
}

impl Life {
    /// Its first fresh tick.
    pub fn first_fresh(&self) -> Option<Mono> {
        self.fresh().map(|(from, ..)| from).min()
    }

    /// Its last fresh tick.
    pub fn last_fresh(&self) -> Option<Mono> {
        self.fresh().map(|(_, to, _)| to).max()
    }

    fn fresh(&self) -> impl Iterator<Item = (Mono, Mono, &Ticks)> {
        self.streams.values().flatten().filter_map(|stretch| match &stretch.what {
            Sound::Fresh(ticks) => Some((stretch.from, stretch.to, ticks)),
            Sound::Instead(_) => None,
        })
    }

    /// The first fresh tick after `moment`. Within a stretch it is known to one usual gap.
    pub fn fresh_after(&self, moment: Mono) -> Option<Mono> {
        let next = self.fresh().filter(|(_, to, _)| *to > moment).map(|(from, to, ticks)| {
            let gap = Duration::from_millis(ticks.lasted_ms / u64::from(ticks.count.max(2) - 1));
            if from > moment { from } else { (moment + gap).min(to) }
        });
        next.min()
    }

    /// The gap between two ticks that was usual towards its end. `None`: it never ticked twice.
    pub fn usual_gap(&self) -> Option<Duration> {
        self.streams.values().filter_map(|stream| usual_gap(stream)).max()
    }

    /// It was silent when it was last seen.
    pub fn ends_silent(&self) -> bool {
        let Some(last) = self.last_fresh() else { return !self.streams.is_empty() };
        let usual = self.usual_gap().unwrap_or_default();
        self.untouched_until().since(last) > (usual * SILENT).max(SILENT_MIN)
    }

    /// The last moment at which nobody had told it to end.
    pub fn untouched_until(&self) -> Mono {
        self.signalled.map_or(self.until, |(at, _)| at)
    }

    /// It was cut short: how it would have gone on is not known.
    pub fn is_cut(&self) -> bool {
        !matches!(self.ending, Ending::Itself { .. } | Ending::StartFailed(_))
    }
}

/// The longest gap of the last stretches of a source.
pub(super) fn usual_gap(stream: &[Stretch]) -> Option<Duration> {
    let ticks = stream.iter().rev().filter_map(|stretch| match &stretch.what {
        Sound::Fresh(ticks) if ticks.count > 1 => Some(Duration::from_millis(ticks.longest_ms)),
        _ => None,
    });
    ticks.take(USUAL_STRETCHES).max()
}

/// An end by plan says nothing about the program.
fn is_planned(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::Operator
            | Rule::Held
            | Rule::Wanted
            | Rule::After
            | Rule::Reload
            | Rule::ShutDown
            | Rule::Maintenance
    )
}

struct Cutter {
    from: Timestamp,
    start: Mono,
    /// A moment on the time line and on the clock of the Horus of that time.
    anchor: (Mono, u64),
    began: bool,
    /// The Horus that was heard last has ended in order: nothing of it is missing.
    ended: bool,
    last: Mono,
    earliest: Mono,
    services: BTreeMap<ServiceName, Recorded>,
    current: HashMap<(ServiceName, Generation), usize>,
    happened: Vec<(Mono, Happened)>,
    unobserved: Vec<(Mono, Mono)>,
    missing: u64,
}

impl Cutter {
    fn new(first: &Row, unknown: u64) -> Self {
        let start = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        Self {
            from: first.at,
            start,
            anchor: (start, first.clock_ms),
            began: false,
            ended: false,
            last: start,
            earliest: start,
            services: BTreeMap::new(),
            current: HashMap::new(),
            happened: Vec::new(),
            unobserved: Vec::new(),
            missing: unknown,
        }
    }

    /// Where a row lies on the one time line.
    fn place(&mut self, row: &Row) -> Mono {
        let (base, clock) = self.anchor;
        if row.clock_ms >= clock {
            base + Duration::from_millis(row.clock_ms - clock)
        } else {
            base.before(Duration::from_millis(clock - row.clock_ms))
        }
    }

    /// Another Horus: its clock is another one, and nobody looked in between.
    fn begin(&mut self, row: &Row) {
        let by_day = self.start + Duration::try_from(row.at.duration_since(self.from)).unwrap_or_default();
        let base = by_day.max(self.last);
        if self.began {
            let since = self.written_until();
            if base.since(since) >= UNOBSERVED_MIN {
                self.unobserved.push((since, base));
            }
        }
        self.anchor = (base, row.clock_ms);
    }

    /// Up to here a silence is one. Later, it may be that what was heard was not written down.
    fn written_until(&self) -> Mono {
        if self.ended { self.last } else { self.last.before(UNWRITTEN).max(self.start) }
    }

    fn take(&mut self, row: &Row) {
        if matches!(row.what, Entry::Began) {
            self.begin(row);
        }
        self.ended = matches!(row.what, Entry::Ended);
        let before = !self.began && matches!(row.what, Entry::Planned(_));
        let at = if before { self.start } else { self.place(row) };
        self.began |= !before;
        self.last = self.last.max(at);
        match &row.what {
            Entry::Began | Entry::Ended | Entry::KeeperLost | Entry::Reconciled => {}
            Entry::Lost(count) => self.missing += count,
            Entry::Late(ms) => self.unobserved.push((at.before(Duration::from_millis(*ms)), at)),
            Entry::Mode(mode) => self.happened.push((at, Happened::Mode(*mode))),
            Entry::Host(seen) => self.happened.push((at, Happened::Host(seen.clone()))),
            Entry::Asked(request) => self.happened.push((at, Happened::Asked(request.clone()))),
            what => {
                if let Some(service) = &row.service {
                    self.take_of_service(service, row.generation, at, what);
                }
            }
        }
    }

    fn take_of_service(&mut self, service: &ServiceName, run: Option<Generation>, at: Mono, what: &Entry) {
        match (what, run) {
            (Entry::Planned(plan), _) => {
                self.happened.push((at, Happened::Planned(service.clone(), plan.clone())));
                self.services.entry(service.clone()).or_default();
            }
            (Entry::Unplanned, _) => self.happened.push((at, Happened::Unplanned(service.clone()))),
            (Entry::Spawned, Some(run)) => {
                self.life(service, run, at).whole = true;
            }
            (Entry::StartFailed(error), Some(run)) => {
                let life = self.life(service, run, at);
                life.ending = Ending::StartFailed(error.clone());
                life.until = at;
            }
            (Entry::StartLost | Entry::Gone(_), _) | (_, None) => {}
            (Entry::Ticks(ticks), Some(run)) => {
                let what = Sound::Fresh(ticks.clone());
                self.hear(service, run, at, ticks.source, ticks.lasted_ms, what);
            }
            (Entry::Heard(heard), Some(run)) => {
                let what = Sound::Instead(heard.clone());
                self.hear(service, run, at, heard.source, heard.lasted_ms, what);
            }
            (what, Some(run)) => {
                let life = self.life(service, run, at);
                life.until = life.until.max(at);
                life.take(at, what);
            }
        }
    }

    fn hear(
        &mut self,
        service: &ServiceName,
        run: Generation,
        to: Mono,
        source: BeatKind,
        ms: u64,
        what: Sound,
    ) {
        let from = to.before(Duration::from_millis(ms));
        self.earliest = self.earliest.min(from);
        let life = self.life(service, run, from);
        life.until = life.until.max(to);
        life.streams.entry(source).or_default().push(Stretch { from, to, what });
    }

    /// The life of this run; a new one if it was not heard of yet.
    fn life(&mut self, service: &ServiceName, run: Generation, at: Mono) -> &mut Life {
        let lives = &mut self.services.entry(service.clone()).or_default().lives;
        let index = *self.current.entry((service.clone(), run)).or_insert_with(|| {
            if let Some(before) = lives.last_mut().filter(|life| life.ending == Ending::Lasts) {
                before.ending = before.signalled.map_or(Ending::Unseen, |(_, rule)| cut(rule));
            }
            lives.push(Life::new(run, at));
            lives.len() - 1
        });
        &mut lives[index]
    }

    fn finish(mut self) -> Result<History, HistoryError> {
        if self.services.values().all(|service| service.lives.is_empty()) {
            return Err(HistoryError::NoLives);
        }
        for life in self.services.values_mut().flat_map(|service| &mut service.lives) {
            for stream in life.streams.values_mut() {
                stream.sort_by_key(|stretch| (stretch.from, stretch.to));
            }
        }
        self.happened.sort_by_key(|(at, _)| *at);
        if !self.ended {
            self.unobserved.push((self.written_until(), self.last));
        }
        let start = self.earliest;
        Ok(History {
            from: self.from.checked_sub(self.start.since(start)).unwrap_or(self.from),
            start,
            end: self.last,
            services: self.services,
            happened: self.happened,
            unobserved: apart(self.unobserved),
            missing_rows: self.missing,
        })
    }
}

fn cut(rule: Rule) -> Ending {
    if is_planned(rule) { Ending::Planned(rule) } else { Ending::Judged(rule) }
}

/// Overlapping spans become one.
fn apart(mut spans: Vec<(Mono, Mono)>) -> Vec<(Mono, Mono)> {
    spans.sort();
    let mut apart: Vec<(Mono, Mono)> = Vec::new();
    for (from, to) in spans {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

impl Life {
    fn new(generation: Generation, born: Mono) -> Self {
        Self {
            generation,
            born,
            whole: false,
            until: born,
            ending: Ending::Lasts,
            streams: BTreeMap::new(),
            said: Vec::new(),
            captured: Vec::new(),
            signalled: None,
        }
    }

    fn take(&mut self, at: Mono, what: &Entry) {
        match what {
            Entry::Signalled { rule, .. } => {
                self.signalled.get_or_insert((at, *rule));
            }
            Entry::Exited { exit, strays } => {
                let itself = Ending::Itself { exit: *exit, strays: *strays };
                self.ending = self.signalled.map_or(itself, |(_, rule)| cut(rule));
            }
            Entry::SaidReady => self.said.push((at, Said::Ready)),
            Entry::AskedForTime(ms) => self.said.push((at, Said::AskedForTime(Duration::from_millis(*ms)))),
            Entry::Declares(declared) => self.said.push((at, Said::Declares(*declared))),
            Entry::Counters(counters) => self.said.push((at, Said::Counters(counters.clone()))),
            Entry::Gauges(gauges) => self.said.push((at, Said::Gauges(gauges.clone()))),
            Entry::Captured { stage, finding } => self.captured.push((at, *stage, (**finding).clone())),
            _ => {}
        }
    }
}
