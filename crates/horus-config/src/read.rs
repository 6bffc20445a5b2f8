//! From text to `Raw`, telling *every* fault of spelling and type, not only the first.
//!
//! serde stops at its first fault. So the text is parsed once into a tree of values with spans, and the tree is read
//! into [`RawFile`] again and again: each time it fails, the entry at the place of the fault is cut out of the tree and
//! the fault kept. What remains is read as if the bad entries had not been there, and the second stage can judge it;
//! the paths that were cut are remembered, so that it does not call "missing" what was only misspelt.
//!
//! Rejected: one deserializer per table (a second fault in the same table stays hidden), and a hand-written reader of
//! the tree (a second description of the format beside the types).

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::at::Span;
use crate::fault::{Code, Findings};
use crate::raw::RawFile;
use crate::secrets;
use crate::words::nearest;

/// Faults of spelling and type that are told at once. Whoever has more than this has the wrong file.
const READ_FAULTS_MAX: usize = 100;
/// Keys that stand twice and are told at once.
const SYNTAX_FAULTS_MAX: usize = 20;

/// The path of a key: `["service", "bot", "stop", "grace"]`.
pub(crate) type KeyPath = Vec<String>;

/// What could be read.
pub(crate) struct Reading {
    /// The file, without the entries in `cut`.
    pub(crate) raw: RawFile,
    /// Entries that could not be read and were told.
    pub(crate) cut: Vec<KeyPath>,
}

/// Reads `text`. `None`: nothing can be said beyond the findings.
pub(crate) fn read(text: &str, findings: &mut Findings) -> Option<Reading> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    secrets::hide(&tree, findings);
    if !errors.is_empty() {
        secrets::hide_by_line(text, findings);
        report_syntax(text, &errors, findings);
        return None;
    }
    let root = tree.span();
    let mut tree = tree.into_inner();
    let mut cut = Vec::new();
    for _ in 0..READ_FAULTS_MAX {
        let whole = Spanned::new(root.clone(), tree.clone());
        let error = match RawFile::deserialize(toml::Deserializer::from(whole)) {
            Ok(raw) => return Some(Reading { raw, cut }),
            Err(error) => error,
        };
        let place = error.span().and_then(|span| Some((entry_at(&tree, &span)?, span)));
        let Some((path, span)) = place else {
            findings
                .report(Code::WrongType, &error.span().unwrap_or(0..0), error.message())
                .label("this cannot be taken as a value");
            return None;
        };
        let shown = explain(error.message(), &path, &span, findings);
        if let Some(value) = remove(&mut tree, &path)
            && (shown == Shown::No || value.get_ref().is_table())
        {
            secrets::hide_texts(&value, findings);
        }
        cut.push(path);
    }
    let message = format!("more than {READ_FAULTS_MAX} faults; the rest of the file was not looked at");
    findings.report(Code::TooMany, &(0..0), message).label("is this the right file?");
    None
}

fn report_syntax(text: &str, errors: &[toml::de::Error], findings: &mut Findings) {
    for error in errors.iter().take(SYNTAX_FAULTS_MAX) {
        let span = error.span().unwrap_or(text.len()..text.len());
        findings
            .report(Code::Syntax, &span, format!("this is not TOML: {}", error.message()))
            .label("here")
            .help("nothing else can be told before this is mended");
        // A key that stands twice confuses nobody about the rest; after anything else the parser guesses.
        if error.message() != "duplicate key" {
            return;
        }
    }
}

/// May the value of the entry be shown?
#[derive(PartialEq)]
enum Shown {
    Yes,
    No,
}

/// Says in the words of this file what serde said in the words of Rust. Values are never repeated: one could be a
/// secret at the wrong place.
fn explain(said: &str, path: &KeyPath, span: &Span, findings: &mut Findings) -> Shown {
    let key = path.last().map_or("", String::as_str);
    if said.starts_with("unknown field") {
        return unknown_key(said, path, span, findings);
    }
    if said.starts_with("unknown variant") {
        let allowed = allowed_words(said);
        let quoted: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
        findings
            .report(Code::UnknownWord, span, format!("`{key}` is one of {}", quoted.join(", ")))
            .label("this is none of them");
        return Shown::Yes;
    }
    if said.starts_with("wanted string or table") {
        findings
            .report(Code::WrongType, span, format!("`{key}` takes a word in quotes"))
            .label("this is none");
        return Shown::Yes;
    }
    if let Some(greatest) = said.strip_prefix("invalid value: integer").and_then(greatest_number) {
        findings
            .report(Code::BadNumber, span, format!("`{key}` takes a whole number from 0 to {greatest}"))
            .label("out of bounds");
        return Shown::Yes;
    }
    let Some((found, expected)) = found_and_expected(said) else {
        findings
            .report(Code::WrongType, span, format!("`{key}`: {said}"))
            .label("this cannot be taken as a value");
        return Shown::Yes;
    };
    if let ([sink, _, "discord" | "slack" | "webhook"], "a text") =
        (path.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), found)
        && *sink == "sink"
    {
        secrets::report_literal(span, key, findings);
        return Shown::No;
    }
    findings
        .report(Code::WrongType, span, format!("`{key}` takes {}, not {found}", in_our_words(expected)))
        .label(format!("this is {found}"));
    Shown::Yes
}

