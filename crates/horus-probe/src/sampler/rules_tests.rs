use proptest::prelude::*;

use super::*;

use crate::sampler::take::Queue;

const T: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
const MAIN: u64 = 100;
const PC: u64 = 0x7f00_0000_0012;

/// A program in a world that the test makes up: what it does in each second, and how the sampler looks at it.
struct World {
    machine: Machine,
    at: Duration,
    usage: Usage,
    switches: u64,
    pages: u64,
    view: View,
    pulses: u32,
    frozen: bool,
    sets: Vec<i32>,
    queues: Vec<Queue>,
    found: Option<Call>,
    hands_over: Option<bool>,
}

/// What the main thread does for one tick, and where it is found at its end.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Waits in the set, having been out or not.
    Home { set: i32, timeout: i32, ran: bool },
    /// Is in this call and does not run.
    In(i64),
    /// Computes.
    Spin,
    /// Works and comes home, but is not met there.
    Out,
    /// Is ready and gets no processor.
    Queued,
    /// Waits for so many pages of its memory, one after the other.
    Pages(u64),
    /// Waits for one of them.
    Page,
}

fn call(number: i64, arguments: [u64; 6]) -> Call {
    Call { number, arguments, stack: 0x7ffc_0000_1000, program: PC }
}

fn epoll(set: i32, timeout: i32) -> Call {
    call(libc_epoll_wait(), [set.unsigned_abs().into(), 1, 64, u64::from(timeout.cast_unsigned()), 0, 0])
}

/// By its name, so that the test is the same on every architecture.
fn number_of(name: &str) -> i64 {
    let found = (0..600).find(|number| call(*number, [0; 6]).name() == Some(name));
    found.unwrap()
}

fn libc_epoll_wait() -> i64 {
    number_of("epoll_pwait")
}

impl World {
    fn new() -> Self {
        Self {
            machine: Machine::new(MAIN, Rules { deadline: T, interval: TICK }),
            at: Duration::from_secs(1_000),
            usage: Usage { cpu_ns: 5, wait_ns: 0, runs: 3 },
            switches: 0,
            pages: 0,
            view: View::plain(Word::Learning),
            pulses: 0,
            frozen: false,
            sets: vec![3, 4],
            queues: Vec::new(),
            found: None,
            hands_over: None,
        }
    }

    fn learned() -> Self {
        let mut world = Self::new();
        for _ in 0..15 {
            world.act(Act::Home { set: 3, timeout: -1, ran: true });
        }
        assert_eq!(world.view.word, Word::Alive);
        world
    }

    fn act(&mut self, act: Act) -> Word {
        self.act_for(act, TICK, false)
    }

    fn act_for(&mut self, act: Act, elapsed: Duration, void: bool) -> Word {
        self.at += elapsed;
        let second = u64::try_from(elapsed.as_nanos()).unwrap();
        let (ran, state, found) = match act {
            Act::Home { set, timeout, ran } => {
                (if ran { second / 100 } else { 0 }, b'S', Some(epoll(set, timeout)))
            }
            Act::In(number) => (0, b'S', Some(call(number, [7, 0, 0, 0, 0, 0]))),
            Act::Spin => (second, b'R', None),
            Act::Out => (second / 5, b'R', None),
            Act::Queued => (0, b'R', None),
            Act::Pages(_) => (second / 20, b'D', None),
            Act::Page => (0, b'D', None),
        };
        self.pages += if let Act::Pages(pages) = act { pages } else { 0 };
        // Nobody gets from one place to another without running.
        let moved = found.is_some() && found != self.found;
        self.found = found;
        let ran = ran.max(u64::from(moved));
        if ran > 0 {
            self.usage.cpu_ns += ran;
            self.usage.runs += 1;
            self.switches += u64::from(!matches!(act, Act::Spin)) * 5;
        }
        self.look(state, found, void)
    }

