//! One instance of the candidate, played from a recorded life.
//!
//! Each source is a tape with its own head; the player answers which of them sounds next. A tape that has run out goes on
//! as it last sounded: the life was cut, and nobody has seen it end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use horus_core::digest::{Counter, Heard, Instead, Ticks};
use horus_core::ids::Generation;
use horus_core::observation::{Beat, CaptureStage, Declared, Finding, Observation};
use horus_core::plan::BeatKind;
use horus_core::time::Mono;

use super::lives::{Ending, Life, Said, Sound, Stretch, usual_gap};

/// Of a counter's moves between two rows so many are played; the steps are larger then.
const MOVES_MAX: u32 = 120;

/// A tape without a rhythm of its own goes on at this pace.
const PACE: Duration = Duration::from_secs(1);

/// Something sounds.
#[derive(Clone, Debug)]
enum Sounds {
    Fresh(BeatKind, bool),
    Instead(BeatKind, Instead, String),
}

/// How a tape goes on behind its end.
#[derive(Clone, Debug)]
struct Tail {
    sounds: Sounds,
    every: Duration,
}

/// One source of one life.
#[derive(Clone, Debug, Default)]
struct Tape {
    stretches: VecDeque<Stretch>,
    queue: VecDeque<(Mono, Sounds)>,
    tail: Option<Tail>,
    last: Mono,
}

/// A life that is being played.
#[derive(Clone, Debug)]
pub(super) struct Player {
    /// Which run of the candidate this is.
    pub(super) generation: Generation,
    /// When the candidate started it.
    pub(super) born: Mono,
    /// The recorded life, by its index, that is played now.
    pub(super) index: usize,
    /// Recorded moment of age zero.
    zero: Mono,
    tapes: Vec<Tape>,
    said: VecDeque<(Mono, Said)>,
    counters: BTreeMap<String, u64>,
    knots: VecDeque<(Mono, String, u64)>,
    last_counters: BTreeMap<String, (Mono, u64)>,
    gauges: BTreeMap<String, f64>,
    declared: Option<(Declared, Mono)>,
    ticks: BTreeMap<BeatKind, u64>,
    /// When it ends by itself, recorded time.
    end: Option<Mono>,
    /// When it is to go on with the next life.
    chain: Option<Mono>,
    thin: Duration,
    captured: VecDeque<(Mono, CaptureStage, Finding)>,
    /// Recorded moment of the last fresh tick that was played.
    pub(super) last_fresh: Option<Mono>,
    /// The same on the candidate's clock.
    pub(super) last_fresh_heard: Option<Mono>,
}

impl Player {
    /// Plays `life` from age zero at `born`. Ticks are thinned out to one in `thin`.
    pub(super) fn new(
        generation: Generation,
        born: Mono,
        index: usize,
        life: &Life,
        next: Option<&Life>,
        thin: Duration,
    ) -> Self {
        let mut player = Self {
            generation,
            born,
            index,
            zero: life.born,
            tapes: Vec::new(),
            said: VecDeque::new(),
            counters: BTreeMap::new(),
            knots: VecDeque::new(),
            last_counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            declared: None,
            ticks: BTreeMap::new(),
            end: None,
            chain: None,
            thin,
            captured: VecDeque::new(),
            last_fresh: None,
            last_fresh_heard: None,
        };
        player.load(life, next, None);
        player
    }

