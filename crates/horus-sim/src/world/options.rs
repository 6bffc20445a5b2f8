//! What a seed chooses before the world begins: how many services, with which plans, which programs behind them, and how
//! often each kind of fault happens.
//!
//! A swarm, not an average: in one seed most kinds of faults never happen, one happens often, another is rare. Worlds in
//! which everything fails a little are all alike, and the states behind a single frequent fault are never reached in them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use horus_core::ids::ServiceName;
use horus_core::plan::{
    BeatPlan, DaemonPlan, FileBeat, FileTick, FunnelPlan, HttpBeat, KillPlan, LaunchPlan, Limits, LogBeat,
    LogPlan, Mode, Plan, Ready, RestartOn, RestartPlan, ServicePlan, StopPlan, ValuePlan,
};
use horus_core::tree::TreeLimits;

use super::queue::{HOUR, MINUTE, MS, Nanos, SECOND};
use super::random::Random;

/// Services in one world.
pub const SERVICES_MAX: usize = 12;

/// How long a world lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Some hundred polls of each service: many seeds in little time.
    Short,
    /// Some thousand polls of each service: ages of days, breakers that try again.
    Long,
    /// The same with polls of minutes: weeks and months of each service, for runs of very many days.
    Ages,
}

/// What happens to a program once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// Accepts and never answers, pushes nothing. For good.
    Silent,
    /// Answers while its tick stands still. For good.
    Lying,
    /// Its loop is dead; a helper thread goes on pushing bare beats. For good.
    Helped,
    /// The loop stands for less than its deadline.
    Stall,
    /// The loop stands for longer than its deadline and comes back by itself.
    LongStall,
    /// Everything takes long, but less than the deadline.
    Slow,
    /// A long step that is declared beforehand.
    Busy,
    /// A long step that is declared and lasts for ever.
    BusyForEver,
    /// Nothing to do, and it says so.
    Idle,
    /// It stops itself on purpose.
    Halted,
    /// It ends with an error.
    Crash,
    /// It ends well.
    Completes,
    /// Ends soon after each of its next starts.
    CrashLoop,
    /// The way of the probe is blocked; the program works.
    PathBlocked,
    /// It works and produces nothing.
    Barren,
    /// Its loop turns; its declared work stands still. For good.
    WorkStalls,
    /// The same, and the work moves again by itself.
    WorkPauses,
}

impl Mishap {
    /// Those that every service may meet. What needs a newer kind of plan is drawn with that kind, so that the others stay what they
    /// were.
    pub const ALL: [Self; 15] = [
        Self::Silent,
        Self::Lying,
        Self::Helped,
        Self::Stall,
        Self::LongStall,
        Self::Slow,
        Self::Busy,
        Self::BusyForEver,
        Self::Idle,
        Self::Halted,
        Self::Crash,
        Self::Completes,
        Self::CrashLoop,
        Self::PathBlocked,
        Self::Barren,
    ];
}

/// How the programs of a service behave.
#[derive(Clone, Debug)]
pub struct Habits {
    /// One turn of the loop.
    pub period: Nanos,
    /// A usual start.
    pub start: Nanos,
    /// Share of starts that take longer than the cap.
    pub start_tail: f64,
    /// Share of starts that are never done.
    pub start_hang: f64,
    /// Share of starts that fail before the program runs.
    pub start_fails: f64,
    /// Mean wait for each kind of mishap; what is not there does not happen.
    pub mishaps: Vec<(Mishap, Nanos)>,
    /// A memory limit ends it at this age.
    pub dies_at: Option<Nanos>,
    /// Share of programs that ignore the soft signal.
    pub ignores_term: f64,
    /// Share of kills that the kernel takes long to carry out.
    pub undead: f64,
    /// Share of ends that leave a child behind.
    pub strays: f64,
    /// Share of polls that fail on the way, one by one.
    pub lossy: f64,
    /// It is a job: what its runs are like.
    pub runs: Option<super::extras::Runs>,
    /// Share of runs whose declared work never moves.
    pub idle_work: f64,
}

