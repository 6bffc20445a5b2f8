//! The journal in sentences.
//!
//! One exhaustive match per vocabulary: a new kind of event does not compile until somebody has said how it reads.
//! Texts that came from outside are cleaned by whoever lays the sentence out.

use horus_core::event::{DeathCause, Outcome, What};
use horus_core::ids::ServiceName;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{CaptureStage, Exit, Finding};
use horus_core::plan::Severity;
use horus_core::reason::Reason;
use horus_core::time::Human;

/// So many services are named in one line.
const NAMES_MAX: usize = 8;

/// What happened, as a sentence without a full stop.
pub(crate) fn sentence(what: &What) -> String {
    match what {
        What::PlanLoaded { summary } => format!("plan in force: {summary}"),
        What::StartAsked { reason } => format!("start asked: {reason}"),
        What::Started { process } => format!("started as {process}"),
        What::Adopted { process } => format!("{process} was found alive and taken over"),
        What::StartFailed { error } => format!("could not be started: {error}"),
        What::BecameReady { took, by } => format!("ready after {} ({by})", Human(*took)),
        What::Judged { from, to, reason } => format!("judged {} (was {}): {reason}", to.word(), from.word()),
        What::Exited { exit: how, lifetime, cause } => {
            format!("{} after {}{}", ended(*how), Human(*lifetime), doing(*how, *cause))
        }
        What::StraysKilled { count } => format!("{} left over from it killed", processes(*count)),
        What::Delayed { delay, reason } => format!("next start in {}: {reason}", Human(*delay)),
        What::IncidentOpened { kind, severity, reason } => {
            format!("incident opened ({}): {}: {reason}", severity_word(*severity), about(*kind))
        }
        What::EvidenceCaptured { stage, finding } => evidence(*stage, finding),
        What::Told { story, within: Some(within), .. } => format!("told within {within}: {}", gist(story)),
        What::Told { version, story, within: None } => {
            format!("message {version} in the outbox: {}", gist(story))
        }
        What::KillDecided { reason, kill, limit } => format!("restart decided ({kill} of {limit}): {reason}"),
        What::WouldHave { what, reason } => format!("not done: {what}: {reason}"),
        What::Signalled { signal, tree: false, reason } => format!("{signal} sent: {reason}"),
        What::Signalled { signal, tree: true, reason } => {
            format!("{signal} sent to the whole tree: {reason}")
        }
        What::VerifiedGone { killed: 0 } => "verified gone, by pid and start time".into(),
        What::VerifiedGone { killed } => {
            format!("verified gone, by pid and start time; {} had to be killed", processes(*killed))
        }
        What::Recovered { after } => format!("fresh ticks again, {} after the first sign", Human(*after)),
        What::Proven { after } => format!("proven well: fresh ticks for {}", Human(*after)),
        What::BreakerOpened { reason } => format!("breaker open, no more restarts: {reason}"),
        What::BreakerClosed { reason } => format!("breaker closed: {reason}"),
        What::IncidentClosed { outcome: how, lasted } => {
            format!("incident closed after {}: {}", Human(*lasted), outcome(*how))
        }
        What::OperatorAsked { request, reason: None } => format!("a person asked: {request}"),
        What::OperatorAsked { request, reason: Some(reason) } => {
            format!("a person asked: {request} ({reason})")
        }
        What::HoldSet { reason, expires_in: None } => format!("held until resumed: {reason}"),
        What::HoldSet { reason, expires_in: Some(length) } => {
            format!("held for {}: {reason}", Human(*length))
        }
        What::HoldEnded { how } => format!("hold ended: {how}"),
        What::StepBegun { step, after } => {
            let after = after.as_ref().map(|after| format!("`{}` took {}", after.name, Human(after.took)));
            let now = step
                .as_ref()
                .map_or("in no step any more".to_owned(), |step| format!("in the step `{step}`"));
            [Some(now), after].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
        What::SaidStatus { text } => format!("says of itself: {text}"),
        What::OwnLateness { late } => {
            format!("horus was {} late; nothing is concluded from that time", Human(*late))
        }
        What::GuardClosed { reason, services } => guard_closed(reason, services),
        What::GuardOpened { reason } => format!("restarts are possible again: {reason}"),
        What::Folded { into } => format!("told together with incident {into}"),
        What::RunFinished { took } => format!("the run finished, after {}", Human(*took)),
        What::RunSkipped { reason } => format!("a run was not started: {reason}"),
        What::DetectorDemoted { detector, right, wrong } => {
            format!("{} only tells from now on: {right} restarts helped, {wrong} did not", detector.word())
        }
        What::DetectorTrusted { detector, reason } => {
            format!("{} may restart again: {reason}", detector.word())
        }
        What::Host { reason } => format!("the machine: {reason}"),
        What::MaintenanceBegan { name, lasts } => {
            format!("maintenance {name} began, for {}", Human(*lasts))
        }
        What::Stalled { reason, .. } => format!("stalled and came back: {reason}"),
        What::MaintenanceEnded { name } => format!("maintenance {name} ended"),
        What::RuleNoted { text } => format!("done so that it does not happen again: {text}"),
        What::Horus { text } => format!("horus {text}"),
    }
}

fn guard_closed(reason: &Reason, services: &[ServiceName]) -> String {
    let names: Vec<_> = services.iter().take(NAMES_MAX).map(ServiceName::as_str).collect();
    let more = match services.len().saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let who = if names.is_empty() { String::new() } else { format!(" ({}{more})", names.join(", ")) };
    format!("no restarts for now: {reason}{who}")
}

/// "ended with SIGKILL", "was killed by the kernel for want of memory".
fn ended(how: Exit) -> String {
    match how {
        Exit::OutOfMemory { .. } => how.verb(),
        Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => format!("ended with {}", exit(how)),
    }
}

/// Whose doing it was, where that is not said yet.
fn doing(how: Exit, cause: DeathCause) -> &'static str {
    match (cause, how) {
        (DeathCause::Itself, Exit::OutOfMemory { .. }) => "",
        (DeathCause::Itself, _) => ", by itself",
        (DeathCause::Kill, _) => ", restarted by horus",
        (DeathCause::Planned, _) => ", as planned",
    }
}

