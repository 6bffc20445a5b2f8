//! Somebody's own plan in the sandbox: every detector that it declares, by its own numbers.
//!
//! Each drill plays one service alone, so that a fault of one is not taken for a fault of all; what concerns all is played
//! with all. The fault begins right after a beat, so what is measured is the plan's own time, without the phase of a poll.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::event::What;
use horus_core::foreign::Owner;
use horus_core::ids::{MonitorName, ServiceName};
use horus_core::jobs::LATE_MAX;
use horus_core::notice::IncidentKind;
use horus_core::observation::{Input, OperatorRequest, ProbeFault};
use horus_core::plan::{DaemonPlan, LaunchPlan, Mode, Plan, ServicePlan, When};
use horus_core::time::{Human, Mono};

use super::faults::{Fault, Sign, faults};
use super::report::{Drill, DrillReport, DrillState};
use super::sandbox::{Conduct, Program, Sandbox, Shows};

/// A job's next time may be so far away.
const FIRST_START_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// A plan in which nothing is wrong is watched for so long at most.
const CONTROL_MAX: Duration = Duration::from_secs(40 * 24 * 3600);

/// A little more than the longest limit.
const MARGIN: Duration = Duration::from_secs(60);

/// Fires every detector that a plan declares, and says which can never fire. Commands, environments and secrets of the
/// plan are not looked at.
pub fn drill(plan: &Plan) -> DrillReport {
    let mut report = DrillReport { drills: Vec::new(), steps: 0 };
    for (name, service) in &plan.services {
        let bench = Bench::new(plan, name, service);
        bench.control(&mut report);
        for fault in faults(service, plan.daemon.mode) {
            bench.play(&mut report, fault);
        }
    }
    for name in plan.monitors.keys() {
        drill_monitor(plan, name, &mut report);
    }
    drill_common_cause(plan, &mut report);
    drill_horus(plan, &mut report);
    report
}

/// One service of a plan, alone.
struct Bench<'a> {
    plan: Plan,
    name: &'a ServiceName,
    service: &'a ServicePlan,
}

impl<'a> Bench<'a> {
    fn new(plan: &Plan, name: &'a ServiceName, service: &'a ServicePlan) -> Self {
        // Whoever starts it, it is the judge that is drilled.
        let (after, owner, launch) = (Vec::new(), Owner::Keeper, no_launch(service));
        let alone = ServicePlan { after, owner, launch, ..service.clone() };
        let services = [(name.clone(), alone)].into();
        let daemon = plan.daemon.clone();
        Self { plan: Plan { daemon, services, ..Plan::default() }, name, service }
    }

    /// The service with this program, started: by the plan, by its calendar, or by a person.
    fn start(&self, program: Program) -> Option<Sandbox> {
        let mut sandbox = Sandbox::new(self.plan.clone()).program(self.name, program).begin();
        if !self.service.autostart {
            sandbox.ask(OperatorRequest::Start(self.name.clone()));
        }
        let asked = |sandbox: &Sandbox| {
            sandbox.traces.log.iter().any(|(_, event)| matches!(event.what, What::StartAsked { .. }))
        };
        sandbox.run_until(FIRST_START_MAX, asked).then_some(sandbox)
    }

    /// Nothing is wrong: nothing may fire.
    fn control(&self, report: &mut DrillReport) {
        let Some(mut sandbox) = self.start(Program::well()) else { return };
        sandbox.run(longest_limit(self.service).min(CONTROL_MAX) + MARGIN);
        report.steps += sandbox.steps;
        for (kind, reason) in opened(&sandbox) {
            // A job that never ends is no well program; what jobs do is drilled with jobs that end.
            if self.service.schedule.is_some() && kind == IncidentKind::RunOverdue {
                continue;
            }
            report.drills.push(Drill {
                subject: self.name.to_string(),
                detector: kind.word().to_owned(),
                state: DrillState::FalseAlarm,
                after: None,
                restart_after: None,
                text: format!("fires although nothing is wrong: {reason}"),
            });
        }
    }

    fn play(&self, report: &mut DrillReport, fault: Fault) {
        let mut drill = Drill {
            subject: self.name.to_string(),
            detector: fault.detector.clone(),
            state: DrillState::Blind,
            after: None,
            restart_after: None,
            text: fault.cannot.clone(),
        };
        if let Some(program) = fault.program.clone() {
            match self.start(program) {
                Some(sandbox) => self.watch(&fault, sandbox, &mut drill, report),
                None => {
                    drill.state = DrillState::Never;
                    drill.text = format!("it is not started within {}", Human(FIRST_START_MAX));
                }
            }
        }
        report.drills.push(drill);
    }