    fn load(&mut self, life: &Life, next: Option<&Life>, bridge: Option<(Mono, &Life)>) {
        let silent = life.ends_silent();
        let first_fresh = life.first_fresh();
        let mut tapes = Vec::new();
        for stream in life.streams.values() {
            let mut stretches: VecDeque<Stretch> = stream.iter().cloned().collect();
            let tail = tail(stream, silent);
            if bridge.is_some() {
                // It is not being started: what was heard before its first tick belongs to a start that is not made.
                stretches.retain(|stretch| first_fresh.is_some_and(|first| stretch.to >= first));
            }
            tapes.push(Tape { stretches, tail, ..Tape::default() });
        }
        if let Some((from, before)) = bridge {
            let to = first_fresh.unwrap_or(life.until);
            tapes.extend(before.streams.values().filter_map(|stream| bridge_tape(stream, from, to)));
        }
        self.tapes = tapes;
        self.said = life.said.iter().cloned().collect();
        self.captured = life.captured.iter().cloned().collect();
        self.last_counters.clear();
        self.end = (!life.is_cut()).then_some(life.until);
        let planned = matches!(life.ending, Ending::Planned(_) | Ending::Unseen);
        self.chain = (planned && !silent && next.is_some()).then_some(life.untouched_until());
        self.lay_counters();
    }

    /// Where in the recording it is at `now`.
    pub(super) fn recorded(&self, now: Mono) -> Mono {
        self.zero + now.since(self.born)
    }

    fn heard_at(&self, recorded: Mono) -> Mono {
        self.born + recorded.since(self.zero)
    }

    /// When something happens next, on the candidate's clock.
    pub(super) fn next_at(&mut self) -> Option<Mono> {
        let (thin, chain) = (self.thin, self.chain);
        let tapes = self.tapes.iter_mut().filter_map(|tape| tape.next_at(thin, chain.is_none()));
        let said = self.said.front().map(|(at, _)| *at);
        let knots = self.knots.front().map(|(at, ..)| *at);
        let next = tapes.chain(said).chain(knots).chain(self.end).chain(chain).min()?;
        // What was said before it began (its row came late) is said at its begin.
        Some(self.heard_at(next.max(self.zero)))
    }

    /// Plays what is due at `now`.
    pub(super) fn play(&mut self, now: Mono, lives: &[Life]) -> Vec<Played> {
        let here = self.recorded(now);
        if self.chain.is_some_and(|at| at <= here) {
            self.go_on_with_the_next(lives);
        }
        let mut played = Vec::new();
        while self.said.front().is_some_and(|(at, _)| *at <= here) {
            let Some((at, said)) = self.said.pop_front() else { break };
            self.say(now, at, said, &mut played);
        }
        while self.knots.front().is_some_and(|(at, ..)| *at <= here) {
            let Some((_, name, value)) = self.knots.pop_front() else { break };
            self.counters.insert(name, value);
        }
        for index in 0..self.tapes.len() {
            while let Some((at, sounds)) = self.tapes[index].pop(here) {
                self.sound(now, at, sounds, &mut played);
            }
        }
        if self.end.is_some_and(|at| at <= here) {
            played.push(Played::Ends);
        }
        played
    }

    fn go_on_with_the_next(&mut self, lives: &[Life]) {
        let (before, from) = (self.index, self.chain.take());
        let (Some(old), Some(life)) = (lives.get(before), lives.get(before + 1)) else { return };
        self.index = before + 1;
        self.load(life, lives.get(before + 2), from.map(|from| (from, old)));
    }

    fn say(&mut self, now: Mono, at: Mono, said: Said, played: &mut Vec<Played>) {
        let generation = self.generation;
        match said {
            Said::Ready => {
                (self.last_fresh, self.last_fresh_heard) = (Some(at), Some(now));
                played.push(Played::Says(Observation::SaidReady { generation }));
            }
            Said::AskedForTime(extend) => {
                played.push(Played::Says(Observation::AskedForTime { generation, extend }));
            }
            Said::Declares(declared) => self.declared = Some((declared, now)),
            Said::Gauges(gauges) => self.gauges.extend(gauges),
            Said::Counters(_) => {}
        }
    }

    /// Rows about counters come after the moves that they tell of: they are laid on the tape when a life is loaded.
    fn lay_counters(&mut self) {
        let rows: Vec<(Mono, BTreeMap<String, Counter>)> = self
            .said
            .iter()
            .filter_map(|(at, said)| match said {
                Said::Counters(counters) => Some((*at, counters.clone())),
                _ => None,
            })
            .collect();
        self.said.retain(|(_, said)| !matches!(said, Said::Counters(_)));
        let mut knots = Vec::new();
        for (at, counters) in rows {
            for (name, counter) in counters {
                let before = self.last_counters.get(&name).copied();
                let moved = at.before(Duration::from_millis(counter.moved_before_ms));
                lay(&mut knots, &name, before, moved, counter);
                self.last_counters.insert(name, (moved, counter.value));
            }
        }
        knots.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        self.knots = knots.into();
    }

