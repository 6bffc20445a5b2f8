//! What one step was: the input, the commands that it gave, and the states that it changed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use horus_core::command::{Answer, Command};
use horus_core::event::{Event, What};
use horus_core::ids::{Generation, IncidentId};
use horus_core::observation::Input;
use horus_core::reason::{Reason, Rule};
use horus_core::status::{MonitorStatus, ServiceStatus, StatusReport};
use horus_core::verdict::Verdict;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::facts::{facts, one_line, tagged};
use crate::recording::{Birth, Line};

/// The subject of what is about Horus itself.
const HORUS: &str = "horus";

/// One step, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Which, from 1.
    pub step: usize,
    /// From the beginning of the recording.
    #[serde(rename = "elapsed_ms", with = "horus_core::time::millis")]
    pub elapsed: Duration,
    /// What the engine was told.
    pub input: InputView,
    /// What it asked for.
    pub commands: Vec<CommandView>,
    /// Whose state changed.
    pub transitions: Vec<Transition>,
}

/// What the engine was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputView {
    /// About whom: a service, a monitor, a sink, or `horus`.
    pub subject: String,
    /// What, in the word of the format.
    pub kind: String,
    /// The rest, as `key=value` words.
    pub facts: String,
    /// The incident that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
}

/// What the engine asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandView {
    /// The command's word, as breakpoints take it.
    pub kind: &'static str,
    /// About whom.
    pub subject: String,
    /// About which run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The incident that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// For a record: the kind of the event, in the word of the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// By which rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The numbers of the rule, as a sentence fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The rest, as `key=value` words.
    pub facts: String,
}

/// The words of all commands.
pub(super) const COMMAND_KINDS: [&str; 13] = [
    "start", "signal", "kill", "watch", "hasten", "unwatch", "capture", "record", "tell", "remember",
    "confirm", "answer", "finished",
];

/// Where a subject stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not in the plan.
    Absent,
    /// A service.
    Service {
        /// The phase's word.
        phase: String,
        /// What is concluded.
        verdict: Verdict,
        /// Its breaker is open.
        breaker_open: bool,
        /// A hold is in force.
        held: bool,
    },
    /// A monitor; `None`: not asked yet.
    Monitor {
        /// As expected?
        up: Option<bool>,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Absent => "-".to_owned(),
            Self::Monitor { up: None } => "not asked".to_owned(),
            Self::Monitor { up: Some(true) } => "up".to_owned(),
            Self::Monitor { up: Some(false) } => "down".to_owned(),
            Self::Service { phase, verdict, breaker_open, held } => {
                let verdict = verdict.word();
                let mut text = phase.clone();
                if phase != verdict {
                    text = format!("{phase}:{verdict}");
                }
                if *breaker_open {
                    text.push_str(" +breaker");
                }
                if *held {
                    text.push_str(" +hold");
                }
                text
            }
        };
        f.pad(&text)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// The state of one subject has changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transition {
    /// In which step.
    pub step: usize,
    /// From the beginning of the recording.
    #[serde(rename = "elapsed_ms", with = "horus_core::time::millis")]
    pub elapsed: Duration,
    /// Whose.
    pub subject: String,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// By which rule, if the step named one.
    pub rule: Option<Rule>,
    /// Why.
    pub why: String,
}

/// The states of all subjects, with what status says of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Glance(BTreeMap<String, (State, String)>);

impl Glance {
    pub(super) fn of(report: StatusReport) -> Self {
        let services = report.services.into_iter().map(of_service);
        Self(services.chain(report.monitors.into_iter().map(of_monitor)).collect())
    }
}

fn of_service(status: ServiceStatus) -> (String, (State, String)) {
    let ServiceStatus { name, verdict, because, phase, hold, breaker_open, .. } = status;
    (name.to_string(), (State::Service { phase, verdict, breaker_open, held: hold.is_some() }, because))
}

fn of_monitor(status: MonitorStatus) -> (String, (State, String)) {
    (status.name.to_string(), (State::Monitor { up: status.up }, status.because))
}

