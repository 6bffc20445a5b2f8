//! The gate before publication. It reads the finished article as a stranger would: the text, not the intentions.
//!
//! Whoever wrote the draft, these hold for what is published:
//!
//! | validator | refuses |
//! | --- | --- |
//! | sourced | a paragraph or list item that does not cite a source of the research |
//! | bounded | no text, more than the limits of front matter and article |
//! | unique | a slug that another run already has |
//! | dated | a date in the future (this one heals by itself, so the item waits) |
//! | clean | shapes of secrets, unresolved template marks, raw HTML, control characters |

use jiff::Timestamp;
use pulldown_cmark::{Event, Tag, TagEnd};

use crate::article::{self, ARTICLE_LIMIT_BYTES};
use crate::generator::{DESCRIPTION_LIMIT, Research};
use crate::item::RunId;
use crate::render::markdown_events;
use crate::secrets::SecretPatterns;
use crate::topic::{TEMPLATE_MARKS, TITLE_LIMIT, is_forbidden};

/// Most reasons that are listed; the first ones are enough to act on.
pub const REASONS_LIMIT: usize = 10;

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Validation {
    /// It may go out.
    Passed,
    /// Nothing is wrong with it, only too early.
    NotYet(String),
    /// It must never go out.
    Rejected(Vec<String>),
}

/// What the gate needs to know besides the text.
#[derive(Debug)]
pub struct Context<'a> {
    /// The run that wants to publish.
    pub run_id: &'a RunId,
    /// What may be cited.
    pub research: &'a Research,
    /// The run that already has this slug, if any.
    pub slug_owner: Option<&'a RunId>,
    /// The time.
    pub now: Timestamp,
    /// What to look for.
    pub secrets: &'a SecretPatterns,
}

/// Reads a finished article.
pub fn validate(text: &str, context: &Context<'_>) -> Validation {
    let (matter, body) = match article::read(text) {
        Ok(parts) => parts,
        Err(error) => return Validation::Rejected(vec![error.to_string()]),
    };
    let mut reasons = Vec::new();
    if text.len() > ARTICLE_LIMIT_BYTES {
        reasons.push(format!("the article has {} bytes; the limit is {ARTICLE_LIMIT_BYTES}", text.len()));
    }
    check_line("title", &matter.title, TITLE_LIMIT, &mut reasons);
    check_line("description", &matter.description, DESCRIPTION_LIMIT, &mut reasons);
    if matter.extra.run_id != *context.run_id {
        reasons.push("the front matter carries the run id of another run".to_owned());
    }
    if matter.draft {
        reasons.push("it is marked as a draft".to_owned());
    }
    if let Some(owner) = context.slug_owner.filter(|owner| *owner != context.run_id) {
        reasons.push(format!("the slug {} belongs to the run {owner}", matter.slug));
    }
    if let Some(mark) = TEMPLATE_MARKS.iter().find(|mark| text.contains(**mark)) {
        reasons.push(format!("the template mark `{mark}` is left in the text"));
    }
    if let Some(secret) = context.secrets.find(text) {
        reasons.push(format!("the text seems to hold {secret}"));
    }
    if body.chars().any(|character| character != '\n' && is_forbidden(character)) {
        reasons.push("the text holds control characters".to_owned());
    }
    check_sources(body, context.research, &mut reasons);
    reasons.truncate(REASONS_LIMIT);
    if !reasons.is_empty() {
        return Validation::Rejected(reasons);
    }
    match matter.moment() {
        None => Validation::Rejected(vec!["the date has no offset".to_owned()]),
        Some(date) if date > context.now => {
            Validation::NotYet(format!("its date {date} is in the future; the clock says {}", context.now))
        }
        Some(_) => Validation::Passed,
    }
}

fn check_line(what: &str, text: &str, limit: usize, reasons: &mut Vec<String>) {
    let length = text.chars().count();
    if text.trim().is_empty() {
        reasons.push(format!("the {what} is empty"));
    }
    if length > limit {
        reasons.push(format!("the {what} has {length} characters; the limit is {limit}"));
    }
    if text.chars().any(is_forbidden) {
        reasons.push(format!("the {what} holds control characters"));
    }
}

/// A block of text that is open while the article is walked through.
struct Block {
    /// Headings and footnotes make no claims of their own.
    exempt: bool,
    cited: bool,
    text: String,
}

