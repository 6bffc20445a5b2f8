//! Shapes of secrets that must never be published, stored or logged.
//!
//! The patterns are narrow on purpose: each belongs to a format that its issuer documents. A finding is reported by the
//! name of its pattern only, for a message that quotes the secret would itself be the leak.

use regex::RegexSet;

/// Name and shape of each known secret format.
const PATTERNS: [(&str, &str); 10] = [
    ("a private key block", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY"),
    ("an AWS access key id", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{40}"),
    ("a Slack token", r"\bxox[abeprs]-[A-Za-z0-9-]{10}"),
    ("a Slack webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9]"),
    ("a Discord webhook", r"discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/[0-9]{15}"),
    ("an API key of the sk- family", r"\bsk-[A-Za-z0-9_-]{20}"),
    ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10}"),
    ("a password in a URL", r"[a-z][a-z0-9+.-]{1,20}://[^/\s:@]{1,200}:[^/\s:@]{1,200}@"),
];

/// The compiled patterns.
#[derive(Debug, Clone)]
pub struct SecretPatterns {
    set: RegexSet,
}

impl SecretPatterns {
    /// Compiles the patterns. An error is a bug in this file, and the tests would show it.
    pub fn compile() -> Result<Self, regex::Error> {
        Ok(Self { set: RegexSet::new(PATTERNS.iter().map(|(_, shape)| *shape))? })
    }

    /// What `text` seems to contain, by the name of the format; never the match itself.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&'static str> {
        let index = self.set.matches(text).into_iter().next()?;
        PATTERNS.get(index).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_finds_its_own_example_and_spares_prose() {
        let patterns = SecretPatterns::compile().unwrap();
        // Assembled at run time, so that scanners of this repository stay quiet.
        let examples = [
            format!("-----BEGIN RSA {} KEY-----", "PRIVATE"),
            format!("AKIA{}", "IOSFODNN7EXAMPLE"),
            format!("ghp_{}", "a1".repeat(18)),
            format!("xoxb-{}", "1234567890-abc"),
            format!("https://hooks.slack.com/{}/T000", "services"),
            format!("https://discord.com/api/{}/123456789012345678/x", "webhooks"),
            format!("sk-ant-{}", "a".repeat(24)),
            format!("AIza{}", "b".repeat(35)),
            format!("eyJ{}.eyJ{}", "a".repeat(20), "b".repeat(20)),
            format!("postgres://{}:{}@db/x", "user", "hunter2"),
        ];
        for (example, (name, _)) in examples.iter().zip(PATTERNS) {
            assert_eq!(patterns.find(&format!("see {example} there")), Some(name));
        }
        for prose in ["a task-sk-etch of the desk", "see https://discord.com/developers", "10:30@noon", "eyJ"]
        {
            assert_eq!(patterns.find(prose), None, "{prose}");
        }
    }
}
