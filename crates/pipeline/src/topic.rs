//! What may be written about: topics, their claims, and a source for each claim.
//!
//! The file has three shapes on its way in, as all configuration in this house: [`raw`] is what the person wrote, with
//! the place of every value; [`Topic`] is what passed every check; [`Entry`] says which of the two a topic became. A
//! topic that fails is not an error of the program: it is quarantined with its reasons and the rotation goes on. Only a
//! file that cannot be read as a whole stops the program, at the start, with the line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::item::digest_of;
use crate::secrets::SecretPatterns;

/// Largest topics file, in bytes.
pub const FILE_LIMIT_BYTES: u64 = 1024 * 1024;
/// Most topics in a file.
pub const TOPICS_LIMIT: usize = 1000;
/// Longest title, of a topic or a source, in characters.
pub const TITLE_LIMIT: usize = 160;
/// Longest claim, in characters.
pub const CLAIM_LIMIT: usize = 1000;
/// Most claims (facts and notes together) in a topic.
pub const CLAIMS_LIMIT: usize = 64;
/// Most tags on a topic.
pub const TAGS_LIMIT: usize = 12;
/// Longest tag, in characters.
pub const TAG_LIMIT: usize = 40;
/// Longest source id, in characters.
pub const SOURCE_ID_LIMIT: usize = 40;
/// Longest URL of a source, in characters.
pub const URL_LIMIT: usize = 500;
/// Most faults that are reported for one topic; the rest is only counted.
pub const FAULTS_LIMIT: usize = 10;

/// Marks that a template left behind, or that a site generator downstream would run as a shortcode.
pub(crate) const TEMPLATE_MARKS: [&str; 6] = ["{{", "}}", "{%", "%}", "<%", "%>"];

/// The topics that are compiled in.
pub const DEFAULT_TOPICS: &str = include_str!("../topics.toml");
/// The name under which faults in [`DEFAULT_TOPICS`] are reported.
pub const DEFAULT_TOPICS_NAME: &str = "(built-in topics)";

/// A topic that passed every check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The title, one line of plain text.
    pub title: String,
    /// Lower-case tags.
    pub tags: Vec<String>,
    /// What is known.
    pub facts: Vec<Claim>,
    /// What is said about it.
    pub notes: Vec<Claim>,
    /// The sources that facts and notes refer to, each once, in the order of first use.
    pub sources: Vec<Source>,
}

/// One statement and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// One line of plain text; no markup is interpreted in it.
    pub text: String,
    /// The id of a [`Source`].
    pub source: String,
}

/// Where a claim comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Lower-case letters, digits and `-`.
    pub id: String,
    /// One line of plain text.
    pub title: String,
    /// An http or https address, if it has one.
    pub url: Option<String>,
}

impl Topic {
    /// A hash of everything that the article depends on.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut parts = vec!["topic-1", self.title.as_str(), "tags"];
        parts.extend(self.tags.iter().map(String::as_str));
        for (kind, claims) in [("facts", &self.facts), ("notes", &self.notes)] {
            parts.push(kind);
            parts.extend(claims.iter().flat_map(|claim| [claim.text.as_str(), claim.source.as_str()]));
        }
        parts.push("sources");
        for source in &self.sources {
            parts.extend([source.id.as_str(), source.title.as_str(), source.url.as_deref().unwrap_or("")]);
        }
        digest_of(&parts)
    }
}

/// What became of one `[[topic]]` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It may be published.
    Valid(Topic),
    /// It must not.
    Invalid(InvalidTopic),
}

/// A topic that must not be published, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTopic {
    /// The title where it is presentable, else the place in the file.
    pub label: String,
    /// A hash of the text in the file, so that the same fault is recorded once and a corrected topic is new.
    pub digest: String,
    /// At least one, at most [`FAULTS_LIMIT`].
    pub faults: Vec<TopicFault>,
}

impl InvalidTopic {
    /// All reasons in one line.
    #[must_use]
    pub fn reason(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(TopicFault::to_string).collect();
        faults.join("; ")
    }
}