fn processes(count: u32) -> String {
    if count == 1 { "1 process".into() } else { format!("{count} processes") }
}

fn evidence(stage: CaptureStage, finding: &Finding) -> String {
    let missing: String = finding.missing.iter().map(|missing| format!("; {missing}")).collect();
    format!("evidence ({}): {}{missing}", stage_word(stage), seen(finding))
}

/// What a capture has found, in one phrase.
pub(crate) fn seen(finding: &Finding) -> String {
    match (finding.phrase.as_str(), finding.last_lines.len()) {
        ("", 0) => "nothing could be seen".into(),
        ("", 1) => "the last line of its output".into(),
        ("", lines) => format!("the last {lines} lines of its output"),
        (phrase, _) => phrase.into(),
    }
}

/// The capture's place in the time line.
pub(crate) fn stage_word(stage: CaptureStage) -> &'static str {
    match stage {
        CaptureStage::Early => "first look",
        CaptureStage::Second => "second look",
        CaptureStage::Verdict => "at the verdict",
        CaptureStage::Exit => "at the exit",
    }
}

/// How a process ended, with the name that people know a signal by.
pub(crate) fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => match signal_name(number) {
            Some(name) => name.into(),
            None => format!("signal {number}"),
        },
        Exit::OutOfMemory { .. } | Exit::Unknown => exit.to_string(),
    }
}

/// Signals whose numbers are the same on Linux and macOS.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        _ => return None,
    })
}

/// What an incident is about.
pub(crate) fn about(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Stuck => "its loop stopped",
        IncidentKind::Exit => "it ended by itself",
        IncidentKind::CrashLoop => "it ends again and again",
        IncidentKind::SameAge => "it dies at the same age every time",
        IncidentKind::StartFailed => "it could not be started",
        IncidentKind::StartOverdue => "its start is not done",
        IncidentKind::ProbePath => "its probe fails, nothing is known about it",
        IncidentKind::Valueless => "it runs and produces nothing",
        IncidentKind::FunnelBlocked => "a stage of its work lets nothing through",
        IncidentKind::WillNotDie => "it does not die",
        IncidentKind::MonitorDown => "it does not answer as expected",
        IncidentKind::Store => "the state directory takes no writes",
        IncidentKind::SinkDead => "a sink takes no messages",
        IncidentKind::Halted => "it stopped itself on purpose",
        IncidentKind::Expectation => "it has too little to work on",
        IncidentKind::CommonCause => "many are in trouble at once",
        IncidentKind::RunOverdue => "a run has not finished in time",
        IncidentKind::RunMissed => "a run was not started at its time",
        IncidentKind::Recurrence => "it stalls every day at the same time",
        IncidentKind::Demoted => "a detector was wrong too often",
        IncidentKind::KernelView => "the kernel shows something wrong",
        IncidentKind::Storm => "several are in trouble at once, each in its own way",
    }
}

