//! Small faults, one for each thing that the judge knows. Each is a plan, a program and some time; what comes of it is
//! the engine's business.

use std::time::Duration;

use horus_core::calendar::Calendar;
use horus_core::guard::KEEP;
use horus_core::ids::{MonitorName, ServiceName};
use horus_core::observation::{
    Declared, Exit, HostObservation, Input, KernelWord, LoopSeen, OperatorRequest, ProbeFault,
};
use horus_core::plan::{
    BeatPlan, ExpectPlan, FunnelPlan, HttpBeat, MaintenancePlan, MonitorCheck, MonitorPlan, Plan,
    ProgressPlan, Ready, RestartOn, RestartPlan, SchedulePlan, ServicePlan, StopPlan, TcpBeat, ValuePlan,
    When,
};

use super::sandbox::{Conduct, Ending, Program, Sandbox, Shows};

/// A situation: its name, and what happens in it. `None`: a name or a calendar in it is wrong, which a test would see.
pub(crate) type Situation = (&'static str, fn() -> Option<Sandbox>);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// All of them, the plainest first: a word is credited to the first in which it falls.
pub(crate) const SITUATIONS: &[Situation] = &[
    ("it works, and a person stops, starts and restarts it", worked_by_a_person),
    ("it waits for another service", waits_for_another),
    ("it hangs once", hangs_once),
    ("it hangs after every restart", hangs_again_and_again),
    ("its tick stands still while it answers", lies),
    ("it is silent and comes back by itself", comes_back),
    ("it hangs while it is held", hangs_while_held),
    ("it hangs in observe mode", hangs_observed),
    ("it is stuck in one call", || stuck_with(LoopSeen::Blocked)),
    ("its loop burns CPU", || stuck_with(LoopSeen::Spinning)),
    ("it says itself that it hangs", says_that_it_hangs),
    ("nobody can reach it", unreachable),
    ("it says that it is busy, then idle", busy_then_idle),
    ("it crashes once", crashes_once),
    ("it crashes at once, every time", crashes_at_once),
    ("it dies at the same age", dies_at_the_same_age),
    ("it crashes and is not to be restarted", crashes_for_good),
    ("it stops itself on purpose", halts),
    ("it cannot be started", cannot_be_started),
    ("what it needs for itself is used by another", waits_for_a_lock),
    ("its start is never done", never_ready),
    ("it does not die", does_not_die),
    ("its children outlive it", leaves_strays),
    ("it has no beat", has_no_beat),
    ("it has no beat, and the kernel shows that it is stuck", is_seen_stuck),
    ("it works and produces nothing", produces_nothing),
    ("its work stops before one stage", funnel_is_blocked),
    ("its work stands still while its loop turns", work_stalls),
    ("it has nothing to work on", has_nothing_to_work_on),
    ("it stalls every day at the same time", stalls_every_day),
    ("a monitor is down", monitor_is_down),
    ("the disk is full and a sink is gone", own_faults),
    ("the plan changes under it, then drops it", reloads),
    ("Horus is told to end", shuts_down),
    ("Horus was late", was_late),
    ("everybody turns red at once", common_cause),
    ("several crash at once, each in its own way", storm),
    ("the machine was suspended", suspended),
    ("the clock is set", clock_is_set),
    ("everybody waits for the processor", starves),
    ("Horus's own prober is broken", prober_is_broken),
    ("restarts for silence help nobody", detector_is_wrong),
    ("it hangs while a person works on it by plan", hangs_in_maintenance),
    ("a job runs, then does not finish", job_does_not_finish),
    ("the machine sleeps through the time of a job", job_is_missed),
];

/// A service with the usual numbers (three restarts, proven after 5 min) and a deadline of 10 s.
fn bot() -> ServicePlan {
    let plain = ServicePlan::plain(vec!["bot".into()]);
    ServicePlan {
        ready: Ready::Tick,
        beats: vec![BeatPlan::Http(HttpBeat {
            url: "http://127.0.0.1:1/".into(),
            every: SECOND,
            timeout: SECOND,
            seq: Some("/seq".into()),
            progress: Some("/progress".into()),
            state: Some("/state".into()),
            lag: None,
            gauges: Some("/gauges".into()),
        })],
        deadline: 10 * SECOND,
        stop: StopPlan { signal: "SIGTERM".into(), grace: 5 * SECOND },
        restart: RestartPlan { on: RestartOn::Always, ..plain.restart.clone() },
        ..plain
    }
}

fn named(text: &str) -> Option<ServiceName> {
    ServiceName::parse(text).ok()
}

fn the_bot() -> Option<ServiceName> {
    named("bot")
}

fn plan_of(services: impl IntoIterator<Item = (ServiceName, ServicePlan)>) -> Plan {
    Plan { services: services.into_iter().collect(), ..Plan::default() }
}

/// One bot whose program behaves like this.
fn one(plan: ServicePlan, program: Program) -> Option<Sandbox> {
    let bot = the_bot()?;
    Some(Sandbox::new(plan_of([(bot.clone(), plan)])).program(&bot, program).begin())
}

fn hangs() -> Conduct {
    Conduct::shows(Shows::Nothing(ProbeFault::NoAnswer))
}

fn hangs_from(age: Duration) -> Program {
    Program::ill_from(age, hangs())
}

fn worked_by_a_person() -> Option<Sandbox> {
    let bot = the_bot()?;
    let mut sandbox = one(self::bot(), Program::well())?;
    for request in [OperatorRequest::Stop, OperatorRequest::Start, OperatorRequest::Restart] {
        sandbox.run(MINUTE);
        sandbox.ask(request(bot.clone()));
    }
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn waits_for_another() -> Option<Sandbox> {
    let (first, second) = (named("first")?, named("second")?);
    let waiting = ServicePlan { after: vec![first.clone()], ..bot() };
    let plan = plan_of([(first.clone(), bot()), (second.clone(), waiting)]);
    let never_ready = Program { well: hangs(), ..Program::well() };
    let mut sandbox = Sandbox::new(plan).program(&first, never_ready).begin();
    // It waits from the start, which is no news; after a hold it is.
    let (service, reason) = (second.clone(), "selftest".to_owned());
    sandbox.ask(OperatorRequest::Hold { service, reason, expires_in: None, stop: false });
    sandbox.ask(OperatorRequest::Resume { service: second, reason: None });
    sandbox.run(10 * SECOND);
    sandbox.behave(&first, Conduct::well());
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn hangs_once() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program { ill_runs: 1, ..hangs_from(MINUTE) })?;
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

fn hangs_again_and_again() -> Option<Sandbox> {
    let mut sandbox = one(bot(), hangs_from(30 * SECOND))?;
    sandbox.run(HOUR);
    sandbox.ask(OperatorRequest::Resume { service: the_bot()?, reason: None });
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn lies() -> Option<Sandbox> {
    let program = Program::ill_from(MINUTE, Conduct::shows(Shows::OldTick));
    let mut sandbox = one(bot(), program)?;
    sandbox.run(3 * MINUTE);
    Some(sandbox)
}

fn comes_back() -> Option<Sandbox> {
    let bot = the_bot()?;
    let mut sandbox = one(self::bot(), Program::well())?;
    sandbox.run(MINUTE);
    sandbox.behave(&bot, hangs());
    sandbox.run(15 * SECOND);
    sandbox.behave(&bot, Conduct::well());
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn hangs_while_held() -> Option<Sandbox> {
    let mut sandbox = one(bot(), hangs_from(MINUTE))?;
    let hold = |stop, expires_in| {
        Some(OperatorRequest::Hold { service: the_bot()?, reason: "selftest".into(), expires_in, stop })
    };
    sandbox.ask(hold(false, None)?);
    sandbox.run(3 * MINUTE);
    sandbox.ask(hold(true, Some(MINUTE))?);
    sandbox.run(3 * MINUTE);
    Some(sandbox)
}

fn hangs_observed() -> Option<Sandbox> {
    let mut sandbox = one(ServicePlan { observe: true, ..bot() }, Program::well())?;
    sandbox.run(MINUTE);
    sandbox.behave(&the_bot()?, hangs());
    sandbox.run(3 * MINUTE);
    sandbox.behave(&the_bot()?, Conduct::well());
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn stuck_with(seen: LoopSeen) -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program::ill_from(MINUTE, Conduct { seen: Some(seen), ..hangs() }))?;
    sandbox.run(3 * MINUTE);
    Some(sandbox)
}

fn is_seen_stuck() -> Option<Sandbox> {
    let bot = the_bot()?;
    let mut sandbox =
        one(ServicePlan { beats: Vec::new(), ready: Ready::Process, ..self::bot() }, Program::well())?;
    for word in [KernelWord::Alive, KernelWord::Blocked, KernelWord::Undrained, KernelWord::Stopped] {
        sandbox.see(&bot, word, 2 * MINUTE);
    }
    for word in [KernelWord::Paused, KernelWord::Uninterruptible, KernelWord::Thrashing] {
        sandbox.see(&bot, word, 2 * MINUTE);
    }
    for word in [KernelWord::Spinning, KernelWord::Alive] {
        sandbox.see(&bot, word, 2 * MINUTE);
    }
    Some(sandbox)
}

fn says_that_it_hangs() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program::ill_from(MINUTE, hangs()))?;
    sandbox.run(MINUTE + SECOND);
    sandbox.says_that_it_hangs(&the_bot()?);
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn unreachable() -> Option<Sandbox> {
    let conduct = Conduct::shows(Shows::Nothing(ProbeFault::NoPath));
    let mut sandbox = one(bot(), Program::ill_from(MINUTE, conduct))?;
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

fn busy_then_idle() -> Option<Sandbox> {
    let bot = the_bot()?;
    let mut sandbox = one(self::bot(), Program::well())?;
    for declared in [Declared::Busy(MINUTE), Declared::Idle, Declared::Ok] {
        sandbox.run(MINUTE);
        sandbox.behave(&bot, Conduct { declared: Some(declared), ..Conduct::well() });
    }
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn ends_from(age: Duration, exit: Exit) -> Program {
    Program::ill_from(age, Conduct::shows(Shows::Ends(exit)))
}

fn crashes_once() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program { ill_runs: 1, ..ends_from(MINUTE, Exit::Signal(11)) })?;
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

fn crashes_at_once() -> Option<Sandbox> {
    let mut sandbox = one(bot(), ends_from(100 * Duration::from_millis(1), Exit::Code(1)))?;
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

fn dies_at_the_same_age() -> Option<Sandbox> {
    let mut sandbox = one(bot(), ends_from(129 * SECOND, Exit::Signal(15)))?;
    sandbox.run(20 * MINUTE);
    Some(sandbox)
}

fn crashes_for_good() -> Option<Sandbox> {
    let restart = RestartPlan { on: RestartOn::Never, ..bot().restart };
    let mut sandbox = one(ServicePlan { restart, ..bot() }, ends_from(MINUTE, Exit::Code(1)))?;
    sandbox.run(3 * MINUTE);
    Some(sandbox)
}

fn halts() -> Option<Sandbox> {
    let conduct = Conduct { declared: Some(Declared::Halted), ..Conduct::well() };
    let mut sandbox = one(bot(), Program::ill_from(MINUTE, conduct))?;
    sandbox.run(3 * MINUTE);
    sandbox.behave(&the_bot()?, Conduct::shows(Shows::Ends(Exit::Code(0))));
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn cannot_be_started() -> Option<Sandbox> {
    let start_fault = Some("exec: /opt/bot: not found (selftest)".to_owned());
    let mut sandbox = one(bot(), Program { start_fault, ..Program::well() })?;
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn waits_for_a_lock() -> Option<Sandbox> {
    let lock_held = Some("waits for name:selftest, held by another".to_owned());
    let mut sandbox = one(bot(), Program { lock_held, ..Program::well() })?;
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn never_ready() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program { well: hangs(), ..Program::well() })?;
    sandbox.run(3 * MINUTE);
    Some(sandbox)
}

fn does_not_die() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program { ending: Ending::Survives(2), ..hangs_from(MINUTE) })?;
    sandbox.run(5 * MINUTE);
    Some(sandbox)
}

fn leaves_strays() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program { strays: 2, ..ends_from(MINUTE, Exit::Code(1)) })?;
    sandbox.run(3 * MINUTE);
    Some(sandbox)
}

fn has_no_beat() -> Option<Sandbox> {
    let mut sandbox = one(ServicePlan { beats: Vec::new(), ..bot() }, Program::well())?;
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn still(counter: &str) -> Conduct {
    Conduct { still: [counter.to_owned()].into(), ..Conduct::well() }
}

fn produces_nothing() -> Option<Sandbox> {
    let orders = ValuePlan { counter: "orders".into(), stale: HOUR, dead: Some(2 * HOUR) };
    let plan = ServicePlan { values: [("orders".to_owned(), orders)].into(), ..bot() };
    let mut sandbox = one(plan, Program::ill_from(MINUTE, still("orders")))?;
    sandbox.run(3 * HOUR);
    Some(sandbox)
}

fn funnel_is_blocked() -> Option<Sandbox> {
    let funnel = FunnelPlan { stages: ["signals", "orders"].map(Into::into).into(), blocked_after: 5 };
    let plan = ServicePlan { funnels: [("entry".to_owned(), funnel)].into(), ..bot() };
    let mut sandbox = one(plan, Program::ill_from(MINUTE, still("orders")))?;
    sandbox.run(5 * MINUTE);
    Some(sandbox)
}

fn work_stalls() -> Option<Sandbox> {
    let work = ProgressPlan { counter: "bars".into(), stalled: MINUTE };
    let plan = ServicePlan { progress: [("bars".to_owned(), work)].into(), ..bot() };
    let mut sandbox = one(plan, Program::ill_from(MINUTE, still("bars")))?;
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

fn has_nothing_to_work_on() -> Option<Sandbox> {
    let expect = ExpectPlan { gauge: "slots".into(), min: 1.0, within: 2 * MINUTE };
    let plan = ServicePlan { expects: [("slots".to_owned(), expect)].into(), ..bot() };
    let conduct = Conduct { gauges: [("slots".to_owned(), 0.0)].into(), ..Conduct::well() };
    let mut sandbox = one(plan, Program::ill_from(MINUTE, conduct))?;
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

/// Eight minutes of a deadline of ten: late, and never a fault.
fn stalls_every_day() -> Option<Sandbox> {
    let bot = the_bot()?;
    let slow = ServicePlan { deadline: 10 * MINUTE, startup: HOUR, ..self::bot() };
    let mut sandbox = one(slow, Program::well())?;
    sandbox.run(HOUR);
    for _ in 0..4 {
        sandbox.behave(&bot, hangs());
        sandbox.run(8 * MINUTE);
        sandbox.behave(&bot, Conduct::well());
        sandbox.run(DAY - 8 * MINUTE);
    }
    Some(sandbox)
}

fn monitor_is_down() -> Option<Sandbox> {
    let venue = MonitorName::parse("venue").ok()?;
    let check =
        MonitorCheck::Tcp(TcpBeat { address: "127.0.0.1:1".into(), every: 10 * SECOND, timeout: SECOND });
    let monitors = [(venue.clone(), MonitorPlan { check, down_after: MINUTE })].into();
    let mut sandbox = Sandbox::new(Plan { monitors, ..Plan::default() }).begin();
    sandbox.run(MINUTE);
    sandbox.set_monitor(&venue, false);
    sandbox.run(3 * MINUTE);
    sandbox.set_monitor(&venue, true);
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn own_faults() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program::well())?;
    for fault in [Some("No space left on device (selftest)".to_owned()), None] {
        sandbox.step(Input::StoreHealth { fault: fault.clone() });
        let sink = "ops".to_owned();
        sandbox.step(Input::SinkHealth { sink, fault: fault.map(|_| "404 Not Found (selftest)".to_owned()) });
        sandbox.run(MINUTE);
    }
    Some(sandbox)
}

fn reloads() -> Option<Sandbox> {
    let bot = the_bot()?;
    let mut sandbox = one(self::bot(), Program::well())?;
    sandbox.run(MINUTE);
    let mut changed = self::bot();
    changed.launch.command.push("--other".into());
    sandbox.change_plan(plan_of([(bot, changed)]));
    sandbox.run(MINUTE);
    sandbox.change_plan(Plan::default());
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn shuts_down() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program { ending: Ending::Resists, ..Program::well() })?;
    sandbox.run(MINUTE);
    sandbox.step(Input::ShutDown);
    sandbox.run(MINUTE);
    Some(sandbox)
}

fn was_late() -> Option<Sandbox> {
    let mut sandbox = one(bot(), Program::well())?;
    sandbox.run(MINUTE);
    sandbox.oversleep(30 * SECOND);
    sandbox.run(MINUTE);
    Some(sandbox)
}

/// So many bots; the one at each place hangs from its own age on.
fn fleet(size: u32, hangs_at: impl Fn(u32) -> Option<Duration>) -> Option<Sandbox> {
    let names: Vec<_> = (0..size).filter_map(|number| named(&format!("bot-{number}"))).collect();
    let mut sandbox = Sandbox::new(plan_of(names.iter().map(|name| (name.clone(), bot()))));
    for (name, number) in names.iter().zip(0..) {
        if let Some(age) = hangs_at(number) {
            sandbox = sandbox.program(name, hangs_from(age));
        }
    }
    Some(sandbox.begin())
}

fn common_cause() -> Option<Sandbox> {
    let mut sandbox = fleet(8, |number| (number < 5).then_some(MINUTE))?;
    sandbox.run(HOUR);
    Some(sandbox)
}

fn storm() -> Option<Sandbox> {
    let bots = [named("first")?, named("second")?];
    let plan = plan_of(bots.iter().map(|name| (name.clone(), bot())));
    let sandbox = bots.iter().fold(Sandbox::new(plan), |sandbox, name| {
        sandbox.program(name, ends_from(100 * Duration::from_millis(1), Exit::Code(1)))
    });
    let mut sandbox = sandbox.begin();
    sandbox.run(10 * MINUTE);
    Some(sandbox)
}

fn suspended() -> Option<Sandbox> {
    let mut sandbox = one(bot(), hangs_from(MINUTE))?;
    sandbox.run(MINUTE + 5 * SECOND);
    sandbox.sleep(8 * HOUR);
    sandbox.run(5 * MINUTE);
    Some(sandbox)
}

fn clock_is_set() -> Option<Sandbox> {
    let mut sandbox = one(bot(), hangs_from(MINUTE))?;
    sandbox.run(MINUTE + 5 * SECOND);
    sandbox.step(Input::Host(HostObservation::ClockStepped { by_ms: -3_600_000 }));
    sandbox.step(Input::Wall(sandbox.time_of_day() - HOUR));
    sandbox.run(5 * MINUTE);
    Some(sandbox)
}

fn starves() -> Option<Sandbox> {
    let mut sandbox = one(bot(), hangs_from(MINUTE))?;
    let pressure = |share| Input::Host(HostObservation::Pressure { cpu: share, memory: share, io: share });
    sandbox.run(50 * SECOND);
    for _ in 0..12 {
        sandbox.step(pressure(0.95));
        sandbox.run(10 * SECOND);
    }
    sandbox.step(pressure(0.0));
    sandbox.run(5 * MINUTE);
    Some(sandbox)
}

fn prober_is_broken() -> Option<Sandbox> {
    let mut sandbox = one(bot(), hangs_from(MINUTE))?;
    sandbox.run(MINUTE);
    for fault in [Some("no answer from its own port (selftest)".to_owned()), None] {
        for _ in 0..12 {
            sandbox.step(Input::Host(HostObservation::Canary { fault: fault.clone() }));
            sandbox.run(5 * SECOND);
        }
    }
    Some(sandbox)
}

/// One after the other and few of many, so that nobody suspects a common cause; and no restart cures any of them.
fn detector_is_wrong() -> Option<Sandbox> {
    let mut sandbox = fleet(14, |number| (number < 4).then_some(KEEP * number + MINUTE))?;
    for number in 0..4 {
        // From its first fault on it hangs half a minute after each start.
        sandbox = sandbox.program(&named(&format!("bot-{number}"))?, hangs_from(30 * SECOND));
        sandbox.run(KEEP);
    }
    sandbox.run(HOUR);
    Some(sandbox)
}

fn hangs_in_maintenance() -> Option<Sandbox> {
    let when = Calendar::parse("5 * * * *", "UTC").ok()?;
    let window = MaintenancePlan { services: Vec::new(), when, lasts: 10 * MINUTE };
    let bot = the_bot()?;
    let mut plan = plan_of([(bot.clone(), self::bot())]);
    plan.maintenance.insert("patching".into(), window);
    let mut sandbox = Sandbox::new(plan).program(&bot, hangs_from(6 * MINUTE)).begin();
    sandbox.run(HOUR);
    Some(sandbox)
}

fn job(when: When) -> ServicePlan {
    let schedule = SchedulePlan { when, finish: 10 * MINUTE, catch_up: true };
    let restart = RestartPlan { on: RestartOn::Never, ..bot().restart };
    ServicePlan { beats: Vec::new(), schedule: Some(schedule), restart, ..bot() }
}

fn job_does_not_finish() -> Option<Sandbox> {
    let bot = the_bot()?;
    let mut sandbox = one(job(When::Every(HOUR)), ends_from(5 * MINUTE, Exit::Code(0)))?;
    sandbox.run(3 * HOUR);
    sandbox = sandbox.program(&bot, Program::well());
    sandbox.run(3 * HOUR);
    Some(sandbox)
}

fn job_is_missed() -> Option<Sandbox> {
    let hourly = When::Cron(Calendar::parse("0 * * * *", "UTC").ok()?);
    let mut sandbox = one(job(hourly), ends_from(5 * MINUTE, Exit::Code(0)))?;
    sandbox.run(90 * MINUTE);
    sandbox.sleep(3 * HOUR);
    sandbox.run(HOUR);
    Some(sandbox)
}
