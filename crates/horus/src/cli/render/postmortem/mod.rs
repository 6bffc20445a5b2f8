//! `horus incident ID --report`: the post-mortem, as Markdown by a template.
//!
//! Everything in it is a row of the journal, a state of the outbox or a line of an evidence bundle: nothing is made up, and
//! what is not known is said to be unknown. So two people who ask for the report of one incident get the same, and what has
//! to be added by hand (why, and what changes) starts from facts.
//!
//! ```text
//!   sentence -> figures -> timeline -> evidence -> ruled out -> actions -> told -> owed
//! ```

mod doubts;
mod markdown;
#[cfg(test)]
mod tests;

use std::time::Duration;

use horus_api::IncidentReport;
use horus_core::event::{DeathCause, Outcome, What};
use horus_core::notice::IncidentKind;
use horus_core::observation::CaptureStage;
use horus_core::outbox::DeliveryState;
use horus_core::reason::Rule;
use horus_core::record::Recorded;
use horus_core::time::Human;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::doubts::{Answer, Doubt};
use self::markdown::{block, inline};
use super::events::state;
use crate::cli::bundle::Change;
use crate::cli::words;

/// Rows of the time line: the first and the last so many; what is between is counted.
const ROWS_EACH_END_MAX: usize = 120;

/// So many rows are named that speak for one doubt.
const SIGNS_MAX: usize = 3;

/// So long before the first sign things still count as "before".
pub(crate) const BEFORE: Duration = Duration::from_secs(5 * 60);

/// What was captured, as far as it can still be read.
#[derive(Debug)]
pub(crate) struct Captured {
    /// The file.
    pub(crate) path: String,
    /// What is in it, or why that cannot be told.
    pub(crate) content: Result<Content, String>,
}

/// What is in a bundle.
#[derive(Debug)]
pub(crate) struct Content {
    /// Which of the captures: "verdict".
    pub(crate) stage: String,
    /// When.
    pub(crate) at: Timestamp,
    /// What was seen, as text of several lines.
    pub(crate) seen: String,
    /// What had changed shortly before.
    pub(crate) changed: Vec<Change>,
    /// The program's last lines.
    pub(crate) last_lines: Vec<String>,
}

/// All that the report is made of.
#[derive(Debug)]
pub(crate) struct Postmortem<'a> {
    /// The incident.
    pub(crate) report: &'a IncidentReport,
    /// Rows of the journal from about that time, of the subject and of Horus itself, whatever incident they belong to. May be
    /// more than is needed.
    pub(crate) around: &'a [Recorded],
    /// `around` lacks nothing of that time.
    pub(crate) whole: bool,
    /// The bundles, the oldest first.
    pub(crate) bundles: &'a [Captured],
    /// Tells how long an open incident lasts already.
    pub(crate) now: Timestamp,
    /// In which times of day are shown.
    pub(crate) zone: &'a TimeZone,
}

/// The whole report.
pub(crate) fn render_postmortem(postmortem: &Postmortem<'_>) -> String {
    let rows = postmortem.rows();
    let sections = [
        postmortem.head(),
        postmortem.figures(&rows),
        postmortem.timeline(&rows),
        postmortem.evidence(&rows),
        postmortem.ruled_out(&rows),
        postmortem.actions(&rows),
        postmortem.told(),
        postmortem.owed(),
    ];
    sections.join("\n")
}