/// One thing that is wrong with a topic, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFault {
    /// The file as the person named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what to do. Never quotes more than a word of the file.
    pub message: String,
}

impl fmt::Display for TopicFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Why a topics file cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// It cannot be read.
    #[error("cannot read the topics file {path}")]
    Unreadable {
        /// The path as it was given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than [`FILE_LIMIT_BYTES`].
    #[error("{path}: the file has {bytes} bytes; the limit is {FILE_LIMIT_BYTES}")]
    TooLarge {
        /// The path as it was given.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// It is not TOML, or a key or type is not known.
    #[error("{0}")]
    Malformed(TopicFault),
    /// It has another version.
    #[error("{path}: version {found} is not known; this program reads version 1")]
    Version {
        /// The path as it was given.
        path: String,
        /// What the file says.
        found: i64,
    },
    /// It holds no topic, or too many.
    #[error("{path}: {found} topics; the file must hold between 1 and {TOPICS_LIMIT}")]
    Count {
        /// The path as it was given.
        path: String,
        /// How many it holds.
        found: usize,
    },
}

/// Reads and checks a topics file.
pub fn read_file(path: &Path, secrets: &SecretPatterns) -> Result<Vec<Entry>, TopicsError> {
    let name = path.display().to_string();
    let unreadable = |source| TopicsError::Unreadable { path: name.clone(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_LIMIT_BYTES {
        return Err(TopicsError::TooLarge { path: name, bytes });
    }
    parse(&name, &std::fs::read_to_string(path).map_err(unreadable)?, secrets)
}

/// Checks the text of a topics file; `name` is what faults call it.
pub fn parse(name: &str, text: &str, secrets: &SecretPatterns) -> Result<Vec<Entry>, TopicsError> {
    let file: raw::File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        TopicsError::Malformed(Place { name, text }.fault(offset, first_line(error.message())))
    })?;
    if file.version != 1 {
        return Err(TopicsError::Version { path: name.to_owned(), found: file.version });
    }
    if file.topic.is_empty() || file.topic.len() > TOPICS_LIMIT {
        return Err(TopicsError::Count { path: name.to_owned(), found: file.topic.len() });
    }
    let checker = Checker { place: Place { name, text }, secrets, sources: sources_by_id(&file.source) };
    let mut titles = BTreeMap::new();
    Ok(file.topic.iter().map(|topic| checker.check(topic, &mut titles)).collect())
}

/// The file as a person writes it. Everything is optional here, so that what is missing gets a fault with a place
/// instead of ending the parse.
mod raw {
    use serde::Deserialize;
    use toml::Spanned;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct File {
        pub(super) version: i64,
        #[serde(default)]
        pub(super) source: Vec<Spanned<Source>>,
        #[serde(default)]
        pub(super) topic: Vec<Spanned<Topic>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Source {
        pub(super) id: Spanned<String>,
        pub(super) title: Option<Spanned<String>>,
        pub(super) url: Option<Spanned<String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Topic {
        pub(super) title: Option<Spanned<String>>,
        #[serde(default)]
        pub(super) tags: Vec<Spanned<String>>,
        #[serde(default)]
        pub(super) facts: Vec<Spanned<Claim>>,
        #[serde(default)]
        pub(super) notes: Vec<Spanned<Claim>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Claim {
        pub(super) text: Option<Spanned<String>>,
        pub(super) source: Option<Spanned<String>>,
    }
}

/// Turns byte offsets into lines and columns.
struct Place<'a> {
    name: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn fault(&self, offset: usize, message: impl Into<String>) -> TopicFault {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        TopicFault {
            file: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
            message: message.into(),
        }
    }
}

type RawSources<'a> = BTreeMap<&'a str, Vec<&'a Spanned<raw::Source>>>;

fn sources_by_id(sources: &[Spanned<raw::Source>]) -> RawSources<'_> {
    let mut by_id = RawSources::new();
    for source in sources {
        by_id.entry(source.get_ref().id.get_ref().as_str()).or_default().push(source);
    }
    by_id
}

struct Checker<'a> {
    place: Place<'a>,
    secrets: &'a SecretPatterns,
    sources: RawSources<'a>,
}

/// The faults of one topic, up to [`FAULTS_LIMIT`].
struct Faults<'a> {
    place: &'a Place<'a>,
    found: Vec<TopicFault>,
}

