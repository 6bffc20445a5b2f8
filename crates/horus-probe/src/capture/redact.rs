//! Log lines as they may be stored and sent. It errs on the side of hiding: a hidden word costs a look into the log
//! itself, a shown token costs an account.

use std::sync::LazyLock;

use horus_core::plan::Secret;
use regex::bytes::{Regex, RegexBuilder};

const HIDDEN: &str = "***";

/// A known secret shorter than this is not looked for: it would hide every "no" and "1" of a log.
const SECRET_BYTES_MIN: usize = 5;

/// Patterns and what is put in place of a match. Without Unicode: secrets are ASCII.
const PATTERNS: [(&str, &str); 10] = [
    // Webhook URLs are secrets as a whole; the host says enough.
    (r#"(https?://[^\s/"'<>]*(?:discord(?:app)?\.com|hooks\.slack\.com)/)[^\s"'<>]+"#, "$1***"),
    (r#"(https?://[^\s"'<>]*/)(?:web)?hooks?/[^\s"'<>]+"#, "$1***"),
    // User and password in a URL.
    (r#"([a-z][a-z0-9+.-]*://)[^\s/@"'<>]+@"#, "$1***@"),
    (
        r#"\b((?:proxy-)?authorization["']?\s*[:=]\s*["']?)(?:(?:basic|bearer|token|bot|digest|apikey)\s+)?[^\s"',;]+"#,
        "$1***",
    ),
    (r"\b((?:set-)?cookie\s*:\s*).+", "$1***"),
    (r"\b(bearer\s+)[A-Za-z0-9._~+/=-]{6,}", "$1***"),
    // name=value, "name": "value", --name value, where the name says what it is.
    (
        r#"((?:[\w.-]*(?:token|secret|passwo?r?d|passphrase|api[_-]?key|apikey|access[_-]?key|private[_-]?key|credential|signature)[\w.-]*)["']?(?:\s*[:=]\s*["']?|\s+["']))[^\s"'&,;}\])]+"#,
        "$1***",
    ),
    // A long random word after a word like "key".
    (
        r#"\b(\w*(?:key|token|secret|sig|auth|session|jwt|pat)\w*(?:\s+id)?\W{1,4})[A-Za-z0-9+/_=-]{20,}"#,
        "$1***",
    ),
    // Shapes that known issuers use, and what a PEM file is made of.
    (
        r"\b(?:sk-[\w-]{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)",
        HIDDEN,
    ),
    (r"^[A-Za-z0-9+/=]{48,}$", HIDDEN),
];

static COMPILED: LazyLock<Vec<(Regex, &'static [u8])>> = LazyLock::new(|| {
    PATTERNS
        .iter()
        .filter_map(|(pattern, shown)| {
            let pattern = RegexBuilder::new(pattern).unicode(false).case_insensitive(true).build().ok()?;
            Some((pattern, shown.as_bytes()))
        })
        .collect()
});

/// Hides what must not be shown.
#[derive(Debug)]
pub(crate) struct Redactor {
    known: Vec<Secret>,
}

impl Redactor {
    /// Hides these secrets wherever they stand, and whatever looks like one.
    pub(crate) fn new(known: &[Secret]) -> Self {
        let mut known: Vec<Secret> = known
            .iter()
            .flat_map(|secret| secret.expose().lines())
            .map(str::trim)
            .filter(|line| line.len() >= SECRET_BYTES_MIN)
            .map(|line| Secret::new(line.to_owned()))
            .collect();
        // The longest first: one secret may be a part of another.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self { known }
    }

    /// One line without its secrets.
    pub(crate) fn line(&self, line: &str) -> String {
        let mut text = line.to_owned();
        for secret in &self.known {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), HIDDEN);
            }
        }
        let mut bytes = text.into_bytes();
        for (pattern, shown) in COMPILED.iter() {
            if pattern.is_match(&bytes) {
                bytes = pattern.replace_all(&bytes, *shown).into_owned();
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "c4n4ry-d34db33f-c0ff33-4ll-n1ght-l0ng";

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(COMPILED.len(), PATTERNS.len());
    }

    #[test]
    fn a_canary_gets_through_in_no_shape() {
        let redactor = Redactor::new(&[]);
        for shape in [
            "POST https://discord.com/api/webhooks/123/CANARY?wait=true failed",
            "POST https://hooks.slack.com/services/T0/B0/CANARY failed",
            "url=http://localhost:9/webhook/CANARY",
            "connect postgres://bot:CANARY@db:5432/x",
            "redis://CANARY@cache",
            "Authorization: Bearer CANARY",
            "authorization: CANARY",
            r#"{"headers":{"Authorization":"Bot CANARY"}}"#,
            "using bearer CANARY now",
            "Cookie: a=b; session=CANARY",
            "token=CANARY",
            "GET /v1?api_key=CANARY&x=1",
            "DISCORD_TOKEN='CANARY'",
            r#"{"client_secret": "CANARY"}"#,
            "password: CANARY",
            "--api-key \"CANARY\"",
            "using key CANARY",
            "session id CANARY",
        ] {
            let shown = redactor.line(&shape.replace("CANARY", CANARY));
            assert!(!shown.contains("c4n4ry") && !shown.contains("n1ght"), "{shape} -> {shown}");
            assert!(shown.contains(HIDDEN), "{shape} -> {shown}");
        }
        for shape in
            ["sk-proj-abcdefghijklmnopqrst", "ghp_abcdefghijklmnopqrstuvwxyz0123", "AKIAABCDEFGHIJKLMNOP"]
        {
            assert_eq!(redactor.line(shape), HIDDEN);
        }
    }

    #[test]
    fn a_known_secret_is_hidden_wherever_it_stands() {
        let redactor =
            Redactor::new(&[Secret::new("hunter2\nsecond line\n".into()), Secret::new("no".into())]);
        assert_eq!(redactor.line("xhunter2y and second line"), "x***y and ***");
        assert_eq!(redactor.line("no, nothing"), "no, nothing", "too short to be looked for");
    }

    #[test]
    fn ordinary_lines_stay_readable() {
        let redactor = Redactor::new(&[Secret::new("0123456789".into())]);
        for line in [
            "2026-11-22T10:00:00Z INFO filled order 812 at 43.21",
            "key error: 'price'",
            "token bucket is empty",
            "https://example.com/api/v1/orders?limit=10",
            "authored by ünï",
            "Traceback (most recent call last):",
        ] {
            assert_eq!(redactor.line(line), line);
        }
    }
}