impl Postmortem<'_> {
    fn subject(&self) -> &str {
        &self.report.incident.subject
    }

    /// The rows of the incident, and those beside it that somebody who looks back wants to see, in the journal's order.
    fn rows(&self) -> Vec<&Recorded> {
        let id = self.report.incident.id;
        let first = self.report.events.iter().map(|row| row.at).min();
        let first = first.unwrap_or(self.report.incident.opened_at);
        let last = self.report.incident.closed_at.unwrap_or(self.now);
        let concerns = |row: &&Recorded| {
            // A sign is often heard before there is an incident that it could belong to.
            let early = row.at <= first && first.duration_since(row.at).unsigned_abs() <= BEFORE;
            let during = row.at >= first && row.at <= last;
            let other = row.event.incident.is_some_and(|other| other != id);
            let spreads =
                matches!(row.event.what, What::IncidentOpened { kind: IncidentKind::CommonCause, .. })
                    || matches!(
                        row.event.what,
                        What::Host { .. }
                            | What::OwnLateness { .. }
                            | What::GuardClosed { .. }
                            | What::GuardOpened { .. }
                            | What::PlanLoaded { .. }
                            | What::MaintenanceBegan { .. }
                            | What::MaintenanceEnded { .. }
                            | What::Horus { .. }
                    );
            let own = row.event.subject == self.subject();
            (early || during)
                && row.event.incident != Some(id)
                && (spreads || own && !other && !matches!(row.event.what, What::SaidStatus { .. }))
        };
        let mut rows: Vec<&Recorded> = self.report.events.iter().collect();
        rows.extend(self.around.iter().filter(concerns));
        rows.sort_by_key(|row| row.seq);
        rows.dedup_by_key(|row| row.seq);
        rows
    }

    /// The first row with this property.
    fn first<'a>(rows: &[&'a Recorded], is_it: impl Fn(&What) -> bool) -> Option<&'a Recorded> {
        rows.iter().copied().find(|row| is_it(&row.event.what))
    }

    fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }

    fn day_and_time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// The title, and what happened in one sentence.
    fn head(&self) -> String {
        let row = &self.report.incident;
        let place =
            self.place().map_or_else(String::new, |place| format!(" It hung in: {}.", inline(&place)));
        let end = match (row.closed_at, row.outcome) {
            (None, _) => format!("It is not over; it is {}.", state(row, self.now)),
            (Some(_), Some(outcome)) => {
                let lasted = Human(self.lasted());
                match outcome {
                    Outcome::HealedByRestart => {
                        format!("A restart by Horus healed it; it was over after {lasted}.")
                    }
                    outcome => format!("It was {} after {lasted}.", words::outcome(outcome)),
                }
            }
            (Some(_), None) => format!("It was over after {}; how is not known.", Human(self.lasted())),
        };
        format!(
            "# {} · {}: {}\n\n**{}**: {} at {} ({}).{place} {end}\n",
            row.id,
            inline(&row.subject),
            words::about(row.kind),
            inline(&row.subject),
            words::about(row.kind),
            self.day_and_time(row.opened_at),
            inline(&row.reason),
        )
    }

    fn lasted(&self) -> Duration {
        let end = self.report.incident.closed_at.unwrap_or(self.now);
        Duration::try_from(end.duration_since(self.report.incident.opened_at)).unwrap_or_default()
    }

    /// Where it hung: the weightiest capture that saw something.
    fn place(&self) -> Option<String> {
        let mut seen = self.report.events.iter().filter_map(|row| match &row.event.what {
            What::EvidenceCaptured { stage, finding }
                if *stage != CaptureStage::Exit && !finding.phrase.is_empty() =>
            {
                Some(finding.phrase.clone())
            }
            _ => None,
        });
        seen.next_back()
    }

    /// How bad it was, and how long each step took.
    fn figures(&self, rows: &[&Recorded]) -> String {
        let row = &self.report.incident;
        let mut out = "## Figures\n\n| | |\n| --- | --- |\n".to_owned();
        let mut line = |name: &str, value: &str| out += &format!("| {name} | {value} |\n");
        line("service", &inline(&row.subject));
        line("about", &format!("{} (`{}`)", words::about(row.kind), row.kind.word()));
        line("severity", words::severity_word(row.severity));
        line("opened", &self.day_and_time(row.opened_at));
        line("state", &state(row, self.now));
        let mut after = |name: &str, is_it: &dyn Fn(&What) -> bool| {
            let own: Vec<&Recorded> = rows
                .iter()
                .copied()
                .filter(|row| row.event.incident == Some(self.report.incident.id))
                .collect();
            if let Some(step) = Self::first(&own, is_it) {
                let length = Duration::try_from(step.at.duration_since(row.opened_at)).unwrap_or_default();
                line(name, &format!("{} after it was opened", Human(length)));
            }
        };
        after("first restart decided", &|what| matches!(what, What::KillDecided { .. }));
        after("no process of it left", &|what| matches!(what, What::VerifiedGone { .. }));
        after("started again", &|what| matches!(what, What::Started { .. }));
        after("first sign of work again", &|what| matches!(what, What::Recovered { .. }));
        after("proven well", &|what| matches!(what, What::Proven { .. }));
        out
    }

    fn timeline(&self, rows: &[&Recorded]) -> String {
        let mut out = "## Timeline\n\n".to_owned();
        let Some(first) = rows.first().map(|row| row.at) else {
            return out + "The journal has no rows of it any more.\n";
        };
        let zoned = first.to_zoned(self.zone.clone());
        out += &format!(
            "From {}. Rows in *italics* are not of this incident.\n\n",
            zoned.strftime("%Y-%m-%d (UTC%:z)")
        );
        out += "| time | after | source | what | rule |\n| --- | --- | --- | --- | --- |\n";
        let left_out = rows.len().saturating_sub(2 * ROWS_EACH_END_MAX);
        let mut day = zoned.date();
        for (number, row) in rows.iter().enumerate() {
            if left_out > 0 && number == ROWS_EACH_END_MAX {
                out += &format!("| | | | {left_out} rows are left out here | |\n");
            }
            if left_out > 0 && (ROWS_EACH_END_MAX..ROWS_EACH_END_MAX + left_out).contains(&number) {
                continue;
            }
            let at = row.at.to_zoned(self.zone.clone());
            if at.date() != day {
                day = at.date();
                out += &format!("| {day} | | | | |\n");
            }
            out += &self.timeline_row(row, first);
        }
        out
    }

    fn timeline_row(&self, row: &Recorded, first: Timestamp) -> String {
        let after = Human(Duration::try_from(row.at.duration_since(first)).unwrap_or_default());
        let run = row.event.generation.map_or_else(String::new, |run| format!(", run {}", run.0));
        let mut text = inline(&words::sentence(&row.event.what));
        if row.event.incident != Some(self.report.incident.id) {
            text = format!("*{text}*");
        }
        let rule = rule_of(&row.event.what).map_or_else(String::new, |rule| format!("`{}`", rule.word()));
        let (time, subject) = (self.time(row.at), inline(&row.event.subject));
        format!("| {time} | + {after} | {subject}{run} | {text} | {rule} |\n")
    }

    /// Where it hung, all captures, what had changed before, the last lines.
    fn evidence(&self, rows: &[&Recorded]) -> String {
        let mut out = "## Evidence\n\n".to_owned();
        let mut captures = 0;
        for row in rows {
            let What::EvidenceCaptured { stage, finding } = &row.event.what else { continue };
            captures += 1;
            let stage = words::stage_word(*stage);
            out += &format!("- {stage}, {}: {}\n", self.time(row.at), inline(&words::seen(finding)));
            if let Some(stopped) = &finding.stopped {
                out += &format!("  - its silence proves nothing: {}\n", inline(stopped));
            }
            for missing in &finding.missing {
                out += &format!("  - not seen: {}\n", inline(missing));
            }
        }
        if captures == 0 {
            out += if rows.is_empty() {
                "The journal has no rows of it any more.\n"
            } else {
                "Nothing was captured.\n"
            };
        }
        out += &self.changed();
        for bundle in self.bundles {
            match &bundle.content {
                Ok(content) => {
                    let (stage, at) = (inline(&content.stage), self.time(content.at));
                    out += &format!("\n### Capture: {stage}, {at}\n\n{}", block(content.seen.lines()));
                }
                Err(why) => out += &format!("\n- {}: {}\n", inline(&bundle.path), inline(why)),
            }
        }
        out + &self.last_lines()
    }

    fn changed(&self) -> String {
        let heading = "\n### Changed in the five minutes before\n\n";
        let newest = self.bundles.iter().filter_map(|bundle| bundle.content.as_ref().ok()).next_back();
        let Some(content) = newest else {
            return if self.report.evidence.is_empty() {
                String::new()
            } else {
                format!("{heading}Not known: no bundle can be read.\n")
            };
        };
        let mut out = heading.to_owned();
        if content.changed.is_empty() {
            out += "Nothing that Horus knows of.\n";
        }
        for change in &content.changed {
            let (ago, subject) = (change.before(content.at), inline(&change.subject));
            out += &format!("- {ago} before: {subject}: {}\n", inline(&change.what));
        }
        out
    }

    /// Those of the newest capture that has any.
    fn last_lines(&self) -> String {
        let contents = self.bundles.iter().filter_map(|bundle| bundle.content.as_ref().ok());
        let mut kept = contents.map(|content| &content.last_lines).filter(|lines| !lines.is_empty());
        let of_rows = self.report.events.iter().rev().find_map(|row| match &row.event.what {
            What::EvidenceCaptured { finding, .. } if !finding.last_lines.is_empty() => {
                Some(&finding.last_lines)
            }
            _ => None,
        });
        let Some(lines) = kept.next_back().or(of_rows) else { return String::new() };
        format!("\n### Its last lines\n\n{}", block(lines.iter().map(String::as_str)))
    }

    /// Each other explanation, and what became of it.
    fn ruled_out(&self, rows: &[&Recorded]) -> String {
        let mut out = "## What else it could have been\n\n".to_owned();
        if rows.is_empty() {
            return out + "Cannot be said: the journal has no rows of it any more.\n";
        }
        if !self.whole {
            out += "Only a part of the journal's rows of that time was looked through.\n\n";
        }
        let decided = Self::first(rows, |what| matches!(what, What::KillDecided { .. }));
        // What came after the first deed cannot have caused it.
        let ended = |what: &What| matches!(what, What::Exited { cause: DeathCause::Itself, .. });
        let until = decided
            .or_else(|| Self::first(rows, ended))
            .map_or(self.report.incident.closed_at, |row| Some(row.at));
        let until = until.unwrap_or(self.now);
        let before: Vec<&Recorded> = rows.iter().copied().filter(|row| row.at <= until).collect();
        if let Some(row) = decided {
            out += &format!(
                "A restart was decided at {}. What is ruled out by that had to be asked first.\n\n",
                self.time(row.at)
            );
        }
        for doubt in Doubt::ALL.into_iter().filter(|doubt| doubt.concerns(self.report.incident.kind)) {
            let claim = doubt.claim();
            let before: Vec<&Recorded> = match doubt {
                // The order itself is the answer, not a sign.
                Doubt::HorusEndedIt => {
                    before.iter().copied().filter(|row| Some(row.seq) != decided.map(|row| row.seq)).collect()
                }
                _ => before.clone(),
            };
            match doubt.answer(&before, self.subject(), decided.is_some()) {
                Answer::Seen(signs) => {
                    out += &format!("- **not ruled out**: {claim}\n");
                    let skip = signs.len().saturating_sub(SIGNS_MAX);
                    for sign in signs.iter().skip(skip) {
                        let text = inline(&words::sentence(&sign.event.what));
                        out += &format!("  - {} {text}\n", self.time(sign.at));
                    }
                    if skip > 0 {
                        out += &format!("  - and {skip} earlier\n");
                    }
                }
                Answer::RuledOut => {
                    let asked = doubt.asked();
                    out +=
                        &format!("- **ruled out**: {claim}. No row of the journal shows it, and {asked}.\n");
                }
                Answer::NoSign => out += &format!("- no sign of it: {claim}.\n"),
            }
        }
        out
    }

    /// What was done, each with what came of it.
    fn actions(&self, rows: &[&Recorded]) -> String {
        let mut out = "## What was done\n\n".to_owned();
        let mut deeds = 0;
        let first = self.report.events.first().map(|row| row.at);
        for row in rows.iter().filter(|row| first.is_none_or(|first| row.at >= first)) {
            let Some(weight) = Weight::of(&row.event.what) else { continue };
            let text = format!("{} {}", self.time(row.at), inline(&words::sentence(&row.event.what)));
            match weight {
                Weight::Deed => {
                    deeds += 1;
                    out += &format!("{deeds}. {text}\n");
                }
                Weight::Result if deeds > 0 => out += &format!("   - {text}\n"),
                Weight::Result => out += &format!("- {text}\n"),
            }
        }
        let row = &self.report.incident;
        if rows.is_empty() {
            out += "Not known: the journal has no rows of it any more.\n";
        } else if deeds == 0 {
            out += "Horus did nothing to it.\n";
        }
        let outcome = match (row.closed_at, row.outcome) {
            (Some(_), Some(outcome)) => {
                format!("{}, after {}", words::outcome(outcome), Human(self.lasted()))
            }
            (Some(_), None) => format!("over after {}", Human(self.lasted())),
            (None, _) => state(row, self.now),
        };
        out + &format!("\nOutcome: {outcome}.\n")
    }

    /// Each message, and where it stands at each sink.
    fn told(&self) -> String {
        let mut out = "## Who was told\n\n".to_owned();
        let told: Vec<(u32, &Recorded, String)> = self
            .report
            .events
            .iter()
            .filter_map(|row| match &row.event.what {
                What::Told { version, story, .. } => Some((*version, row, inline(&words::gist(story)))),
                _ => None,
            })
            .collect();
        if told.is_empty() && !self.report.events.is_empty() {
            out += "There was no message.\n";
        }
        for (version, row, gist) in &told {
            out += &format!("- message {version}, {}: {gist}\n", self.time(row.at));
        }
        if self.report.deliveries.is_empty() {
            return out + "\nNo sink takes incidents of this severity.\n";
        }
        out += "\n| sink | wanted | acknowledged | delay | failed tries | last error |\n| --- | --- | --- | --- | --- | --- |\n";
        for delivery in &self.report.deliveries {
            out += &self.delivery(delivery, &told);
        }
        out
    }

    fn delivery(&self, delivery: &DeliveryState, told: &[(u32, &Recorded, String)]) -> String {
        let written =
            |version: u32| told.iter().find(|(known, ..)| *known == version).map(|(_, row, _)| row.at);
        let delay = delivery.delivered_version.and_then(written).zip(delivery.delivered_at);
        let delay = delay.map_or_else(String::new, |(written, delivered)| {
            Human(Duration::try_from(delivered.duration_since(written)).unwrap_or_default()).to_string()
        });
        let at = delivery.delivered_at.map_or_else(String::new, |at| format!(", {}", self.day_and_time(at)));
        let acknowledged = match delivery.delivered_version {
            _ if delivery.refused => "refused for good".to_owned(),
            Some(version) => format!("message {version}{at}"),
            None => "nothing yet".to_owned(),
        };
        let error = delivery.last_error.as_deref().map_or_else(String::new, inline);
        format!(
            "| {} | message {} | {acknowledged} | {delay} | {} | {error} |\n",
            inline(delivery.sink.as_str()),
            delivery.wanted_version,
            delivery.attempts,
        )
    }
}

