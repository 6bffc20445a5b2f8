//! What a person sees. Data first (`--json`), and the same as aligned text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use horus_core::status::{MonitorStatus, ServiceStatus};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::diff::SubjectDiff;
use super::facts::{one_line, scalar};
use super::step::{CommandView, InputView, Step, Transition};

/// What `help` says.
pub(super) const HELP: &str = "\
step [N]            take the next step, or N of them (s)
back [N]            go back by one step, or by N (b)
continue            go on to the next breakpoint, or to the end (c)
reverse             go back to the last breakpoint before here (r)
goto N              go to step N; also a time since the beginning (90s, 1h 30m), `start`, `end` (g)
break               list the breakpoints
break service NAME  stop at every state change of a service or monitor
break verdict WORD [NAME]    when a verdict is reached, such as `silent`
break phase WORD [NAME]      when a phase is reached, such as `condemned`
break rule WORD [NAME]       when anything is done by a rule, such as `breaker`
break event WORD [NAME]      when an event is recorded, such as `kill_decided`
break command WORD [NAME]    when a command is given; `break signal`, `break start` are short for it
break incident ID            when anything is done about an incident
break at TIME                when so much time has passed since the beginning
delete N            delete a breakpoint; `delete all`
diff [N [M]]        what changed in this step, from step N to here, or from step N to step M (d)
status [NAME]       how everything is here, or every field of one service
commands            what this step asked for, with reasons
where               which step this is (w)
list [N]            the inputs around here, N before and N after (l)
history [N]         the last N state changes up to here (h)
help                this (?)
quit                end (q)
";

/// The answer to one instruction.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Where the session is now.
    Place(Box<Place>),
    /// What changed between two steps.
    Diff {
        /// From after this one.
        from: usize,
        /// To after this one.
        to: usize,
        /// Who changed.
        subjects: Vec<SubjectDiff>,
    },
    /// How everything is.
    Status {
        /// After which step.
        step: usize,
        /// One line each.
        subjects: Vec<ServiceLine>,
    },
    /// One service or monitor.
    Subject {
        /// After which step.
        step: usize,
        /// Which.
        subject: String,
        /// Every field of its status, by its path.
        fields: BTreeMap<String, Value>,
    },
    /// What a step asked for.
    Commands {
        /// Which step.
        step: usize,
        /// What it was told.
        input: InputView,
        /// In the order in which they were given.
        commands: Vec<CommandView>,
    },
    /// The breakpoints.
    Breakpoints {
        /// In the order in which they were set.
        breakpoints: Vec<BreakpointView>,
    },
    /// Inputs.
    Inputs {
        /// The step that was taken last.
        here: usize,
        /// Step, time since the beginning, input.
        #[serde(serialize_with = "inputs_as_objects")]
        inputs: Vec<(usize, Duration, InputView)>,
    },
    /// State changes.
    History {
        /// So many earlier ones are not shown.
        left_out: usize,
        /// In their order.
        transitions: Vec<Transition>,
    },
    /// What can be typed.
    Help,
    /// The end.
    Quit,
}

/// Where a session is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The step that was taken last.
    #[serde(flatten)]
    pub step: Step,
    /// How many there are.
    pub steps: usize,
    /// In which life of Horus, from 1.
    pub life: usize,
    /// How many were recorded.
    pub lives: usize,
    /// The time of day, if the engine was told it.
    pub wall: Option<Timestamp>,
    /// When the engine wants to be woken, from the beginning.
    #[serde(rename = "next_deadline_ms", with = "horus_core::time::millis::option")]
    pub next_deadline: Option<Duration>,
    /// The breakpoints that stopped it here.
    pub hits: Vec<BreakpointView>,
}

/// A breakpoint with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakpointView {
    /// Its number, for `delete`.
    pub number: usize,
    /// What it stops at.
    pub on: String,
}

/// One service or monitor on a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceLine {
    /// Its name.
    pub name: String,
    /// Phase.
    pub phase: String,
    /// Verdict.
    pub verdict: String,
    /// Unproven kills and their limit.
    pub kills: String,
    /// Exits in the window.
    pub exits: String,
    /// Open incidents.
    pub incidents: Vec<String>,
    /// Why the verdict.
    pub because: String,
}

