//! From looks at threads to one word: pure rules, without a clock and without a system to ask.
//!
//! A night porter does not know what the guests do, but he knows their keys. Whoever hangs his key on its hook every now and
//! then is well: he comes home and goes out again. A loop has such a hook: the call in which it waits for its next event.
//! So the porter learns the hooks first (three sightings), and then measures for each one how long its key has been away, and
//! what the guest did meanwhile:
//!
//! ```text
//!   samples ──> threads ── ran? still in the same call? ──┐
//!                 |                                       ├──> loops: at home │ blocked │ spinning │ frozen │ away
//!                 └─ which of them waits at a hook? ──────┘          |
//!   queues  ──> unread bytes that do not shrink ─────────────────────┴──> one word, with where and for how long
//! ```
//!
//! Two readings of a thread's processor time that are equal to the nanosecond mean that it did not run. From that alone
//! follows most of what is claimed here: who was at home and did not run is at home; who was stuck and did not run is stuck. No
//! statistics are involved, but for [`Word::Away`], which therefore is only a suspicion.
//!
//! Every age counts only time in which the thread could have run. Time that it queued for a processor, time in which whoever
//! looks was late or asleep, and time in which it was stopped or frozen are charged to nobody. Rejected: wall time with a margin
//! (at four times the load it accuses the innocent), and learning what is normal for each program (what was never seen before
//! is not wrong).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horus_sys::fact::{Fact, Missing};
use horus_sys::sample::{Call, Usage};

use super::home::{Home, Key, Wait, wait_of};
use super::queues::Queues;
use super::take::{Closely, Look, Sample, ThreadSample};
use super::view::{Paging, Place, View, Whose, Word};

/// So many sightings make a hook a home.
const VOTES: u32 = 3;
/// So many close looks are spent on learning before "no loop" is said.
const LEARNING_LOOKS: u32 = 12;
/// While nothing is suspicious, every so many looks one is close.
const CLOSE_EVERY: u32 = 10;
/// Every so many close looks one is at all threads: loops may have come that nobody knows.
const ALL_THREADS_EVERY: u32 = 3;
/// Whoever wants a processor for so many thousandths of the time wants it always.
const ALWAYS_THOUSANDTHS: u64 = 850;
/// Whoever wants less than this has time to spare: what it leaves lying it does not leave for lack of time.
const SPARE_THOUSANDTHS: u64 = 500;
/// A spinning thread may give up its processor so often between two looks.
const SWITCHES_MAX: u64 = 1;
/// Who waits for so many pages a second does little else, even on the fastest disk.
const PAGES_PER_SECOND: u64 = 20;
/// "Improbably long" away from home: less probable than one in 2^17 looks, by its own habit.
const SURPRISE_BITS: f64 = 17.0;
/// A loop that so many times nobody else came home to has one thread.
const ALONE_AFTER_VISITS: u32 = 12;
/// What was not yet learned and was not met in so many looks is forgotten.
const FORGOTTEN_AFTER_LOOKS: u32 = 20;
/// Bounds of that habit, as a share of looks that met it at home.
const HOME_SHARE: (f64, f64) = (0.03, 0.97);
/// Most loops of one process that are followed.
pub const LOOPS_MAX: usize = 64;
/// Most threads of one process that are followed.
pub const THREADS_MAX: usize = 128;

/// By what it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whatever lasts so long is said.
    pub deadline: Duration,
    /// How often it is looked at. A look that is more than twice as late is void.
    pub interval: Duration,
}

/// What is remembered of a thread.
#[derive(Clone, Debug)]
struct Thread {
    usage: Usage,
    /// What the last close look found; nothing any more once it has run since.
    seen: Option<Seen>,
    /// The last call that it was ever seen in, to recognise one that goes on after a stop.
    last_call: Option<Call>,
    /// For how long it has not run.
    still: Duration,
    /// Processor time used while it never slept.
    spun: Duration,
    switches: Option<u64>,
    major_faults: Option<u64>,
    /// Time since the last close look.
    unseen: Duration,
    /// For how long it has done little but wait for pages, and for how many.
    paging: Option<Paging>,
    /// How much it wanted a processor in the last interval.
    wanted_thousandths: u64,
    /// How long it queued for one in the last interval.
    queued: Duration,
}

/// What a close look found.
#[derive(Clone, Debug)]
struct Seen {
    state: u8,
    call: Option<Call>,
    wait: Option<Wait>,
}

