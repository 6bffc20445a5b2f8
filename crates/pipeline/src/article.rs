//! The finished article: front matter in TOML between `+++` lines, as Zola and Hugo read it, then Markdown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::generator::{Draft, Research};
use crate::item::{RunId, digest_of};
use crate::slot::Slot;

/// Longest part of a slug that comes from the title, in bytes.
pub const SLUG_TITLE_LIMIT: usize = 60;
/// Largest article, in bytes.
pub const ARTICLE_LIMIT_BYTES: usize = 256 * 1024;

const FENCE: &str = "+++";

/// The head of an article.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontMatter {
    /// Plain text.
    pub title: String,
    /// The start of the slot, UTC.
    pub date: toml::value::Datetime,
    /// Stem of the file name and of the address: the slot's stamp, then the title.
    pub slug: String,
    /// Plain text.
    pub description: String,
    /// Plain text.
    pub tags: Vec<String>,
    /// Always false: a draft is never published.
    pub draft: bool,
    /// What site generators pass through without reading.
    pub extra: Extra,
}

/// What the pipeline says about its own work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The identity by which a publication is recognised.
    pub run_id: RunId,
    /// Which tier wrote the text.
    pub tier: String,
    /// The ids of the sources.
    pub sources: Vec<String>,
}

/// An article that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArticleError {
    /// The date of the slot cannot be written in TOML.
    #[error("the slot has no TOML date")]
    Date(#[source] toml::value::DatetimeParseError),
    /// The front matter cannot be written.
    #[error("the front matter cannot be written")]
    Write(#[source] toml::ser::Error),
    /// There is no front matter between two `+++` lines.
    #[error("there is no front matter between two +++ lines")]
    NoFrontMatter,
    /// The front matter is not what an article of ours has.
    #[error("the front matter is not that of an article")]
    Read(#[source] Box<toml::de::Error>),
}

impl FrontMatter {
    /// The head of the article that `draft` becomes.
    pub fn new(run_id: &RunId, slot: Slot, research: &Research, draft: &Draft) -> Result<Self, ArticleError> {
        Ok(Self {
            title: research.title.clone(),
            date: slot.start().to_string().parse().map_err(ArticleError::Date)?,
            slug: slug(slot, &research.title),
            description: draft.description.clone(),
            tags: research.tags.clone(),
            draft: false,
            extra: Extra {
                run_id: run_id.clone(),
                tier: draft.tier.word().to_owned(),
                sources: research.sources.iter().map(|source| source.id.clone()).collect(),
            },
        })
    }

    /// The date in RFC 3339.
    #[must_use]
    pub fn date_text(&self) -> String {
        self.date.to_string()
    }

    /// The date as a moment; `None` when it has no offset.
    #[must_use]
    pub fn moment(&self) -> Option<Timestamp> {
        self.date_text().parse().ok()
    }
}

/// The whole text of the file.
pub fn write(matter: &FrontMatter, body: &str) -> Result<String, ArticleError> {
    let head = toml::to_string(matter).map_err(ArticleError::Write)?;
    Ok(format!("{FENCE}\n{head}{FENCE}\n\n{body}"))
}

/// The head and the body of a file.
pub fn read(text: &str) -> Result<(FrontMatter, &str), ArticleError> {
    let rest = text.strip_prefix("+++\n").ok_or(ArticleError::NoFrontMatter)?;
    let (head, body) = rest.split_once("\n+++\n").ok_or(ArticleError::NoFrontMatter)?;
    let matter = toml::from_str(head).map_err(|error| ArticleError::Read(Box::new(error)))?;
    Ok((matter, body.trim_start_matches('\n')))
}

/// The stem of the file name: only `a-z`, `0-9` and `-`, whatever the title holds, so that no title is a path.
///
/// The stamp makes it unique across slots; a title without any Latin letter is named by its hash.
#[must_use]
pub fn slug(slot: Slot, title: &str) -> String {
    let mut words = String::new();
    for character in title.chars() {
        if words.len() >= SLUG_TITLE_LIMIT {
            break;
        }
        if character.is_ascii_alphanumeric() {
            words.push(character.to_ascii_lowercase());
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
    }
    let words = words.trim_end_matches('-');
    if words.is_empty() {
        let hash = digest_of(&["slug-1", title]);
        return format!("{}-{}", slot.stamp(), hash.get(..8).unwrap_or("untitled"));
    }
    format!("{}-{words}", slot.stamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Tier;
    use proptest::prelude::*;

    fn slot() -> Slot {
        Slot::from_second(1_795_339_650).unwrap()
    }

    #[test]
    fn hostile_titles_make_harmless_names() {
        let stem = |title: &str| slug(slot(), title).split_once('-').unwrap().1.to_owned();
        assert_eq!(stem("../../etc/passwd"), "etc-passwd");
        assert_eq!(stem("<script>alert(1)</script>"), "script-alert-1-script");
        assert_eq!(stem("CON.txt\0"), "con-txt");
        assert_eq!(stem("a".repeat(10_240).as_str()).len(), SLUG_TITLE_LIMIT);
        assert_eq!(stem("مرحبا").len(), 8, "a title without Latin letters is named by its hash");
        assert_ne!(stem("مرحبا"), stem("🙂🙃"));
        assert_eq!(stem("🙂 hangs"), "hangs");
    }

    proptest! {
        #[test]
        fn a_slug_is_never_a_path(title in ".{0,300}") {
            let slug = slug(slot(), &title);
            prop_assert!(slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            prop_assert!(slug.len() <= 17 + SLUG_TITLE_LIMIT && !slug.ends_with('-'));
        }

        #[test]
        fn an_article_reads_back(title in ".{0,80}", description in ".{0,80}", tag in ".{0,20}", body in "(.|\n|\\+){0,200}") {
            let matter = FrontMatter {
                title, description, tags: vec![tag], draft: false, slug: "x".to_owned(),
                date: "2026-11-22T09:27:30Z".parse().unwrap(),
                extra: Extra { run_id: RunId::from_stored("r"), tier: Tier::Renderer.word().to_owned(), sources: vec![] },
            };
            let text = write(&matter, body.trim_start_matches('\n')).unwrap();
            let (read_matter, read_body) = read(&text).unwrap();
            prop_assert_eq!(read_matter, matter);
            prop_assert_eq!(read_body, body.trim_start_matches('\n'));
        }

        #[test]
        fn no_file_panics(text in "(\\+\\+\\+\n)?(.|\n){0,100}(\n\\+\\+\\+\n)?") {
            let _ = read(&text);
        }
    }
}
