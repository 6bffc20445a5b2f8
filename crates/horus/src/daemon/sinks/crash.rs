//! Horus is killed at any step between a state change and its acknowledged message, while the network fails, too: every
//! incident and every end of one arrives, none twice without saying so, the late ones say that they are late.
//!
//! A run has some lives. Each is a process of its own with a real store, a real worker and real HTTP; it goes on with the
//! script where the journal ends, and all but the last are killed: at a random instant, or as the fake Discord has just
//! taken a request.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use horus_alert::fake::{Bucket, Fake, Fault, Shown};
use horus_alert::pace::Jitter;
use horus_alert::sink::PERHAPS_TWICE;
use horus_alert::{Client, HttpSink, Letterhead, Route, Worker, wall_clock};
use horus_core::event::{Event, What};
use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::plan::{Secret, Severity, SinkKind};
use horus_store::{Store, StoreOptions, Transaction};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::StoreOutbox;

/// Directory, URL and seed of a life.
const LIFE: &str = "HORUS_DELIVERY_TEST";
/// Another number of runs.
const RUNS: &str = "HORUS_DELIVERY_RUNS";
/// Runs unless [`RUNS`] says otherwise, and how many of them go on at a time (they mostly wait).
const RUNS_USUAL: u64 = 24;
const AT_A_TIME: u64 = 8;
/// Incidents of a run; the last one happened long ago when it is committed.
const INCIDENTS: u64 = 3;
/// States of an incident: it begins, something is seen, it ends.
const STATES: u64 = 3;
/// Killed lives of a run at most.
const KILLS_MAX: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(120);
/// No answer within this time is none.
const ANSWER_MAX: Duration = Duration::from_millis(500);

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

fn ops() -> SinkName {
    SinkName::parse("ops").unwrap()
}

/// Of which incident and which of its states step `step` tells.
fn place_of(step: u64) -> (u64, u64) {
    (step % INCIDENTS, step / INCIDENTS)
}

/// What the message has to show in the end.
fn last_words(incident: u64) -> String {
    format!("state {} of {incident}", STATES - 1)
}