impl Faults<'_> {
    fn add(&mut self, offset: usize, message: impl Into<String>) {
        if self.found.len() < FAULTS_LIMIT {
            self.found.push(self.place.fault(offset, message));
        }
    }
}

impl Checker<'_> {
    fn check(&self, topic: &Spanned<raw::Topic>, titles: &mut BTreeMap<String, usize>) -> Entry {
        let start = topic.span().start;
        let raw = topic.get_ref();
        let mut faults = Faults { place: &self.place, found: Vec::new() };
        let title = self.line(raw.title.as_ref(), "the title", TITLE_LIMIT, start, &mut faults);
        self.check_unique(&title, raw.title.as_ref(), titles, &mut faults);
        let tags = self.tags(&raw.tags, &mut faults);
        if raw.facts.is_empty() {
            faults.add(start, "the topic has no facts; give it at least one, with a source");
        }
        let claim_count = raw.facts.len() + raw.notes.len();
        if claim_count > CLAIMS_LIMIT {
            faults.add(start, format!("{claim_count} facts and notes; the limit is {CLAIMS_LIMIT}"));
        }
        let mut sources = Vec::new();
        let facts = self.claims(&raw.facts, "fact", &mut sources, &mut faults);
        let notes = self.claims(&raw.notes, "note", &mut sources, &mut faults);
        if faults.found.is_empty() {
            return Entry::Valid(Topic { title, tags, facts, notes, sources });
        }
        let written = self.place.text.get(topic.span()).unwrap_or("");
        Entry::Invalid(InvalidTopic {
            label: self.label(&title, start),
            digest: digest_of(&["invalid-1", written, &faults.found[0].message]),
            faults: faults.found,
        })
    }

    /// The title when it can be shown to anyone, else the place.
    fn label(&self, title: &str, start: usize) -> String {
        let presentable = !title.is_empty()
            && title.chars().count() <= TITLE_LIMIT
            && !title.chars().any(is_forbidden)
            && self.secrets.find(title).is_none();
        if presentable {
            return title.to_owned();
        }
        let place = self.place.fault(start, "");
        format!("(topic at {}:{})", place.file, place.line)
    }

    fn check_unique(
        &self,
        title: &str,
        raw: Option<&Spanned<String>>,
        titles: &mut BTreeMap<String, usize>,
        faults: &mut Faults<'_>,
    ) {
        let Some(raw) = raw else { return };
        let line = self.place.fault(raw.span().start, "").line;
        match titles.get(title) {
            Some(first) => {
                faults.add(raw.span().start, format!("the topic at line {first} has the same title"))
            }
            None => {
                titles.insert(title.to_owned(), line);
            }
        }
    }

    /// One line of plain text: trimmed, inner white space made single blanks.
    fn line(
        &self,
        raw: Option<&Spanned<String>>,
        what: &str,
        limit: usize,
        parent: usize,
        faults: &mut Faults<'_>,
    ) -> String {
        let Some(raw) = raw else {
            faults.add(parent, format!("{what} is missing"));
            return String::new();
        };
        let offset = raw.span().start;
        let text = raw.get_ref().split_whitespace().collect::<Vec<_>>().join(" ");
        let length = text.chars().count();
        if text.is_empty() {
            faults.add(offset, format!("{what} is empty"));
        }
        if length > limit {
            faults.add(offset, format!("{what} has {length} characters; the limit is {limit}"));
        }
        if let Some(character) = text.chars().find(|character| is_forbidden(*character)) {
            let code = u32::from(character);
            faults.add(offset, format!("{what} holds the control character U+{code:04X}; remove it"));
        }
        if let Some(mark) = TEMPLATE_MARKS.iter().find(|mark| text.contains(**mark)) {
            faults.add(offset, format!("{what} holds the template mark `{mark}`; write it in words"));
        }
        if let Some(secret) = self.secrets.find(&text) {
            faults.add(offset, format!("{what} seems to hold {secret}; remove it and revoke it"));
        }
        text
    }

    fn tags(&self, raw: &[Spanned<String>], faults: &mut Faults<'_>) -> Vec<String> {
        if let Some(extra) = raw.get(TAGS_LIMIT) {
            faults.add(extra.span().start, format!("{} tags; the limit is {TAGS_LIMIT}", raw.len()));
        }
        let mut seen = BTreeSet::new();
        let mut tags = Vec::new();
        for tag in raw.iter().take(TAGS_LIMIT) {
            let text = self.line(Some(tag), "a tag", TAG_LIMIT, 0, faults);
            if seen.insert(text.clone()) {
                tags.push(text);
            }
        }
        tags
    }

    fn claims(
        &self,
        raw: &[Spanned<raw::Claim>],
        kind: &str,
        sources: &mut Vec<Source>,
        faults: &mut Faults<'_>,
    ) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (index, claim) in raw.iter().take(CLAIMS_LIMIT).enumerate() {
            let what = format!("{kind} {}", index + 1);
            let offset = claim.span().start;
            let text = self.line(claim.get_ref().text.as_ref(), &what, CLAIM_LIMIT, offset, faults);
            let Some(id) = claim.get_ref().source.as_ref() else {
                faults.add(offset, format!("{what} has no source; every claim needs one"));
                continue;
            };
            self.resolve(id, &what, sources, faults);
            claims.push(Claim { text, source: id.get_ref().clone() });
        }
        claims
    }

    fn resolve(&self, id: &Spanned<String>, what: &str, sources: &mut Vec<Source>, faults: &mut Faults<'_>) {
        let offset = id.span().start;
        let name = id.get_ref().as_str();
        if sources.iter().any(|source| source.id == name) {
            return;
        }
        if !is_source_id(name) {
            faults.add(
                offset,
                format!("the source id of {what} must be 1 to {SOURCE_ID_LIMIT} of a-z, 0-9 and -"),
            );
            return;
        }
        let Some(declared) = self.sources.get(name) else {
            faults.add(offset, format!("{what} names the source `{name}`, and no [[source]] has this id"));
            return;
        };
        if let [_, second, ..] = declared.as_slice() {
            faults.add(second.span().start, format!("the source `{name}` is declared more than once"));
        }
        let Some(source) = declared.first() else { return };
        let raw = source.get_ref();
        let what = format!("the title of the source `{name}`");
        let title = self.line(raw.title.as_ref(), &what, TITLE_LIMIT, source.span().start, faults);
        let url = raw.url.as_ref().map(|url| {
            if !is_web_address(url.get_ref()) || self.secrets.find(url.get_ref()).is_some() {
                faults.add(
                    url.span().start,
                    format!("the url of the source `{name}` must be an http or https address without blanks, quotes or passwords"),
                );
            }
            url.get_ref().clone()
        });
        sources.push(Source { id: name.to_owned(), title, url });
    }
}

fn is_source_id(text: &str) -> bool {
    (1..=SOURCE_ID_LIMIT).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_web_address(text: &str) -> bool {
    let after_scheme = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    after_scheme.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.len() <= URL_LIMIT
        && text.bytes().all(|byte| {
            byte.is_ascii_graphic()
                && !matches!(byte, b'<' | b'>' | b'"' | b'\'' | b'`' | b'\\' | b'{' | b'}')
        })
}

/// Characters that no plain text needs: controls, the overrides that make text read other than it is (the "Trojan
/// source" family), and code points that XML does not allow. Joiners and direction marks, which real scripts need, pass.
pub(crate) fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
        || matches!(character, '\u{FDD0}'..='\u{FDEF}')
        || u32::from(character) & 0xFFFE == 0xFFFE
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

#[cfg(test)]
#[path = "topic_tests.rs"]
mod tests;