    /// As the shell does it: a pulse first, and more only if the rules ask for it.
    fn look(&mut self, state: u8, found: Option<Call>, void: bool) -> Word {
        let closely = self.machine.closer(self.at, &[(MAIN, self.usage)]);
        let look = closely.map(|_| Look {
            state,
            call: Fact::Known(found),
            voluntary_switches: self
                .machine
                .asks_for_switches(self.at, MAIN, &self.usage)
                .then_some(self.switches),
            major_faults: Some(self.pages),
        });
        self.pulses += u32::from(closely.is_none());
        let circumstances = closely.is_some_and(|closely| closely.circumstances);
        let sample = Sample {
            at: self.at,
            void,
            threads: vec![ThreadSample { thread: MAIN, usage: self.usage, look }],
            complete: closely.is_some_and(|closely| closely.all_threads),
            frozen: circumstances.then_some(self.frozen),
            tracer: None,
            open_sets: circumstances.then(|| self.sets.clone()),
            queues: self.queues.clone(),
            hands_over: self.hands_over,
        };
        self.view = self.machine.step(&sample);
        self.view.word
    }

    /// How many ticks it takes until this is said, at most 60.
    fn ticks_until(&mut self, word: Word, act: Act) -> Option<u32> {
        (1..=60).find(|_| self.act(act) == word)
    }
}

fn recv() -> Act {
    Act::In(number_of("recvfrom"))
}

const IDLE: Act = Act::Home { set: 3, timeout: -1, ran: false };
const BUSY_AND_HOME: Act = Act::Home { set: 3, timeout: -1, ran: true };

#[test]
fn a_loop_that_blocks_is_told_with_its_call_and_its_age_in_time() {
    let mut world = World::learned();
    let ticks = world.ticks_until(Word::Blocked, recv()).unwrap();
    assert!(ticks <= 7, "{ticks}");
    assert!(world.view.is_proof());
    assert_eq!(world.view.place.as_ref().unwrap().call.name(), Some("recvfrom"));
    assert_eq!(world.view.whose, Some(Whose { thread: MAIN, main: true }));
    assert!(world.view.lasted >= T && world.view.home_seen.unwrap() >= T);
    assert_eq!(world.view.to_string(), "blocked in recvfrom for 5 s, no CPU used since");
    assert_eq!(world.act(BUSY_AND_HOME), Word::Alive, "whoever comes home is well");
}

#[test]
fn an_idle_loop_is_alive_for_ever_and_costs_a_pulse() {
    let mut world = World::learned();
    world.pulses = 0;
    for _ in 0..1_000 {
        assert_eq!(world.act(IDLE), Word::Alive);
    }
    assert!(world.pulses >= 890, "{}", world.pulses);
    assert_eq!(world.view.home_seen, Some(Duration::ZERO));
}

#[test]
fn a_spinning_loop_is_told_after_that_much_processor_time() {
    let mut world = World::learned();
    let ticks = world.ticks_until(Word::Spinning, Act::Spin).unwrap();
    assert!(ticks <= 7, "{ticks}");
    assert!(world.view.cpu >= T);
}

#[test]
fn whoever_waits_for_a_processor_is_accused_of_nothing() {
    let mut world = World::learned();
    assert_eq!(world.ticks_until(Word::Blocked, Act::Queued), None);
    let mut world = World::learned();
    for _ in 0..60 {
        let word = world.act(Act::Queued);
        assert!(!word.is_death(), "{word:?}");
    }
}

#[test]
fn a_loop_that_works_and_is_never_met_is_suspected_and_not_accused() {
    let mut world = World::learned();
    let ticks = world.ticks_until(Word::Away, Act::Out).unwrap();
    assert!(ticks >= 5 && !world.view.is_proof(), "{ticks}");
}

