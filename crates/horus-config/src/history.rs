//! What only shows with a record at hand: settings that fit the file, and not the program.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::ids::ServiceName;
use serde::{Deserialize, Serialize};

use crate::Checked;
use crate::fault::{Code, Fault};
use crate::words::duration_text as text;

/// How long the starts of a service took, from the spawn to the first fresh tick, as far as they came to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartHistory {
    /// How many starts were recorded.
    pub count: u64,
    /// The longest of them.
    pub longest: Duration,
    /// 99 of 100 took no longer than this.
    pub p99: Duration,
}

/// Warnings about settings that contradict what was recorded: a startup cap shorter than real starts. Services without a
/// record are passed over.
pub fn lint_with_history(checked: &Checked, starts: &BTreeMap<ServiceName, StartHistory>) -> Vec<Fault> {
    let mut findings = checked.findings();
    for (name, service) in &checked.plan.services {
        let Some(history) = starts.get(name).filter(|history| history.count > 0) else {
            continue;
        };
        if service.startup >= history.longest {
            continue;
        }
        let starts = match history.count {
            1 => "the one recorded start".to_owned(),
            count => format!("the longest of {count} recorded starts"),
        };
        let often = if service.startup < history.p99 {
            "more than one start in a hundred"
        } else {
            "now and then a start"
        };
        findings
            .report(
                Code::StartupBelowRecord,
                &checked.startup_place(name),
                format!(
                    "`{name}` has {} for its first tick, but {starts} took {}: {often} would be told as one that is not done",
                    text(service.startup),
                    text(history.longest)
                ),
            )
            .label("shorter than real starts")
            .help(format!("write `startup = \"{}\"`, half as long again", text(generous(history.longest))));
    }
    findings.finish()
}

/// How long a service paused between two fresh ticks and then went on by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseHistory {
    /// How many gaps between two ticks were recorded.
    pub count: u64,
    /// The longest of those that ended without anybody's help.
    pub longest: Duration,
}

/// Warnings about deadlines that healthy programs have come near to, or passed. Services without a record are passed over.
pub fn lint_with_pauses(checked: &Checked, pauses: &BTreeMap<ServiceName, PauseHistory>) -> Vec<Fault> {
    let mut findings = checked.findings();
    for (name, service) in &checked.plan.services {
        let Some(history) = pauses.get(name).filter(|history| history.count > 0) else {
            continue;
        };
        let needed = history.longest.saturating_mul(2);
        if service.beats.is_empty() || service.deadline >= needed {
            continue;
        }
        let (deadline, longest) = (text(service.deadline), text(history.longest));
        let message = if service.deadline < history.longest {
            format!(
                "this would call a healthy `{name}` silent: it has paused for {longest} and gone on by itself, and its deadline is {deadline}"
            )
        } else {
            format!(
                "`{name}` has paused for {longest} and gone on by itself: more than half of its deadline of {deadline}"
            )
        };
        findings
            .report(Code::DeadlineBelowRecord, &checked.deadline_place(name), message)
            .label("short for this program")
            .help(format!("write `deadline = \"{}\"`: its longest honest pause, times two", text(needed)));
    }
    findings.finish()
}

/// Half as long again, in whole seconds.
fn generous(longest: Duration) -> Duration {
    let half_again = longest.saturating_add(longest / 2);
    Duration::from_secs(half_again.as_secs() + u64::from(half_again.subsec_nanos() > 0))
}
