//! `horus selftest`: what fired, when, and what never will.

use horus_sim::selftest::{Drill, DrillReport, DrillState, Fired, Proof};

use super::style::{Paint, Style};
use super::text::{Cell, Table, count, human};

/// What became of one sink.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct SinkRow {
    /// Its name.
    pub(crate) sink: String,
    /// What speaks there.
    pub(crate) kind: horus_core::plan::SinkKind,
    /// Stories that it would be told, of all that were rendered.
    pub(crate) heard: usize,
    /// Stories that were rendered.
    pub(crate) stories: usize,
    /// Bodies that were measured.
    pub(crate) bodies: usize,
    /// Bytes of the largest.
    pub(crate) largest_bytes: usize,
    /// What its service would refuse.
    pub(crate) faults: Vec<String>,
    /// Its URL: found here, or why not. Never the URL itself.
    pub(crate) secret: String,
    /// Was a test message delivered? `None`: none was sent.
    pub(crate) delivered: Option<bool>,
    /// What the sink said to it.
    pub(crate) answer: Option<String>,
}

/// Every word of the judge, one on a line.
pub(crate) fn render_words(proof: &Proof, style: Style) -> String {
    let mut table = Table::default();
    for (part, words) in proof.parts() {
        for word in words {
            table.row(word_cells(part, word), String::new());
        }
    }
    table.render(2, style)
}

fn word_cells(part: &str, word: &Fired) -> Vec<Cell> {
    let (fired, paint) = if word.fired { ("fired", Paint::Good) } else { ("NOT FIRED", Paint::Bad) };
    vec![
        Cell::new(part, Paint::Dim),
        Cell::new(word.name, Paint::Head),
        Cell::new(fired, paint),
        Cell::new(word.situation.unwrap_or_default(), Paint::Plain),
        Cell::new(word.text.as_deref().unwrap_or_default(), Paint::Dim),
    ]
}

/// How many words of each part fired, and those that did not.
pub(crate) fn render_sums(proof: &Proof, style: Style) -> String {
    let mut table = Table::default();
    for (part, words) in proof.parts() {
        let fired = words.iter().filter(|word| word.fired).count();
        let unfired: Vec<_> = words.iter().filter(|word| !word.fired).map(|word| word.name).collect();
        let missing =
            if unfired.is_empty() { String::new() } else { format!("NOT FIRED: {}", unfired.join(", ")) };
        let paint = if unfired.is_empty() { Paint::Good } else { Paint::Bad };
        let cells = vec![
            Cell::new(part, Paint::Head),
            Cell::new(format!("{fired} of {}", words.len()), paint),
            Cell::new(missing, Paint::Bad),
        ];
        table.row(cells, String::new());
    }
    table.render(2, style)
}

/// Every detector of a plan, by service.
pub(crate) fn render_drills(report: &DrillReport, style: Style) -> String {
    let mut table = Table::default();
    let mut subject = None;
    for drill in &report.drills {
        let first = subject != Some(&drill.subject);
        subject = Some(&drill.subject);
        table.row(drill_cells(drill, first), String::new());
    }
    table.render(2, style)
}

fn drill_cells(drill: &Drill, first: bool) -> Vec<Cell> {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (state, paint) = match (drill.state, drill.after) {
        (DrillState::Fired, Some(after)) if after.is_zero() => ("at once".to_owned(), Paint::Good),
        (DrillState::Fired, Some(after)) => (format!("after {}", human(millis(after))), Paint::Good),
        (DrillState::Fired, None) => ("fired".to_owned(), Paint::Good),
        (DrillState::Never, _) => ("NEVER".to_owned(), Paint::Bad),
        (DrillState::FalseAlarm, _) => ("FALSE ALARM".to_owned(), Paint::Bad),
        (DrillState::Blind, _) => ("cannot".to_owned(), Paint::Quiet),
    };
    let restart = drill.restart_after.map(|after| format!("restart after {}", human(millis(after))));
    vec![
        Cell::new(if first { drill.subject.as_str() } else { "" }, Paint::Head),
        Cell::new(&drill.detector, Paint::Plain),
        Cell::new(state, paint),
        Cell::new(restart.unwrap_or_default(), Paint::Plain),
        Cell::new(&drill.text, Paint::Dim),
    ]
}

