use super::*;
use crate::ids::{Instance, ProcessId};
use crate::observation::Beat;

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    digest: Digest,
    now: Mono,
    start: Mono,
    name: ServiceName,
    tick: u64,
    work: u64,
}

impl Bench {
    fn new() -> Self {
        let start = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        let name = ServiceName::parse("bot").unwrap();
        let mut bench = Self { digest: Digest::new(), now: start, start, name, tick: 0, work: 0 };
        let process = ProcessId { pid: 7, start_time: 7 };
        bench.tell(Observation::Spawned(Instance { generation: Generation(1), process }));
        bench
    }

    fn tell(&mut self, observation: Observation) {
        let wall = Timestamp::from_second(1_790_000_000).unwrap() + self.now.since(self.start);
        self.digest.take(self.now, wall, &Input::Service(self.name.clone(), observation));
    }

    fn wait(&mut self, length: Duration) {
        self.now = self.now + length;
    }

    fn beat(&mut self, declared: Option<Declared>) {
        let progress = BTreeMap::from([("orders".to_owned(), self.work), ("bars".to_owned(), self.tick)]);
        let (source, tick, gauges) = (BeatKind::Http, Some(self.tick), BTreeMap::new());
        let beat = Beat { source, tick, progress, declared, gauges, loop_lag_ms: None };
        self.tell(Observation::Beat { generation: Generation(1), beat });
    }

    fn tick(&mut self) {
        self.tick += 1;
        self.beat(Some(Declared::Ok));
    }

    fn miss(&mut self, fault: ProbeFault) {
        let (generation, source) = (Generation(1), BeatKind::Http);
        self.tell(Observation::NoBeat { generation, source, fault, detail: "no answer in 1 s".into() });
    }

    fn rows(&mut self) -> Vec<Row> {
        self.digest
            .finish(self.now, Timestamp::from_second(1_790_000_000).unwrap() + self.now.since(self.start));
        self.digest.drain()
    }

    fn ms(&self, row: &Row) -> u64 {
        row.clock_ms - whole_ms(self.start.since_origin())
    }
}

#[test]
fn thirty_calm_days_are_less_than_ten_thousand_rows() {
    let mut bench = Bench::new();
    for second in 0..2 * 86_400_u64 {
        // A poll is never quite on time, and one in two hundred is a second late.
        let jitter = Duration::from_millis(second * 7919 % 83);
        bench.wait(SECOND + jitter + if second % 200 == 7 { SECOND } else { Duration::ZERO });
        bench.work += u64::from(second % 40 == 0);
        bench.tick();
    }
    let rows = bench.rows();
    let bytes: usize = rows.iter().map(|row| format!("{:?}", row.what).len()).sum();
    let month = rows.len() * 15;
    assert!(month < 10_000, "{month} rows a month, {bytes} bytes of them in two days");
    assert!(month > 4_000, "{month} rows a month: a stretch is longer than it may be");
}

#[test]
fn a_hang_lies_between_two_rows_and_is_exact() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.wait(SECOND);
        bench.tick();
    }
    for _ in 0..43 {
        bench.wait(SECOND);
        bench.miss(ProbeFault::NoAnswer);
    }
    bench.wait(Duration::from_millis(250));
    bench.tick();
    bench.wait(SECOND);
    bench.tick();
    let rows = bench.rows();
    let ticks: Vec<(u64, u64, u32)> = rows
        .iter()
        .filter_map(|row| match &row.what {
            Entry::Ticks(ticks) => Some((bench.ms(row) - ticks.lasted_ms, bench.ms(row), ticks.count)),
            _ => None,
        })
        .collect();
    // The first beat is a mark; the first fresh tick is a row of its own.
    assert_eq!(ticks[0], (2_000, 2_000, 1));
    let before = ticks.iter().position(|(_, to, _)| *to == 100_000).unwrap();
    assert_eq!(ticks[before + 1].0, 143_250, "{ticks:?}");
    let heard = rows.iter().find_map(|row| match &row.what {
        Entry::Heard(heard) if heard.what == Instead::Miss(ProbeFault::NoAnswer) => {
            Some((heard, bench.ms(row)))
        }
        _ => None,
    });
    let (heard, to) = heard.unwrap();
    assert_eq!((heard.count, heard.lasted_ms, to), (43, 42_000, 143_000));
    assert_eq!(heard.detail, "no answer in 1 s");
}

#[test]
fn a_hang_is_on_disk_while_it_lasts() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.wait(SECOND);
        bench.tick();
    }
    let _ = bench.digest.drain();
    for _ in 0..SWEEP_EVERY.as_secs() + 1 {
        bench.wait(SECOND);
        bench.miss(ProbeFault::NoAnswer);
    }
    let rows = bench.digest.drain();
    assert!(
        rows.iter().any(|row| matches!(row.what, Entry::Ticks(_)) && bench.ms(row) == 100_000),
        "{rows:?}"
    );
}