impl Seen {
    fn home(&self) -> Option<Home> {
        match self.wait {
            Some(Wait::Home(home)) => Some(home),
            _ => None,
        }
    }
}

impl Thread {
    fn paged(&self) -> Duration {
        self.paging.map_or(Duration::ZERO, |paging| paging.lasted)
    }

    /// It waits for pages, goes on, and waits for the next one. One that takes long is waited for without running.
    fn take_pages(&mut self, look: &Look, ran: bool, charged: Duration) {
        let unseen = std::mem::take(&mut self.unseen);
        let before = std::mem::replace(&mut self.major_faults, look.major_faults);
        let pages = look.major_faults.zip(before).map_or(0, |(now, then)| now.saturating_sub(then));
        let enough = u128::from(pages) * 1_000 >= u128::from(PAGES_PER_SECOND) * unseen.as_millis();
        if enough && pages >= PAGES_PER_SECOND {
            let before = self.paging.unwrap_or(Paging { pages: 0, lasted: Duration::ZERO });
            // What came before the last pulse may have been something else.
            let lasted = before.lasted + charged;
            self.paging = Some(Paging { pages: before.pages.saturating_add(pages), lasted });
        } else if ran || look.state != b'D' {
            self.paging = None;
        }
    }
}

/// What is remembered of a loop.
#[derive(Clone, Debug)]
struct Loop {
    votes: u32,
    /// Sightings at home after it had been out: one long wait is one visit.
    visits: u32,
    wide: bool,
    /// Close looks since it is known, and how many in a row did not meet it.
    looks: u32,
    missed: u32,
    /// For how long nobody was at home.
    away: Duration,
    /// The thread that was last seen there, and all that ever were.
    last: u64,
    members: BTreeSet<u64>,
    home_at: Duration,
    /// What the last one there had had of the processors: another number means that it was out meanwhile.
    home_usage: Option<Usage>,
}

impl Loop {
    /// What only ever waited for one thing is a read with a timeout, and no loop.
    fn is_learned(&self) -> bool {
        self.votes >= VOTES && self.wide
    }

    /// How long an absence has to last, in looks, until it surprises.
    fn surprising_looks(&self) -> u32 {
        let met = f64::from(self.votes) / f64::from(self.looks.saturating_sub(self.missed).max(1));
        let share = met.clamp(HOME_SHARE.0, HOME_SHARE.1);
        let looks = SURPRISE_BITS * std::f64::consts::LN_2 / -(1.0 - share).ln();
        // At most 400: by the bounds of the share.
        looks.ceil() as u32
    }
}

/// One process, as the rules know it.
#[derive(Clone, Debug)]
pub struct Machine {
    rules: Rules,
    main: u64,
    threads: BTreeMap<u64, Thread>,
    loops: BTreeMap<Key, Loop>,
    queues: Queues,
    at: Option<Duration>,
    looks: u32,
    since_close: u32,
    /// It is stopped or frozen, as far as the last close look could tell.
    held: Option<Word>,
    /// It was first seen so then.
    held_since: Option<Duration>,
    tracer: Option<i32>,
    missing: Option<Missing>,
    open_sets: Option<Vec<i32>>,
    /// Something else speaks against it.
    suspected: bool,
    /// Its runtime (Go) hands the wait and the work from thread to thread. A thread that rests there says nothing: it was last at
    /// home, the work went to another one, and who works asks for events between two pieces of it, without coming home.
    hands_over: bool,
}

impl Machine {
    /// A process whose main thread has this id.
    pub fn new(main: u64, rules: Rules) -> Self {
        Self {
            rules,
            main,
            threads: BTreeMap::new(),
            loops: BTreeMap::new(),
            queues: Queues::default(),
            at: None,
            looks: 0,
            since_close: 0,
            held: None,
            held_since: None,
            tracer: None,
            missing: None,
            open_sets: None,
            suspected: false,
            hands_over: false,
        }
    }

    /// Whether something else speaks against it: then no look is a cheap one.
    pub fn suspect(&mut self, suspected: bool) {
        self.suspected = suspected;
    }

