//! Makes the committed recordings out of the numbers of the incidents.
//!
//! `HORUS_UPDATE=1 cargo test -p horus-sim --test backtest recordings` writes them again. Nothing here knows what the
//! judge will do with them. Each is a day, as a Horus that only watched would have recorded it.
//!
//! `kill-129`: a watchdog sent SIGTERM 129 s after every start, a wrapper slept 10 s and started the bot again, for
//! hours: period 139 s, 26 an hour, 621 a day. Two readings:
//! - a: the bot's beats stop being fresh at a constant age, and the watchdog is right about the silence and wrong about
//!   the cure. It allowed three missed beats of 31 s, so the last fresh one came at 129 - 93 = 36 s.
//! - b: the bot is healthy, and something else kills it.
//!
//! `hang-7h`: a beat every 31 s, the last one at 16:18:06; a person noticed at 23:00. Accounts differ, so three forms:
//! - a: the loop is blocked in a synchronous call. Nothing is pushed any more.
//! - b: the loop is alive, one stage is stuck: the beats go on, its counter does not.
//! - c: a side thread serves 200 over the dead loop: answers come, the tick stands still.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::command::Command;
use horus_core::digest::{Digest, Row};
use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::observation::{Beat, Exit, Input, Observation, OperatorRequest};
use horus_core::plan::{BeatKind, Plan};
use horus_core::reason::{Reason, Rule};
use horus_core::time::Mono;
use horus_sim::backtest::heard;
use jiff::Timestamp;

const DAY: u64 = 86_400;

/// Midnight of the day, UTC.
const MIDNIGHT: &str = "2026-03-02T00:00:00Z";

pub(crate) const KILLED_AT_AGE: u64 = 129;
pub(crate) const WRAPPER_SLEEPS: u64 = 10;
pub(crate) const BEAT_EVERY: u64 = 31;
pub(crate) const MISSED_BEATS: u64 = 3;
pub(crate) const LAST_BEAT: u64 = (16 * 60 + 18) * 60 + 6;
pub(crate) const NOTICED: u64 = 23 * 3600;

pub(crate) fn bot() -> ServiceName {
    ServiceName::parse("bot").unwrap()
}

/// Somebody who watches a bot and writes down what he hears.
pub(crate) struct Scribe {
    digest: Digest,
    rows: Vec<Row>,
    start: Mono,
    generation: Generation,
    pub(crate) tick: u64,
}

impl Scribe {
    /// He is told by which plan the bot is judged, if there is one.
    pub(crate) fn new(plan: Option<Plan>) -> Self {
        let start = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        let mut scribe =
            Self { digest: Digest::new(), rows: Vec::new(), start, generation: Generation(0), tick: 0 };
        if let Some(plan) = plan {
            scribe.take(0, &Input::PlanChanged(Box::new(plan)));
        }
        scribe
    }

    pub(crate) fn take(&mut self, ms: u64, input: &Input) {
        let (now, wall) = self.at(ms);
        self.digest.take(now, wall, input);
        self.rows.extend(self.digest.drain());
    }

    fn at(&self, ms: u64) -> (Mono, Timestamp) {
        let since = Duration::from_millis(ms);
        (self.start + since, MIDNIGHT.parse::<Timestamp>().unwrap() + since)
    }

    pub(crate) fn hear(&mut self, ms: u64, observation: Observation) {
        self.take(ms, &Input::Service(bot(), observation));
    }

    pub(crate) fn spawn(&mut self, ms: u64) {
        self.generation = self.generation.next();
        let process = ProcessId { pid: 4000 + i32::try_from(self.generation.0).unwrap(), start_time: ms };
        self.hear(ms, Observation::Spawned(Instance { generation: self.generation, process }));
        self.tick = 0;
    }

    /// A beat as it stands.
    pub(crate) fn beat(&mut self, ms: u64, source: BeatKind, tick: Option<u64>, progress: &[(&str, u64)]) {
        let progress = progress.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let (declared, gauges) = (None, BTreeMap::new());
        let beat = Beat { source, tick, progress, declared, gauges, loop_lag_ms: None };
        self.hear(ms, Observation::Beat { generation: self.generation, beat });
    }

    /// A beat whose tick has moved.
    pub(crate) fn ticks(&mut self, ms: u64) {
        self.tick += 1;
        self.beat(ms, BeatKind::Http, Some(self.tick), &[]);
    }

    pub(crate) fn signal(&mut self, ms: u64, rule: Rule) {
        let (now, wall) = self.at(ms);
        let signal = Command::Signal {
            service: bot(),
            generation: self.generation,
            signal: "SIGTERM".into(),
            reason: Reason::new(rule, ""),
        };
        self.digest.commanded(now, wall, &signal);
    }

    /// The run that he hears is that of somebody before him.
    pub(crate) fn resume(&mut self, generation: Generation) {
        self.generation = generation;
    }

    pub(crate) fn exit(&mut self, ms: u64, exit: Exit) {
        self.hear(ms, Observation::Exited { generation: self.generation, exit, strays: 0 });
    }