    /// Lets the fault happen, and what follows from it.
    fn watch(&self, fault: &Fault, mut sandbox: Sandbox, drill: &mut Drill, report: &mut DrillReport) {
        let mut since = sandbox.now;
        let falls_ill = fault.program.as_ref().and_then(|program| program.falls_ill).unwrap_or_default();
        if fault.sleeps {
            sandbox.run(falls_ill + MARGIN);
            since = sandbox.now;
            sandbox.sleep(self.until_next_time(&sandbox));
        }
        let patience = fault.lasts + falls_ill;
        if sandbox.run_until(patience, |sandbox| found(sandbox, fault.sign.as_ref()).is_some())
            && first_kill(&sandbox).is_none()
        {
            sandbox.run_until(restart_horizon(self.service), |sandbox| first_kill(sandbox).is_some());
        }
        report.steps += sandbox.steps;
        let since = sandbox.fell_ill.filter(|_| !fault.sleeps).unwrap_or(since);
        if let Some((at, text)) = found(&sandbox, fault.sign.as_ref()) {
            drill.state = DrillState::Fired;
            drill.after = Some(at.since(since));
            drill.restart_after = first_kill(&sandbox).map(|at| at.since(since));
            drill.text = text;
        } else if fault.cannot.is_empty() {
            drill.state = DrillState::Never;
            drill.text = self.why_not(&sandbox, patience);
        }
    }

    /// So long the machine has to sleep to miss the next time of the calendar: what is a little late is still met.
    fn until_next_time(&self, sandbox: &Sandbox) -> Duration {
        let now = sandbox.time_of_day();
        let next = match self.service.schedule.as_ref().map(|schedule| &schedule.when) {
            Some(When::Cron(calendar)) => calendar.next_after(now),
            Some(When::Every(_)) | None => None,
        };
        let ahead = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        ahead.unwrap_or_default() + LATE_MAX + MARGIN
    }

    /// The best that was reached.
    fn why_not(&self, sandbox: &Sandbox, watched: Duration) -> String {
        let exits = sandbox.most_exits;
        let kills = count(sandbox, |what| matches!(what, What::KillDecided { .. }));
        let seen = match (exits, kills) {
            (0, 0) => String::new(),
            (exits, 0) => {
                let (limit, within) = (self.service.restart.crash_loop, Human(self.service.restart.within));
                format!("; at most {exits} exits within {within}, {limit} are needed")
            }
            (_, kills) => format!("; {kills} restarts"),
        };
        format!("did not fire within {} of the fault{seen}", Human(watched))
    }
}

/// What is started does not matter here, and may hold secrets.
fn no_launch(service: &ServicePlan) -> LaunchPlan {
    LaunchPlan { command: vec!["selftest".into()], environment: BTreeMap::new(), ..service.launch.clone() }
}

/// The longest time after which this plan notices anything.
fn longest_limit(service: &ServicePlan) -> Duration {
    let values = service.values.values().flat_map(|value| [Some(value.stale), value.dead]).flatten();
    let expects = service.expects.values().map(|expect| expect.within);
    let work = service.progress.values().map(|work| work.stalled * 2);
    let fixed = [service.startup, service.deadline * 3];
    values.chain(expects).chain(work).chain(fixed).max().unwrap_or(service.deadline)
}

/// A restart that is to come has been decided by then.
fn restart_horizon(service: &ServicePlan) -> Duration {
    let work = service.progress.values().map(|work| work.stalled);
    work.chain([service.deadline]).max().unwrap_or(service.deadline).saturating_mul(4)
}

/// Incidents that were opened, each kind once.
fn opened(sandbox: &Sandbox) -> BTreeMap<IncidentKind, String> {
    let mut kinds = BTreeMap::new();
    for (_, event) in &sandbox.traces.log {
        if let What::IncidentOpened { kind, reason, .. } = &event.what {
            kinds.entry(*kind).or_insert_with(|| reason.text.clone());
        }
    }
    kinds
}

/// The first event that shows that the detector fired.
fn found(sandbox: &Sandbox, sign: &Sign) -> Option<(Mono, String)> {
    sandbox.traces.log.iter().find_map(|(at, event)| sign(&event.what).map(|text| (*at, text)))
}

fn first_kill(sandbox: &Sandbox) -> Option<Mono> {
    let kill = |what: &What| matches!(what, What::KillDecided { .. });
    sandbox.traces.log.iter().find(|(_, event)| kill(&event.what)).map(|(at, _)| *at)
}