    /// Judges by another deadline from now on.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.rules.deadline = deadline;
    }

    /// The threads whose usage makes a cheap look: those last seen at home, or the main thread.
    pub fn pulse(&self) -> Vec<u64> {
        let learned = self.loops.values().filter(|group| group.is_learned());
        let mut threads: Vec<u64> = learned.map(|group| group.last).collect();
        if threads.is_empty() {
            threads.push(self.main);
        }
        threads
    }

    /// The threads of a close look that is not at all of them.
    pub fn known_threads(&self) -> Vec<u64> {
        let members = self.loops.values().flat_map(|group| group.members.iter().copied());
        let all: BTreeSet<u64> = members.chain([self.main]).collect();
        all.into_iter().take(THREADS_MAX).collect()
    }

    /// The sets that its loops wait on, by descriptor.
    pub fn sets(&self) -> Vec<i32> {
        let set = |key: &Key| match key {
            Key::Set(set) => Some(*set),
            Key::Own(_) => None,
        };
        self.loops.keys().filter_map(set).collect()
    }

    /// Whether this pulse calls for a close look, and how close. `None`: the pulse is enough.
    pub fn closer(&self, at: Duration, pulse: &[(u64, Usage)]) -> Option<Closely> {
        let elapsed = self.at.map_or(Duration::ZERO, |before| at.saturating_sub(before));
        let learning = self.looks < LEARNING_LOOKS;
        let learned = || self.loops.iter().filter(|(_, group)| group.is_learned());
        let suspicious =
            self.suspected || self.held.is_some() || learned().any(|(_, group)| group.away > Duration::ZERO);
        let odd = suspicious || learned().any(|(key, group)| self.is_odd(*key, group, elapsed, pulse));
        let due = self.since_close + 1 >= CLOSE_EVERY;
        let around = self.looks.is_multiple_of(ALL_THREADS_EVERY);
        (learning || odd || due).then_some(Closely {
            all_threads: learning || suspicious || around,
            // Who is frozen where it waits is only odd: its wait is over, and it does not run.
            circumstances: odd || due,
        })
    }

    /// Whether it cannot be said from the pulse alone where this loop is.
    fn is_odd(&self, key: Key, group: &Loop, elapsed: Duration, pulse: &[(u64, Usage)]) -> bool {
        let Some(thread) = self.threads.get(&group.last) else { return true };
        let Some((_, usage)) = pulse.iter().find(|(id, _)| *id == group.last) else { return true };
        if *usage != thread.usage {
            let wanted = wanted_thousandths(&thread.usage, usage, elapsed);
            return wanted >= ALWAYS_THOUSANDTHS;
        }
        match thread.seen.as_ref().and_then(Seen::home).filter(|home| home.key == key) {
            Some(home) => home.timeout.is_some_and(|timeout| thread.still + elapsed > timeout + elapsed * 2),
            None => true,
        }
    }

    /// Whether the look at this thread should tell how often it gave up its processor.
    pub fn asks_for_switches(&self, at: Duration, thread: u64, usage: &Usage) -> bool {
        let elapsed = self.at.map_or(Duration::ZERO, |before| at.saturating_sub(before));
        let known = self.threads.get(&thread);
        known.is_some_and(|known| wanted_thousandths(&known.usage, usage, elapsed) >= ALWAYS_THOUSANDTHS)
    }

    /// Takes one look and says what is known now.
    pub fn step(&mut self, sample: &Sample) -> View {
        let elapsed = self.at.map_or(Duration::ZERO, |before| sample.at.saturating_sub(before));
        let late = elapsed > self.rules.interval * 2;
        let first = self.at.replace(sample.at).is_none();
        let charged = if first || late || sample.void { Duration::ZERO } else { elapsed };
        let close = sample.threads.iter().any(|thread| thread.look.is_some());
        if close {
            self.missing = None;
        }
        for thread in &sample.threads {
            self.take_thread(thread, elapsed, charged);
        }
        if close {
            self.looks = self.looks.saturating_add(1);
            self.since_close = 0;
            self.forget_threads(sample);
            self.take_circumstances(sample);
        } else {
            self.since_close = self.since_close.saturating_add(1);
        }
        self.take_loops(sample, close, charged);
        let spare = self.threads.values().all(|thread| thread.wanted_thousandths < SPARE_THOUSANDTHS);
        let counts = if spare && self.held.is_none() { charged } else { Duration::ZERO };
        self.queues.take(&sample.queues, counts);
        let mut view = self.judge(sample.at, close);
        view.tracer = self.tracer;
        view.paging = self.paging(view.word);
        let home_at = self.loops.values().filter(|group| group.is_learned()).map(|group| group.home_at).max();
        view.home_seen = home_at.map(|home_at| sample.at.saturating_sub(home_at));
        view
    }

    fn take_thread(&mut self, sample: &ThreadSample, elapsed: Duration, charged: Duration) {
        let usage = sample.usage;
        let Some(thread) = self.threads.get_mut(&sample.thread) else {
            if self.threads.len() < THREADS_MAX {
                let seen =
                    sample.look.as_ref().and_then(|look| see(sample.thread, look, None, &mut self.missing));
                let thread = Thread {
                    usage,
                    last_call: seen.as_ref().and_then(|seen| seen.call),
                    seen,
                    still: Duration::ZERO,
                    spun: Duration::ZERO,
                    switches: None,
                    major_faults: sample.look.as_ref().and_then(|look| look.major_faults),
                    unseen: Duration::ZERO,
                    paging: None,
                    wanted_thousandths: 0,
                    queued: Duration::ZERO,
                };
                self.threads.insert(sample.thread, thread);
            }
            return;
        };
        let before = std::mem::replace(&mut thread.usage, usage);
        thread.queued = Duration::from_nanos(usage.wait_ns.saturating_sub(before.wait_ns));
        thread.wanted_thousandths = wanted_thousandths(&before, &usage, elapsed);
        thread.unseen += charged;
        let ran = usage != before;
        if !ran {
            thread.still += charged;
        } else {
            thread.still = Duration::ZERO;
            thread.seen = None;
        }
        let Some(look) = &sample.look else { return };
        let former = thread.seen.take();
        let seen = see(sample.thread, look, thread.last_call.as_ref(), &mut self.missing);
        let moved = former.is_some_and(|former| Some(former.call) != seen.as_ref().map(|seen| seen.call));
        // Ready to run and not run is the fault of whoever has the processors.
        if moved || matches!(look.state, b'R' | b'T' | b't') {
            thread.still = Duration::ZERO;
        }
        let switched = look.voluntary_switches.zip(thread.switches);
        let never_slept = switched.is_some_and(|(now, then)| now.saturating_sub(then) <= SWITCHES_MAX);
        if never_slept && thread.wanted_thousandths >= ALWAYS_THOUSANDTHS {
            let used = Duration::from_nanos(usage.cpu_ns.saturating_sub(before.cpu_ns));
            thread.spun += used.min(charged);
        } else {
            thread.spun = Duration::ZERO;
        }
        thread.switches = look.voluntary_switches;
        thread.take_pages(look, ran, charged);
        thread.last_call = seen.as_ref().and_then(|seen| seen.call).or(thread.last_call);
        thread.seen = seen;
    }

    /// Threads that ended are forgotten, and with their last one a loop.
    fn forget_threads(&mut self, sample: &Sample) {
        if sample.complete {
            let alive: BTreeSet<u64> = sample.threads.iter().map(|thread| thread.thread).collect();
            self.threads.retain(|thread, _| alive.contains(thread));
        }
        let (threads, complete) = (&self.threads, sample.complete);
        self.loops.retain(|_, group| {
            if complete {
                group.members.retain(|member| threads.contains_key(member));
            }
            if !group.members.contains(&group.last)
                && let Some(other) = group.members.first()
            {
                group.last = *other;
            }
            !group.members.is_empty()
        });
    }

    fn take_circumstances(&mut self, sample: &Sample) {
        self.tracer = sample.tracer;
        self.open_sets.clone_from(&sample.open_sets);
        self.hands_over = sample.hands_over.unwrap_or(self.hands_over);
        let mut looks = sample.threads.iter().filter_map(|thread| thread.look.as_ref());
        let stopped = looks.any(|look| matches!(look.state, b'T' | b't'));
        self.held = match (sample.frozen, stopped) {
            (Some(true), _) => Some(Word::Paused),
            (_, true) => Some(Word::Stopped),
            // Not asked again: it stays as it was.
            (None, false) => self.held.filter(|held| *held == Word::Paused),
            (Some(false), false) => None,
        };
        self.held_since = self.held.map(|_| self.held_since.unwrap_or(sample.at));
        if self.held.is_some() {
            for thread in self.threads.values_mut() {
                (thread.still, thread.spun, thread.paging) = (Duration::ZERO, Duration::ZERO, None);
            }
        }
    }

    fn take_loops(&mut self, sample: &Sample, close: bool, charged: Duration) {
        let mut at_home: BTreeMap<Key, (u64, bool, Usage)> = BTreeMap::new();
        for (id, thread) in &self.threads {
            if let Some(home) = thread.seen.as_ref().and_then(Seen::home) {
                at_home.entry(home.key).or_insert((*id, home.wide, thread.usage));
                if self.loops.len() < LOOPS_MAX || self.loops.contains_key(&home.key) {
                    self.loops.entry(home.key).or_insert_with(|| Loop::found(*id)).members.insert(*id);
                }
            }
        }
        for (key, group) in &mut self.loops {
            group.looks = group.looks.saturating_add(u32::from(close));
            if let Some((thread, wide, usage)) = at_home.get(key) {
                group.come_home(*thread, *wide, *usage, sample.at, close);
                continue;
            }
            let last = self.threads.get(&group.last);
            let queued = last.map_or(Duration::ZERO, |thread| thread.queued);
            if self.held.is_some() {
                group.away = Duration::ZERO;
            } else if close {
                group.away += charged.saturating_sub(queued);
                group.missed = group.missed.saturating_add(u32::from(charged > Duration::ZERO));
            }
        }
        // Places for loops are not for hooks at which somebody hung a key once.
        self.loops.retain(|_, group| group.is_learned() || group.missed < FORGOTTEN_AFTER_LOOKS);
        self.retire_loops();
    }

    /// A loop whose set was closed, or whose thread lives in another loop now, is no loop any more.
    fn retire_loops(&mut self) {
        let settled: BTreeSet<Key> =
            self.loops.iter().filter(|(_, group)| group.visits >= VOTES).map(|(key, _)| *key).collect();
        let (threads, open) = (&self.threads, &self.open_sets);
        self.loops.retain(|key, group| {
            if group.away == Duration::ZERO {
                return true;
            }
            let closed = match (key, open) {
                (Key::Set(set), Some(open)) => !open.contains(set),
                _ => false,
            };
            let home = threads.get(&group.last).and_then(|thread| thread.seen.as_ref()).and_then(Seen::home);
            let elsewhere = home.filter(|home| home.key != *key && home.wide);
            let moved =
                elsewhere.is_some_and(|home| matches!(key, Key::Own(_)) || settled.contains(&home.key));
            !closed && !moved
        });
    }

    fn judge(&self, at: Duration, close: bool) -> View {
        if let Some(held) = self.held {
            let lasted = self.held_since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
            return View { lasted, ..View::plain(held) };
        }
        if let Some(missing) = &self.missing
            && !self.loops.values().any(|group| group.is_learned() && group.home_at == at)
        {
            return View { missing: Some(missing.clone()), ..View::plain(Word::NoEvidence) };
        }
        let learned = || self.loops.iter().filter(|(_, group)| group.is_learned());
        // The main thread's loop first; then the worst word of any.
        let found = learned().filter_map(|(key, group)| self.judge_loop(*key, group, close));
        let worst = found.min_by_key(|view| (rank(view.word), !view.whose.is_some_and(|whose| whose.main)));
        // Who waits for another thread waits for that one's memory.
        let worst = match worst {
            Some(view) if view.is_in("futex") => Some(self.thrashing().unwrap_or(view)),
            other => other,
        };
        // What is certain goes before what is suspected.
        let certain = worst.as_ref().is_some_and(|view| view.word != Word::Away);
        let standing =
            if certain { None } else { self.queues.standing(self.rules.deadline, self.hands_over) };
        if let Some(view) = standing.or(worst) {
            return view;
        }
        if learned().next().is_some() {
            return self.unsuspected();
        }
        let main = self.threads.get(&self.main);
        match main {
            Some(thread) if is_uninterruptible(thread) && thread.still >= self.rules.deadline => {
                View { lasted: thread.still, ..self.at_place(Word::Uninterruptible, self.main, thread) }
            }
            _ if self.looks < LEARNING_LOOKS => View::plain(Word::Learning),
            _ => View::plain(Word::NoLoop),
        }
    }

    /// A loop is known, and nothing is odd about it.
    fn unsuspected(&self) -> View {
        let deadline = self.rules.deadline;
        let mut learned = self.loops.values().filter(|group| group.is_learned());
        if !self.hands_over || learned.any(|group| group.away < deadline) {
            return View::plain(Word::Alive);
        }
        let runs = self.threads.values().any(|thread| thread.still < deadline);
        View { hands_over: true, ..View::plain(if runs { Word::Alive } else { Word::NoLoop }) }
    }

    fn judge_loop(&self, key: Key, group: &Loop, close: bool) -> Option<View> {
        let deadline = self.rules.deadline;
        let thread = self.threads.get(&group.last)?;
        let view = |word, lasted| View { lasted, ..self.at_place(word, group.last, thread) };
        if group.away == Duration::ZERO {
            let home = thread.seen.as_ref().and_then(Seen::home)?;
            let over = thread.still.checked_sub(home.timeout?)?;
            // Only a look of this very moment excludes that it is ready to run and waits for a processor.
            return (close && over >= deadline).then(|| view(Word::Frozen, over));
        }
        // It is spared for that, and not accused: half of the time is enough.
        if close && thread.paged().min(group.away) >= deadline / 2 {
            return Some(self.at_pages(group.last, thread));
        }
        if !close || group.away < deadline {
            return None;
        }
        let stuck = self.culprit(group).unwrap_or((group.last, thread));
        let is_still = stuck.1.still >= deadline;
        if is_still && is_uninterruptible(stuck.1) {
            let lasted = stuck.1.still;
            return Some(View { lasted, ..self.at_place(Word::Uninterruptible, stuck.0, stuck.1) });
        }
        if self.hands_over {
            return None;
        }
        if is_still {
            let call = stuck.1.seen.as_ref().filter(|seen| seen.call.is_some()).and_then(|seen| seen.wait);
            // A program that makes each wait by itself may also rest by itself.
            if matches!((key, call), (Key::Own(_), Some(Wait::Sleep))) {
                return None;
            }
            // Another wait for events is a loop within the loop only while the outer one is known to exist.
            let proven = match call {
                None | Some(Wait::Resumed) => false,
                Some(Wait::Home(_)) => self.open_sets.is_some(),
                Some(Wait::Sleep | Wait::Other) => !self.may_rest(group, stuck.0),
            };
            if proven {
                let lasted = stuck.1.still.min(group.away);
                return Some(View { lasted, ..self.at_place(Word::Blocked, stuck.0, stuck.1) });
            }
        }
        if thread.spun >= deadline {
            return Some(View { cpu: thread.spun, ..view(Word::Spinning, thread.spun) });
        }
        let surprising = group.missed >= group.surprising_looks();
        surprising.then(|| view(Word::Away, group.away))
    }

    /// Who of the loop is stuck: the one that was last at home, unless that one only waits for a lock or for another thread
    /// and a fellow is stuck in something that can be named.
    fn culprit(&self, group: &Loop) -> Option<(u64, &Thread)> {
        let stuck = |id: &u64| {
            let thread = self.threads.get(id).filter(|thread| thread.still >= self.rules.deadline)?;
            let call = thread.seen.as_ref()?.call?;
            Some((*id, thread, call.name() == Some("futex")))
        };
        let last = stuck(&group.last)?;
        if !last.2 {
            return Some((last.0, last.1));
        }
        let fellow = group.members.iter().filter_map(stuck).find(|(_, _, futex)| !futex);
        fellow.or(Some(last)).map(|(id, thread, _)| (id, thread))
    }

    /// Whether this thread may only have been sent to rest, while others do the work of its loop. A pool parks its threads in the
    /// same call in which a lock is waited for.
    fn may_rest(&self, group: &Loop, stuck: u64) -> bool {
        let moved = |(id, thread): (&u64, &Thread)| *id != stuck && thread.still < self.rules.deadline;
        let fellows = self.threads.iter().filter(|(id, _)| group.members.contains(id));
        if fellows.into_iter().any(moved) {
            return true;
        }
        let place =
            self.threads.get(&stuck).and_then(|thread| thread.seen.as_ref()).and_then(|seen| seen.call);
        let parked = place.is_some_and(|call| call.name() == Some("futex"));
        let alone = group.members.len() == 1 && group.visits >= ALONE_AFTER_VISITS;
        parked && !alone && self.threads.iter().any(moved)
    }

    /// The thread that has waited for pages for longest, if one of them does little else.
    fn thrashing(&self) -> Option<View> {
        let (id, thread) = self.threads.iter().max_by_key(|(_, thread)| thread.paged())?;
        (thread.paged() >= self.rules.deadline / 2).then(|| self.at_pages(*id, thread))
    }

    fn at_pages(&self, id: u64, thread: &Thread) -> View {
        View { lasted: thread.paged(), ..self.at_place(Word::Thrashing, id, thread) }
    }

    /// Whether a loop that is not at home waits for pages now, or the main thread of a program without a loop (it may read a large file
    /// that it has mapped). What is said of it elsewhere stands; but whoever misses a beat of it should know.
    fn paging(&self, word: Word) -> Option<Paging> {
        let away = self.loops.values().filter(|group| group.is_learned() && group.away > Duration::ZERO);
        let main = (word == Word::NoLoop).then_some(self.main);
        let threads = away.map(|group| group.last).chain(main).filter_map(|id| self.threads.get(&id));
        let paging = threads.filter_map(|thread| thread.paging).max_by_key(|paging| paging.lasted);
        paging.or_else(|| (word == Word::Thrashing).then(|| self.longest_paging()).flatten())
    }

    fn longest_paging(&self) -> Option<Paging> {
        self.threads.values().filter_map(|thread| thread.paging).max_by_key(|paging| paging.lasted)
    }

    fn at_place(&self, word: Word, id: u64, thread: &Thread) -> View {
        let call = thread.seen.as_ref().and_then(|seen| seen.call);
        View {
            whose: Some(Whose { thread: id, main: id == self.main }),
            place: call.map(|call| Place { call, subject: None }),
            ..View::plain(word)
        }
    }
}

