//! What an engine gave out, sorted by the words in it.
//!
//! Nothing here knows what *should* have come: a word counts as fired when it stood in a command, and only then.

use std::collections::BTreeMap;

use horus_core::command::Command;
use horus_core::event::{Event, What};
use horus_core::notice::{IncidentKind, Story};
use horus_core::reason::Rule;
use horus_core::time::{Human, Mono};
use horus_core::verdict::Verdict;

/// So many journal rows of one situation are kept; a situation that writes more has gone wild.
pub(crate) const LOG_MAX: usize = 200_000;

/// Makes the list of all words and the word of each variant from the same tokens: a new variant does not compile until
/// it stands here, and then it is in the list.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $list:ident, $word:ident: $type:ident { $($variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        pub const $list: &[&str] = &[$($text),*];

        fn $word(of: &$type) -> &'static str {
            match of {
                $($type::$variant { .. } => $text,)*
            }
        }
    };
}

vocabulary! {
    /// Everything that an incident can be about.
    KINDS, kind_word: IncidentKind {
        Stuck => "stuck",
        Exit => "exit",
        CrashLoop => "crash-loop",
        SameAge => "same-age",
        StartFailed => "start-failed",
        StartOverdue => "start-overdue",
        ProbePath => "probe-path",
        Valueless => "valueless",
        FunnelBlocked => "funnel-blocked",
        WillNotDie => "will-not-die",
        MonitorDown => "monitor-down",
        Store => "store",
        SinkDead => "sink-dead",
        Halted => "halted",
        Expectation => "expectation",
        CommonCause => "common-cause",
        Storm => "storm",
        RunOverdue => "run-overdue",
        RunMissed => "run-missed",
        Demoted => "demoted",
        Recurrence => "recurrence",
        KernelView => "kernel-view",
    }
}

vocabulary! {
    /// Everything that a person can be told. `test` is not the judge's: `horus alerts test` tells it.
    STORIES, story_word: Story {
        StuckRestarting => "stuck_restarting",
        StuckObserved => "stuck_observed",
        StuckHealed => "stuck_healed",
        CameBack => "came_back",
        BreakerOpen => "breaker_open",
        ExitHealed => "exit_healed",
        ExitStaysDown => "exit_stays_down",
        CrashLoop => "crash_loop",
        SameAge => "same_age",
        StartFailed => "start_failed",
        StartOverdue => "start_overdue",
        ProbePath => "probe_path",
        Valueless => "valueless",
        FunnelBlocked => "funnel_blocked",
        WillNotDie => "will_not_die",
        MonitorDown => "monitor_down",
        Halted => "halted",
        StoreTrouble => "store_trouble",
        SinkDead => "sink_dead",
        Over => "over",
        Test => "test",
        NothingToWorkOn => "nothing_to_work_on",
        CommonCause => "common_cause",
        Storm => "storm",
        RunOverdue => "run_overdue",
        RunMissed => "run_missed",
        Demoted => "demoted",
        Recurs => "recurs",
        KernelView => "kernel_view",
    }
}

/// The only story that no judge tells.
pub(crate) const NOT_THE_JUDGES: &str = "test";

/// Everything that was given out in one situation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    /// Each rule with the text of its first reason.
    pub(crate) rules: BTreeMap<Rule, String>,
    /// Each verdict with its first reason.
    pub(crate) verdicts: BTreeMap<Verdict, String>,
    /// Each kind of incident with the first reason for opening one.
    pub(crate) kinds: BTreeMap<&'static str, String>,
    /// Each story with its first subject.
    pub(crate) stories: BTreeMap<&'static str, String>,
    /// The journal.
    pub(crate) log: Vec<(Mono, Event)>,
}

impl Traces {
    /// Takes what one command says.
    pub(crate) fn take(&mut self, now: Mono, command: &Command) {
        match command {
            Command::Start { reason, .. }
            | Command::Signal { reason, .. }
            | Command::KillTree { reason, .. } => self.rule(reason.rule, &reason.text),
            Command::Record(event) => self.event(now, event),
            Command::Tell(notice) => {
                let about = || format!("{}: {}", notice.subject, notice.kind.word());
                self.stories.entry(story_word(&notice.story)).or_insert_with(about);
            }
            Command::Watch { .. }
            | Command::Hasten { .. }
            | Command::Unwatch { .. }
            | Command::Capture { .. }
            | Command::Remember { .. }
            | Command::Confirm { .. }
            | Command::Answer { .. }
            | Command::Finished => {}
        }
    }

    fn event(&mut self, now: Mono, event: &Event) {
        if let Some((rule, text)) = named_rule(&event.what) {
            self.rule(rule, &text);
        }
        match &event.what {
            What::Judged { to, reason, .. } => {
                self.verdicts.entry(*to).or_insert_with(|| reason.text.clone());
            }
            What::IncidentOpened { kind, reason, .. } => {
                self.kinds.entry(kind_word(kind)).or_insert_with(|| reason.text.clone());
            }
            _ => {}
        }
        if self.log.len() < LOG_MAX {
            self.log.push((now, event.clone()));
        }
    }

    fn rule(&mut self, rule: Rule, text: &str) {
        self.rules.entry(rule).or_insert_with(|| text.to_owned());
    }
}

/// The rule that an event names: by its reason, or because the event is that rule's own and carries numbers instead.
fn named_rule(what: &What) -> Option<(Rule, String)> {
    if let Some(reason) = what.reason() {
        return Some((reason.rule, reason.text.clone()));
    }
    match what {
        What::OwnLateness { late } => Some((Rule::OwnLateness, format!("{} late", Human(*late)))),
        What::MaintenanceBegan { name, lasts } => {
            Some((Rule::Maintenance, format!("{name} began, for {}", Human(*lasts))))
        }
        _ => None,
    }
}