    fn sound(&mut self, now: Mono, at: Mono, sounds: Sounds, played: &mut Vec<Played>) {
        let generation = self.generation;
        match sounds {
            Sounds::Instead(source, Instead::Miss(fault), detail) => {
                played.push(Played::Says(Observation::NoBeat { generation, source, fault, detail }));
            }
            Sounds::Instead(source, Instead::Still, _) => {
                let tick = *self.ticks.entry(source).or_insert(0);
                let beat = self.beat(now, source, Some(tick));
                played.push(Played::Says(Observation::Beat { generation, beat }));
            }
            Sounds::Fresh(source, numbered) => {
                if numbered && !self.ticks.contains_key(&source) {
                    // The first number is only a mark to compare with; here its beat was not recorded.
                    self.ticks.insert(source, 0);
                    let beat = self.beat(now, source, Some(0));
                    played.push(Played::Says(Observation::Beat { generation, beat }));
                }
                let tick = numbered.then(|| {
                    let tick = self.ticks.entry(source).or_insert(0);
                    *tick += 1;
                    *tick
                });
                let beat = self.beat(now, source, tick);
                (self.last_fresh, self.last_fresh_heard) = (Some(at), Some(now));
                played.push(Played::Says(Observation::Beat { generation, beat }));
            }
        }
    }

    fn beat(&mut self, now: Mono, source: BeatKind, tick: Option<u64>) -> Beat {
        let declared = self.declared.take().map(|(declared, since)| match declared {
            Declared::Busy(left) => Declared::Busy(left.saturating_sub(now.since(since))),
            declared => declared,
        });
        // All of them with every beat: a counter that is not in a beat does not stand still, it is not heard.
        let (progress, gauges) = (self.counters.clone(), std::mem::take(&mut self.gauges));
        Beat { source, tick, progress, declared, gauges, loop_lag_ms: None }
    }

    /// What a capture at `now` finds. Each recorded capture of this silence is given once: to give one twice would make
    /// a proof of a standstill that nobody has seen.
    pub(super) fn capture(&mut self, now: Mono) -> Finding {
        let silent_since = self.last_fresh.unwrap_or(self.zero);
        let here = self.recorded(now).max(silent_since);
        let fits = |(at, stage, _): &(Mono, CaptureStage, Finding)| {
            *stage != CaptureStage::Exit && *at > silent_since
        };
        let next_tick = self.tapes.iter().filter_map(Tape::next_fresh).min();
        let place = self.captured.iter().position(|item| {
            fits(item) && next_tick.is_none_or(|next| item.0 < next) || (fits(item) && item.0 <= here)
        });
        match place.and_then(|place| self.captured.remove(place)) {
            Some((.., finding)) => finding,
            None => Finding { missing: vec!["no capture was recorded here".into()], ..Finding::default() },
        }
    }
}

/// What comes out of a player.
#[derive(Clone, Debug)]
pub(super) enum Played {
    /// It says something.
    Says(Observation),
    /// It ends by itself.
    Ends,
}

/// How a source goes on when nobody has seen more of it.
fn tail(stream: &[Stretch], silent: bool) -> Option<Tail> {
    let last = stream.iter().max_by_key(|stretch| stretch.to)?;
    match &last.what {
        // A source that only ever ticks is heard no more.
        Sound::Fresh(_) if silent => None,
        Sound::Fresh(ticks) => {
            let every = usual_gap(stream).unwrap_or(PACE);
            Some(Tail { sounds: Sounds::Fresh(ticks.source, ticks.numbered), every: every.max(PACE / 10) })
        }
        Sound::Instead(heard) => {
            let gaps = u64::from(heard.count.max(2) - 1);
            let every = Duration::from_millis(heard.lasted_ms / gaps);
            let every = if heard.count < 2 { PACE } else { every.max(PACE / 10) };
            Some(Tail { sounds: Sounds::Instead(heard.source, heard.what, heard.detail.clone()), every })
        }
    }
}