#[test]
fn a_wait_that_should_have_ended_is_frozen_and_a_frozen_group_is_paused() {
    let mut world = World::learned();
    let nap = Act::Home { set: 3, timeout: 2_000, ran: false };
    world.act(Act::Home { set: 3, timeout: 2_000, ran: true });
    let ticks = world.ticks_until(Word::Frozen, nap).unwrap();
    assert!((7..=11).contains(&ticks), "{ticks}");
    let mut world = World::learned();
    world.frozen = true;
    // To be frozen wakes the thread for a moment.
    world.act(Act::Home { set: 3, timeout: -1, ran: true });
    assert!(world.ticks_until(Word::Paused, IDLE).unwrap() <= 12);
    for _ in 0..60 {
        assert_eq!(world.act(recv()), Word::Paused);
    }
    world.frozen = false;
    assert_eq!(world.act(BUSY_AND_HOME), Word::Alive);
}

/// A program with a timer of 50 ms is frozen where it waits for it: that it does not run is the freezer's doing.
#[test]
fn whoever_is_frozen_in_a_wait_that_should_have_ended_is_paused_and_not_frozen() {
    let mut world = World::learned();
    world.act(Act::Home { set: 3, timeout: 50, ran: true });
    world.frozen = true;
    let mut words = Vec::new();
    for _ in 0..60 {
        words.push(world.act(Act::Home { set: 3, timeout: 50, ran: false }));
    }
    let paused = words.iter().position(|word| *word == Word::Paused).unwrap();
    assert!(paused <= 3, "{words:?}");
    assert!(!words.iter().any(|word| word.is_death()), "{words:?}");
}

#[test]
fn whoever_waits_for_its_memory_page_by_page_is_thrashing_and_not_dead() {
    // A pulse does not tell it from work. Once it is known to be late, half of the deadline does.
    let mut world = World::learned();
    world.machine.suspect(true);
    let mut words = vec![world.act(Act::Pages(400))];
    let held = world.view.told().unwrap().held;
    assert!(
        held.is_some_and(|held| held.starts_with("it waits for its memory")),
        "whoever asks is told at once"
    );
    words.extend((0..4).map(|_| world.act(Act::Pages(400))));
    assert_eq!(words.last(), Some(&Word::Thrashing), "{words:?}");
    // The disk stalls for longer than a look: it is the same wait.
    words.extend([world.act(Act::Page), world.act(Act::Page)]);
    words.extend((0..60).map(|_| world.act(Act::Pages(400))));
    assert!(!words.iter().any(|word| word.is_death()), "{words:?}");
    assert_eq!(words.last(), Some(&Word::Thrashing), "{words:?}");
    assert!(world.view.to_string().contains("pages were read from disk in"), "{}", world.view);
    assert_eq!(world.act(BUSY_AND_HOME), Word::Alive);
}

#[test]
fn a_page_now_and_then_excuses_no_loop_that_is_gone() {
    let mut world = World::learned();
    for _ in 0..60 {
        assert_ne!(world.act(Act::Pages(3)), Word::Thrashing);
    }
    let mut world = World::learned();
    for _ in 0..20 {
        world.act(Act::Pages(400));
    }
    assert_eq!(world.view.word, Word::Thrashing);
    assert!(world.ticks_until(Word::Blocked, recv()).is_some(), "it has its memory, and is stuck");
    let mut world = World::learned();
    for _ in 0..20 {
        world.act(Act::Pages(400));
    }
    assert_eq!(world.view.word, Word::Thrashing);
    assert!(world.ticks_until(Word::Spinning, Act::Spin).is_some(), "it has its memory, and computes");
}

/// It has no loop that anybody knows: no alert for it, and no restart either.
#[test]
fn of_a_program_without_a_loop_waiting_for_memory_is_known_and_no_opinion() {
    let mut world = World::new();
    for _ in 0..60 {
        world.act(Act::Pages(400));
    }
    assert_eq!(world.view.word, Word::NoLoop);
    let held = world.view.told().unwrap().held.unwrap();
    assert!(held.starts_with("it waits for its memory: "), "{held}");
}

#[test]
fn a_stopped_program_is_stopped_and_ages_begin_anew_when_it_goes_on() {
    let mut world = World::learned();
    for _ in 0..4 {
        world.act(recv());
    }
    world.usage.runs += 1;
    for _ in 0..20 {
        world.at += TICK;
        assert_eq!(
            world.look(b'T', Some(call(number_of("recvfrom"), [7, 0, 0, 0, 0, 0])), false),
            Word::Stopped
        );
    }
    for _ in 0..4 {
        assert_eq!(world.act(recv()), Word::Alive);
    }
    assert!(world.ticks_until(Word::Blocked, recv()).is_some());
}

