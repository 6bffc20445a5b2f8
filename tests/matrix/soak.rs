//! The soak: programs that are well, idle, busy or slow, side by side, beside a stress of processors, and Horus itself stopped for a
//! while. Nobody is signalled, restarted, or told of as hung. `cargo xtask soak`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use horus_core::event::What;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::KernelWord;
use horus_core::status::ServiceStatus;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::signal::Signal;
use horus_tests::{FAILSAFE, Options, Rig, measured, skipped};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::board::Board;
use crate::cases::{self, Act, Case, Did, Truth};
use crate::programs::{Place, Programs};

/// Between two looks at everybody.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Horus is stopped for so long, in the middle of it.
const STOPPED_FOR: Duration = Duration::from_secs(20);
/// Whoever works in batches is given another one so often.
const ORDER_EVERY: Duration = Duration::from_secs(20);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Programs that nothing may be done about, one after the other until there are enough.
fn well(programs: &Programs, services: usize) -> Vec<Case> {
    let truth =
        |case: &Case| matches!(case.mode.truth, Truth::Healthy | Truth::Idle | Truth::Busy | Truth::Slow);
    let mut cases: Vec<Case> = cases::all();
    cases.retain(|case| truth(case) && case.expected.did == Did::Nothing && programs.missing(case).is_none());
    for case in &mut cases {
        // All of them by one deadline.
        case.mode.burns = false;
    }
    let count = cases.len().max(1);
    (0..services).filter_map(|number| cases.get(number % count).copied()).collect()
}

/// What was seen of everybody.
#[derive(Debug, Default)]
struct Seen {
    process_seconds: f64,
    verdicts: BTreeMap<&'static str, u64>,
    longest_silence: (Duration, String),
    longest_suspicion: (Duration, String),
}