/// Between two lives that are played as one it goes on beating.
fn bridge_tape(stream: &[Stretch], from: Mono, to: Mono) -> Option<Tape> {
    let tail = tail(stream, false)?;
    let Sounds::Fresh(..) = tail.sounds else { return None };
    let mut queue = VecDeque::new();
    let mut at = from + tail.every;
    while at < to {
        queue.push_back((at, tail.sounds.clone()));
        at = at + tail.every;
    }
    Some(Tape { queue, last: from, ..Tape::default() })
}

/// A counter's moves between two rows.
fn lay(
    knots: &mut Vec<(Mono, String, u64)>,
    name: &str,
    before: Option<(Mono, u64)>,
    moved: Mono,
    counter: Counter,
) {
    let Some((since, old)) = before.filter(|(since, old)| *old < counter.value && *since < moved) else {
        knots.push((moved, name.to_owned(), counter.value));
        return;
    };
    let steps = counter.moves.clamp(1, MOVES_MAX);
    let span = moved.since(since);
    let mean = span / counter.moves.max(1);
    let longest = Duration::from_millis(counter.longest_ms).min(span);
    // A standstill among its moves is the first thing after the last row: that is where it was seen to begin.
    let still = if counter.moves > 1 && longest > mean * 2 { longest } else { Duration::ZERO };
    let grown = counter.value - old;
    for step in 1..=steps {
        let share = |whole: Duration| whole.mul_f64(f64::from(step) / f64::from(steps));
        let at = if step == steps { moved } else { since + still + share(span.saturating_sub(still)) };
        let value = old + (grown / u64::from(steps) * u64::from(step)).max(u64::from(step).min(grown));
        knots.push((
            at,
            name.to_owned(),
            if step == steps { counter.value } else { value.min(counter.value) },
        ));
    }
}

impl Tape {
    fn next_at(&mut self, thin: Duration, may_go_on: bool) -> Option<Mono> {
        while self.queue.is_empty() {
            match self.stretches.pop_front() {
                Some(stretch) => unroll(&stretch, thin, &mut self.queue),
                None if may_go_on => {
                    let tail = self.tail.as_ref()?;
                    self.queue.push_back((self.last + tail.every, tail.sounds.clone()));
                }
                None => return None,
            }
        }
        self.queue.front().map(|(at, _)| *at)
    }

    fn pop(&mut self, here: Mono) -> Option<(Mono, Sounds)> {
        let (at, _) = self.queue.front().filter(|(at, _)| *at <= here)?;
        self.last = *at;
        self.queue.pop_front()
    }

    fn next_fresh(&self) -> Option<Mono> {
        let queued = self.queue.iter().find(|(_, sounds)| matches!(sounds, Sounds::Fresh(..)));
        let stretches = self.stretches.iter().find(|stretch| matches!(stretch.what, Sound::Fresh(_)));
        queued.map(|(at, _)| *at).or(stretches.map(|stretch| stretch.from))
    }
}

/// The single sounds of a stretch.
fn unroll(stretch: &Stretch, thin: Duration, queue: &mut VecDeque<(Mono, Sounds)>) {
    match &stretch.what {
        Sound::Fresh(ticks) => {
            let sounds = Sounds::Fresh(ticks.source, ticks.numbered);
            let times = thinned(&tick_times(stretch, ticks), thin);
            queue.extend(times.into_iter().map(|at| (at, sounds.clone())));
        }
        Sound::Instead(heard) => {
            let Heard { source, what, detail, count, .. } = heard;
            let count = (*count).max(1);
            let step = stretch.to.since(stretch.from) / (count.max(2) - 1);
            let times: Vec<Mono> = (0..count).map(|n| stretch.from + step * n).collect();
            let sounds = Sounds::Instead(*source, *what, detail.clone());
            queue.extend(thinned(&times, thin).into_iter().map(|at| (at, sounds.clone())));
        }
    }
}