impl Postmortem<'_> {
    /// What was done so that it does not happen again, or that this is still to be done.
    fn owed(&self) -> String {
        let mut out = "## So that it does not happen again\n\n".to_owned();
        let noted: Vec<String> = self
            .report
            .events
            .iter()
            .filter_map(|row| match &row.event.what {
                What::RuleNoted { text } => {
                    Some(format!("- {}: {}\n", self.day_and_time(row.at), inline(text)))
                }
                _ => None,
            })
            .collect();
        let row = &self.report.incident;
        if !noted.is_empty() {
            return out + &noted.concat();
        }
        out += &match (row.closed_at, row.owes_a_rule()) {
            (None, _) => "It is not over; the question comes afterwards.\n".to_owned(),
            (Some(_), false) => {
                "Nothing is owed: an incident of this kind and end is no surprise.\n".to_owned()
            }
            (Some(end), true) => {
                let age = Human(Duration::try_from(self.now.duration_since(end)).unwrap_or_default());
                format!(
                    "**Still owed, for {age}**: a rule or a test that catches it the next time. When there is one: \
                     `horus incident {} --rule TEXT`\n",
                    row.id
                )
            }
        };
        out
    }
}

/// Whether a row is something that was done, or what came of it.
enum Weight {
    Deed,
    Result,
}

impl Weight {
    fn of(what: &What) -> Option<Self> {
        match what {
            What::KillDecided { .. }
            | What::WouldHave { .. }
            | What::BreakerOpened { .. }
            | What::BreakerClosed { .. }
            | What::StartAsked { .. }
            | What::OperatorAsked { .. }
            | What::HoldSet { .. }
            | What::HoldEnded { .. }
            | What::GuardClosed { .. }
            | What::GuardOpened { .. }
            | What::DetectorDemoted { .. } => Some(Self::Deed),
            What::Signalled { .. }
            | What::Exited { .. }
            | What::StraysKilled { .. }
            | What::VerifiedGone { .. }
            | What::Delayed { .. }
            | What::Started { .. }
            | What::Adopted { .. }
            | What::StartFailed { .. }
            | What::BecameReady { .. }
            | What::Recovered { .. }
            | What::Proven { .. }
            | What::Folded { .. } => Some(Self::Result),
            _ => None,
        }
    }
}

/// By which rule it came to that.
fn rule_of(what: &What) -> Option<Rule> {
    match what {
        What::DetectorDemoted { detector, .. } | What::DetectorTrusted { detector, .. } => Some(*detector),
        _ => what.reason().map(|reason| reason.rule),
    }
}