fn unknown_key(said: &str, path: &KeyPath, span: &Span, findings: &mut Findings) -> Shown {
    let key = path.last().map_or("", String::as_str).escape_debug();
    let allowed = allowed_words(said);
    let meant = nearest(&key.to_string(), allowed.iter().copied());
    let table = match path.split_last() {
        None | Some((_, [])) => "at the top of the file".to_owned(),
        Some((_, [table])) => format!("in `[{table}]`"),
        Some((_, [table, name])) => format!("in `[{table}.{name}]`"),
        Some((_, [table, name, rest @ ..])) => format!("in `{}` of `[{table}.{name}]`", rest.join(".")),
    };
    let mut known: Vec<&str> =
        allowed.into_iter().filter(|word| *word != "url" || meant == Some("url")).collect();
    known.sort_unstable();
    let help = match meant {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known keys: {}", known.join(", ")),
    };
    findings
        .report(Code::UnknownKey, span, format!("there is no key `{key}` {table}"))
        .label("unknown")
        .help(help);
    match meant {
        Some(word) if !word.contains("env") && !word.contains("url") => Shown::Yes,
        _ => Shown::No,
    }
}

/// The words in backticks after "expected".
fn allowed_words(said: &str) -> Vec<&str> {
    let list = said.rsplit_once("expected ").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).collect()
}

/// Takes `invalid type: integer `90`, expected X` apart. The value is dropped.
fn found_and_expected(said: &str) -> Option<(&'static str, &str)> {
    let rest = said.strip_prefix("invalid type: ").or_else(|| said.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ").or_else(|| rest.split_once(", expected "))?;
    let kinds = [
        ("integer", "a number"),
        ("floating", "a number with a point"),
        ("boolean", "true or false"),
        ("string", "a text"),
        ("sequence", "a list"),
        ("map", "a table"),
    ];
    let found = kinds.iter().find(|(start, _)| found.starts_with(start)).map_or("this", |(_, words)| words);
    Some((found, expected))
}

fn greatest_number(said: &str) -> Option<u64> {
    match said.rsplit_once("expected ")?.1 {
        "u16" => Some(u16::MAX.into()),
        "u32" => Some(u32::MAX.into()),
        "u64" => Some(u64::MAX),
        _ => None,
    }
}

fn in_our_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list such as [\"a\", \"b\"]",
        "a map" => "a table such as { KEY = \"value\" }",
        other => other,
    }
}

/// The entry at `span`: the one whose key stands exactly there, else the deepest one that covers it.
fn entry_at(table: &DeTable<'_>, span: &Span) -> Option<KeyPath> {
    deepest(table, &|key, _| key == *span).or_else(|| {
        let covers = |outer: Span| outer.start <= span.start && span.end <= outer.end;
        deepest(table, &|key, value| covers(key) || covers(value))
    })
}

fn deepest(table: &DeTable<'_>, fits: &dyn Fn(Span, Span) -> bool) -> Option<KeyPath> {
    let mut best: Option<KeyPath> = None;
    for (key, value) in table {
        let below = match value.get_ref() {
            DeValue::Table(inner) => deepest(inner, fits),
            _ => None,
        };
        let here = || fits(key.span(), value.span()).then(KeyPath::new);
        let Some(mut path) = below.or_else(here) else {
            continue;
        };
        path.insert(0, key.get_ref().to_string());
        if best.as_ref().is_none_or(|known| known.len() < path.len()) {
            best = Some(path);
        }
    }
    best
}

fn remove<'i>(table: &mut DeTable<'i>, path: &[String]) -> Option<Spanned<DeValue<'i>>> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return table.remove(first.as_str());
    }
    match table.get_mut(first.as_str())?.get_mut() {
        DeValue::Table(inner) => remove(inner, rest),
        _ => None,
    }
}