fn count(sandbox: &Sandbox, wanted: impl Fn(&What) -> bool) -> usize {
    sandbox.traces.log.iter().filter(|(_, event)| wanted(&event.what)).count()
}

/// What happened to Horus, a monitor or all services, as one row.
fn row(subject: &str, detector: &str, sandbox: &Sandbox, since: Mono, kind: IncidentKind) -> Drill {
    let sign = move |what: &What| match what {
        What::IncidentOpened { kind: opened, reason, .. } if *opened == kind => Some(reason.text.clone()),
        _ => None,
    };
    let found = found(sandbox, &sign);
    Drill {
        subject: subject.to_owned(),
        detector: detector.to_owned(),
        state: if found.is_some() { DrillState::Fired } else { DrillState::Never },
        after: found.as_ref().map(|(at, _)| at.since(since)),
        restart_after: None,
        text: found.map_or_else(|| "did not fire".to_owned(), |(_, text)| text),
    }
}

fn drill_monitor(plan: &Plan, name: &MonitorName, report: &mut DrillReport) {
    let Some(monitor) = plan.monitors.get(name) else { return };
    let monitors = [(name.clone(), monitor.clone())].into();
    let mut sandbox = Sandbox::new(Plan { monitors, ..Plan::default() }).begin();
    sandbox.run(MARGIN);
    sandbox.set_monitor(name, false);
    let since = sandbox.now;
    sandbox.run(monitor.down_after + monitor.check.every() * 2 + MARGIN);
    report.steps += sandbox.steps;
    report.drills.push(row(name.as_str(), "monitor down", &sandbox, since, IncidentKind::MonitorDown));
}

/// All services hang in the same moment.
fn drill_common_cause(plan: &Plan, report: &mut DrillReport) {
    let watched =
        |service: &&ServicePlan| !service.beats.is_empty() && service.schedule.is_none() && service.autostart;
    let count = plan.services.values().filter(watched).count();
    if count < 2 {
        report.drills.push(Drill {
            subject: "horus".into(),
            detector: "common cause".into(),
            state: DrillState::Blind,
            after: None,
            restart_after: None,
            text: "one service alone cannot show a common cause".into(),
        });
        return;
    }
    let alone = |service: &ServicePlan| {
        let (owner, launch) = (Owner::Keeper, no_launch(service));
        ServicePlan { owner, launch, ..service.clone() }
    };
    let services: BTreeMap<_, _> =
        plan.services.iter().map(|(name, service)| (name.clone(), alone(service))).collect();
    let longest = services.values().map(|service| service.deadline).max().unwrap_or_default();
    let started = services.values().map(|service| service.startup).max().unwrap_or_default();
    let names: Vec<_> = services.keys().cloned().collect();
    let daemon = DaemonPlan { mode: Mode::Enforce, ..plan.daemon.clone() };
    let mut sandbox = Sandbox::new(Plan { daemon, services, ..Plan::default() });
    let hangs = Conduct::shows(Shows::Nothing(ProbeFault::NoAnswer));
    for name in &names {
        sandbox = sandbox.program(name, Program::ill_from(started + MARGIN, hangs.clone()));
    }
    let mut sandbox = sandbox.begin();
    sandbox.run(started * 2 + longest * 4 + MARGIN * 2);
    let since = sandbox.fell_ill.unwrap_or(sandbox.now);
    report.steps += sandbox.steps;
    report.drills.push(row("horus", "common cause", &sandbox, since, IncidentKind::CommonCause));
}

/// The state directory, and each sink.
fn drill_horus(plan: &Plan, report: &mut DrillReport) {
    let fault = |text: &str| Some(format!("{text} (selftest)"));
    let mut sandbox = Sandbox::new(Plan::default()).begin();
    let since = sandbox.now;
    sandbox.step(Input::StoreHealth { fault: fault("No space left on device") });
    report.drills.push(row("horus", "records not written", &sandbox, since, IncidentKind::Store));
    for name in plan.sinks.keys() {
        let mut sandbox = Sandbox::new(Plan { sinks: plan.sinks.clone(), ..Plan::default() }).begin();
        let (since, sink) = (sandbox.now, name.to_string());
        sandbox.step(Input::SinkHealth { sink, fault: fault("404 Not Found") });
        report.steps += sandbox.steps;
        let detector = format!("sink {name} dead");
        report.drills.push(row("horus", &detector, &sandbox, since, IncidentKind::SinkDead));
    }
}
