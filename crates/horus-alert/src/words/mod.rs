//! A notice in words, for a person who is woken by it.
//!
//! The rules, which tests enforce for every story: the first line is what a phone shows, so it alone must do: at most
//! [`FIRST_LINE_MAX`] units, one emoji, the same fact in words, the service's name first, no jargon, and whether a
//! person has to act. "Needs you" stands there exactly when it is true. Numbers and quotes stand in the details. What
//! is not known is said to be unknown, and "working again" is only said of what was seen working.
//!
//! A [`Message`] knows nothing of markup: its texts are clean (one line, nothing invisible) but not escaped. Each sink
//! escapes for itself.

mod stories;

use std::time::Duration;

use horus_core::notice::Notice;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::text::{clean, cut, units};

/// The longest first line, in UTF-16 units. Phones show about so much (a guess; no service documents it).
pub const FIRST_LINE_MAX: usize = 110;

/// The longest title, in UTF-16 units.
pub const TITLE_MAX: usize = 120;

/// The longest footer, in UTF-16 units.
pub const FOOTER_MAX: usize = 160;

/// The longest detail line, in UTF-16 units.
pub const DETAIL_MAX: usize = 300;

/// The greatest number of detail lines.
pub const DETAILS_MAX: usize = 12;

/// A message that is sent later than this after its event says so.
pub const LATE_AFTER: Duration = Duration::from_secs(120);

/// A name in the first line is not shortened below this, in UTF-16 units.
const NAME_MIN: usize = 16;

const HOST_MAX: usize = 64;

/// What a message says besides its notice.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The name of this machine.
    pub host: &'a str,
    /// In which times of day are given.
    pub time_zone: &'a TimeZone,
    /// When the message is sent.
    pub now: Timestamp,
    /// When the state that it tells of came about.
    pub happened_at: Timestamp,
    /// When the incident was opened.
    pub opened_at: Timestamp,
}

/// How a message looks at first glance. The emoji and the words say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// A person is needed, or something is down.
    Red,
    /// Something is wrong and is being handled, or should be looked at.
    Amber,
    /// Over.
    Green,
    /// For the record.
    Grey,
}

impl Colour {
    /// As `0xRRGGBB`.
    pub fn rgb(self) -> u32 {
        match self {
            Self::Red => 0x00D9_2D20,
            Self::Amber => 0x00F7_9009,
            Self::Green => 0x0012_B76A,
            Self::Grey => 0x0066_7085,
        }
    }
}

/// A notice in words, before any sink's markup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the phone shows. At most [`FIRST_LINE_MAX`] units.
    pub first_line: String,
    /// The subject and what it is about. At most [`TITLE_MAX`] units.
    pub title: String,
    /// Numbers and quotes. At most [`DETAILS_MAX`] lines of [`DETAIL_MAX`] units.
    pub detail_lines: Vec<String>,
    /// How it looks.
    pub colour: Colour,
    /// Incident, host, times of day. At most [`FOOTER_MAX`] units.
    pub footer: String,
    /// A person has to act.
    pub needs_you: bool,
    /// It makes no noise where the sink can do that.
    pub silent: bool,
}

/// Puts a notice into words.
pub fn message(notice: &Notice, context: &Context<'_>) -> Message {
    let telling = stories::tell(notice, context.host);
    let mut detail_lines: Vec<String> =
        telling.details.iter().map(|line| clean(line, DETAIL_MAX)).filter(|line| !line.is_empty()).collect();
    detail_lines.truncate(DETAILS_MAX);
    let kind = stories::kind_words(notice.kind);
    let title = match telling.outcome {
        Some("test") => format!("{} · test", notice.subject),
        Some(outcome) => format!("{} · {kind} · {outcome}", notice.subject),
        None => format!("{} · {kind}", notice.subject),
    };
    Message {
        first_line: first_line(notice, &telling, context),
        title: clean(&title, TITLE_MAX),
        detail_lines,
        colour: telling.colour,
        footer: footer(notice, context),
        needs_you: notice.needs_you,
        silent: !notice.loud,
    }
}

/// Fits the first line. What gives way, in this order: the name's tail, "Nothing to do.", the fact's tail; never the
/// late mark and never "Needs you."
fn first_line(notice: &Notice, telling: &stories::Telling, context: &Context<'_>) -> String {
    let head = format!("{}{} ", late_mark(context).unwrap_or_default(), telling.emoji);
    let fact = clean(&telling.fact, FIRST_LINE_MAX);
    // `clean` trims; whether the fact follows after a space or a colon is part of its text.
    let fact = if telling.fact.starts_with(' ') { format!(" {fact}") } else { fact };
    let mut ask = if notice.needs_you { " Needs you.".to_owned() } else { format!(" {}", telling.ask) };
    let subject = clean(&notice.subject, FIRST_LINE_MAX);
    let room = |taken: &[&str]| FIRST_LINE_MAX.saturating_sub(taken.iter().map(|text| units(text)).sum());
    if room(&[&head, &fact, &ask]) < units(&subject).min(NAME_MIN) && !notice.needs_you {
        ask.clear();
    }
    let subject = cut(&subject, room(&[&head, &fact, &ask]).max(NAME_MIN));
    let fact = cut(&fact, room(&[&head, &subject, &ask]));
    format!("{head}{subject}{fact}{ask}")
}

fn late_mark(context: &Context<'_>) -> Option<String> {
    let late = Duration::try_from(context.now.duration_since(context.happened_at)).ok()?;
    if late <= LATE_AFTER {
        return None;
    }
    let happened = context.happened_at.to_zoned(context.time_zone.clone());
    let sent = context.now.to_zoned(context.time_zone.clone());
    let pattern = if happened.date() == sent.date() { "%H:%M" } else { "%b %-d %H:%M" };
    Some(format!("(late: happened {}, sent {}) ", happened.strftime(pattern), sent.strftime("%H:%M")))
}

/// `H-7F3K · mini · 14:32-14:35`; the first time with its date if it lies on another day.
fn footer(notice: &Notice, context: &Context<'_>) -> String {
    let opened = context.opened_at.to_zoned(context.time_zone.clone());
    let happened = context.happened_at.to_zoned(context.time_zone.clone());
    let same_day = opened.date() == happened.date();
    let from = opened.strftime(if same_day { "%H:%M" } else { "%b %-d %H:%M" }).to_string();
    let to = happened.strftime("%H:%M").to_string();
    let host = clean(context.host, HOST_MAX);
    let times = if from == to { from } else { format!("{from}-{to}") };
    clean(&format!("{} · {host} · {times}", notice.incident), FOOTER_MAX)
}

#[cfg(test)]
mod tests;
