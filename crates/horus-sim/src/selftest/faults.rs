//! The faults that a service's plan says it would notice, and by what each is recognised.

use std::time::Duration;

use horus_core::event::What;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Declared, Exit, LoopSeen, ProbeFault};
use horus_core::plan::{BeatPlan, Mode, RestartOn, ServicePlan, ValuePlan, When};
use horus_core::reason::Rule;
use horus_core::time::Human;
use horus_core::verdict::Verdict;

use super::sandbox::{Conduct, Ending, Program, Shows, carries_state, carries_tick};

/// Recognises the detector in an event, and gives its reason.
pub(crate) type Sign = dyn Fn(&What) -> Option<String>;

/// A fault, and how it would be noticed.
pub(crate) struct Fault {
    pub(crate) detector: String,
    /// `None`: the plan gives nothing to see it by.
    pub(crate) program: Option<Program>,
    /// So long the detector may take from the fault on.
    pub(crate) lasts: Duration,
    pub(crate) sign: Box<Sign>,
    /// The machine sleeps through its next time.
    pub(crate) sleeps: bool,
    /// Why it need not fire. Empty: then the plan is wrong if it does not.
    pub(crate) cannot: String,
}

/// A program that ends by itself does so at this age if nothing else is said.
const AGE_OF_DEATH: Duration = Duration::from_secs(129);

/// No detector of a hang takes more deadlines than this, each start and each doubling included.
const DEADLINES_MAX: u32 = 64;

const MARGIN: Duration = Duration::from_secs(60);

/// Every fault that this plan ought to notice.
pub(crate) fn faults(plan: &ServicePlan, mode: Mode) -> Vec<Fault> {
    let observed = plan.observe || mode == Mode::Observe;
    let mut faults = Vec::new();
    if plan.schedule.is_some() {
        faults.extend(of_jobs(plan));
    }
    faults.extend(of_the_loop(plan));
    faults.extend(of_kills(plan, observed));
    faults.extend(of_the_process(plan));
    faults.extend(of_products(plan));
    faults
}

fn opened(kind: IncidentKind) -> Box<Sign> {
    Box::new(move |what| match what {
        What::IncidentOpened { kind: opened, reason, .. } if *opened == kind => Some(reason.text.clone()),
        _ => None,
    })
}

fn opened_by(kind: IncidentKind, rule: Rule) -> Box<Sign> {
    Box::new(move |what| match what {
        What::IncidentOpened { kind: opened, reason, .. } if *opened == kind && reason.rule == rule => {
            Some(reason.text.clone())
        }
        _ => None,
    })
}

fn judged(verdict: Verdict) -> Box<Sign> {
    Box::new(move |what| match what {
        What::Judged { to, reason, .. } if *to == verdict => Some(reason.text.clone()),
        _ => None,
    })
}

fn fault(detector: &str, program: Program, lasts: Duration, sign: Box<Sign>) -> Fault {
    let (detector, cannot) = (detector.to_owned(), String::new());
    Fault { detector, program: Some(program), lasts, sign, sleeps: false, cannot }
}

fn blind(detector: &str, cannot: &str) -> Fault {
    let (detector, cannot) = (detector.to_owned(), cannot.to_owned());
    Fault { detector, program: None, lasts: Duration::ZERO, sign: Box::new(|_| None), sleeps: false, cannot }
}

/// Well for some deadlines, so that its tick was seen to move.
fn well_age(plan: &ServicePlan) -> Duration {
    plan.deadline * 3
}

fn ill(plan: &ServicePlan, conduct: Conduct) -> Program {
    Program::ill_from(well_age(plan), conduct)
}

fn hangs() -> Conduct {
    Conduct::shows(Shows::Nothing(ProbeFault::NoAnswer))
}