impl ServiceLine {
    pub(super) fn of_service(status: &ServiceStatus) -> Self {
        let mut verdict = status.verdict.word().to_owned();
        for (flag, word) in [(status.breaker_open, "breaker"), (status.hold.is_some(), "hold")] {
            if flag {
                let _infallible = write!(verdict, " +{word}");
            }
        }
        Self {
            name: status.name.to_string(),
            phase: status.phase.clone(),
            verdict,
            kills: format!("{}/{}", status.kills_unproven, status.kills_limit),
            exits: status.exits_recent.to_string(),
            incidents: status.incidents.iter().map(ToString::to_string).collect(),
            because: one_line(&status.because),
        }
    }

    pub(super) fn of_monitor(status: &MonitorStatus) -> Self {
        let verdict = match status.up {
            None => "not asked",
            Some(true) => "up",
            Some(false) => "down",
        };
        Self {
            name: status.name.to_string(),
            phase: "monitor".into(),
            verdict: verdict.into(),
            kills: "-".into(),
            exits: "-".into(),
            incidents: Vec::new(),
            because: one_line(&status.because),
        }
    }
}

fn inputs_as_objects<S: serde::Serializer>(
    inputs: &[(usize, Duration, InputView)],
    out: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        step: usize,
        #[serde(rename = "elapsed_ms", with = "horus_core::time::millis")]
        elapsed: Duration,
        #[serde(flatten)]
        input: &'a InputView,
    }
    out.collect_seq(inputs.iter().map(|(step, elapsed, input)| Row { step: *step, elapsed: *elapsed, input }))
}

/// Time since the beginning: `hh:mm:ss.mmm`, hours without an end.
pub fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let [hours, minutes] = [seconds / 3600, seconds / 60 % 60];
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, elapsed.subsec_millis())
}

impl Answer {
    /// As text; each line ends.
    pub fn text(&self) -> String {
        match self {
            Self::Place(place) => place.text(),
            Self::Diff { from, to, subjects } => diff_text(*from, *to, subjects),
            Self::Status { step, subjects } => status_text(*step, subjects),
            Self::Subject { step, subject, fields } => {
                let rows =
                    fields.iter().map(|(field, value)| vec![format!("  {field}"), scalar(field, value)]);
                format!("{subject} after step {step}\n{}", aligned(rows.collect()))
            }
            Self::Commands { step, input, commands } => {
                let rows = commands.iter().map(command_row).collect();
                let asked =
                    if commands.is_empty() { "  nothing is to be done\n".into() } else { aligned(rows) };
                format!("step {step}: {}\n{asked}", input_text(input))
            }
            Self::Breakpoints { breakpoints } if breakpoints.is_empty() => "no breakpoint is set\n".into(),
            Self::Breakpoints { breakpoints } => breakpoints
                .iter()
                .map(|breakpoint| format!("{:>3}  {}\n", breakpoint.number, breakpoint.on))
                .collect(),
            Self::Inputs { here, inputs } => {
                let rows = inputs.iter().map(|(step, elapsed, input)| {
                    let mark = if step == here { ">" } else { " " };
                    let facts = format!("{} {}", input.kind, input.facts);
                    vec![format!("{mark}{step:>7}"), clock(*elapsed), input.subject.clone(), facts]
                });
                aligned(rows.collect())
            }
            Self::History { left_out, transitions } => {
                let earlier = if *left_out > 0 { format!("({left_out} earlier)\n") } else { String::new() };
                earlier + &Transition::table(transitions)
            }
            Self::Help => HELP.into(),
            Self::Quit => String::new(),
        }
    }
}