/// How an incident ended.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::HealedByRestart => "healed by a restart",
        Outcome::CameBackAlone => "came back without any act of horus",
        Outcome::EndedByOperator => "ended by a person",
        Outcome::Superseded => "became part of a worse one",
        Outcome::Removed => "the service left the plan",
    }
}

/// How bad it is.
pub(crate) fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// What a message says, in a few words.
pub(crate) fn gist(story: &Story) -> String {
    match story {
        Story::StuckRestarting { stuck_for, kill, limit, .. } => {
            format!("stuck for {}, restarting ({kill} of {limit})", Human(*stuck_for))
        }
        Story::StuckObserved { stuck_for, .. } => format!("stuck for {}, left alone", Human(*stuck_for)),
        Story::StuckHealed { down_for, .. } => format!("was stuck, healed after {}", Human(*down_for)),
        Story::CameBack { away_for } => format!("was silent for {}, came back alone", Human(*away_for)),
        Story::BreakerOpen { kills, .. } => format!("{kills} restarts did not cure it, a person is needed"),
        Story::ExitHealed { exit, down_for, .. } => {
            format!("ended ({exit}), runs again after {}", Human(*down_for))
        }
        Story::ExitStaysDown { exit, .. } => format!("ended ({exit}), stays down as planned"),
        Story::CrashLoop { exits, within, .. } => format!("{exits} exits within {}", Human(*within)),
        Story::SameAge { deaths, every, .. } => format!("{deaths} deaths, one every {}", Human(*every)),
        Story::StartFailed { error, .. } => format!("could not be started: {error}"),
        Story::StartOverdue { waited, .. } => format!("start not done after {}", Human(*waited)),
        Story::ProbePath { since, .. } => format!("probe fails since {}", Human(*since)),
        Story::KernelView { seen, .. } => seen.clone(),
        Story::Valueless { value, since, .. } => format!("no {value} for {}", Human(*since)),
        Story::FunnelBlocked { from, to, moved, .. } => format!("{moved} {from}, no {to}"),
        Story::WillNotDie { waited, .. } => format!("not dead {} after SIGKILL", Human(*waited)),
        Story::MonitorDown { since, .. } => format!("down since {}", Human(*since)),
        Story::Halted => "stopped itself on purpose".into(),
        Story::StoreTrouble { fault } => format!("state not writable: {fault}"),
        Story::SinkDead { sink, fault } => format!("sink {sink} takes no messages: {fault}"),
        Story::Over { lasted, how } => format!("over after {}: {how}", Human(*lasted)),
        Story::Test => "test".into(),
        Story::NothingToWorkOn { gauge, is: Some(is), min, .. } => {
            format!("{gauge} is {is}, at least {min} is right")
        }
        Story::NothingToWorkOn { gauge, is: None, since, .. } => {
            format!("{gauge} was not heard for {}", Human(*since))
        }
        Story::CommonCause { what, .. } => format!("no restarts for now: {what}"),
        Story::Storm { members, more } => {
            let ill = members.iter().filter(|member| !member.over).count() + *more as usize;
            format!("in trouble at once: {ill}; well again: {}", members.len() + *more as usize - ill)
        }
        Story::RunOverdue { running, finish, step: Some(step), .. } => {
            format!("is in the step `{step}` for {}, {} are allowed", Human(*running), Human(*finish))
        }
        Story::RunOverdue { running, finish, .. } => {
            format!("runs for {}, {} are allowed", Human(*running), Human(*finish))
        }
        Story::RunMissed { missed, because, .. } => format!("missed {missed} of its times: {because}"),
        Story::Recurs { days, lasted } => {
            format!("stalls every day at this time, {days} days in a row, now for {}", Human(*lasted))
        }
        Story::Demoted { detector, right, wrong } => {
            format!("{detector} only tells from now on: {right} right, {wrong} wrong")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use horus_core::event::StepTaken;
    use horus_core::ids::{IncidentId, ProcessId};
    use horus_core::notice::StormMember;
    use horus_core::reason::Rule;
    use horus_core::verdict::Verdict;

    use super::*;

    fn why(text: &str) -> Reason {
        Reason::new(Rule::Silent, text)
    }

    const SECONDS_12: Duration = Duration::from_millis(12_400);

    fn finding() -> Finding {
        Finding {
            stopped: None,
            phrase: "waiting in futex for 11 s".into(),
            bundle: Some("H-7F3K-verdict.txt".into()),
            missing: vec!["no stacks: permission".into()],
            place: None,
            cpu_ns: None,
            seen: None,
            last_lines: Vec::new(),
        }
    }

    /// The event that follows in the list of all. Exhaustive, so that a new one has to be put into the list.
    fn next(what: Option<&What>) -> Option<What> {
        let process = ProcessId { pid: 4711, start_time: 99 };
        let silent = || why("no fresh tick for 12.4 s, deadline 10 s");
        Some(match what {
            None => What::PlanLoaded { summary: "2 services, 1 sink".into() },
            Some(What::PlanLoaded { .. }) => What::StartAsked { reason: why("wanted by the plan") },
            Some(What::StartAsked { .. }) => What::Started { process },
            Some(What::Started { .. }) => What::Adopted { process },
            Some(What::Adopted { .. }) => {
                What::StartFailed { error: "exec: /usr/bin/nope: not found".into() }
            }
            Some(What::StartFailed { .. }) => {
                What::BecameReady { took: SECONDS_12, by: "http tick 1".into() }
            }
            Some(What::BecameReady { .. }) => {
                What::Judged { from: Verdict::Healthy, to: Verdict::Silent, reason: silent() }
            }
            Some(What::Judged { .. }) => {
                What::Exited { exit: Exit::Signal(9), lifetime: SECONDS_12, cause: DeathCause::Itself }
            }
            Some(What::Exited { .. }) => What::StraysKilled { count: 1 },
            Some(What::StraysKilled { .. }) => {
                What::Delayed { delay: SECONDS_12, reason: why("3 exits in 10 min") }
            }
            Some(What::Delayed { .. }) => What::IncidentOpened {
                kind: IncidentKind::Stuck,
                severity: Severity::Critical,
                reason: silent(),
            },
            Some(What::IncidentOpened { .. }) => {
                What::EvidenceCaptured { stage: CaptureStage::Verdict, finding: finding() }
            }
            Some(What::EvidenceCaptured { .. }) => {
                What::Told { version: 2, story: Story::Halted, within: None }
            }
            Some(What::Told { .. }) => What::KillDecided { reason: silent(), kill: 1, limit: 3 },
            Some(What::KillDecided { .. }) => What::WouldHave { what: "restart".into(), reason: silent() },
            Some(What::WouldHave { .. }) => {
                What::Signalled { signal: "SIGTERM".into(), tree: false, reason: silent() }
            }
            Some(What::Signalled { tree: false, .. }) => What::Signalled {
                signal: "SIGKILL".into(),
                tree: true,
                reason: why("still there after 20 s"),
            },
            Some(What::Signalled { tree: true, .. }) => What::VerifiedGone { killed: 0 },
            Some(What::VerifiedGone { killed: 0 }) => What::VerifiedGone { killed: 3 },
            Some(What::VerifiedGone { .. }) => What::Recovered { after: SECONDS_12 },
            Some(What::Recovered { .. }) => What::Proven { after: Duration::from_secs(300) },
            Some(What::Proven { .. }) => What::BreakerOpened { reason: why("3 restarts did not cure it") },
            Some(What::BreakerOpened { .. }) => What::BreakerClosed { reason: why("resumed by a person") },
            Some(What::BreakerClosed { .. }) => {
                What::IncidentClosed { outcome: Outcome::HealedByRestart, lasted: SECONDS_12 }
            }
            Some(What::IncidentClosed { .. }) => What::OperatorAsked { request: "stop".into(), reason: None },
            Some(What::OperatorAsked { reason: None, .. }) => {
                What::OperatorAsked { request: "hold".into(), reason: Some("disk swap".into()) }
            }
            Some(What::OperatorAsked { .. }) => {
                What::HoldSet { reason: "disk swap".into(), expires_in: None }
            }
            Some(What::HoldSet { expires_in: None, .. }) => {
                What::HoldSet { reason: "disk swap".into(), expires_in: Some(Duration::from_secs(7_200)) }
            }
            Some(What::HoldSet { .. }) => What::HoldEnded { how: "it expired".into() },
            Some(What::HoldEnded { .. }) => What::StepBegun {
                step: Some("train".into()),
                after: Some(StepTaken { name: "load".into(), took: Duration::from_secs(130) }),
            },
            Some(What::StepBegun { .. }) => What::SaidStatus { text: "replaying bar 812".into() },
            Some(What::SaidStatus { .. }) => What::OwnLateness { late: SECONDS_12 },
            Some(What::OwnLateness { .. }) => What::RuleNoted { text: "a test in ci".into() },
            Some(What::RuleNoted { .. }) => What::Horus { text: "started 0.1.0".into() },
            Some(What::Horus { .. }) => What::GuardClosed {
                reason: why("5 of 8 services turned red within 40 s"),
                services: ["pipeline", "trading"].map(|name| ServiceName::parse(name).unwrap()).into(),
            },
            Some(What::GuardClosed { .. }) => {
                What::GuardOpened { reason: why("fresh ticks of all for 2 min") }
            }
            Some(What::GuardOpened { .. }) => What::Folded { into: IncidentId::nth(7) },
            Some(What::Folded { .. }) => What::RunFinished { took: SECONDS_12 },
            Some(What::RunFinished { .. }) => What::RunSkipped { reason: why("the run before is not done") },
            Some(What::RunSkipped { .. }) => {
                What::DetectorDemoted { detector: Rule::Silent, right: 1, wrong: 4 }
            }
            Some(What::DetectorDemoted { .. }) => {
                What::DetectorTrusted { detector: Rule::Silent, reason: why("the plan changed") }
            }
            Some(What::DetectorTrusted { .. }) => What::Host { reason: why("suspended for 8 min 39 s") },
            Some(What::Host { .. }) => {
                What::MaintenanceBegan { name: "patching".into(), lasts: Duration::from_secs(7_200) }
            }
            Some(What::MaintenanceBegan { .. }) => What::MaintenanceEnded { name: "patching".into() },
            Some(What::MaintenanceEnded { .. }) => {
                What::Stalled { lasted: SECONDS_12, reason: why("no fresh tick for 12.4 s, then one") }
            }
            Some(What::Stalled { .. }) => return None,
        })
    }

    #[test]
    fn every_event_is_a_sentence() {
        let all: Vec<What> = std::iter::successors(next(None), |what| next(Some(what))).collect();
        let sentences: Vec<String> = all.iter().map(sentence).collect();
        insta::assert_snapshot!(sentences.join("\n"));
    }

    /// The same for messages.
    fn next_story(story: Option<&Story>) -> Option<Story> {
        let how = || "no fresh tick".to_owned();
        let exit = || "exit code 1".to_owned();
        let (stuck_for, down_for, since, waited) = (SECONDS_12, SECONDS_12, SECONDS_12, SECONDS_12);
        Some(match story {
            None => Story::StuckRestarting { stuck_for, how: how(), place: None, kill: 1, limit: 3 },
            Some(Story::StuckRestarting { .. }) => {
                Story::StuckObserved { because: "Observe mode.".into(), stuck_for, how: how(), place: None }
            }
            Some(Story::StuckObserved { .. }) => {
                Story::StuckHealed { stuck_for, down_for, how: how(), place: None }
            }
            Some(Story::StuckHealed { .. }) => Story::CameBack { away_for: SECONDS_12 },
            Some(Story::CameBack { .. }) => {
                Story::BreakerOpen { kills: 3, how: how(), places: vec![], retry: None }
            }
            Some(Story::BreakerOpen { .. }) => {
                Story::ExitHealed { exit: exit(), lifetime: SECONDS_12, down_for, last_line: None }
            }
            Some(Story::ExitHealed { .. }) => {
                Story::ExitStaysDown { exit: exit(), lifetime: SECONDS_12, last_line: None }
            }
            Some(Story::ExitStaysDown { .. }) => Story::CrashLoop {
                exits: 5,
                within: Duration::from_secs(600),
                exit: exit(),
                next_in: SECONDS_12,
                last_line: None,
            },
            Some(Story::CrashLoop { .. }) => {
                Story::SameAge { deaths: 3, every: Duration::from_secs(129), exit: "SIGKILL".into() }
            }
            Some(Story::SameAge { .. }) => Story::StartFailed { error: "not found".into(), next_in: None },
            Some(Story::StartFailed { .. }) => Story::StartOverdue { waited, heard: "status 503".into() },
            Some(Story::StartOverdue { .. }) => Story::ProbePath { since, heard: "refused".into() },
            Some(Story::ProbePath { .. }) => Story::KernelView {
                verdict: Verdict::Blocked,
                lasted: SECONDS_12,
                seen: "blocked in recvfrom from 10.0.0.7:443 for 12 s".into(),
                place: None,
                because: "nothing beats".into(),
            },
            Some(Story::KernelView { .. }) => Story::Valueless {
                value: "orders".into(),
                counter: "orders_filled".into(),
                since: Duration::from_secs(72 * 3_600),
                bound: Duration::from_secs(24 * 3_600),
            },
            Some(Story::Valueless { .. }) => Story::FunnelBlocked {
                funnel: "entry".into(),
                from: "signals".into(),
                moved: 12,
                to: "orders".into(),
            },
            Some(Story::FunnelBlocked { .. }) => Story::WillNotDie { waited, detail: "D state".into() },
            Some(Story::WillNotDie { .. }) => Story::MonitorDown { since, heard: "status 500".into() },
            Some(Story::MonitorDown { .. }) => Story::Halted,
            Some(Story::Halted) => Story::StoreTrouble { fault: "no space left on device".into() },
            Some(Story::StoreTrouble { .. }) => {
                Story::SinkDead { sink: "ops".into(), fault: "status 401".into() }
            }
            Some(Story::SinkDead { .. }) => Story::Over { lasted: SECONDS_12, how: "working again".into() },
            Some(Story::Over { .. }) => Story::Test,
            Some(Story::Test) => {
                Story::NothingToWorkOn { gauge: "slots".into(), is: Some(0.0), min: 1.0, since }
            }
            Some(Story::NothingToWorkOn { is: Some(_), .. }) => {
                Story::NothingToWorkOn { gauge: "slots".into(), is: None, min: 1.0, since }
            }
            Some(Story::NothingToWorkOn { is: None, .. }) => Story::CommonCause {
                what: "5 of 8 services turned red within 40 s".into(),
                services: vec!["pipeline".into(), "trading".into()],
                of: 8,
            },
            Some(Story::CommonCause { .. }) => Story::Storm {
                members: vec![StormMember {
                    subject: "pipeline".into(),
                    kind: IncidentKind::CrashLoop,
                    because: "5 exits within 10 min".into(),
                    needs_you: true,
                    over: false,
                }],
                more: 4,
            },
            Some(Story::Storm { .. }) => Story::RunOverdue {
                running: Duration::from_secs(3_000),
                finish: Duration::from_secs(1_800),
                skipped: 2,
                doing: None,
                step: None,
            },
            Some(Story::RunOverdue { .. }) => {
                Story::RunMissed { missed: 2, because: "it was held".into(), catches_up: true }
            }
            Some(Story::RunMissed { .. }) => Story::Recurs { days: 3, lasted: Duration::from_secs(200) },
            Some(Story::Recurs { .. }) => Story::Demoted { detector: "silent".into(), right: 1, wrong: 4 },
            Some(Story::Demoted { .. }) => return None,
        })
    }

    #[test]
    fn every_message_has_a_gist() {
        let all: Vec<Story> =
            std::iter::successors(next_story(None), |story| next_story(Some(story))).collect();
        let gists: Vec<String> = all.iter().map(gist).collect();
        insta::assert_snapshot!(gists.join("\n"));
    }

    #[test]
    fn exits_are_named_as_people_know_them() {
        assert_eq!(exit(Exit::Code(3)), "exit code 3");
        assert_eq!(exit(Exit::Signal(9)), "SIGKILL");
        assert_eq!(exit(Exit::Signal(64)), "signal 64");
        assert_eq!(exit(Exit::Unknown), "an unknown exit status");
        let killed = |limit_bytes| {
            let (how, cause) = (Exit::OutOfMemory { limit_bytes }, DeathCause::Itself);
            sentence(&What::Exited { exit: how, lifetime: SECONDS_12, cause })
        };
        assert_eq!(
            [killed(Some(512 << 20)), killed(None)],
            [
                "was killed by the kernel for want of memory (limit 512 MiB) after 12.4 s",
                "was killed by the kernel for want of memory (the machine's, not by a limit of its own) after 12.4 s",
            ]
        );
    }

    #[test]
    fn a_capture_of_log_lines_alone_is_not_called_blind() {
        let lines = |count: usize| Finding {
            phrase: String::new(),
            last_lines: vec!["x".into(); count],
            ..finding()
        };
        assert_eq!(seen(&lines(0)), "nothing could be seen");
        assert_eq!(seen(&lines(1)), "the last line of its output");
        assert_eq!(seen(&lines(5)), "the last 5 lines of its output");
        assert_eq!(seen(&finding()), "waiting in futex for 11 s");
    }
}
