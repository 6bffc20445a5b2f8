//! What is wrong with a file, where, and what to write instead.
//!
//! A [`Fault`] is data: the command line renders it through `miette`, prints it as one line, or as JSON. It carries the
//! text of the file with every value that may be a secret blotted out, so that showing a fault shows no token.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use crate::at::Span;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Good to know.
    Advice,
    /// Works, but probably not as meant.
    Warning,
    /// Nothing of this file is used.
    Fault,
}

macro_rules! codes {
    ($($weight:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)+ })+) => {
        /// What kind of fault it is; stable, for scripts and searches.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Code {
            $($($(#[$doc])* #[serde(rename = $text)] $name,)+)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$($(Code::$name,)+)+];

            /// The code as text: `config::unknown-key`.
            pub fn as_str(self) -> &'static str {
                match self { $($(Self::$name => $text,)+)+ }
            }

            /// How much findings of this kind weigh.
            pub fn weight(self) -> Weight {
                match self { $($(Self::$name => Weight::$weight,)+)+ }
            }
        }
    };
}

codes! {
    Fault {
        /// The file cannot be read, is no text, or is too long.
        Unreadable = "config::unreadable",
        /// The file is no TOML.
        Syntax = "config::syntax",
        /// So many faults that the rest was not looked at.
        TooMany = "config::too-many",
        /// `version` is missing or not 1.
        Version = "config::version",
        /// A key that does not exist.
        UnknownKey = "config::unknown-key",
        /// A word that is not one of the allowed ones.
        UnknownWord = "config::unknown-word",
        /// A number where a text belongs, and the like.
        WrongType = "config::wrong-type",
        /// A key that has to be there is not.
        MissingKey = "config::missing-key",
        /// Exactly one of several keys has to be there.
        ChooseOne = "config::choose-one",
        /// Two keys contradict each other.
        Contradiction = "config::contradiction",
        /// Not a name of a service, monitor or sink.
        BadName = "config::bad-name",
        /// Not a duration, or one that makes no sense here.
        BadDuration = "config::bad-duration",
        /// Not a share.
        BadPercent = "config::bad-percent",
        /// Not a size.
        BadSize = "config::bad-size",
        /// A number out of bounds.
        BadNumber = "config::bad-number",
        /// A command that could not be started.
        BadCommand = "config::bad-command",
        /// A signal that Horus does not send.
        BadSignal = "config::bad-signal",
        /// Not a path.
        BadPath = "config::bad-path",
        /// A unix socket below this path would have too long an address.
        SocketPathTooLong = "config::socket-path-too-long",
        /// Not a variable that may be set.
        BadVariable = "config::bad-variable",
        /// The `env_file` cannot be read or has a bad line.
        EnvFile = "config::env-file",
        /// No such user or group on this machine.
        UnknownAccount = "config::unknown-account",
        /// Changing the user needs root.
        NeedsRoot = "config::needs-root",
        /// Not a unit that can be watched.
        BadUnit = "config::bad-unit",
        /// Not a key of `exclusive`.
        BadExclusive = "config::bad-exclusive",
        /// A resource limit under which nothing runs.
        BadLimit = "config::bad-limit",
        /// Not a URL that can be asked.
        BadUrl = "config::bad-url",
        /// Not `host:port`.
        BadAddress = "config::bad-address",
        /// Not a JSON pointer.
        BadPointer = "config::bad-pointer",
        /// Not a metric of Prometheus.
        BadMetric = "config::bad-metric",
        /// Not a regular expression.
        BadPattern = "config::bad-pattern",
        /// `after` names a service that does not exist.
        UnknownService = "config::unknown-service",
        /// `after` goes in a circle.
        Cycle = "config::cycle",
        /// `ready` waits for something that nothing sends.
        NeverReady = "config::never-ready",
        /// Two services would share one sign of life.
        SharedHeartbeat = "config::shared-heartbeat",
        /// No beat of the service can declare the counter.
        NoCounter = "config::no-counter",
        /// A funnel with fewer than two stages, or one twice.
        BadFunnel = "config::bad-funnel",
        /// A healthy program would be judged silent.
        DeadlineTooShort = "config::deadline-too-short",
        /// Not a cron pattern.
        BadCalendar = "config::bad-calendar",
        /// No such time zone on this machine.
        UnknownTimeZone = "config::unknown-time-zone",
        /// A calendar that names no time that ever comes.
        NeverComes = "config::never-comes",
        /// A maintenance that never ends.
        AlwaysMaintenance = "config::always-maintenance",
        /// A hang could come back after it was called cured.
        ProveTooShort = "config::prove-too-short",
        /// The breaker's retry comes before its last kill can be proven.
        RetryTooShort = "config::retry-too-short",
        /// Bounds that are the wrong way round.
        WrongOrder = "config::wrong-order",
        /// A secret stands in the file.
        SecretInFile = "config::secret-in-file",
        /// Others may read the secret.
        SecretFileOpen = "config::secret-file-open",
        /// The environment variable or file with the secret is not there (only told by `resolve_secrets`).
        SecretMissing = "config::secret-missing",
        /// The secret is not a URL that can be posted to (only told by `resolve_secrets`).
        BadSecret = "config::bad-secret",
    }
    Warning {
        /// A 200 without a tick.
        NoTick = "config::no-tick",
        /// A limit that is less than its name says.
        MemoryIsAddressSpace = "config::memory-is-address-space",
        /// A limit of a tree that nobody can keep.
        LimitNotEnforced = "config::limit-not-enforced",
        /// Two services that are always wanted and may not run at once.
        SharedExclusive = "config::shared-exclusive",
        /// A TCP connect as a sign of life.
        TcpProvesLittle = "config::tcp-proves-little",
        /// The command keeps the agent out.
        AgentNotLoaded = "config::agent-not-loaded",
        /// A service without any beat.
        NoHeartbeat = "config::no-heartbeat",
        /// One lost poll is a fault.
        OneLostPoll = "config::one-lost-poll",
        /// `startup` is shorter than `deadline`.
        StartupShort = "config::startup-short",
        /// SIGKILL without grace.
        NoGrace = "config::no-grace",
        /// A monitor that alerts at the first lost answer.
        DownAfterShort = "config::down-after-short",
        /// The program is not there, or not executable.
        NoProgram = "config::no-program",
        /// The working directory is not there.
        NoDirectory = "config::no-directory",
        /// `startup` is shorter than starts that were recorded (only told by `lint_with_history`).
        StartupBelowRecord = "config::startup-below-record",
        /// The limits on kills would let a kill loop run.
        KillLoop = "config::kill-loop",
        /// `deadline` is shorter than pauses that were recorded (only told by `lint_with_pauses`).
        DeadlineBelowRecord = "config::deadline-below-record",
        /// A threshold that can never be reached.
        NeverFires = "config::never-fires",
        /// A threshold that a healthy program reaches.
        AlwaysFires = "config::always-fires",
        /// A quiet program could not say that it is idle, and would be killed for its quiet.
        CannotDeclareIdle = "config::cannot-declare-idle",
        /// A threshold that leads to an act, or to a finer word, passes only after a person was asked for help.
        LateThreshold = "config::late-threshold",
        /// So many kills that cure nothing before a person is asked.
        LateBreaker = "config::late-breaker",
        /// Never restarted when it ends, but restarted when it hangs.
        NeverButKilled = "config::never-but-killed",
        /// A run may take longer than the time to the next one.
        Overlap = "config::overlap",
        /// A service that waits for a job.
        AfterJob = "config::after-job",
        /// A monitor, and no sink: nobody is told.
        Unheard = "config::unheard",
        /// A key that another one makes void.
        Void = "config::void",
        /// Neither services nor monitors.
        NothingToDo = "config::nothing-to-do",
    }
    Advice {
        /// No sink: nobody is told.
        NoSink = "config::no-sink",
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Another place that belongs to a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Byte range in the file.
    pub span: Range<usize>,
    /// What stands there.
    pub label: String,
}

/// One finding: what, where, and what to write instead.
#[derive(Clone, Serialize)]
pub struct Fault {
    /// What kind.
    pub code: Code,
    /// How much it weighs: that of its code, unless the caller made it a warning.
    pub weight: Weight,
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Byte range in the file.
    pub span: Range<usize>,
    /// What stands at that place.
    pub label: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Other places that belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// The file, secrets blotted out.
    #[serde(skip)]
    source: Option<Arc<NamedSource<String>>>,
}

impl Fault {
    /// The same, but nothing that stops anybody: a secret that is missing is a fault where alerts are to be sent and a
    /// warning where a file is only checked.
    #[must_use]
    pub fn into_warning(mut self) -> Self {
        self.weight = self.weight.min(Weight::Warning);
        self
    }

    /// `file:line:column: message`, for logs and editors. No line breaks.
    pub fn one_line(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message))
    }

    /// A fault of the file as a whole, before there is a text to point into.
    pub(crate) fn of_file(code: Code, file: &Path, message: impl Into<String>) -> Self {
        Self {
            code,
            weight: code.weight(),
            file: file.display().to_string(),
            line: 1,
            column: 1,
            span: 0..0,
            label: String::new(),
            message: message.into(),
            help: None,
            related: Vec::new(),
            source: None,
        }
    }

    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn also(&mut self, span: &Span, label: impl Into<String>) -> &mut Self {
        self.related.push(Related { line: 0, column: 0, span: span.clone(), label: label.into() });
        self
    }
}