#[test]
fn nothing_that_a_program_does_makes_rows_without_bound() {
    // Every poll is something else, every declaration new, every counter moves: the worst that a program can do.
    let mut bench = Bench::new();
    let hours = 6;
    for second in 0..hours * 3600_u64 {
        bench.wait(if second % 3 == 0 { SECOND * 9 } else { SECOND } / 3);
        bench.work += 1 + second % 2;
        match second % 5 {
            0 => bench.miss(ProbeFault::NoAnswer),
            1 => bench.beat(Some(Declared::Idle)),
            2 => bench.beat(Some(Declared::Busy(SECOND * 1000 * u32::try_from(second % 17).unwrap()))),
            3 => bench.miss(ProbeFault::NoPath),
            _ => bench.tick(),
        }
    }
    let rows = bench.rows().len();
    let per_hour = usize::try_from(IRREGULAR_ROWS_PER_HOUR).unwrap() * 4 + 120 + 60;
    assert!(rows <= per_hour * 14, "{rows} rows");
}

#[test]
fn a_counter_that_stood_still_for_long_is_told_with_the_gap() {
    let mut bench = Bench::new();
    let work = |bench: &mut Bench, seconds: u32, moves: bool| {
        for _ in 0..seconds {
            bench.wait(SECOND);
            bench.work += u64::from(moves);
            bench.tick();
        }
    };
    work(&mut bench, 1200, true);
    work(&mut bench, 900, false);
    work(&mut bench, 30, true);
    let rows = bench.rows();
    let longest = rows.iter().filter_map(|row| match &row.what {
        Entry::Counters(counters) => counters.get("orders").map(|counter| counter.longest_ms),
        _ => None,
    });
    assert_eq!(longest.max(), Some(901_000));
}

#[test]
fn signals_and_own_lateness_are_rows_and_a_second_plan_that_is_the_same_is_not() {
    use crate::event::Event;
    use crate::reason::Reason;
    let mut bench = Bench::new();
    let wall = Timestamp::from_second(1_790_000_000).unwrap();
    let plan = Input::PlanChanged(Box::default());
    bench.digest.take(bench.now, wall, &plan);
    bench.digest.take(bench.now, wall, &plan);
    let signal = Command::Signal {
        service: bench.name.clone(),
        generation: Generation(1),
        signal: "SIGTERM".into(),
        reason: Reason::new(Rule::Silent, "no fresh tick"),
    };
    bench.digest.commanded(bench.now, wall, &signal);
    let what = What::OwnLateness { late: SECOND * 3 };
    let event = Event { subject: "horus".into(), generation: None, incident: None, what };
    bench.digest.commanded(bench.now, wall, &Command::Record(Box::new(event)));
    let rows: Vec<Entry> = bench.rows().into_iter().map(|row| row.what).collect();
    let expected = [
        Entry::Began,
        Entry::Spawned,
        Entry::Mode(Mode::Enforce),
        Entry::Signalled { rule: Rule::Silent, tree: false },
        Entry::Late(3000),
        Entry::Ended,
    ];
    assert_eq!(rows, expected);
}

fn plan_of(services: &[&str]) -> Plan {
    let service = |text: &&str| (ServiceName::parse(text).unwrap(), ServicePlan::plain(vec!["bot".into()]));
    Plan { services: services.iter().map(service).collect(), ..Plan::default() }
}

fn take(bench: &mut Bench, input: &Input) -> Vec<Entry> {
    let wall = Timestamp::from_second(1_790_000_000).unwrap() + bench.now.since(bench.start);
    let _ = bench.digest.drain();
    bench.digest.take(bench.now, wall, input);
    assert_eq!(bench.digest.pending(), bench.digest.rows.made.len());
    bench.digest.drain().into_iter().map(|row| row.what).collect()
}

#[test]
fn plans_are_written_when_they_change_and_again_every_day() {
    let mut bench = Bench::new();
    let planned = |entries: &[Entry]| entries.iter().filter(|it| matches!(it, Entry::Planned(_))).count();
    let rows = take(&mut bench, &Input::PlanChanged(Box::new(plan_of(&["bot", "feed", "web"]))));
    assert_eq!(planned(&rows), 3);
    let rows = take(&mut bench, &Input::PlanChanged(Box::new(plan_of(&["bot", "feed"]))));
    assert_eq!(rows, [Entry::Unplanned], "one has left");
    bench.wait(SECOND * 3600 * 23);
    assert_eq!(planned(&take(&mut bench, &Input::Wake)), 0);
    bench.wait(SECOND * 3600);
    assert_eq!(planned(&take(&mut bench, &Input::Reconciled)), 2);
    bench.wait(SECOND * 3600);
    assert_eq!(planned(&take(&mut bench, &Input::Reconciled)), 0);
}