/// The gaps as they were counted, stretched to the length that is known; the longest, which is exact, in the middle.
fn tick_times(stretch: &Stretch, ticks: &Ticks) -> Vec<Mono> {
    let mut lengths: Vec<u64> = ticks.gaps.lengths().collect();
    let longest = ticks.longest_ms.min(ticks.lasted_ms);
    if lengths.pop().is_none() {
        return if ticks.count > 1 { vec![stretch.from, stretch.to] } else { vec![stretch.to] };
    }
    let known: u64 = lengths.iter().sum();
    let wanted = ticks.lasted_ms - longest;
    let middle = lengths.len() / 2;
    lengths.insert(middle, longest);
    let (mut times, mut passed) = (vec![stretch.from], 0_u64);
    let mut counted = 0_u64;
    for (n, length) in lengths.iter().enumerate() {
        if n == middle {
            passed += longest;
        } else {
            // By sums and not by single gaps: rounding must not move the end.
            let before = scaled(counted, wanted, known);
            counted += length;
            passed += scaled(counted, wanted, known) - before;
        }
        times.push(stretch.from + Duration::from_millis(passed));
    }
    times
}

fn scaled(part: u64, wanted: u64, known: u64) -> u64 {
    if known == 0 {
        return 0;
    }
    u64::try_from(u128::from(part) * u128::from(wanted) / u128::from(known)).unwrap_or(u64::MAX)
}

/// The first, the last, and as few in between as keep every gap that is longer than `thin` and make none that is.
fn thinned(times: &[Mono], thin: Duration) -> Vec<Mono> {
    let mut kept: Vec<Mono> = Vec::new();
    for (n, at) in times.iter().enumerate() {
        let needed = match (kept.last(), times.get(n + 1)) {
            (Some(last), Some(next)) => next.since(*last) > thin,
            _ => true,
        };
        if needed {
            kept.push(*at);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use horus_core::digest::Gaps;

    fn at(ms: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(ms))
    }

    #[test]
    fn a_stretch_is_unrolled_to_its_own_length_count_and_longest_gap() {
        let mut gaps = Gaps::default();
        [1000, 1010, 990, 1700, 1000].into_iter().for_each(|ms| gaps.add(ms));
        let ticks = Ticks {
            source: BeatKind::Http,
            numbered: true,
            count: 6,
            lasted_ms: 5700,
            longest_ms: 1700,
            gaps,
            missed: 0,
        };
        let stretch = Stretch { from: at(10_000), to: at(15_700), what: Sound::Fresh(ticks.clone()) };
        let times = tick_times(&stretch, &ticks);
        assert_eq!((times.len(), times[0], times[5]), (6, at(10_000), at(15_700)));
        let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
        assert_eq!(longest, Some(Duration::from_millis(1700)));
        assert_eq!(thinned(&times, Duration::from_secs(60)), [at(10_000), at(15_700)]);
        let thin = thinned(&times, Duration::from_millis(2100));
        assert!(
            thin.len() < 6
                && thin.windows(2).all(|pair| pair[1].since(pair[0]) <= Duration::from_millis(2100))
        );
    }

    #[test]
    fn a_counter_that_stood_still_stands_still_again() {
        let mut knots = Vec::new();
        let counter = Counter { value: 30, moves: 10, longest_ms: 400_000, moved_before_ms: 0 };
        lay(&mut knots, "orders", Some((at(0), 20)), at(500_000), counter);
        assert_eq!(knots.len(), 10);
        assert!(knots[0].0 > at(400_000) && knots[9] == (at(500_000), "orders".into(), 30), "{knots:?}");
        assert!(knots.windows(2).all(|pair| pair[0].2 < pair[1].2));
    }
}
