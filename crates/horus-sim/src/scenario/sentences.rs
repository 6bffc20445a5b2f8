//! The language of scenarios: short sentences, each with one meaning.
//!
//! A sentence is matched word by word against the forms below; `<...>` stands for something to be filled in. What a
//! reviewer reads, what a fault lists and what the machine does are therefore the same table.

use std::collections::BTreeSet;
use std::time::Duration;

use horus_core::ids::{MonitorName, ServiceName};
use horus_core::observation::{Declared, Exit, OperatorRequest};
use horus_core::plan::{BeatKind, Plan};

use super::program::{Act, Trouble};
use super::service;
use super::span::parse_span;

/// One thing to be done to the world.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Something about how each instance of a service behaves from now on.
    Habit(ServiceName, Habit),
    /// The living instance does something.
    Act(ServiceName, Act),
    Monitor(MonitorName, Option<String>),
    Ask(OperatorRequest),
    Host(HostDeed),
    Horus(HorusDeed),
    Store(StoreDeed),
    Sink(String, Option<String>),
    Reload(Box<Plan>),
    BadReload(Vec<String>),
}

/// How instances behave.
#[derive(Clone, Debug)]
pub(super) enum Habit {
    /// Time from the start to the first tick (`None`: it never comes), and between ticks.
    Starts { after: Option<Duration>, every: Duration },
    /// At that age it does that.
    AtAge(Duration, Act),
    /// No habits but starting and ticking.
    Well,
    /// The start itself fails, or works again.
    StartFails(Option<String>),
}

/// What happens to the machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum HostDeed {
    Suspended(Duration),
    ClockSet { by: Duration, back: bool },
    Pressed { by: Pressure, share: f64, lasts: Duration },
    CanarySilent(Duration),
    Rebooted(Duration),
}

/// What everybody on the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    Processor,
    Memory,
    Disk,
}

/// What happens to Horus.
#[derive(Clone, Copy, Debug)]
pub(super) enum HorusDeed {
    Killed(Duration),
    Late(Duration),
    KeeperLost(Duration),
    Ends,
}

/// What happens to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreDeed {
    Full,
    Silent,
    Works,
}

/// Whom a sentence is about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A service of the plan, or all of them.
    Programs(Vec<ServiceName>),
    /// A monitor of the plan.
    Monitor(MonitorName),
    /// A person.
    Operator,
    /// The machine.
    Host,
    /// Horus itself.
    Horus,
    /// The state directory.
    Store,
    /// Where alerts go.
    Sink,
}

/// All forms, by whom they are about.
pub const GRAMMAR: [(&str, &[&str]); 7] = [
    ("a service, or `all`", &PROGRAM_FORMS),
    ("a monitor", &MONITOR_FORMS),
    ("operator", &OPERATOR_FORMS),
    ("host", &HOST_FORMS),
    ("horus", &HORUS_FORMS),
    ("store", &STORE_FORMS),
    ("sink", &SINK_FORMS),
];

const PROGRAM_FORMS: [&str; 29] = [
    "starts in <span>, then ticks every <span>",
    "never becomes ready",
    "each instance <does something> [at age <span>]",
    "each instance is well",
    "each start fails: <text>",
    "each start works",
    "hangs [for <span>]",
    "blocks in <name> [for <span>]",
    "blocks in <name> while a side thread answers [for <span>]",
    "spins in <name> [for <span>]",
    "answers with a still tick [for <span>]",
    "answers with status <number> [for <span>]",
    "is unreachable [for <span>]",
    "is unreachable by <source> [for <span>]",
    "is stopped by <name> [for <span>]",
    "ticks every <span>",
    "ticks again",
    "exits with code <number>",
    "dies by signal <number>",
    "says busy for <span>",
    "says ok | says idle | says halted",
    "asks for <span>",
    "prints <text>",
    "counter <name> +<number> every <span>",
    "counter <name> stands still",
    "gauge <name> = <number>",
    "ignores SIGTERM | takes <span> to end",
    "leaves <number> processes behind",
    "cannot be killed for <span>",
];
const MONITOR_FORMS: [&str; 2] = ["is up", "is down: <text>"];
const OPERATOR_FORMS: [&str; 6] = [
    "hold <service> because <text> [for <span>]",
    "stop and hold <service> because <text> [for <span>]",
    "resume <service>",
    "start <service>",
    "stop <service>",
    "restart <service>",
];
const HOST_FORMS: [&str; 7] = [
    "suspended for <span>",
    "clock set by +<span> | clock set by -<span>",
    "starved <number>% for <span>",
    "short of memory <number>% for <span>",
    "waits for its disk <number>% for <span>",
    "does not hear itself for <span>",
    "rebooted, away for <span>",
];
const HORUS_FORMS: [&str; 4] = [
    "killed and started again after <span>",
    "late by <span>",
    "loses its keeper for <span>",
    "is told to end",
];
const STORE_FORMS: [&str; 3] = ["full", "silent", "works"];
const SINK_FORMS: [&str; 2] = ["<sink> is dead: <text>", "<sink> works"];

