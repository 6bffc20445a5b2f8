//! Who writes the text: an ordered chain of tiers, of which the last one cannot fail.
//!
//! A tier gets the research and returns a draft. The chain asks the best tier first and goes down; nothing of a failed
//! attempt survives, so a draft is never spliced from two tiers. Today the chain has one link, the deterministic
//! renderer: it needs no network, no model and no luck, and the same research gives the same bytes on every machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::render::Templates;
use crate::topic::{Claim, Source, Topic};

/// Longest description in the front matter and the feed, in characters.
pub const DESCRIPTION_LIMIT: usize = 280;

/// What the gather stage found: the claims with their sources resolved, each claim once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Research {
    /// The title.
    pub title: String,
    /// The tags.
    pub tags: Vec<String>,
    /// What is known.
    pub facts: Vec<Claim>,
    /// What is said about it.
    pub notes: Vec<Claim>,
    /// The sources of the claims, in the order of first use.
    pub sources: Vec<Source>,
}

impl Research {
    /// Collects the claims of a topic. A claim that is repeated word for word from the same source counts once.
    #[must_use]
    pub fn gather(topic: &Topic) -> Self {
        let facts = each_once(&topic.facts, &[]);
        let notes = each_once(&topic.notes, &facts);
        Self {
            title: topic.title.clone(),
            tags: topic.tags.clone(),
            facts,
            notes,
            sources: topic.sources.clone(),
        }
    }
}

/// `claims` without repetitions and without what `already` holds.
fn each_once(claims: &[Claim], already: &[Claim]) -> Vec<Claim> {
    let mut kept: Vec<Claim> = Vec::new();
    for claim in claims {
        if !kept.contains(claim) && !already.contains(claim) {
            kept.push(claim.clone());
        }
    }
    kept
}

/// Which kind of generator wrote a draft. Readers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The deterministic renderer: the claims as they are, in order.
    Renderer,
}

impl Tier {
    /// The word in front matter, logs and the beat.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Renderer => "renderer",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// What a tier wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// Who wrote it.
    pub tier: Tier,
    /// One or two sentences of plain text, at most [`DESCRIPTION_LIMIT`] characters.
    pub description: String,
    /// The article in CommonMark with footnotes, without front matter. Each claim ends in `[^source-id]`.
    pub body: String,
}

/// Why a tier could not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tier {tier} could not write: {reason}")]
pub struct TierFault {
    /// Which one.
    pub tier: Tier,
    /// Why, for a person.
    pub reason: String,
}

/// One way of writing. It must be a function of its input: a draft that is asked for again after a crash replaces the
/// first one.
pub trait Generator: fmt::Debug {
    /// Which tier this is.
    fn tier(&self) -> Tier;
    /// Writes a draft from the research and nothing else.
    fn write(&self, research: &Research) -> Result<Draft, TierFault>;
}

/// The deterministic renderer.
#[derive(Debug)]
pub struct Renderer {
    templates: Templates,
}

impl Renderer {
    /// A renderer that lays out with `templates`.
    #[must_use]
    pub fn new(templates: Templates) -> Self {
        Self { templates }
    }
}

impl Generator for Renderer {
    fn tier(&self) -> Tier {
        Tier::Renderer
    }

    fn write(&self, research: &Research) -> Result<Draft, TierFault> {
        let body = self
            .templates
            .body(research)
            .map_err(|error| TierFault { tier: self.tier(), reason: error.to_string() })?;
        Ok(Draft { tier: self.tier(), description: description_of(research), body })
    }
}

/// The first fact, cut at a word.
fn description_of(research: &Research) -> String {
    let text = research.facts.first().map_or(research.title.as_str(), |fact| fact.text.as_str());
    if text.chars().count() <= DESCRIPTION_LIMIT {
        return text.to_owned();
    }
    let head: String = text.chars().take(DESCRIPTION_LIMIT - 1).collect();
    let cut = head.rfind(' ').map_or(head.as_str(), |blank| head.get(..blank).unwrap_or(&head));
    format!("{cut}…")
}

/// The tiers in the order in which they are asked.
#[derive(Debug)]
pub struct Chain {
    tiers: Vec<Box<dyn Generator>>,
}

impl Chain {
    /// A chain of `tiers`, the best first. End it with the [`Renderer`].
    #[must_use]
    pub fn new(tiers: Vec<Box<dyn Generator>>) -> Self {
        Self { tiers }
    }

    /// The first draft that a tier delivers, or every tier's reason.
    pub fn write(&self, research: &Research) -> Result<Draft, Vec<TierFault>> {
        let mut faults = Vec::new();
        for tier in &self.tiers {
            match tier.write(research) {
                Ok(draft) => return Ok(draft),
                Err(fault) => {
                    tracing::warn!(tier = %fault.tier, reason = %fault.reason, "tier failed, asking the next");
                    faults.push(fault);
                }
            }
        }
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        Claim { text: text.to_owned(), source: "s".to_owned() }
    }

    fn topic(facts: &[&str], notes: &[&str]) -> Topic {
        Topic {
            title: "A title".to_owned(),
            tags: vec![],
            facts: facts.iter().map(|text| claim(text)).collect(),
            notes: notes.iter().map(|text| claim(text)).collect(),
            sources: vec![Source { id: "s".to_owned(), title: "S".to_owned(), url: None }],
        }
    }

    #[test]
    fn a_repeated_claim_is_told_once() {
        let research = Research::gather(&topic(&["a", "b", "a"], &["b", "c"]));
        assert_eq!(research.facts, [claim("a"), claim("b")]);
        assert_eq!(research.notes, [claim("c")]);
    }

    #[test]
    fn a_long_first_fact_is_cut_at_a_word() {
        let research = Research::gather(&topic(&["wörd ".repeat(100).trim()], &[]));
        let description = description_of(&research);
        assert!(description.chars().count() <= DESCRIPTION_LIMIT);
        assert!(description.ends_with("wörd…"), "{description}");
    }

    #[derive(Debug)]
    struct Broken;

    impl Generator for Broken {
        fn tier(&self) -> Tier {
            Tier::Renderer
        }

        fn write(&self, _: &Research) -> Result<Draft, TierFault> {
            Err(TierFault { tier: Tier::Renderer, reason: "no credit".to_owned() })
        }
    }

    #[test]
    fn the_next_tier_writes_when_one_fails_and_all_reasons_are_kept_when_none_can() {
        let research = Research::gather(&topic(&["a"], &[]));
        let renderer = Renderer::new(Templates::compile().unwrap());
        let draft = Chain::new(vec![Box::new(Broken), Box::new(renderer)]).write(&research).unwrap();
        assert!(draft.body.contains("- a[^s]"));
        let faults = Chain::new(vec![Box::new(Broken), Box::new(Broken)]).write(&research).unwrap_err();
        assert_eq!(faults.len(), 2);
    }
}
