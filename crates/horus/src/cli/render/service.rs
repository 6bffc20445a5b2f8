//! `horus status NAME`: everything about one service, with the reason for each word.

use horus_core::status::{AxisStatus, BeatStatus, LimitStatus, ServiceStatus};

use super::status::Urgency;
use super::style::{Paint, Style};
use super::text::{clean, human, wrap};

/// Columns of the names on the left.
const LABEL: usize = 12;

/// One service, in at most `width` columns.
pub(crate) fn render_service(service: &ServiceStatus, width: usize, style: Style) -> String {
    let urgency = Urgency::of(service);
    let observe = if service.observe { ", only observed" } else { "" };
    let mut sheet = Sheet { out: String::new(), width };
    sheet.out += &format!(
        "{} {}: {}{observe}\n",
        style.paint(urgency.paint(), urgency.mark()),
        style.paint(Paint::Head, service.name.as_str()),
        style.paint(urgency.paint(), service.verdict.word()),
    );
    sheet.line("because", &service.because);
    if let Some(said) = &service.said {
        sheet.line("it says", said);
    }
    sheet.out.push('\n');
    axes(service, &mut sheet);
    sheet.out.push('\n');
    facts(service, &mut sheet);
    if !service.beats.is_empty() {
        sheet.out.push('\n');
        for beat in &service.beats {
            sheet.line(&format!("beat {}", beat.source.word()), &beat_words(beat));
        }
    }
    if let Some(kernel) = &service.kernel {
        sheet.line("kernel", &kernel.phrase);
    }
    for id in &service.incidents {
        sheet.line("incident", &format!("{id} is open; its story: horus incident {id}"));
    }
    sheet.out
}

struct Sheet {
    out: String,
    width: usize,
}

impl Sheet {
    fn line(&mut self, label: &str, text: &str) {
        self.out += &wrap(&clean(text), &format!("   {label:LABEL$} "), self.width);
    }
}

fn axes(service: &ServiceStatus, sheet: &mut Sheet) {
    let words = |word: &str, because: &str| format!("{word}: {because}");
    fn of<T: Copy>(axis: &AxisStatus<T>, word: impl Fn(T) -> &'static str) -> (&'static str, &str) {
        (word(axis.is), &axis.because)
    }
    for (label, (word, because)) in [
        ("process", of(&service.process, |axis| axis.word())),
        ("loop", of(&service.loop_axis, |axis| axis.word())),
        ("progress", of(&service.progress, |axis| axis.word())),
        ("value", of(&service.value, |axis| axis.word())),
    ] {
        sheet.line(label, &words(word, because));
    }
}

fn facts(service: &ServiceStatus, sheet: &mut Sheet) {
    sheet.line("wanted", &format!("{} (phase: {})", service.wanted, service.phase));
    let run = match (service.pid, service.up_for_ms) {
        (Some(pid), Some(up)) => format!("pid {pid}, run #{}, up for {}", service.generation, human(up)),
        (Some(pid), None) => format!("pid {pid}, run #{}", service.generation),
        (None, _) if service.generation == 0 => "never started".into(),
        (None, _) => format!("not running; the last was run #{}", service.generation),
    };
    sheet.line("instance", &run);
    if let Some(next) = service.next_start_in_ms {
        sheet.line("next start", &format!("in {}", human(next)));
    }
    if let Some(hold) = &service.hold {
        let left = match hold.left_ms {
            Some(left) => format!("ends by itself in {}", human(left)),
            None => format!("until: horus resume {}", service.name),
        };
        sheet.line("held", &format!("for {}: {} ({left})", human(hold.for_ms), hold.reason));
    }
    sheet.line("deadline", &human(service.deadline_ms));
    let kills = format!(
        "{} of {} without proof, {} in the last 24 h",
        service.kills_unproven, service.kills_limit, service.kills_today
    );
    sheet.line("kills", &kills);
    let breaker = if service.breaker_open {
        format!("open: no more restarts until: horus resume {}", service.name)
    } else {
        "closed".into()
    };
    sheet.line("breaker", &breaker);
    sheet.line("exits", &format!("{} lately", service.exits_recent));
    for limit in &service.tree_limits {
        sheet.line(&format!("tree {}", limit.limit.word()), &limit_words(limit, service.pid.is_some()));
    }
}

fn limit_words(limit: &LimitStatus, runs: bool) -> String {
    let because = limit.because.as_ref().map(|because| format!(": {because}")).unwrap_or_default();
    match limit.enforced {
        Some(true) => limit.value.clone(),
        Some(false) => format!("{}, NOT enforced{because}", limit.value),
        None if runs => format!("{}, not known yet whether it is enforced", limit.value),
        None => format!("{}, from its next start on", limit.value),
    }
}

fn beat_words(beat: &BeatStatus) -> String {
    let ago = |age: Option<u64>| age.map_or_else(|| "never".into(), |age| format!("{} ago", human(age)));
    let mut words = format!("fresh tick {}, last heard {}", ago(beat.fresh_ms), ago(beat.heard_ms));
    if let Some(tick) = beat.tick {
        words += &format!(", tick {tick}");
    }
    if let Some(lag) = beat.loop_lag_ms {
        words += &format!(", loop lag {lag:.1} ms");
    }
    if let Some(fault) = &beat.fault {
        words += &format!("; the last probe heard: {fault}");
    }
    words
}