impl fmt::Display for Fault {
    /// The message alone, as `miette` wants it; [`Fault::one_line`] says the place as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.one_line())
    }
}

impl std::error::Error for Fault {}

impl Diagnostic for Fault {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.weight {
            Weight::Advice => miette::Severity::Advice,
            Weight::Warning => miette::Severity::Warning,
            Weight::Fault => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        // Something that is nowhere in the file has no place to draw.
        if self.label.is_empty() && self.span.is_empty() {
            return None;
        }
        let own = LabeledSpan::new_primary_with_span(
            Some(self.label.clone()).filter(|label| !label.is_empty()),
            self.span.clone(),
        );
        let others = self
            .related
            .iter()
            .map(|other| LabeledSpan::new_with_span(Some(other.label.clone()), other.span.clone()));
        Some(Box::new(std::iter::once(own).chain(others)))
    }
}

/// Collects findings about one text.
pub(crate) struct Findings {
    file: String,
    text: String,
    /// Where lines begin.
    lines: Vec<usize>,
    found: Vec<Fault>,
    secrets: Vec<Span>,
}

impl Findings {
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        Self {
            file: file.display().to_string(),
            text: text.to_owned(),
            lines: line_starts(text),
            found: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Adds a finding; the answer is for adding a label and help.
    pub(crate) fn report(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Fault {
        let mut fault = Fault::of_file(code, Path::new(&self.file), message);
        fault.span = span.clone();
        let at = self.found.len();
        self.found.push(fault);
        &mut self.found[at]
    }

    /// Was this already said of this place?
    pub(crate) fn has(&self, code: Code, span: &Span) -> bool {
        self.found.iter().any(|fault| fault.code == code && fault.span == *span)
    }

    /// What stands at `span` is shown to nobody.
    pub(crate) fn hide(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// How many findings there are so far that make the file unusable.
    pub(crate) fn faults(&self) -> usize {
        self.found.iter().filter(|fault| fault.weight == Weight::Fault).count()
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        position(&self.text, &self.lines, offset).0
    }

    /// The text as it may be shown.
    pub(crate) fn blotted(&self) -> String {
        blot(&self.text, &self.secrets)
    }

    /// The findings in the order of the file, each with its position and the blotted text.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        let source = Arc::new(NamedSource::new(self.file.clone(), self.blotted()).with_language("toml"));
        for fault in &mut self.found {
            fault.span = clamp(&self.text, &fault.span);
            (fault.line, fault.column) = position(&self.text, &self.lines, fault.span.start);
            for other in &mut fault.related {
                other.span = clamp(&self.text, &other.span);
                (other.line, other.column) = position(&self.text, &self.lines, other.span.start);
                other.label = in_reading_order(&other.label);
            }
            for said in [&mut fault.label, &mut fault.message].into_iter().chain(&mut fault.help) {
                *said = in_reading_order(said);
            }
            fault.source = Some(Arc::clone(&source));
        }
        self.found.sort_by_key(|fault| (fault.span.start, fault.span.end));
        self.found
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
}

/// Line and column of a byte offset, both from 1, the column in characters.
fn position(text: &str, lines: &[usize], offset: usize) -> (usize, usize) {
    let offset = text.floor_char_boundary(offset);
    let line = lines.partition_point(|start| *start <= offset);
    let start = lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
    (line, text[start..offset].chars().count() + 1)
}

/// The span, moved to where it can be drawn: inside the text, at character boundaries.
fn clamp(text: &str, span: &Span) -> Span {
    let start = text.floor_char_boundary(span.start);
    let end = text.floor_char_boundary(span.end.max(span.start));
    start..end.max(start)
}

/// The text with every byte of the spans replaced by `*`, line breaks kept: all offsets and lines stay true.
fn blot(text: &str, secrets: &[Span]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in secrets {
        for byte in &mut bytes[clamp(text, span)] {
            if *byte != b'\n' && *byte != b'\r' {
                *byte = b'*';
            }
        }
    }
    // Whole characters were replaced by ASCII, so this loses nothing.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text as it is read: what a terminal or an editor would hide, or show at another place than where it stands, is
/// written as `\u{..}`. A finding quotes the file, and whoever wrote the file must not write the finding.
fn in_reading_order(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && (character.is_control() || turns_the_reading_order(character)) {
            readable.extend(character.escape_unicode());
        } else {
            readable.push(character);
        }
    }
    readable
}

/// Characters without a width, and those that turn the direction in which the rest of a line is shown.
fn turns_the_reading_order(character: char) -> bool {
    matches!(
        character,
        '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blotted_and_offsets_stay_true() {
        let text = "a = \"gehäim\"\nb = 2\n";
        let blotted = blot(text, std::slice::from_ref(&(4..12)));
        assert_eq!(blotted, "a = ********\"\nb = 2\n");
        assert_eq!(blotted.len(), text.len());
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let position = |text: &str, offset| position(text, &line_starts(text), offset);
        assert_eq!(position("äb\nc", 0), (1, 1));
        assert_eq!(position("äb\nc", 2), (1, 2));
        assert_eq!(position("äb\nc", 4), (2, 1));
        assert_eq!(position("ab", 99), (1, 3));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(clamp("ä", &(1..9)), 0..2);
    }

    #[test]
    fn a_finding_shows_what_the_file_hides() {
        let text = "a = 1\n";
        let mut findings = Findings::new(Path::new("watchdog.toml"), text);
        let hidden = "write \"\u{202E}lru\u{FEFF}\"\u{1B}[2J\nor nothing, ä";
        findings.report(Code::BadUrl, &(0..1), hidden).label(hidden).help(hidden).also(&(4..5), hidden);
        let faults = findings.finish();
        let fault = &faults[0];
        let shown = "write \"\\u{202e}lru\\u{feff}\"\\u{1b}[2J\nor nothing, ä";
        for said in [&fault.message, &fault.label, fault.help.as_ref().unwrap(), &fault.related[0].label] {
            assert_eq!(said, shown);
        }
    }
}
