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