#[test]
fn a_poll_that_goes_on_after_a_stop_is_the_same_poll() {
    let mut world = World::new();
    let poll = |ran| (ran, call(number_of("ppoll"), [0x1000, 4, 0x2000, 0, 0, 0]));
    for _ in 0..15 {
        let (_, found) = poll(true);
        world.usage.runs += 1;
        world.at += TICK;
        world.look(b'S', Some(found), false);
    }
    assert_eq!(world.view.word, Word::Alive);
    world.usage.runs += 1;
    let resumed = call(number_of("restart_syscall"), [0x1000, 4, 0x2000, 0, 0, 0]);
    for _ in 0..30 {
        world.at += TICK;
        assert_eq!(world.look(b'S', Some(resumed), false), Word::Alive);
    }
}

#[test]
fn a_loop_within_the_loop_is_away_and_a_closed_set_is_no_loop() {
    let inner = Act::Home { set: 4, timeout: -1, ran: false };
    let mut world = World::learned();
    assert!(world.ticks_until(Word::Blocked, inner).unwrap() <= 8, "as of Node's execSync");
    let mut world = World::learned();
    world.sets = vec![4];
    for _ in 0..60 {
        let word = world.act(inner);
        assert!(!word.is_death(), "{word:?}");
    }
    // Another loop that comes and goes is where the program lives now, whatever it left open.
    let mut world = World::learned();
    for _ in 0..60 {
        let word = world.act(Act::Home { set: 4, timeout: -1, ran: true });
        assert!(!word.is_death(), "{word:?}");
    }
}

/// A loop on which two threads wait in turn, as those of tokio and Go do.
fn pool_of_two() -> World {
    let mut world = World::new();
    for round in 0..20 {
        world.usage.runs += 1;
        world.pair(round % 2 == 0, round, epoll(3, -1), call(number_of("futex"), [1; 6]));
    }
    assert_eq!(world.view.word, Word::Alive);
    world
}

impl World {
    fn pair(&mut self, main_at_first: bool, runs: u64, first: Call, second: Call) -> Word {
        self.at += TICK;
        let (main, other) = if main_at_first { (first, second) } else { (second, first) };
        let sample = |thread, runs, call| ThreadSample {
            thread,
            usage: Usage { cpu_ns: 1, wait_ns: 0, runs },
            look: Some(Look {
                state: b'S',
                call: Fact::Known(Some(call)),
                voluntary_switches: None,
                major_faults: None,
            }),
        };
        let threads = vec![sample(MAIN, self.usage.runs, main), sample(MAIN + 1, runs, other)];
        let open_sets = Some(vec![3]);
        self.view = self.machine.step(&Sample {
            at: self.at,
            threads,
            complete: true,
            open_sets,
            hands_over: self.hands_over,
            ..Sample::default()
        });
        self.view.word
    }
}

#[test]
fn a_thread_of_a_pool_that_rests_while_others_work_is_not_blocked() {
    let futex = call(number_of("futex"), [1; 6]);
    let recv = call(number_of("recvfrom"), [7, 0, 0, 0, 0, 0]);
    for (works, word) in [(true, Word::Away), (false, Word::Blocked)] {
        let mut world = pool_of_two();
        for round in 100..200 {
            let runs = if works { round } else { 100 };
            // The main thread rests; the other one works, or is stuck itself.
            let said = world.pair(true, runs, futex, recv);
            assert!(!works || !said.is_death(), "{:?}", world.view);
        }
        assert_eq!(world.view.word, word, "{:?}", world.view);
    }
}