/// From two glances to the transitions between them, with reasons out of the step's commands. `left`: why a subject that
/// is in the first only is not in the second.
pub(super) fn transitions(
    step: usize,
    elapsed: Duration,
    before: &Glance,
    after: &Glance,
    commands: &[CommandView],
    left: &str,
) -> Vec<Transition> {
    let gone = before.0.iter().filter(|(subject, _)| !after.0.contains_key(*subject));
    let gone = gone.map(|(subject, (from, _))| (subject, from.clone(), State::Absent, left));
    let changed = after.0.iter().filter_map(|(subject, (to, because))| {
        let from = before.0.get(subject).map_or(State::Absent, |(from, _)| from.clone());
        (from != *to).then(|| (subject, from, to.clone(), because.as_str()))
    });
    gone.chain(changed)
        .map(|(subject, from, to, because)| {
            let (rule, why) = reason(subject, &from, &to, commands).unwrap_or((None, because.to_owned()));
            Transition { step, elapsed, subject: subject.clone(), from, to, rule, why: one_line(&why) }
        })
        .collect()
}

/// Why the state of a subject changed: what the step itself said about it. A change of the verdict alone is explained by
/// the judgement; any other (phase, breaker, hold) by what was done.
fn reason(
    subject: &str,
    from: &State,
    to: &State,
    commands: &[CommandView],
) -> Option<(Option<Rule>, String)> {
    let but_the_verdict = |state: &State| match state {
        State::Service { phase, breaker_open, held, .. } => Some((phase.clone(), *breaker_open, *held)),
        State::Absent | State::Monitor { .. } => None,
    };
    let judged = |command: &CommandView| command.event.as_deref() == Some("judged");
    let of_subject = || commands.iter().filter(|command| command.subject == subject);
    let with_reason = |command: &CommandView| command.why.clone().map(|why| (command.rule, why));
    let deed = || of_subject().filter(|command| !judged(command)).find_map(with_reason);
    let happened = || {
        let event = of_subject().find(|command| command.event.is_some() && !judged(command))?;
        Some((None, event.summary()))
    };
    let judgement = || of_subject().filter(|command| judged(command)).find_map(with_reason);
    if but_the_verdict(from) == but_the_verdict(to) {
        judgement().or_else(deed).or_else(happened)
    } else {
        deed().or_else(happened).or_else(judgement)
    }
}

impl InputView {
    pub(super) fn of(line: &Line) -> Self {
        match line {
            Line::Born { born } => Self::of_birth(born),
            Line::Told { input, .. } => Self::of_input(input),
        }
    }

    fn new(subject: &str, kind: String, facts: String) -> Self {
        Self { subject: one_line(subject), kind, facts, incident: None }
    }

    fn of_birth(born: &Birth) -> Self {
        let mut facts = format!("seed={}", born.seed);
        if !born.remembered.is_empty() {
            facts += &format!(" remembered={}", born.remembered.len());
        }
        if !born.note.is_empty() {
            facts += &format!(" note=\"{}\"", one_line(&born.note));
        }
        Self::new(HORUS, "born".into(), facts)
    }

    fn of_input(input: &Input) -> Self {
        let about = |subject: &str, (kind, content): (String, Value)| {
            let facts = facts(&kind, &content, "");
            Self::new(subject, kind, facts)
        };
        match input {
            Input::Service(name, observation) => about(name.as_str(), tagged(observation)),
            Input::Monitor(name, observation) => about(name.as_str(), tagged(observation)),
            Input::Operator { ticket, request } => {
                let (kind, content) = tagged(request);
                let facts = format!("{kind} ticket={ticket} {}", facts("", &content, "service"));
                Self::new(request.service().as_str(), "operator".into(), facts.trim_end().to_owned())
            }
            Input::PlanChanged(plan) => {
                let names: Vec<&str> = plan.services.keys().map(|name| name.as_str()).take(8).collect();
                let [services, monitors, sinks] =
                    [plan.services.len(), plan.monitors.len(), plan.sinks.len()];
                let facts =
                    format!("services={services} ({}) monitors={monitors} sinks={sinks}", names.join(" "));
                Self::new(HORUS, "plan_changed".into(), facts)
            }
            Input::IncidentStored { incident, persisted } => Self {
                incident: Some(*incident),
                ..Self::new(
                    HORUS,
                    "incident_stored".into(),
                    format!("incident={incident} persisted={persisted}"),
                )
            },
            Input::SinkHealth { sink, .. } => about(sink, tagged(input)),
            Input::Wake
            | Input::KeeperLost
            | Input::Reconciled
            | Input::StoreHealth { .. }
            | Input::Wall(_)
            | Input::Host(_)
            | Input::ShutDown => about(HORUS, tagged(input)),
        }
    }
}