/// Mean waits of what happens to the world as a whole. `None`: never.
#[derive(Clone, Debug)]
pub struct Rates {
    /// A person asks for something.
    pub person: Option<Nanos>,
    /// A person changes the plan.
    pub reload: Option<Nanos>,
    /// Horus is killed.
    pub horus_dies: Option<Nanos>,
    /// The next one begins within that.
    pub horus_away: Nanos,
    /// The keeper dies.
    pub keeper_dies: Option<Nanos>,
    /// The link to the keeper breaks.
    pub link_breaks: Option<Nanos>,
    /// The disk takes no writes for a while.
    pub disk_fails: Option<Nanos>,
    /// A sink takes no messages for a while.
    pub sink_fails: Option<Nanos>,
    /// Horus gets no time for a while.
    pub horus_starves: Option<Nanos>,
    /// Everybody gets little time for a while.
    pub starves: Option<Nanos>,
    /// The machine is suspended.
    pub suspends: Option<Nanos>,
    /// The clock is set.
    pub clock_steps: Option<Nanos>,
    /// The machine starts anew.
    pub reboots: Option<Nanos>,
    /// Something shared stalls all programs.
    pub shared_stall: Option<Nanos>,
    /// All programs stall at midnight, for so long.
    pub midnight: Option<Nanos>,
    /// Share of captures that never come back.
    pub captures_lost: f64,
    /// A capture takes up to so long.
    pub capture_takes: Nanos,
    /// Share of news of the keeper that is told twice.
    pub news_repeated: f64,
    /// News of the keeper takes up to so long.
    pub news_take: Nanos,
    /// The store waits for so long before it writes.
    pub commit_after: Nanos,
    /// Share of confirmations that are lost.
    pub confirms_lost: f64,
}

/// Everything that a seed chooses beforehand.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// How long faults happen.
    pub span: Nanos,
    /// What Horus is asked to do.
    pub plan: Plan,
    /// How the programs behave, by place of the service.
    pub habits: Vec<Habits>,
    /// What happens to the world.
    pub rates: Rates,
}

impl Options {
    /// The choices of a seed.
    pub fn of(seed: u64, length: Length) -> Self {
        let mut random = Random::new(seed ^ 0x0B5E_55ED_0B5E_55ED);
        let poll = match random.below(20) {
            0 => random.magnitude(SECOND, 5 * SECOND),
            1..=3 => random.magnitude(5 * SECOND, 20 * SECOND),
            _ => random.magnitude(20 * SECOND, 5 * MINUTE),
        };
        let poll = if length == Length::Ages { random.magnitude(2 * MINUTE, 30 * MINUTE) } else { poll };
        let polls = match length {
            Length::Short => random.between(150, 600),
            Length::Long | Length::Ages => random.between(2_000, 8_000),
        };
        let span = (polls * poll).max(HOUR);
        let count = match random.below(10) {
            0 => 1,
            1..=6 => random.between(2, 5),
            _ => random.between(4, SERVICES_MAX as u64),
        };
        let mut plan = Plan { daemon: DaemonPlan::default(), ..Plan::default() };
        if random.chance(0.04) {
            plan.daemon.mode = Mode::Observe;
        }
        let (mut habits, mut names) = (Vec::new(), Vec::new());
        for place in 0..count {
            let Ok(name) = ServiceName::parse(&format!("s{place:02}")) else { continue };
            let service = service(&mut random, &name, poll, &names);
            habits.push(Habits::of(&mut random, &service, span));
            plan.services.insert(name.clone(), service);
            names.push(name);
        }
        let rates = Rates::of(&mut random, span);
        let mut options = Self { seed, span, plan, habits, rates };
        super::extras::add_to(&mut options);
        options
    }
}

/// How often in a span something happens on average: mostly never, else seldom, now and then, or again and again.
fn often(random: &mut Random, span: Nanos) -> Option<Nanos> {
    match random.below(10) {
        0..=4 => None,
        5 | 6 => Some(span.saturating_mul(3)),
        7 | 8 => Some(span / random.between(1, 4)),
        _ => Some(span / random.between(6, 40)),
    }
}

/// A share that is mostly nothing, else small, else large.
pub(super) fn share(random: &mut Random, large: f64) -> f64 {
    match random.below(6) {
        0..=3 => 0.0,
        4 => large * 0.1 * random.unit(),
        _ => large * random.unit(),
    }
}