#[test]
fn what_the_machine_does_is_a_row_when_it_makes_a_difference() {
    let mut bench = Bench::new();
    let pressure = |cpu: f64| HostObservation::Pressure { cpu, memory: 0.0, io: 0.0 };
    let canary = |heard: Option<&str>| HostObservation::Canary { fault: heard.map(str::to_owned) };
    let observed = [
        (pressure(0.05), false),
        (pressure(0.5), true),
        (pressure(0.55), false),
        (pressure(0.3), true),
        (canary(None), false),
        (canary(Some("no answer")), true),
        (canary(Some("no answer, still")), false),
        (canary(None), true),
        (HostObservation::Suspended { slept: SECOND }, true),
        (HostObservation::ClockStepped { by_ms: -1 }, true),
    ];
    for (seen, worth) in observed {
        let rows = take(&mut bench, &Input::Host(seen.clone()));
        assert_eq!(rows.contains(&Entry::Host(seen.clone())), worth, "{seen:?}");
    }
}

#[test]
fn a_kill_of_the_whole_tree_is_told_from_a_signal() {
    let mut bench = Bench::new();
    let (service, generation) = (bench.name.clone(), Generation(1));
    let kill =
        Command::KillTree { service, generation, reason: crate::reason::Reason::new(Rule::Silent, "") };
    bench.digest.commanded(bench.now, Timestamp::from_second(1_790_000_000).unwrap(), &kill);
    let killed = Entry::Signalled { rule: Rule::Silent, tree: true };
    assert!(bench.rows().iter().any(|row| row.what == killed));
}

/// The rows that a beat with these gauges makes, so many seconds later.
fn gauged(bench: &mut Bench, seconds: u32, gauges: &[(&str, f64)]) -> Vec<BTreeMap<String, f64>> {
    bench.wait(SECOND * seconds);
    let gauges = gauges.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let _ = bench.digest.drain();
    let beat = Beat {
        source: BeatKind::Notify,
        tick: None,
        progress: BTreeMap::new(),
        declared: None,
        gauges,
        loop_lag_ms: None,
    };
    bench.tell(Observation::Beat { generation: Generation(1), beat });
    let gauges = |row: Row| if let Entry::Gauges(gauges) = row.what { Some(gauges) } else { None };
    bench.digest.drain().into_iter().filter_map(gauges).collect()
}

#[test]
fn a_gauge_is_written_at_once_when_it_has_doubled_or_halved_and_else_with_the_others() {
    let mut bench = Bench::new();
    let is = |value: f64| vec![BTreeMap::from([("slots".to_owned(), value)])];
    assert_eq!(gauged(&mut bench, 1, &[("slots", 10.0)]), is(10.0));
    assert_eq!(gauged(&mut bench, 61, &[("slots", 19.0)]), [], "not twice as much");
    assert_eq!(gauged(&mut bench, 61, &[("slots", 20.0)]), is(20.0));
    assert_eq!(gauged(&mut bench, 30, &[("slots", 0.0)]), [], "a row a minute at most");
    assert_eq!(gauged(&mut bench, 31, &[("slots", 0.0)]), is(0.0));
    assert_eq!(gauged(&mut bench, 61, &[("slots", 0.0)]), []);
    assert_eq!(gauged(&mut bench, 61, &[("slots", 0.1)]), is(0.1));
    assert_eq!(gauged(&mut bench, 61, &[("slots", 0.15)]), []);
    assert_eq!(gauged(&mut bench, 600, &[("slots", 0.15)]), is(0.15), "a stretch is over");
}

#[test]
fn of_a_program_with_very_many_numbers_some_are_followed() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..2 * COUNTERS_MAX).map(|number| format!("c{number:03}")).collect();
    let long = "x".repeat(COUNTER_NAME_MAX + 1);
    let gauges: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    assert_eq!(gauged(&mut bench, 1, &[(long.as_str(), 1.0)]), []);
    assert_eq!(gauged(&mut bench, 1, &gauges)[0].len(), COUNTERS_MAX);
    let mut bench = Bench::new();
    let mut progress: BTreeMap<String, u64> = names.into_iter().map(|name| (name, 1)).collect();
    progress.insert(long.clone(), 1);
    let (tick, gauges, declared, loop_lag_ms) = (None, BTreeMap::new(), None, None);
    for source in [BeatKind::Notify, BeatKind::Notify] {
        let beat =
            Beat { source, tick, progress: progress.clone(), declared, gauges: gauges.clone(), loop_lag_ms };
        bench.tell(Observation::Beat { generation: Generation(1), beat });
        progress = BTreeMap::from([(long.clone(), 2)]);
    }
    let counted = |row: Row| if let Entry::Counters(counters) = row.what { Some(counters) } else { None };
    let counted: Vec<_> = bench.rows().into_iter().filter_map(counted).collect();
    assert_eq!((counted.len(), counted[0].len(), counted[0].contains_key(&long)), (1, COUNTERS_MAX, false));
}