impl CommandView {
    fn new(kind: &'static str, subject: impl ToString) -> Self {
        let subject = subject.to_string();
        let facts = String::new();
        Self { kind, subject, generation: None, incident: None, event: None, rule: None, why: None, facts }
    }

    fn run(self, generation: Generation) -> Self {
        Self { generation: Some(generation), ..self }
    }

    fn because(self, reason: &Reason) -> Self {
        Self { rule: Some(reason.rule), why: Some(one_line(&reason.text)), ..self }
    }

    fn with(self, facts: String) -> Self {
        Self { facts, ..self }
    }

    /// On one line, without the subject.
    pub(super) fn summary(&self) -> String {
        let event = self.event.as_deref().unwrap_or(self.kind);
        [event, &self.facts].map(str::to_owned).join(" ").trim_end().to_owned()
    }

    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Start { service, generation, reason } => {
                Self::new("start", service).run(*generation).because(reason)
            }
            Command::Signal { service, generation, signal, reason } => {
                Self::new("signal", service).run(*generation).because(reason).with(one_line(signal))
            }
            Command::KillTree { service, generation, reason } => {
                Self::new("kill", service).run(*generation).because(reason)
            }
            Command::Watch { service, generation } => Self::new("watch", service).run(*generation),
            Command::Hasten { service, fast } => Self::new("hasten", service).with(format!("fast={fast}")),
            Command::Unwatch { service } => Self::new("unwatch", service),
            Command::Capture { service, generation, stage, incident, thread } => {
                let about = thread.map(|thread| format!(" thread={thread}")).unwrap_or_default();
                let with = format!("stage={}{about}", tagged(stage).0);
                let view = Self::new("capture", service).run(*generation).with(with);
                Self { incident: *incident, ..view }
            }
            Command::Record(event) => Self::of_event(event),
            Command::Tell(notice) => {
                let (story, content) = tagged(&notice.story);
                let told =
                    format!("version={} story={story} {}", notice.version, facts(&story, &content, ""));
                let view = Self::new("tell", &notice.subject).with(told.trim_end().to_owned());
                Self { incident: Some(notice.incident), ..view }
            }
            Command::Remember { service, memory } => Self::new("remember", service).with(format!(
                "exits_unproven={} kills_unproven={} breaker_open={}",
                memory.exits_unproven,
                memory.kills_unproven,
                memory.breaker_open.is_some()
            )),
            Command::Confirm { incident } => {
                Self { incident: Some(*incident), ..Self::new("confirm", HORUS) }
            }
            Command::Answer { ticket, answer } => {
                let (kind, text) = match answer {
                    Answer::Done(text) => ("done", text),
                    Answer::Refused { why, .. } => ("refused", why),
                    Answer::Failed(text) => ("failed", text),
                };
                Self::new("answer", HORUS).with(format!("ticket={ticket} {kind}: {}", one_line(text)))
            }
            Command::Finished => Self::new("finished", HORUS),
        }
    }

    fn of_event(event: &Event) -> Self {
        let Event { subject, generation, incident, what } = event;
        let (kind, content) = tagged(what);
        let view = Self::new("record", subject).with(facts(&kind, &content, "reason"));
        let view = Self { generation: *generation, incident: *incident, event: Some(kind), ..view };
        match content.get("reason").map(<Reason as serde::Deserialize>::deserialize) {
            Some(Ok(reason)) => view.because(&reason),
            _ => match what {
                What::OperatorAsked { reason: Some(why), .. } | What::HoldSet { reason: why, .. } => {
                    Self { why: Some(one_line(why)), ..view }
                }
                _ => view,
            },
        }
    }
}