impl Loop {
    fn found(thread: u64) -> Self {
        Self {
            votes: 0,
            visits: 0,
            wide: false,
            looks: 0,
            missed: 0,
            away: Duration::ZERO,
            last: thread,
            members: BTreeSet::new(),
            home_at: Duration::ZERO,
            home_usage: None,
        }
    }

    fn come_home(&mut self, thread: u64, wide: bool, usage: Usage, at: Duration, close: bool) {
        let was_out = self.home_usage.replace(usage) != Some(usage);
        self.visits = self.visits.saturating_add(u32::from(was_out));
        self.votes = self.votes.saturating_add(u32::from(close));
        self.wide |= wide;
        (self.away, self.missed) = (Duration::ZERO, 0);
        (self.last, self.home_at) = (thread, at);
    }
}

fn is_uninterruptible(thread: &Thread) -> bool {
    thread.seen.as_ref().is_some_and(|seen| seen.state == b'D')
}

/// The word that is worst stands for the process.
fn rank(word: Word) -> u8 {
    match word {
        Word::Uninterruptible => 0,
        Word::Blocked => 1,
        Word::Frozen => 2,
        Word::Thrashing => 3,
        Word::Spinning => 4,
        _ => 5,
    }
}

/// How much of the time it ran or wanted to.
fn wanted_thousandths(before: &Usage, now: &Usage, elapsed: Duration) -> u64 {
    let wanted_ns =
        now.cpu_ns.saturating_sub(before.cpu_ns).saturating_add(now.wait_ns.saturating_sub(before.wait_ns));
    let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
    (wanted_ns.saturating_mul(1_000) / elapsed_ns).min(1_000)
}

/// Reads a close look; what could not be seen goes into `missing`.
fn see(thread: u64, look: &Look, last: Option<&Call>, missing: &mut Option<Missing>) -> Option<Seen> {
    let call = match &look.call {
        Fact::Known(call) => *call,
        // A thread that ends is nobody's lack of rights.
        Fact::Missing(Missing::Gone) => return None,
        Fact::Missing(why) => {
            *missing = Some(why.clone());
            return Some(Seen { state: look.state, call: None, wait: None });
        }
    };
    if call.is_some_and(|call| call.is_foreign()) {
        *missing = Some(Missing::Unsupported);
        return Some(Seen { state: look.state, call: None, wait: None });
    }
    // After a stop the kernel goes on with a call under another number, and with the same everything else.
    let call = call.map(|call| match (wait_of(thread, &call), last) {
        (Wait::Resumed, Some(last)) if (last.arguments, last.stack) == (call.arguments, call.stack) => *last,
        _ => call,
    });
    Some(Seen { state: look.state, call, wait: call.map(|call| wait_of(thread, &call)) })
}

// The calls have their names only where they can be seen.
#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "rules_tests.rs"]
mod tests;