/// Every block with text must cite, and cite only what the research holds.
fn check_sources(body: &str, research: &Research, reasons: &mut Vec<String>) {
    let mut open: Vec<Block> = Vec::new();
    let mut claims = 0_usize;
    let mut in_footnote = false;
    for event in markdown_events(body) {
        match event {
            Event::Start(Tag::FootnoteDefinition(_)) => in_footnote = true,
            Event::End(TagEnd::FootnoteDefinition) => in_footnote = false,
            Event::Start(Tag::Heading { .. }) => {
                open.push(Block { exempt: true, cited: false, text: String::new() });
            }
            Event::Start(Tag::Paragraph | Tag::Item | Tag::CodeBlock(_)) => {
                open.push(Block { exempt: in_footnote, cited: false, text: String::new() });
            }
            Event::End(TagEnd::Paragraph | TagEnd::Item | TagEnd::CodeBlock | TagEnd::Heading(_)) => {
                let Some(block) = open.pop() else { continue };
                if block.exempt || block.text.trim().is_empty() {
                    continue;
                }
                claims += 1;
                if !block.cited {
                    let start: String = block.text.chars().take(40).collect();
                    reasons.push(format!("no source is cited for \"{start}\""));
                }
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(block) = open.last_mut() {
                    block.text.push_str(&text);
                }
            }
            Event::FootnoteReference(id) => {
                if !research.sources.iter().any(|source| source.id == *id) {
                    reasons.push("a source is cited that the research does not hold".to_owned());
                }
                if let Some(block) = open.last_mut() {
                    block.cited = true;
                }
            }
            Event::Html(_) | Event::InlineHtml(_) => reasons.push("the text holds raw HTML".to_owned()),
            _ => (),
        }
    }
    if claims == 0 {
        reasons.push("the article makes no claim".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::article::FrontMatter;
    use crate::generator::{Draft, Tier};
    use crate::slot::Slot;
    use crate::topic::{Claim, Source};

    fn research() -> Research {
        Research {
            title: "Hangs".to_owned(),
            tags: vec![],
            facts: vec![Claim { text: "A fact.".to_owned(), source: "a".to_owned() }],
            notes: vec![],
            sources: vec![Source { id: "a".to_owned(), title: "A".to_owned(), url: None }],
        }
    }

    fn verdict_on(
        body: &str,
        change: impl FnOnce(&mut FrontMatter),
        slug_owner: Option<&RunId>,
        now: i64,
    ) -> Validation {
        let (research, run_id) = (research(), RunId::from_stored("run"));
        let slot = Slot::from_second(1_000_000).unwrap();
        let draft =
            Draft { tier: Tier::Renderer, description: "About hangs.".to_owned(), body: body.to_owned() };
        let mut matter = FrontMatter::new(&run_id, slot, &research, &draft).unwrap();
        change(&mut matter);
        let text = article::write(&matter, body).unwrap();
        let secrets = SecretPatterns::compile().unwrap();
        let now = Timestamp::from_second(now).unwrap();
        validate(&text, &Context { run_id: &run_id, research: &research, slug_owner, now, secrets: &secrets })
    }

    fn rejected(body: &str) -> String {
        match verdict_on(body, |_| (), None, 1_000_000) {
            Validation::Rejected(reasons) => reasons.join("; "),
            other => panic!("{other:?} for {body}"),
        }
    }

    const GOOD: &str = "## Known\n\n- A fact.[^a]\n\nAnd a paragraph.[^a]\n\n[^a]: A\n";

    #[test]
    fn a_sourced_article_passes() {
        assert_eq!(verdict_on(GOOD, |_| (), None, 1_000_000), Validation::Passed);
        assert_eq!(verdict_on(GOOD, |_| (), Some(&RunId::from_stored("run")), 1_000_000), Validation::Passed);
    }

    #[test]
    fn every_claim_needs_a_known_source_that_is_defined() {
        assert_eq!(
            rejected("- A fact.[^a]\n- Bare claim here.\n\n[^a]: A\n"),
            "no source is cited for \"Bare claim here.\""
        );
        assert_eq!(
            rejected("A paragraph.\n\n- A fact.[^a]\n\n[^a]: A\n"),
            "no source is cited for \"A paragraph.\""
        );
        assert!(rejected("- A fact.[^b]\n\n[^b]: B\n").contains("the research does not hold"));
        assert!(
            rejected("- A fact.[^a]\n").contains("no source is cited"),
            "a mark without a definition is only text"
        );
        assert!(rejected("- A.[^a]\n\n```\nhidden claim\n```\n\n[^a]: A\n").contains("hidden claim"));
        assert_eq!(rejected("## Only a heading\n"), "the article makes no claim");
        assert_eq!(rejected(""), "the article makes no claim");
    }

    #[test]
    fn what_is_not_clean_is_refused_without_being_quoted() {
        assert!(rejected("- See {{ venue }}.[^a]\n\n[^a]: A\n").contains("template mark `{{`"));
        assert!(rejected("- <b>x</b>[^a]\n\n[^a]: A\n").contains("raw HTML"));
        let token = format!("ghp_{}", "a1".repeat(18));
        let reason = rejected(&format!("- {token}[^a]\n\n[^a]: A\n"));
        assert!(reason.contains("a GitHub token") && !reason.contains(&token));
        assert!(
            rejected(&format!("- {}[^a]\n\n[^a]: A\n", "long ".repeat(60_000)))
                .contains("the limit is 262144")
        );
    }

    #[test]
    fn the_front_matter_is_read_too() {
        let reason = |change: fn(&mut FrontMatter)| match verdict_on(GOOD, change, None, 1_000_000) {
            Validation::Rejected(reasons) => reasons.join("; "),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(|matter| matter.title = " ".to_owned()), "the title is empty");
        assert!(reason(|matter| matter.title = "x".repeat(161)).contains("the limit is 160"));
        assert!(reason(|matter| matter.description = "x\u{202e}y".to_owned()).contains("control characters"));
        assert!(reason(|matter| matter.draft = true).contains("draft"));
        assert!(reason(|matter| matter.extra.run_id = RunId::from_stored("other")).contains("another run"));
        assert!(reason(|matter| matter.date = "2026-11-22".parse().unwrap()).contains("no offset"));
    }

    #[test]
    fn a_taken_slug_is_refused_and_a_future_date_waits() {
        let other = RunId::from_stored("other");
        assert!(matches!(verdict_on(GOOD, |_| (), Some(&other), 1_000_000), Validation::Rejected(_)));
        assert!(matches!(verdict_on(GOOD, |_| (), None, 999_999), Validation::NotYet(_)));
        assert!(matches!(verdict_on("no source", |_| (), None, 999_999), Validation::Rejected(_)));
    }
}