#[test]
fn what_it_declares_is_written_when_it_says_something_else() {
    let mut bench = Bench::new();
    let mut said = Vec::new();
    let left = |seconds: u32| Some(Declared::Busy(SECOND * seconds));
    // The end of its step comes nearer, as it should; then it is put off by a minute.
    let words = [
        Some(Declared::Ok),
        None,
        left(100),
        left(90),
        left(80),
        left(130),
        Some(Declared::Idle),
        Some(Declared::Idle),
        Some(Declared::Ok),
    ];
    for word in words {
        bench.wait(SECOND * 10);
        bench.beat(word);
    }
    for row in bench.rows() {
        if let Entry::Declares(declared) = row.what {
            said.push(declared);
        }
    }
    let busy = |seconds: u32| Declared::Busy(SECOND * seconds);
    assert_eq!(said, [busy(100), busy(130), Declared::Idle, Declared::Ok]);
}

#[test]
fn what_it_asks_for_is_written_when_it_asks_for_more() {
    let mut bench = Bench::new();
    for extend in [100, 90, 80, 130, 120] {
        bench.wait(SECOND * 10);
        bench.tell(Observation::AskedForTime { generation: Generation(1), extend: SECOND * extend });
    }
    bench.tell(Observation::AskedForTime { generation: Generation(2), extend: SECOND * 9000 });
    let asked = |row: Row| if let Entry::AskedForTime(ms) = row.what { Some(ms) } else { None };
    assert_eq!(bench.rows().into_iter().filter_map(asked).collect::<Vec<_>>(), [100_000, 130_000]);
}

#[test]
fn a_program_that_asks_for_ever_more_makes_a_bounded_number_of_rows() {
    let mut bench = Bench::new();
    let asked = |bench: &mut Bench, seconds: u32| {
        for _ in 0..seconds {
            bench.wait(SECOND);
            let extend = SECOND * 60 * u32::try_from(bench.now.since(bench.start).as_secs()).unwrap();
            bench.tell(Observation::AskedForTime { generation: Generation(1), extend });
        }
        bench.digest.drain().iter().filter(|row| matches!(row.what, Entry::AskedForTime(_))).count()
    };
    let most = usize::try_from(IRREGULAR_ROWS_PER_HOUR).unwrap();
    assert_eq!((asked(&mut bench, 3500), asked(&mut bench, 3600)), (most, most));
}

#[test]
fn a_first_number_after_bare_beats_is_a_fresh_tick_as_it_is_for_the_judge() {
    let mut bench = Bench::new();
    let mut push = |tick| {
        bench.wait(SECOND);
        let (progress, gauges) = (BTreeMap::new(), BTreeMap::new());
        let beat =
            Beat { source: BeatKind::Notify, tick, progress, declared: None, gauges, loop_lag_ms: None };
        bench.tell(Observation::Beat { generation: Generation(1), beat });
    };
    [None, None, Some(7)].into_iter().for_each(&mut push);
    let ticks = |row: Row| if let Entry::Ticks(ticks) = row.what { Some(ticks.count) } else { None };
    assert_eq!(bench.rows().into_iter().filter_map(ticks).sum::<u32>(), 3);
}

#[test]
fn the_words_of_a_program_stay_in_the_evidence() {
    let mut bench = Bench::new();
    let finding = Finding {
        phrase: "main thread sleeps in recvfrom".into(),
        bundle: Some("evidence/7".into()),
        missing: vec!["no permission for the stack".into()],
        last_lines: vec!["password=hunter2".into()],
        place: Some("recvfrom".into()),
        cpu_ns: Some(7),
        ..Finding::default()
    };
    let stage = CaptureStage::Early;
    let kept = Finding { bundle: None, missing: Vec::new(), last_lines: Vec::new(), ..finding.clone() };
    bench.tell(Observation::Captured { generation: Generation(1), stage, finding });
    let captured = Entry::Captured { stage, finding: Box::new(kept) };
    assert!(bench.rows().iter().any(|row| row.what == captured));
}