/// State change and message in one transaction, as the daemon commits them.
fn transaction(seed: u64, step: u64) -> Transaction {
    let (incident, state) = place_of(step);
    let how = format!("state {state} of {incident}");
    let story = match state {
        0 | 1 => Story::StuckObserved {
            because: how,
            stuck_for: Duration::from_secs(40),
            how: "nothing since".into(),
            place: None,
        },
        _ => Story::Over { lasted: Duration::from_secs(90), how },
    };
    let notice = Notice {
        incident: IncidentId::nth(incident),
        version: u32::try_from(state + 1).unwrap(),
        subject: format!("service-{incident}"),
        kind: IncidentKind::Stuck,
        severity: Severity::Critical,
        needs_you: state == 1 && seed.is_multiple_of(3),
        loud: Dice(seed ^ step).below(2) == 0,
        within: None,
        story,
    };
    let ago = if incident == INCIDENTS - 1 { SignedDuration::from_mins(10) } else { SignedDuration::ZERO };
    let what = What::Horus { text: format!("step {step}") };
    Transaction {
        at: Timestamp::now() - ago,
        events: vec![Event { subject: "horus".into(), generation: None, incident: None, what }],
        notices: vec![(ops(), notice)],
        ..Transaction::default()
    }
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_that_delivers() {
    let life = std::env::var(LIFE).unwrap();
    let [directory, url, seed] = life.split('|').collect::<Vec<_>>().try_into().unwrap();
    let seed: u64 = seed.parse().unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(live(
        Path::new(directory),
        url,
        seed,
    ));
}

async fn live(directory: &Path, url: &str, seed: u64) {
    let changes = watch::Sender::new(0);
    let bump = changes.clone();
    let on_outbox = Box::new(move |_: &SinkName| bump.send_modify(|count| *count += 1));
    let options = StoreOptions { on_outbox, ..StoreOptions::default() };
    let (store, restored) = Store::open(directory, options).unwrap();
    let secret = Secret::new(url.to_owned());
    let route = Route::new(SinkKind::Discord, &secret, None).unwrap();
    let client = Client::with_timeout(ANSWER_MAX).unwrap();
    let letterhead = Letterhead { host: "mini".into(), time_zone: TimeZone::UTC };
    let worker = Worker {
        name: ops(),
        sink: HttpSink::new(route, &secret, client, letterhead, wall_clock()),
        outbox: Arc::new(StoreOutbox {
            store: store.clone(),
            changes: changes.clone(),
            looks: Arc::default(),
        }),
        clock: wall_clock(),
        jitter: Jitter::seeded(seed),
        report: Arc::new(|_| {}),
    };
    let worker = worker.start();
    let mut dice = Dice(seed ^ restored.next_seq);
    for step in restored.next_seq - 1..INCIDENTS * STATES {
        store.commit(transaction(seed, step));
        tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
    }
    assert!(store.flush(PATIENCE));
    // A settle bumps nothing: it is looked for.
    while !store.pending().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(worker.stop(PATIENCE).await && store.close(PATIENCE));
}

fn start(directory: &Path, url: &str, seed: u64) -> Child {
    #[expect(clippy::disallowed_methods, reason = "a test that kills its own child")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "daemon::sinks::crash::child_that_delivers";
    command.args(["--exact", test, "--ignored"]).env(LIFE, format!("{}|{url}|{seed}", directory.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    posts: usize,
    changes: u32,
    /// Messages that say of themselves that they may be there twice, and those that really are.
    marked: usize,
    doubles: usize,
    late: usize,
}

/// One run with its own service.
async fn run(seed: u64) -> Tally {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::start().await.unwrap();
    fake.set_bucket(Bucket { limit: u32::MAX, window: Duration::from_secs(1) });
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    for _ in 0..dice.below(KILLS_MAX + 1) {
        fake.script(faults(&mut dice));
        let mut child = start(directory.path(), &fake.discord_url(), seed);
        let asked = fake.requests().len();
        let more = usize::try_from(1 + dice.below(4)).unwrap();
        let instant = tokio::time::sleep(Duration::from_millis(dice.below(400)));
        if dice.below(3) > 0 {
            // Whichever is first: a life may be over without so many requests.
            let over = tokio::time::sleep(Duration::from_secs(3));
            tokio::select! {
                _ = fake.wait_for_requests(asked + more) => {}
                () = over => {}
            }
            tokio::time::sleep(Duration::from_micros(dice.below(3_000))).await;
        } else {
            instant.await;
        }
        child.kill().unwrap();
        tally.kills += u64::from(!child.wait().unwrap().success());
    }
    fake.clear_script();
    fake.script(faults(&mut dice));
    let mut child = start(directory.path(), &fake.discord_url(), seed);
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(matches!(ended, Ok(Ok(true))), "seed {seed}: the last life: {ended:?}");
    assert_eq!(fake.rejected(), [], "seed {seed}");
    judge(seed, &fake.channel(), &mut tally);
    tally
}

/// A stretch of bad network.
fn faults(dice: &mut Dice) -> Vec<Fault> {
    (0..dice.below(4))
        .map(|_| match dice.below(6) {
            0 => Fault::Reset,
            1 => Fault::RateLimited { after_s: 0.05 },
            2 => Fault::AcceptThenHang,
            3 => Fault::ServerError,
            4 => Fault::BadGatewayPage,
            _ => Fault::LoginPage,
        })
        .collect()
}

fn judge(seed: u64, channel: &[Shown], tally: &mut Tally) {
    tally.posts += channel.len();
    tally.changes += channel.iter().map(|shown| shown.changes).sum::<u32>();
    for incident in 0..INCIDENTS {
        let name = IncidentId::nth(incident).to_string();
        let about: Vec<&Shown> = channel.iter().filter(|shown| shown.full_text().contains(&name)).collect();
        let (messages, lines): (Vec<&Shown>, Vec<&Shown>) =
            about.into_iter().partition(|shown| shown.body["embeds"].is_array());
        let is_marked = |shown: &&&Shown| shown.full_text().contains(PERHAPS_TWICE);
        let last = messages.last().unwrap_or_else(|| panic!("seed {seed}: {name} never arrived"));
        let text = last.full_text();
        assert!(text.contains(&last_words(incident)), "seed {seed}: {name} ends with: {text}");
        if incident == INCIDENTS - 1 {
            assert!(text.contains("(late: "), "seed {seed}: {name} does not say that it is late: {text}");
            tally.late += 1;
        }
        // A mark may be gone from a message that was changed afterwards; nobody can be told of it twice by that.
        let unmarked =
            messages.iter().skip(1).filter(|shown| shown.changes == 0 && !is_marked(shown)).count();
        assert_eq!(unmarked, 0, "seed {seed}: {name} is there twice and does not say so: {messages:#?}");
        tally.doubles += messages.len() - 1;
        let mut said: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &lines {
            let first = line.body["content"].as_str().unwrap_or_default().lines().next().unwrap_or_default();
            let before = said.entry(first).or_default();
            *before += 1;
            assert!(*before == 1 || is_marked(&line), "seed {seed}: {name} rang twice and does not say so");
            tally.doubles += usize::from(*before > 1);
        }
        tally.marked += messages.iter().chain(&lines).filter(is_marked).count();
    }
}

#[test]
fn a_kill_at_any_step_loses_no_message_and_none_comes_twice_without_saying_so() {
    let runs = std::env::var(RUNS).ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS_USUAL);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut all = Tally::default();
    runtime.block_on(async {
        let mut next = 0;
        let mut under_way = tokio::task::JoinSet::new();
        while next < runs || !under_way.is_empty() {
            while next < runs && under_way.len() < usize::try_from(AT_A_TIME).unwrap() {
                under_way.spawn(run(next));
                next += 1;
            }
            let Some(one) = under_way.join_next().await else { break };
            let one = one.unwrap();
            all.kills += one.kills;
            all.posts += one.posts;
            all.changes += one.changes;
            all.marked += one.marked;
            all.doubles += one.doubles;
            all.late += one.late;
        }
    });
    println!("{runs} runs, {} incidents: {all:?}", runs * INCIDENTS);
    // Runs in which nothing happens prove nothing.
    assert!(all.kills > runs / 2 && all.changes > 0 && all.marked > 0, "{all:?}");
}