impl Subject {
    /// What may be said about it.
    pub(super) fn forms(&self) -> Vec<&'static str> {
        match self {
            Self::Programs(_) => PROGRAM_FORMS.to_vec(),
            Self::Monitor(_) => MONITOR_FORMS.to_vec(),
            Self::Operator => OPERATOR_FORMS.to_vec(),
            Self::Host => HOST_FORMS.to_vec(),
            Self::Horus => HORUS_FORMS.to_vec(),
            Self::Store => STORE_FORMS.to_vec(),
            Self::Sink => SINK_FORMS.to_vec(),
        }
    }
}

/// The names that sentences may use: those of the plan.
pub(super) struct Names<'a> {
    plan: &'a Plan,
}

impl<'a> Names<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan }
    }

    pub(super) fn listed(&self) -> String {
        let mut names: BTreeSet<&str> = self.plan.services.keys().map(ServiceName::as_str).collect();
        names.extend(self.plan.monitors.keys().map(MonitorName::as_str));
        names.extend(["all", "operator", "host", "horus", "config", "store", "sink"]);
        names.into_iter().collect::<Vec<_>>().join(", ")
    }

    pub(super) fn subject(&self, text: &str) -> Option<Subject> {
        Some(match text {
            "all" => Subject::Programs(self.plan.services.keys().cloned().collect()),
            "operator" => Subject::Operator,
            "host" => Subject::Host,
            "horus" => Subject::Horus,
            "store" => Subject::Store,
            "sink" => Subject::Sink,
            _ => match service(self.plan, text) {
                Some(name) => Subject::Programs(vec![name]),
                None => {
                    Subject::Monitor(self.plan.monitors.keys().find(|name| name.as_str() == text)?.clone())
                }
            },
        })
    }

    /// What a sentence means. `None`: it is not understood.
    pub(super) fn deeds(&self, subject: &Subject, sentence: &str) -> Option<Vec<Deed>> {
        match subject {
            Subject::Programs(names) => {
                if let Some(habit) = habit(sentence) {
                    return Some(names.iter().map(|name| Deed::Habit(name.clone(), habit.clone())).collect());
                }
                let act = act(sentence)?;
                Some(names.iter().map(|name| Deed::Act(name.clone(), act.clone())).collect())
            }
            Subject::Monitor(name) => {
                let heard = match sentence {
                    "is up" => None,
                    _ => Some(sentence.strip_prefix("is down: ")?.to_owned()),
                };
                Some(vec![Deed::Monitor(name.clone(), heard)])
            }
            Subject::Operator => self.request(sentence).map(|request| vec![Deed::Ask(request)]),
            Subject::Host => host(sentence).map(|deed| vec![Deed::Host(deed)]),
            Subject::Horus => horus(sentence).map(|deed| vec![Deed::Horus(deed)]),
            Subject::Store => {
                let deed = match sentence {
                    "full" => StoreDeed::Full,
                    "silent" => StoreDeed::Silent,
                    "works" => StoreDeed::Works,
                    _ => return None,
                };
                Some(vec![Deed::Store(deed)])
            }
            Subject::Sink => self.sink(sentence).map(|deed| vec![deed]),
        }
    }

    fn sink(&self, sentence: &str) -> Option<Deed> {
        let known = |name: &str| self.plan.sinks.keys().any(|sink| sink.as_str() == name);
        if let Some((name, fault)) = sentence.split_once(" is dead: ") {
            return known(name).then(|| Deed::Sink(name.to_owned(), Some(fault.to_owned())));
        }
        let name = sentence.strip_suffix(" works")?;
        known(name).then(|| Deed::Sink(name.to_owned(), None))
    }

    fn request(&self, sentence: &str) -> Option<OperatorRequest> {
        let (order, stop) = match sentence.strip_prefix("stop and ") {
            Some(rest) if rest.starts_with("hold ") => (rest, true),
            _ => (sentence, false),
        };
        let (verb, rest) = order.split_once(' ')?;
        if verb == "hold" {
            let (name, why) = rest.split_once(" because ")?;
            let (reason, expires_in) = limited(why);
            let (service, reason) = (service(self.plan, name)?, reason.to_owned());
            return Some(OperatorRequest::Hold { service, reason, expires_in, stop });
        }
        let service = service(self.plan, rest)?;
        Some(match verb {
            "resume" => OperatorRequest::Resume { service, reason: None },
            "start" => OperatorRequest::Start(service),
            "stop" => OperatorRequest::Stop(service),
            "restart" => OperatorRequest::Restart(service),
            _ => return None,
        })
    }
}