    pub(crate) fn finish(mut self, ms: u64) -> Vec<Row> {
        let (now, wall) = self.at(ms);
        self.digest.finish(now, wall);
        self.rows.extend(self.digest.drain());
        self.rows
    }
}

/// Polled every 5 s, as a probe would.
const POLL: u64 = 5;

/// `last_fresh`: the age after which its tick stands still. `None`: it is healthy until it is killed.
fn kill_129(last_fresh: Option<u64>, ours: bool) -> Vec<Row> {
    let mut scribe = Scribe::new(None);
    let mut start = 0;
    while start < DAY {
        scribe.spawn(start * 1000);
        for age in (1..KILLED_AT_AGE).filter(|age| age % POLL == 1) {
            if start + age >= DAY {
                break;
            }
            let ms = (start + age) * 1000;
            match last_fresh {
                Some(last) if age > last => scribe.beat(ms, BeatKind::Http, Some(scribe.tick), &[]),
                _ => scribe.ticks(ms),
            }
        }
        if start + KILLED_AT_AGE >= DAY {
            break;
        }
        let end = (start + KILLED_AT_AGE) * 1000;
        if ours {
            scribe.signal(end, Rule::Silent);
        }
        scribe.exit(end, Exit::Signal(15));
        start += KILLED_AT_AGE + WRAPPER_SLEEPS;
    }
    scribe.finish(DAY * 1000)
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Blocked,
    StageStuck,
    SideThread,
}

fn hang_7h(form: Form) -> Vec<Row> {
    let mut scribe = Scribe::new(None);
    // So that a beat falls on 16:18:06.
    let first = LAST_BEAT % BEAT_EVERY;
    scribe.spawn(first * 1000 - 2000.min(first * 1000));
    let mut orders = 0;
    let mut second = first;
    while second < DAY {
        if (NOTICED..NOTICED + BEAT_EVERY).contains(&second) {
            let ticket = 1;
            scribe
                .take(NOTICED * 1000, &Input::Operator { ticket, request: OperatorRequest::Restart(bot()) });
            scribe.signal(NOTICED * 1000, Rule::Operator);
            scribe.exit(NOTICED * 1000 + 400, Exit::Signal(15));
            scribe.spawn(NOTICED * 1000 + 500);
        }
        let stuck = (LAST_BEAT + 1..NOTICED).contains(&second);
        orders += u64::from(!stuck);
        let counters = [("orders_checked", orders)];
        let ms = second * 1000;
        match form {
            Form::Blocked if stuck => {}
            Form::Blocked => scribe.beat(ms, BeatKind::Notify, None, &[]),
            Form::SideThread if stuck => scribe.beat(ms, BeatKind::Http, Some(scribe.tick), &[]),
            Form::SideThread | Form::StageStuck => {
                scribe.tick += 1;
                scribe.beat(ms, BeatKind::Http, Some(scribe.tick), &counters);
            }
        }
        second += BEAT_EVERY;
    }
    scribe.finish(DAY * 1000)
}

/// Name, note and rows of each recording.
pub(crate) fn recordings() -> [(&'static str, &'static str, Vec<Row>); 5] {
    let last_fresh = KILLED_AT_AGE - MISSED_BEATS * BEAT_EVERY;
    [
        (
            "kill-129-a",
            "129 s, reading a: silent at a constant age, killed for it",
            kill_129(Some(last_fresh), true),
        ),
        ("kill-129-b", "129 s, reading b: healthy, killed by somebody else", kill_129(None, false)),
        ("hang-7h-a", "seven hours, form a: blocked in a synchronous call", hang_7h(Form::Blocked)),
        ("hang-7h-b", "seven hours, form b: one stage is stuck", hang_7h(Form::StageStuck)),
        ("hang-7h-c", "seven hours, form c: a side thread answers", hang_7h(Form::SideThread)),
    ]
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(format!("{name}.jsonl"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a generated file in the source tree, not state")]
fn the_recordings_are_what_the_numbers_make() {
    for (name, note, rows) in recordings() {
        let mut text = Vec::new();
        heard::write(&mut text, note, &rows).unwrap();
        if std::env::var_os("HORUS_UPDATE").is_some() {
            std::fs::write(path(name), &text).unwrap();
        }
        let there = std::fs::read(path(name)).unwrap_or_default();
        assert!(
            there == text,
            "{name} is out of date: HORUS_UPDATE=1 cargo test -p horus-sim --test backtest recordings"
        );
    }
}

#[test]
fn the_129_second_recordings_hold_the_numbers_of_the_incident() {
    let [(_, _, rows), ..] = recordings();
    let spawned = rows.iter().filter(|row| matches!(row.what, horus_core::digest::Entry::Spawned)).count();
    assert_eq!(spawned, 622, "621 whole periods of 139 s and the beginning of another");
    let signals =
        rows.iter().filter(|row| matches!(row.what, horus_core::digest::Entry::Signalled { .. })).count();
    assert_eq!(signals, 621);
    assert_eq!((signals + 12) / 24, 26, "an hour, rounded");
}