impl Rates {
    fn of(random: &mut Random, span: Nanos) -> Self {
        Self {
            person: often(random, span),
            reload: often(random, span),
            horus_dies: often(random, span),
            horus_away: 120 * SECOND,
            keeper_dies: often(random, span),
            link_breaks: often(random, span),
            disk_fails: often(random, span),
            sink_fails: often(random, span),
            horus_starves: often(random, span),
            starves: often(random, span),
            suspends: often(random, span),
            clock_steps: often(random, span),
            reboots: often(random, span).map(|mean| mean.saturating_mul(4)),
            shared_stall: often(random, span).map(|mean| mean.saturating_mul(2)),
            midnight: random.chance(0.15).then(|| random.magnitude(30 * SECOND, 20 * MINUTE)),
            captures_lost: share(random, 1.0),
            capture_takes: random.magnitude(20 * MS, 15 * SECOND),
            news_repeated: share(random, 0.5),
            news_take: random.magnitude(MS, 3 * SECOND),
            commit_after: random.magnitude(5 * MS, 4 * SECOND),
            confirms_lost: share(random, 1.0),
        }
    }
}

impl Habits {
    fn of(random: &mut Random, plan: &ServicePlan, span: Nanos) -> Self {
        let (deadline, startup) = (nanos(plan.deadline), nanos(plan.startup));
        let fastest = nanos(plan.beats.iter().map(BeatPlan::every).min().unwrap_or(plan.deadline));
        let period = random.magnitude(50 * MS, (fastest / 2).min(deadline / 4).max(100 * MS));
        let mut mishaps = Vec::new();
        for mishap in Mishap::ALL {
            let hears = possible(mishap, plan);
            if let Some(mean) = often(random, span).filter(|_| hears) {
                mishaps.push((mishap, mean));
            }
        }
        Self {
            period,
            start: random.magnitude(20 * MS, startup / 3),
            start_tail: share(random, 0.3),
            start_hang: share(random, 0.3),
            start_fails: share(random, 0.3),
            mishaps,
            dies_at: random.chance(0.06).then(|| random.magnitude(2 * SECOND, span / 4)),
            ignores_term: share(random, 1.0),
            undead: share(random, 0.4),
            strays: share(random, 0.6),
            lossy: share(random, 0.3),
            runs: None,
            idle_work: 0.0,
        }
    }
}

/// Can this happen to a program with these beats at all, and could Horus see it?
pub(crate) fn possible(mishap: Mishap, plan: &ServicePlan) -> bool {
    let http = |beat: &BeatPlan| matches!(beat, BeatPlan::Http(http) if http.seq.is_some());
    let (ticks, notifies) = (plan.beats.iter().any(http), plan.beats.contains(&BeatPlan::Notify));
    match mishap {
        Mishap::Lying | Mishap::Idle | Mishap::Halted => ticks,
        Mishap::Helped => ticks && notifies,
        Mishap::Busy | Mishap::BusyForEver => ticks || notifies,
        Mishap::PathBlocked => plan.beats.iter().any(|beat| matches!(beat, BeatPlan::Http(_))),
        Mishap::Barren => !plan.values.is_empty() || !plan.funnels.is_empty(),
        Mishap::WorkStalls | Mishap::WorkPauses => !plan.progress.is_empty(),
        _ => true,
    }
}

/// A plan's duration in the world's unit.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One service's plan. Whatever `horus check` would refuse does not occur: a deadline shorter than two polls, a timeout
/// longer than a poll.
pub(crate) fn service(
    random: &mut Random,
    name: &ServiceName,
    poll: Nanos,
    before: &[ServiceName],
) -> ServicePlan {
    let every = random.between(poll / 2, poll.saturating_mul(2)).max(SECOND);
    let deadline = match random.below(8) {
        0 => every * 2,
        _ => random.between(every * 5 / 2, every * 8),
    };
    let beats = beats(random, name, every, deadline);
    let startup = random.between(deadline, deadline * 4).max(every * 4).max(10 * SECOND);
    let counts = beats.iter().any(|beat| matches!(beat, BeatPlan::Http(_)));
    let notifies = beats.contains(&BeatPlan::Notify);
    let prove = if random.chance(0.3) { deadline * 4 } else { (deadline * 10).max(5 * MINUTE) };
    let after = before.iter().filter(|_| random.chance(0.15)).cloned().collect();
    ServicePlan {
        owner: horus_core::foreign::Owner::Keeper,
        launch: launch(name),
        tree: TreeLimits::default(),
        after,
        groups: Vec::new(),
        ready: match random.below(5) {
            0 => Ready::Process,
            1 if notifies => Ready::Notify,
            _ => Ready::Tick,
        },
        beats,
        deadline: Duration::from_nanos(deadline),
        startup: Duration::from_nanos(startup),
        stop: StopPlan {
            signal: "SIGTERM".into(),
            grace: Duration::from_nanos(random.magnitude(SECOND, 30 * SECOND)),
        },
        restart: restart(random),
        kills: KillPlan {
            limit: if random.chance(0.6) { 3 } else { u32::try_from(random.between(1, 5)).unwrap_or(3) },
            prove: Duration::from_nanos(prove),
            retry: match random.below(4) {
                0 => None,
                1 => Some(Duration::from_nanos(HOUR)),
                _ => Some(Duration::from_nanos(6 * HOUR)),
            },
            daily: if random.chance(0.7) { 24 } else { u32::try_from(random.between(2, 12)).unwrap_or(8) },
        },
        observe: random.chance(0.08),
        autostart: random.chance(0.95),
        sampler: true,
        values: if counts && random.chance(0.3) { values(random, deadline) } else { BTreeMap::new() },
        funnels: if counts && random.chance(0.2) { funnels(random) } else { BTreeMap::new() },
        progress: BTreeMap::new(),
        expects: BTreeMap::new(),
        counters: BTreeMap::new(),
        steps: BTreeMap::new(),
        schedule: None,
    }
}