/// Takes "[for <span>]" off the end.
fn limited(sentence: &str) -> (&str, Option<Duration>) {
    match sentence.rsplit_once(" for ") {
        Some((rest, span)) => match parse_span(span) {
            Some(span) => (rest, Some(span)),
            None => (sentence, None),
        },
        None => (sentence, None),
    }
}

fn habit(sentence: &str) -> Option<Habit> {
    if let Some(error) = sentence.strip_prefix("each start fails: ") {
        return Some(Habit::StartFails(Some(error.to_owned())));
    }
    if sentence == "each start works" {
        return Some(Habit::StartFails(None));
    }
    if sentence == "never becomes ready" {
        return Some(Habit::Starts { after: None, every: Duration::from_secs(1) });
    }
    if let Some(rest) = sentence.strip_prefix("starts in ") {
        let (after, every) = rest.split_once(", then ticks every ")?;
        return Some(Habit::Starts { after: Some(parse_span(after)?), every: positive(every)? });
    }
    let rest = sentence.strip_prefix("each instance ")?;
    if rest == "is well" {
        return Some(Habit::Well);
    }
    if let Some(habit) = habit(rest).filter(|_| !rest.starts_with("each ")) {
        return Some(habit);
    }
    let (what, age) = match rest.rsplit_once(" at age ") {
        Some((what, age)) => (what, parse_span(age)?),
        None => (rest, Duration::ZERO),
    };
    Some(Habit::AtAge(age, act(what)?))
}

fn positive(text: &str) -> Option<Duration> {
    parse_span(text).filter(|span| !span.is_zero())
}

fn act(sentence: &str) -> Option<Act> {
    if let Some(act) = plain_act(sentence) {
        return Some(act);
    }
    let (rest, lasts) = limited(sentence);
    trouble(rest).map(|trouble| Act::Trouble(trouble, lasts))
}

fn plain_act(sentence: &str) -> Option<Act> {
    let after = |start: &str| sentence.strip_prefix(start);
    Some(match sentence {
        "ticks again" => Act::TicksAgain,
        "ignores SIGTERM" => Act::IgnoresTerm,
        "says ok" => Act::Says(Declared::Ok),
        "says idle" => Act::Says(Declared::Idle),
        "says halted" => Act::Says(Declared::Halted),
        _ => {
            if let Some(every) = after("ticks every ") {
                Act::Ticks(positive(every)?)
            } else if let Some(code) = after("exits with code ") {
                Act::Exits(Exit::Code(code.parse().ok()?))
            } else if let Some(signal) = after("dies by signal ") {
                Act::Exits(Exit::Signal(signal.parse().ok()?))
            } else if let Some(span) = after("says busy for ") {
                Act::Says(Declared::Busy(parse_span(span)?))
            } else if let Some(span) = after("asks for ") {
                Act::AsksForTime(parse_span(span)?)
            } else if let Some(text) = after("prints ") {
                Act::Prints(text.to_owned())
            } else if let Some(text) = after("counter ") {
                counter(text)?
            } else if let Some(text) = after("gauge ") {
                let (name, value) = text.split_once(" = ")?;
                Act::Gauge(name.to_owned(), value.parse().ok()?)
            } else if let Some(span) = after("takes ").and_then(|rest| rest.strip_suffix(" to end")) {
                Act::EndsIn(parse_span(span)?)
            } else if let Some(count) =
                after("leaves ").and_then(|rest| rest.strip_suffix(" processes behind"))
            {
                Act::Leaves(count.parse().ok()?)
            } else {
                Act::Unkillable(parse_span(after("cannot be killed for ")?)?)
            }
        }
    })
}