fn of_the_loop(plan: &ServicePlan) -> Vec<Fault> {
    if plan.beats.is_empty() {
        let why = "no beat is declared: it is judged by its process alone";
        return ["silent", "lying", "start overdue"].map(|detector| blind(detector, why)).into();
    }
    let noticed = plan.deadline * 3 + MARGIN;
    let stuck = IncidentKind::Stuck;
    let only_tcp = "a hung program still accepts connections: the kernel does it";
    let no_tick =
        "no source carries a tick: an answer counts as life, even from a program whose loop is dead";
    let mut faults = vec![
        fault(
            "start overdue",
            Program { well: Conduct::shows(Shows::Nothing(ProbeFault::NoPath)), ..Program::well() },
            plan.startup * 2 + MARGIN,
            opened(IncidentKind::StartOverdue),
        ),
        Fault {
            cannot: without(plan, |beat| !matches!(beat, BeatPlan::Tcp(_)), only_tcp),
            ..fault("silent", ill(plan, hangs()), noticed, opened(stuck))
        },
        Fault {
            cannot: without(plan, carries_tick, no_tick),
            ..fault(
                "lying",
                ill(plan, Conduct::shows(Shows::OldTick)),
                noticed,
                opened_by(stuck, Rule::Lying),
            )
        },
    ];
    for (detector, seen, verdict) in [
        ("blocked", LoopSeen::Blocked, Verdict::Blocked),
        ("spinning", LoopSeen::Spinning, Verdict::Spinning),
    ] {
        let program = ill(plan, Conduct { seen: Some(seen), ..hangs() });
        let cannot = without(plan, |beat| !matches!(beat, BeatPlan::Tcp(_)), only_tcp);
        faults.push(Fault { cannot, ..fault(detector, program, noticed, judged(verdict)) });
    }
    if plan.beats.iter().any(|beat| matches!(beat, BeatPlan::Http(_) | BeatPlan::Tcp(_))) {
        let program = ill(plan, Conduct::shows(Shows::Nothing(ProbeFault::NoPath)));
        faults.push(fault("unreachable", program, noticed, opened(IncidentKind::ProbePath)));
    }
    let halted = Conduct { declared: Some(Declared::Halted), ..Conduct::well() };
    faults.push(Fault {
        cannot: without(
            plan,
            carries_state,
            "no source carries a state: it cannot say that it stopped itself",
        ),
        ..fault("halted", ill(plan, halted), noticed, opened(IncidentKind::Halted))
    });
    faults
}

/// What becomes of a restart that does not cure.
fn of_kills(plan: &ServicePlan, observed: bool) -> Vec<Fault> {
    let cannot = if observed {
        "observe mode: nothing is ever restarted".to_owned()
    } else {
        without(
            plan,
            |beat| !matches!(beat, BeatPlan::Tcp(_)),
            "nothing that could be seen leads to a restart",
        )
    };
    if !cannot.is_empty() {
        return ["breaker", "will not die"].map(|detector| blind(detector, &cannot)).into();
    }
    let breaker: Box<Sign> = Box::new(|what| match what {
        What::BreakerOpened { reason } => Some(reason.text.clone()),
        _ => None,
    });
    let lasts = plan.deadline * DEADLINES_MAX * plan.kills.limit.clamp(1, 8) + plan.startup * 4;
    let resists = Program { ending: Ending::Survives(3), ..ill(plan, hangs()) };
    let patience = plan.deadline * 4 + plan.stop.grace * 2 + MARGIN;
    vec![
        fault("breaker", ill(plan, hangs()), lasts, breaker),
        fault("will not die", resists, patience, opened(IncidentKind::WillNotDie)),
    ]
}

/// `why`, if none of the sources can show it.
fn without(plan: &ServicePlan, can: impl Fn(&BeatPlan) -> bool, why: &str) -> String {
    if plan.beats.iter().any(can) { String::new() } else { why.to_owned() }
}

fn ends_from(age: Duration, exit: Exit) -> Program {
    Program::ill_from(age, Conduct::shows(Shows::Ends(exit)))
}