impl Seen {
    fn take(&mut self, services: &[ServiceStatus], elapsed: Duration) {
        for status in services.iter().filter(|status| status.pid.is_some()) {
            self.process_seconds += elapsed.as_secs_f64();
            *self.verdicts.entry(status.verdict.word()).or_default() += 1;
            let name = status.name.to_string();
            let silent =
                status.beats.iter().filter_map(|beat| beat.fresh_ms).min().map(Duration::from_millis);
            let suspected = status.kernel.as_ref().filter(|kernel| {
                !matches!(kernel.word, KernelWord::Alive | KernelWord::Learning | KernelWord::NoLoop)
            });
            let suspected = suspected.map(|kernel| {
                (Duration::from_millis(kernel.lasted_ms), format!("{name}: {}", kernel.word.word()))
            });
            let silent = silent.map(|silent| (silent, name.clone()));
            self.longest_silence = silent.into_iter().fold(self.longest_silence.clone(), Ord::max);
            self.longest_suspicion = suspected.into_iter().fold(self.longest_suspicion.clone(), Ord::max);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask soak"]
async fn soak_nobody_who_is_well_is_touched() {
    let seconds = number("HORUS_SOAK_SECONDS", 260);
    let services = usize::try_from(number("HORUS_SOAK_SERVICES", 40)).unwrap();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let stress = number("HORUS_SOAK_STRESS", u64::try_from(processors * 4).unwrap());
    // What everybody has to wait for is the machine's own.
    let options = Options {
        environment: vec![("HORUS_TEST_PRESSURE".into(), "/proc/pressure".into())],
        ..Options::default()
    };
    let mut rig = Rig::new(env!("CARGO_BIN_EXE_matrix-tokio"), options).await;
    let programs = Programs::get(&rig).await;
    let cases = well(&programs, services);
    if cases.is_empty() {
        return skipped("soak", "none of the programs is here");
    }
    let mut orders = Vec::new();
    let mut configuration = String::new();
    for (number, case) in cases.iter().enumerate() {
        let order = rig.room.path("triggers").join(number.to_string());
        std::fs::create_dir_all(&order).unwrap();
        let place = Place { order: order.clone(), port: rig.room.port(), tokio: rig.program("matrix-tokio") };
        let service = programs.service(case, &place);
        let name = case.name();
        configuration +=
            &service.replace(&format!("[service.{name}]"), &format!("[service.{name}-{number}]"));
        if case.mode.act == Act::Order {
            orders.push((case.mode.truth, order));
        }
    }
    rig.run(&configuration).await;
    let stressors: Vec<Child> = (0..stress).map(|_| burn()).collect();
    let board = Board::new(rig.client.clone());
    let names: Vec<String> =
        cases.iter().zip(0..).map(|(case, number)| format!("{}-{number}", case.name())).collect();
    let mut processes = Vec::new();
    for name in &names {
        board.until(name, FAILSAFE, |status| status.pid.is_some()).await.unwrap();
        processes.push((name, board.process(name).unwrap()));
    }
    let (seen, took) = watch(&rig, &board, &orders, Duration::from_secs(seconds)).await;
    drop(stressors);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // The kernel's word, whatever the journal says: the very processes of the beginning are there.
    let replaced = processes.iter().filter(|(_, process)| !horus_sys::process::is_alive(process));
    let replaced: Vec<_> = replaced.map(|(name, process)| format!("{name}: {process} is gone")).collect();
    let until = heard_of(&rig, &names[0]).await;
    let mut figures = figures(&rig, until, &seen, took, (services, stress, load.trim()));
    figures.1.extend(replaced);
    measured("soak", &figures.0);
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.txt");
    write_atomic(&file, figures.0.as_bytes(), Durability::ThisBoot).unwrap();
    assert!(figures.1.is_empty(), "{}\n{:#?}", figures.0, figures.1);
    rig.end().await;
}

/// A restart that is asked for is a signal that has to be heard of: then nothing before it is missing from the journal. The last number
/// before it.
async fn heard_of(rig: &Rig, service: &str) -> u64 {
    // What is on its way when this is asked for is not ours: the order is written behind it.
    let restarted = rig.cli(&["restart", service]).await;
    assert_eq!(restarted.code, 0, "{}{}", restarted.out, restarted.err);
    let asked = rig
        .first(service, "stop that was asked for", |what| matches!(what, What::OperatorAsked { .. }))
        .await;
    rig.after(asked.seq, service, "signal", |what| matches!(what, What::Signalled { .. })).await;
    asked.seq
}

async fn watch(rig: &Rig, board: &Board, orders: &[(Truth, PathBuf)], length: Duration) -> (Seen, Duration) {
    let (began, mut seen) = (Instant::now(), Seen::default());
    let (mut last, mut ordered, mut stopped) = (began, None, false);
    while began.elapsed() < length {
        if ordered.is_none_or(|at: Instant| at.elapsed() >= ORDER_EVERY) {
            let again = ordered.replace(Instant::now()).is_some();
            // A batch ends; what is slow goes on being so.
            let due = orders.iter().filter(|(truth, _)| !again || *truth == Truth::Busy);
            due.for_each(|(_, order)| drop(std::fs::File::create(order.join("go"))));
        }
        if !stopped && began.elapsed() >= length / 2 {
            stopped = true;
            let horus = rig.horus();
            rig.signal(&horus, Signal::STOP);
            tokio::time::sleep(STOPPED_FOR).await;
            rig.signal(&horus, Signal::CONT);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Instant::now();
        seen.take(&board.all(), now - last);
        last = now;
    }
    (seen, began.elapsed())
}

/// What is said of it, and what should not have been.
fn figures(
    rig: &Rig,
    until: u64,
    seen: &Seen,
    took: Duration,
    (services, stress, load): (usize, u64, &str),
) -> (String, Vec<String>) {
    let journal = rig.journal.all();
    let events: Vec<_> = journal.iter().filter(|event| event.seq < until).collect();
    let count =
        |is_it: &dyn Fn(&What) -> bool| events.iter().filter(|event| is_it(&event.event.what)).count();
    let signals = count(&|what| matches!(what, What::Signalled { .. }));
    let restarts = count(&|what| matches!(what, What::KillDecided { .. }));
    let exits = count(&|what| matches!(what, What::Exited { .. }));
    let is_hang = |what: &What| match what {
        What::Told { story, .. } => matches!(
            story,
            Story::KernelView { .. } | Story::StuckRestarting { .. } | Story::StuckObserved { .. }
        ),
        _ => false,
    };
    let alerts = count(&is_hang);
    let opened = count(&|what| {
        matches!(what, What::IncidentOpened { kind: IncidentKind::Stuck | IncidentKind::KernelView, .. })
    });
    let verdicts = seen.verdicts.iter().fold(String::new(), |mut text, (word, count)| {
        let _ = write!(text, " {word} {count}");
        text
    });
    let text = format!(
        "{:.0} process-seconds of {services} programs in {:.0} s beside {stress} that burn, load {load}; Horus stopped for {} s; {signals} signals, \
         {restarts} restarts, {alerts} alerts of a hang, {exits} exits; {opened} silences past their deadline that ended by themselves; \
         verdicts at a look each second:{verdicts}; longest silence {:.1} s ({}), longest suspicion {:.1} s ({})",
        seen.process_seconds,
        took.as_secs_f64(),
        STOPPED_FOR.as_secs(),
        seen.longest_silence.0.as_secs_f64(),
        seen.longest_silence.1,
        seen.longest_suspicion.0.as_secs_f64(),
        seen.longest_suspicion.1,
    );
    let wrong = |what: &What| {
        matches!(what, What::Signalled { .. } | What::KillDecided { .. } | What::Exited { .. })
            || is_hang(what)
    };
    let wrong = events.iter().filter(|event| wrong(&event.event.what));
    let mut faults: Vec<String> = wrong
        .map(|event| format!("{}: {}", event.event.subject, horus_tests::brief(&event.event.what)))
        .collect();
    if let Some(gap) = events.windows(2).find(|pair| pair[1].seq != pair[0].seq + 1) {
        faults.push(format!("the journal has a gap behind event {}", gap[0].seq));
    }
    if seen.process_seconds < took.as_secs_f64() {
        faults.push("nobody was there".into());
    }
    (text, faults)
}

/// Somebody who wants a processor for ever.
fn burn() -> Child {
    #[expect(clippy::disallowed_methods, reason = "a stress that ends with this test")]
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}