/// Every sink: what it would be told, whether its service would take it, and what it said if it was asked.
pub(crate) fn render_sinks(sinks: &[SinkRow], style: Style) -> String {
    let mut table = Table::default();
    for sink in sinks {
        let (state, paint) = match (sink.faults.len(), sink.delivered) {
            (0, None) => ("every story fits".to_owned(), Paint::Good),
            (0, Some(true)) => ("delivered".to_owned(), Paint::Good),
            (0, Some(false)) => ("NOT DELIVERED".to_owned(), Paint::Bad),
            (faults, _) => (count(faults, "FAULT"), Paint::Bad),
        };
        let heard = format!("is told {} of {} stories", sink.heard, sink.stories);
        let largest = format!("largest {} bytes", sink.largest_bytes);
        let said = sink.answer.clone().unwrap_or_else(|| sink.secret.clone());
        let below: String =
            sink.faults.iter().map(|fault| format!("  {}\n", super::text::clean(fault))).collect();
        let cells = vec![
            Cell::new(&sink.sink, Paint::Head),
            Cell::new(state, paint),
            Cell::new(heard, Paint::Plain),
            Cell::new(largest, Paint::Plain),
            Cell::new(said, Paint::Dim),
        ];
        table.row(cells, below);
    }
    table.render(2, style)
}

/// The last line: "38 words fired, all of them; 30 detectors fire, 1 never, 2 cannot".
pub(crate) fn render_outcome(proof: &Proof, report: Option<&DrillReport>) -> String {
    let words: usize = proof.parts().iter().map(|(_, words)| words.len()).sum();
    let unproven = proof.unproven().len();
    let judge = match unproven {
        0 => format!("the judge: all {words} words fired in {} situations", proof.situations),
        unproven => format!("the judge: {unproven} of {words} words never fired"),
    };
    let of_state =
        |state| move |report: &DrillReport| report.drills.iter().filter(|drill| drill.state == state).count();
    let plan = report.map(|report| {
        let [fire, never, wrong, blind] =
            [DrillState::Fired, DrillState::Never, DrillState::FalseAlarm, DrillState::Blind]
                .map(|state| of_state(state)(report));
        let mut text = format!("; the plan: {} can fire", count(fire, "detector"));
        for (number, words) in
            [(never, "never"), (wrong, "for nothing"), (blind, "cannot, for want of a source")]
        {
            if number > 0 {
                text += &format!(", {number} {words}");
            }
        }
        text
    });
    format!("{judge}{}\n", plan.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use horus_core::plan::SinkKind;

    use super::*;

    fn fired(name: &'static str, fired: bool) -> Fired {
        let situation = fired.then_some("it hangs once");
        Fired {
            name,
            fired,
            situation,
            text: fired.then(|| "no fresh tick for 10 s, deadline 10 s".to_owned()),
        }
    }

    fn proof() -> Proof {
        let words = |name| vec![fired(name, true), fired("maintenance", name != "silent")];
        let (rules, verdicts) = (words("silent"), words("lying"));
        Proof {
            rules,
            verdicts,
            incidents: words("stuck"),
            stories: words("halted"),
            situations: 41,
            steps: 64_000,
        }
    }

    fn drill(subject: &str, detector: &str, state: DrillState, after: Option<u64>, text: &str) -> Drill {
        let after = after.map(Duration::from_secs);
        let restart_after = after.filter(|_| detector == "silent").map(|after| after * 2);
        let (subject, detector) = (subject.to_owned(), detector.to_owned());
        Drill { subject, detector, state, after, restart_after, text: text.to_owned() }
    }

    fn report() -> DrillReport {
        let drills = vec![
            drill("pipeline", "silent", DrillState::Blind, None, "no beat is declared"),
            drill("trading", "silent", DrillState::Fired, Some(10), "no fresh tick for 10 s, deadline 10 s"),
            drill(
                "trading",
                "crash loop",
                DrillState::Never,
                None,
                "at most 2 exits within 5 min, 5 are needed",
            ),
            drill("trading", "valueless", DrillState::FalseAlarm, None, "fires although nothing is wrong"),
            drill("horus", "records not written", DrillState::Fired, Some(0), "No space left\u{1b}[2J"),
        ];
        DrillReport { drills, steps: 1 }
    }

    fn sink(sink: &str, faults: &[&str], delivered: Option<bool>) -> SinkRow {
        let faults = faults.iter().map(|&fault| fault.to_owned()).collect();
        let (sink, secret) = (sink.to_owned(), "its URL is there".to_owned());
        let answer = delivered.map(|_| "404 Not Found".to_owned());
        let (heard, stories, bodies, largest_bytes) = (20, 27, 108, 6_600);
        SinkRow {
            sink,
            kind: SinkKind::Discord,
            heard,
            stories,
            bodies,
            largest_bytes,
            faults,
            secret,
            delivered,
            answer,
        }
    }

    #[test]
    fn a_selftest_with_every_outcome() {
        let plain = Style::new(false);
        let sinks = [
            sink("ops", &[], None),
            sink("night", &[], Some(false)),
            sink("odd", &["test (Rich): content has 2400 characters, 2000 are allowed"], None),
        ];
        let parts = [
            render_words(&proof(), plain),
            render_sums(&proof(), plain),
            render_drills(&report(), plain),
            render_sinks(&sinks, plain),
            render_outcome(&proof(), Some(&report())),
        ];
        insta::assert_snapshot!(parts.join("\n"));
    }
}