fn of_the_process(plan: &ServicePlan) -> Vec<Fault> {
    let exit = Exit::Code(1);
    let start_fault = Some("exec: not found (selftest)".to_owned());
    let mut faults = vec![
        fault("exit", ends_from(AGE_OF_DEATH, exit), MARGIN, opened(IncidentKind::Exit)),
        fault(
            "start failed",
            Program { start_fault, ..Program::well() },
            MARGIN,
            opened(IncidentKind::StartFailed),
        ),
    ];
    if plan.restart.on == RestartOn::Never {
        let why = "it is never restarted after an exit (restart.on = \"never\")";
        faults.extend(["crash loop", "same age"].map(|detector| blind(detector, why)));
        return faults;
    }
    let slowest = plan.restart.max.max(plan.restart.first).max(plan.restart.next);
    let crashes = ends_from(Duration::from_millis(10), exit);
    let lasts = plan.restart.within * 2 + slowest * plan.restart.crash_loop.clamp(1, 32);
    faults.push(fault("crash loop", crashes, lasts, opened(IncidentKind::CrashLoop)));
    let lasts = (AGE_OF_DEATH + slowest) * 4 + MARGIN;
    faults.push(fault("same age", ends_from(AGE_OF_DEATH, exit), lasts, opened(IncidentKind::SameAge)));
    faults
}

fn still(counter: &str) -> Conduct {
    Conduct { still: [counter.to_owned()].into(), ..Conduct::well() }
}

/// Values, funnels, work and expectations.
fn of_products(plan: &ServicePlan) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, value) in &plan.values {
        faults.extend(of_value(plan, name, value));
    }
    for (name, funnel) in &plan.funnels {
        let Some(last) = funnel.stages.last() else { continue };
        let lasts =
            plan.deadline * u32::try_from(funnel.blocked_after).unwrap_or(u32::MAX).min(100_000) + MARGIN;
        let program = ill(plan, still(last));
        faults.push(fault(&format!("funnel {name}"), program, lasts, opened(IncidentKind::FunnelBlocked)));
    }
    for (name, work) in &plan.progress {
        let program = ill(plan, still(&work.counter));
        let sign = opened_by(IncidentKind::Stuck, Rule::Stalled);
        faults.push(fault(&format!("progress {name}"), program, work.stalled * 3 + MARGIN, sign));
    }
    for (name, expect) in &plan.expects {
        let conduct =
            Conduct { gauges: [(expect.gauge.clone(), expect.min - 1.0)].into(), ..Conduct::well() };
        let sign = opened(IncidentKind::Expectation);
        faults.push(fault(&format!("expect {name}"), ill(plan, conduct), expect.within * 2 + MARGIN, sign));
    }
    faults
}

fn of_value(plan: &ServicePlan, name: &str, value: &ValuePlan) -> Vec<Fault> {
    let told_of = |bound: Duration| -> Box<Sign> {
        Box::new(move |what| match what {
            What::Told { story: Story::Valueless { since, bound: passed, counter, .. }, .. }
                if *passed == bound =>
            {
                Some(format!("{counter}: no increase for {}, bound {}", Human(*since), Human(bound)))
            }
            _ => None,
        })
    };
    let bounds = [("stale", Some(value.stale)), ("dead", value.dead)];
    let bounds = bounds.into_iter().filter_map(|(word, bound)| Some((word, bound?)));
    let of_bound = |(word, bound): (&str, Duration)| {
        let program = ill(plan, still(&value.counter));
        fault(&format!("value {name}: {word}"), program, bound * 2 + MARGIN, told_of(bound))
    };
    bounds.map(of_bound).collect()
}

/// A job that never ends, and one whose time comes while the machine sleeps.
fn of_jobs(plan: &ServicePlan) -> Vec<Fault> {
    let Some(schedule) = &plan.schedule else { return Vec::new() };
    let overdue = opened(IncidentKind::RunOverdue);
    let mut faults = vec![fault("run overdue", Program::well(), schedule.finish * 2 + MARGIN, overdue)];
    // What is started every so often counts from its own last start: it has no time that could be missed.
    if let When::Cron(_) = schedule.when {
        let well = ends_from(schedule.finish / 2, Exit::Code(0));
        let missed = opened(IncidentKind::RunMissed);
        faults.push(Fault { sleeps: true, ..fault("run missed", well, schedule.finish + MARGIN, missed) });
    }
    faults
}