/// What a soak has found: a thread of Go that alone had waited for events, and then was parked while one goroutine computed.
#[test]
fn a_thread_that_rests_is_no_finding_where_the_wait_is_handed_over() {
    let futex = call(number_of("futex"), [1; 6]);
    let recv = call(number_of("recvfrom"), [7, 0, 0, 0, 0, 0]);
    for (hands_over, place) in [(true, futex), (true, recv), (false, futex)] {
        let mut world = World::new();
        world.hands_over = Some(hands_over);
        for round in 0..20 {
            world.usage.runs += 1;
            world.pair(true, round, epoll(3, -1), recv);
        }
        assert_eq!(world.view.word, Word::Alive);
        let told: BTreeSet<Word> = (100..300).map(|round| world.pair(true, round, place, a_nap())).collect();
        if !hands_over {
            assert!(told.contains(&Word::Blocked), "of any other program that is a lock: {told:?}");
            continue;
        }
        assert_eq!(told, BTreeSet::from([Word::Alive]), "{:?}", world.view);
        assert_eq!(world.view.to_string(), "its threads run; Go shows no loop beside them");
        // And when nobody runs, nobody knows whether there is anything to do.
        for _ in 0..20 {
            world.pair(true, 300, place, a_nap());
        }
        assert_eq!(world.view.word, Word::NoLoop, "{:?}", world.view);
        // It goes on.
        for round in 400..403 {
            world.usage.runs += 1;
            assert_eq!(world.pair(true, round, epoll(3, -1), recv), Word::Alive);
        }
        assert_eq!(world.view.to_string(), "its loop comes home");
    }
}

fn a_nap() -> Call {
    call(number_of("nanosleep"), [0; 6])
}

#[test]
fn bytes_that_are_left_are_no_finding_where_all_sockets_are_watched() {
    for (listens, word) in [(false, Word::Alive), (true, Word::Undrained)] {
        let mut world = World::learned();
        world.hands_over = Some(true);
        world.queues = vec![Queue { inode: 9, descriptor: 7, listens, watched: true, waiting: 5 }];
        for _ in 0..40 {
            world.act(Act::Home { set: 3, timeout: -1, ran: true });
        }
        assert_eq!(world.view.word, word, "{:?}", world.view);
    }
}

#[test]
fn a_read_with_a_timeout_is_no_loop() {
    let mut world = World::new();
    for round in 0..100 {
        world.usage.runs += 1;
        world.at += TICK;
        let one = call(number_of("ppoll"), [0x1000, 1, 0x2000, 0, 0, 0]);
        let sleep = call(number_of("clock_nanosleep"), [0, 0, 0, 0, 0, 0]);
        let word = world.look(b'S', Some(if round % 20 < 5 { one } else { sleep }), false);
        assert!(matches!(word, Word::Learning | Word::NoLoop), "{word:?}");
    }
    assert_eq!(world.view.word, Word::NoLoop);
}

#[test]
fn queues_that_stand_while_the_loop_has_time_are_told() {
    let waiting = |waiting, watched| Queue { inode: 9, descriptor: 6, listens: false, watched, waiting };
    let mut world = World::learned();
    world.queues = vec![waiting(10, false)];
    assert_eq!(world.ticks_until(Word::Undrained, BUSY_AND_HOME), None, "nobody wants to hear of it");
    world.queues = vec![waiting(10, true)];
    assert!(world.ticks_until(Word::Undrained, BUSY_AND_HOME).is_some_and(|ticks| ticks <= 7));
    world.queues = vec![waiting(9, true)];
    assert_eq!(world.act(BUSY_AND_HOME), Word::Alive, "something was taken");
}

#[test]
fn no_right_to_look_is_a_finding_and_no_verdict() {
    let mut world = World::new();
    for _ in 0..30 {
        world.at += TICK;
        let look = Look {
            state: b'S',
            call: Fact::Missing(Missing::Denied),
            voluntary_switches: None,
            major_faults: None,
        };
        let close = world.machine.closer(world.at, &[(MAIN, world.usage)]).is_some();
        let look = close.then_some(look);
        let threads = vec![ThreadSample { thread: MAIN, usage: world.usage, look }];
        let view = world.machine.step(&Sample { at: world.at, threads, ..Sample::default() });
        assert_eq!((view.word, view.to_string().as_str()), (Word::NoEvidence, "no evidence: permission"));
    }
}