fn counter(text: &str) -> Option<Act> {
    if let Some(name) = text.strip_suffix(" stands still") {
        return Some(Act::Counts { counter: name.to_owned(), step: 0, every: Duration::from_secs(1) });
    }
    let (name, rest) = text.split_once(" +")?;
    let (step, every) = rest.split_once(" every ")?;
    Some(Act::Counts { counter: name.to_owned(), step: step.parse().ok()?, every: positive(every)? })
}

fn trouble(sentence: &str) -> Option<Trouble> {
    let after = |start: &str| sentence.strip_prefix(start);
    Some(match sentence {
        "hangs" => Trouble::Hangs,
        "answers with a still tick" => Trouble::StillTick,
        "is unreachable" => Trouble::Unreachable,
        _ => {
            if let Some(place) = after("blocks in ") {
                match place.strip_suffix(" while a side thread answers") {
                    Some(place) => Trouble::BlocksBehindAnAnswer(one_word(place)?),
                    None => Trouble::Blocks(one_word(place)?),
                }
            } else if let Some(place) = after("spins in ") {
                Trouble::Spins(one_word(place)?)
            } else if let Some(by) = after("is stopped by ") {
                Trouble::Stopped(one_word(by)?)
            } else if let Some(status) = after("answers with status ") {
                Trouble::Status(status.parse().ok()?)
            } else {
                Trouble::UnreachableBy(source(after("is unreachable by ")?)?)
            }
        }
    })
}

fn one_word(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains(' ')).then(|| text.to_owned())
}

fn source(word: &str) -> Option<BeatKind> {
    let all =
        [BeatKind::Http, BeatKind::Notify, BeatKind::File, BeatKind::Log, BeatKind::Tcp, BeatKind::Exec];
    all.into_iter().find(|kind| kind.word() == word)
}

fn host(sentence: &str) -> Option<HostDeed> {
    let after = |start: &str| sentence.strip_prefix(start);
    if let Some(by) = after("clock set by ") {
        let (back, span) = match by.strip_prefix('-') {
            Some(span) => (true, span),
            None => (false, by.strip_prefix('+')?),
        };
        return Some(HostDeed::ClockSet { by: parse_span(span)?, back });
    }
    let presses = [
        ("starved ", Pressure::Processor),
        ("short of memory ", Pressure::Memory),
        ("waits for its disk ", Pressure::Disk),
    ];
    for (start, by) in presses {
        if let Some(rest) = after(start) {
            let (percent, lasts) = rest.split_once("% for ")?;
            let share = percent.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share))? / 100.0;
            return Some(HostDeed::Pressed { by, share, lasts: parse_span(lasts)? });
        }
    }
    let span = |start: &str| after(start).and_then(parse_span);
    span("suspended for ")
        .map(HostDeed::Suspended)
        .or_else(|| span("does not hear itself for ").map(HostDeed::CanarySilent))
        .or_else(|| span("rebooted, away for ").map(HostDeed::Rebooted))
}

fn horus(sentence: &str) -> Option<HorusDeed> {
    let span = |start: &str| sentence.strip_prefix(start).and_then(parse_span);
    if sentence == "is told to end" {
        return Some(HorusDeed::Ends);
    }
    span("killed and started again after ")
        .map(HorusDeed::Killed)
        .or_else(|| span("late by ").map(HorusDeed::Late))
        .or_else(|| span("loses its keeper for ").map(HorusDeed::KeeperLost))
}