impl Place {
    fn text(&self) -> String {
        let Step { step, elapsed, input, commands, transitions } = &self.step;
        let mut out = String::new();
        for hit in &self.hits {
            let _infallible = writeln!(out, "breakpoint {}: {}", hit.number, hit.on);
        }
        let life =
            if self.lives > 1 { format!(", life {} of {}", self.life, self.lives) } else { String::new() };
        let wall = self.wall.map_or_else(String::new, |wall| format!(", {}", wall.strftime("%F %T%.3fZ")));
        let end = if *step == self.steps { ", the end" } else { "" };
        let _infallible =
            writeln!(out, "step {step} of {}{end}, {}{life}{wall}", self.steps, clock(*elapsed));
        let _infallible = writeln!(out, "  {}", input_text(input));
        for line in Transition::table(transitions).lines() {
            let _infallible = writeln!(out, "  {line}");
        }
        if !commands.is_empty() {
            let mut kinds: Vec<(&str, usize)> = Vec::new();
            for command in commands {
                match kinds.iter_mut().find(|(kind, _)| *kind == command.kind) {
                    Some((_, count)) => *count += 1,
                    None => kinds.push((command.kind, 1)),
                }
            }
            let kinds = kinds
                .into_iter()
                .map(|(kind, n)| if n > 1 { format!("{n} {kind}") } else { kind.to_owned() });
            let _infallible = writeln!(out, "  asks for: {}", kinds.collect::<Vec<_>>().join(", "));
        }
        out
    }
}

impl Transition {
    /// One aligned line for each: time since the beginning, whose, from -> to, by which rule, why.
    pub fn table(transitions: &[Self]) -> String {
        aligned(transitions.iter().map(|transition| transition.row().into()).collect())
    }

    /// The same for one that is not laid out with others: the columns have fixed widths.
    pub fn line(&self) -> String {
        let [time, subject, change, rule, why] = self.row();
        format!("{time}  {subject:12}  {change:40}  {rule:14}  {why}\n")
    }

    fn row(&self) -> [String; 5] {
        [
            clock(self.elapsed),
            self.subject.clone(),
            format!("{} -> {}", self.from, self.to),
            self.rule.map_or("-", horus_core::reason::Rule::word).to_owned(),
            self.why.clone(),
        ]
    }
}

fn input_text(input: &InputView) -> String {
    format!("{}: {} {}", input.subject, input.kind, input.facts).trim_end().to_owned()
}

fn command_row(command: &CommandView) -> Vec<String> {
    let run = command.generation.map_or_else(String::new, |run| run.to_string());
    let rule = command.rule.map_or("-", horus_core::reason::Rule::word).to_owned();
    let event = command.event.as_deref().unwrap_or_default();
    let incident = command.incident.map_or_else(String::new, |id| format!("[{id}]"));
    let why = command.why.clone().unwrap_or_default();
    let words = [event, &command.facts, &incident].map(str::to_owned);
    let rest: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let rest = if why.is_empty() { rest.join(" ") } else { format!("{}: {why}", rest.join(" ")) };
    let rest = rest.strip_prefix(": ").map_or(rest.clone(), str::to_owned);
    vec![format!("  {}", command.kind), format!("{}{run}", command.subject), rule, rest]
}

fn status_text(step: usize, subjects: &[ServiceLine]) -> String {
    if subjects.is_empty() {
        return format!("after step {step} there is no plan yet\n");
    }
    let heads = ["NAME", "PHASE", "VERDICT", "KILLS", "EXITS", "INCIDENTS", "BECAUSE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for line in subjects {
        let incidents = if line.incidents.is_empty() { "-".into() } else { line.incidents.join(",") };
        let [name, phase, verdict] = [&line.name, &line.phase, &line.verdict].map(Clone::clone);
        rows.push(vec![
            name,
            phase,
            verdict,
            line.kills.clone(),
            line.exits.clone(),
            incidents,
            line.because.clone(),
        ]);
    }
    aligned(rows)
}

fn diff_text(from: usize, to: usize, subjects: &[SubjectDiff]) -> String {
    let mut out = format!("step {from} -> step {to}\n");
    if subjects.is_empty() {
        out += "  nothing has changed but ages\n";
    }
    for SubjectDiff { subject, changes } in subjects {
        let _infallible = writeln!(out, "  {subject}");
        let rows = changes.iter().map(|change| {
            let [from, to] = change.texts();
            vec![format!("    {}", change.field), from, format!("-> {to}")]
        });
        out += &aligned(rows.collect());
    }
    out
}

/// Columns two spaces apart. A column that is wider than [`COLUMN_MAX`] in one row pushes only that row.
fn aligned(rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            let columns = cell.chars().count();
            *width = (*width).max(if columns <= COLUMN_MAX { columns } else { 0 });
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _infallible = write!(line, "{cell:width$}  ");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// See [`aligned`].
const COLUMN_MAX: usize = 48;