#[test]
fn a_foreign_program_s_numbers_are_not_read_as_ours() {
    let mut world = World::new();
    for _ in 0..15 {
        world.at += TICK;
        let low = Call { stack: 0xff80_0000, ..epoll(3, -1) };
        assert_eq!(world.look(b'S', Some(low), false), Word::NoEvidence);
    }
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        (3..5, prop_oneof![Just(-1), 0..3_000], any::<bool>()).prop_map(|(set, timeout, ran)| Act::Home {
            set,
            timeout,
            ran
        }),
        Just(Act::In(number_of("recvfrom"))),
        Just(Act::In(number_of("futex"))),
        Just(Act::In(number_of("clock_nanosleep"))),
        Just(Act::Spin),
        Just(Act::Out),
        Just(Act::Queued),
    ]
}

proptest! {
    #[test]
    fn a_permanent_block_is_told_within_the_deadline_and_two_ticks(
        before in prop::collection::vec(acts(), 0..60),
    ) {
        let mut world = World::learned();
        for act in before {
            world.act(act);
        }
        // Whatever it was before, it is a loop of set 3 now.
        for _ in 0..15 {
            world.act(BUSY_AND_HOME);
        }
        let ticks = world.ticks_until(Word::Blocked, recv());
        prop_assert!(ticks.is_some_and(|ticks| ticks <= 5 + 2), "{ticks:?} {:?}", world.view);
    }

    #[test]
    fn whoever_is_seen_at_home_in_every_few_seconds_is_never_accused(
        rounds in prop::collection::vec(prop::collection::vec(acts(), 0..3), 1..40),
    ) {
        let mut world = World::learned();
        for round in rounds {
            for act in round {
                let act = if let Act::Home { timeout: 0.., .. } = act { BUSY_AND_HOME } else { act };
                prop_assert!(!world.act(act).is_death(), "{:?}", world.view);
            }
            prop_assert!(!world.act(BUSY_AND_HOME).is_death(), "{:?}", world.view);
        }
    }

    #[test]
    fn a_gap_of_the_observer_never_makes_a_proof(
        acts in prop::collection::vec((acts(), 3_u64..100_000), 1..40),
        late in any::<bool>(),
    ) {
        let mut world = World::learned();
        for (act, seconds) in acts {
            // Late by itself, or told so: every tick is void.
            let elapsed = if late { Duration::from_secs(seconds) } else { TICK };
            let word = world.act_for(act, elapsed, !late);
            prop_assert!(!word.is_death() && word != Word::Away, "{:?}", world.view);
        }
    }

    #[test]
    fn whatever_is_put_in_the_rules_hold(
        looks in prop::collection::vec(
            (0_u64..5_000_000, any::<bool>(), prop::collection::vec((90_u64..110, any::<u64>(), any::<i64>(), any::<u8>()), 0..8)),
            1..60,
        ),
    ) {
        let mut machine = Machine::new(MAIN, Rules { deadline: T, interval: TICK });
        let mut at = Duration::ZERO;
        for (step, complete, threads) in looks {
            at += Duration::from_millis(step);
            let threads = threads.into_iter().map(|(thread, number, called, state)| ThreadSample {
                thread,
                usage: Usage { cpu_ns: number, wait_ns: number.rotate_left(7), runs: number % 9 },
                look: Some(Look {
                    state,
                    call: Fact::Known((called % 3 != 0).then(|| call(called % 400, [number; 6]))),
                    voluntary_switches: Some(number),
                    major_faults: Some(number.rotate_left(3)),
                }),
            }).collect();
            let view = machine.step(&Sample { at, complete, threads, ..Sample::default() });
            prop_assert!(view.lasted <= at && machine.known_threads().len() <= THREADS_MAX);
            prop_assert!(machine.pulse().len() <= LOOPS_MAX);
            let _ = machine.closer(at + TICK, &[]);
        }
    }
}