fn beats(random: &mut Random, name: &ServiceName, every: Nanos, deadline: Nanos) -> Vec<BeatPlan> {
    let timeout = random.between(200 * MS, 10 * SECOND).min(every).min(deadline / 3);
    let (every, timeout) = (Duration::from_nanos(every), Duration::from_nanos(timeout));
    let pointer = |name: &str| Some(format!("/{name}"));
    let http = |seq: bool| {
        BeatPlan::Http(HttpBeat {
            url: format!("http://127.0.0.1:7000/{name}"),
            every,
            timeout,
            seq: pointer("seq").filter(|_| seq),
            progress: pointer("progress"),
            state: pointer("state"),
            lag: None,
            gauges: None,
        })
    };
    let file = || {
        BeatPlan::File(FileBeat {
            path: PathBuf::from(format!("/var/{name}")),
            every,
            look_at: FileTick::Mtime,
        })
    };
    match random.below(16) {
        0..=6 => vec![http(true)],
        7 | 8 => vec![http(false)],
        9 | 10 => vec![BeatPlan::Notify],
        11 | 12 => vec![http(true), BeatPlan::Notify],
        13 => vec![file()],
        14 => vec![BeatPlan::Log(LogBeat { pattern: "beat".into() })],
        _ => Vec::new(),
    }
}

fn restart(random: &mut Random) -> RestartPlan {
    let next = random.magnitude(500 * MS, 10 * SECOND);
    RestartPlan {
        on: match random.below(10) {
            0 => RestartOn::Never,
            1..=5 => RestartOn::Failure,
            _ => RestartOn::Always,
        },
        first: Duration::from_nanos(if random.chance(0.7) {
            0
        } else {
            random.magnitude(100 * MS, 3 * SECOND)
        }),
        next: Duration::from_nanos(next),
        max: Duration::from_nanos(random.magnitude(next, 5 * MINUTE)),
        crash_loop: u32::try_from(random.between(3, 6)).unwrap_or(5),
        within: Duration::from_nanos(10 * MINUTE),
    }
}

fn values(random: &mut Random, deadline: Nanos) -> BTreeMap<String, ValuePlan> {
    let stale = random.between(deadline * 6, deadline * 60);
    let dead = random.chance(0.5).then(|| Duration::from_nanos(stale * 3));
    BTreeMap::from([(
        "orders".into(),
        ValuePlan { counter: "orders".into(), stale: Duration::from_nanos(stale), dead },
    )])
}

fn funnels(random: &mut Random) -> BTreeMap<String, FunnelPlan> {
    let stages = ["signals", "orders"].map(str::to_owned).to_vec();
    BTreeMap::from([("entry".into(), FunnelPlan { stages, blocked_after: random.magnitude(10, 2_000) })])
}

fn launch(name: &ServiceName) -> LaunchPlan {
    LaunchPlan {
        command: vec![format!("/bin/{name}")],
        directory: PathBuf::from("/"),
        environment: BTreeMap::new(),
        user: None,
        group: None,
        limits: Limits::default(),
        exclusive: Vec::new(),
        agent: None,
        log: LogPlan::default(),
    }
}
