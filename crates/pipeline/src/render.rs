//! Turns data into text in three languages, and is the only place that knows how each of them is escaped.
//!
//! | output | escaped by | so that |
//! | --- | --- | --- |
//! | `.md` | [`escape_markdown`], as the automatic escape of the template | a claim is text, never markup |
//! | `.html` | minijinja's HTML escape; pulldown-cmark for the body | `<script>` is shown, not run |
//! | `.xml` | the same five characters | the feed stays well-formed whatever the title |
//!
//! Escaping is automatic in every template: a forgotten filter cannot open a hole. The few `|safe` values are ids and
//! addresses that were checked when the topic was read. Raw HTML inside Markdown becomes text on the page, and a link
//! that is not http or https loses its target: the two ways in which a later, less obedient generator could smuggle markup.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};
use serde::Serialize;

use crate::article::FrontMatter;
use crate::generator::Research;

const BODY: &str = "body.md";
const PAGE: &str = "page.html";
const INDEX: &str = "index.html";
const FEED: &str = "feed.xml";

/// The name of the publication, in the index and the feed.
pub const PUBLICATION_TITLE: &str = "Notes on supervision";

/// A template that does not compile or does not render: a bug, because all templates are compiled in.
#[derive(Debug, thiserror::Error)]
#[error("the template {name} failed: {source}")]
pub struct RenderError {
    name: &'static str,
    source: minijinja::Error,
}

/// The compiled templates.
#[derive(Debug, Clone)]
pub struct Templates {
    environment: Environment<'static>,
}

/// One line of the index and the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The title, plain text.
    pub title: String,
    /// RFC 3339, UTC.
    pub date: String,
    /// File stem of the page.
    pub slug: String,
    /// Plain text.
    pub description: String,
    /// Plain text.
    pub tags: Vec<String>,
    /// Identity of the entry.
    pub run_id: String,
}

impl Templates {
    /// Compiles the templates that are built in.
    pub fn compile() -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
        environment.set_syntax(syntax.build().map_err(|source| RenderError { name: "syntax", source })?);
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".md") { AutoEscape::Custom("markdown".into()) } else { AutoEscape::Html }
        });
        environment.set_formatter(|output, state, value| match (state.auto_escape(), value.as_str()) {
            (AutoEscape::Custom(_), Some(text)) if !value.is_safe() => {
                Ok(output.write_str(&escape_markdown(text))?)
            }
            (AutoEscape::Custom(_), _) => Ok(write!(output, "{value}")?),
            _ => minijinja::escape_formatter(output, state, value),
        });
        for (name, source) in [
            (BODY, include_str!("../templates/body.md")),
            (PAGE, include_str!("../templates/page.html")),
            (INDEX, include_str!("../templates/index.html")),
            (FEED, include_str!("../templates/feed.xml")),
        ] {
            environment.add_template(name, source).map_err(|source| RenderError { name, source })?;
        }
        Ok(Self { environment })
    }

    /// The Markdown of an article, without front matter.
    pub fn body(&self, research: &Research) -> Result<String, RenderError> {
        self.render(BODY, Serde(research).into())
    }

    /// The whole HTML page of an article; `body` is its Markdown.
    pub fn page(&self, matter: &FrontMatter, body: &str) -> Result<String, RenderError> {
        let context = context! {
            title => matter.title.as_str(), description => matter.description.as_str(), date => matter.date_text(),
            tags => Serde(&matter.tags), tier => matter.extra.tier.as_str(), body => html_of(body),
        };
        self.render(PAGE, context)
    }

    /// The list of all articles, newest first.
    pub fn index(&self, posts: &[Listed]) -> Result<String, RenderError> {
        self.render(INDEX, context! { title => PUBLICATION_TITLE, posts => Serde(posts) })
    }

    /// The Atom feed. `updated` is the date of the newest entry, so that the same posts give the same bytes.
    pub fn feed(&self, posts: &[Listed]) -> Result<String, RenderError> {
        let updated = posts.first().map_or("1970-01-01T00:00:00Z", |post| post.date.as_str());
        self.render(FEED, context! { title => PUBLICATION_TITLE, updated, posts => Serde(posts) })
    }

    fn render(&self, name: &'static str, context: Value) -> Result<String, RenderError> {
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context))
            .map_err(|source| RenderError { name, source })
    }
}

/// The Markdown dialect of the articles: CommonMark with footnotes.
pub(crate) fn markdown_events(body: &str) -> Parser<'_> {
    Parser::new_ext(body, Options::ENABLE_FOOTNOTES)
}

/// HTML in which no markup of the text survives.
fn html_of(body: &str) -> String {
    let mut blind_links: Vec<bool> = Vec::new();
    let events = markdown_events(body).filter_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
        Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        Event::Start(Tag::Link { link_type, dest_url, .. }) => {
            let blind = !is_web_link(link_type, &dest_url);
            blind_links.push(blind);
            let title = CowStr::Borrowed("");
            let id = CowStr::Borrowed("");
            (!blind).then_some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        Event::End(TagEnd::Link) => {
            let blind = blind_links.pop().unwrap_or(true);
            (!blind).then_some(Event::End(TagEnd::Link))
        }
        event => Some(event),
    });
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

fn is_web_link(kind: LinkType, target: &str) -> bool {
    kind != LinkType::Email && (target.starts_with("https://") || target.starts_with("http://"))
}

/// Plain text as CommonMark that renders as exactly this text.
#[must_use]
pub fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    for (index, character) in text.char_indices() {
        let anywhere =
            matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '~' | '|' | '$');
        let at_start = index == 0 && matches!(character, '#' | '+' | '-' | '=' | ':');
        let list_number = digits > 0 && index == digits && matches!(character, '.' | ')');
        if anywhere || at_start || list_number {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(markdown: &str) -> String {
        let mut text = String::new();
        for event in markdown_events(markdown) {
            match event {
                Event::Text(part) => text.push_str(&part),
                Event::Html(part) | Event::InlineHtml(part) | Event::Code(part) => panic!("markup: {part}"),
                Event::Start(Tag::List(_) | Tag::Item | Tag::Paragraph | Tag::FootnoteDefinition(_))
                | Event::End(_)
                | Event::FootnoteReference(_) => (),
                other => panic!("not plain text: {other:?}"),
            }
        }
        text
    }

    proptest! {
        #[test]
        fn escaped_text_is_shown_as_it_was(
            text in "([#+=:0-9.)(>*_`<&|$~!a-z\\[\\]{}\"'/\\\\-]|\u{5d0}|\u{1f600}){1,3}( ?[ -~]){0,40}"
        ) {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let markdown = format!("- {}[^a]\n\n[^a]: ok\n", escape_markdown(&text));
            prop_assert_eq!(text_of(&markdown), format!("{text}ok"));
        }

        #[test]
        fn no_body_smuggles_an_element_of_its_own(body in "([<>\"'&()!\\[\\]a-z:/ \n]|<script>|javascript:|<!--|<img src=x onerror=y>){0,60}") {
            let html = html_of(&body);
            for element in html.split('<').skip(1) {
                let name: String = element.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();
                prop_assert!(
                    ["p", "/p", "a", "/a", "ul", "/ul", "ol", "/ol", "li", "/li", "blockquote", "/blockquote", "br", "hr",
                     "em", "/em", "strong", "/strong", "code", "/code", "pre", "/pre", "h1", "/h1", "h2", "/h2", "sup",
                     "/sup", "div", "/div"].contains(&name.as_str()),
                    "<{} in {}", element, html
                );
            }
            prop_assert!(!html.contains("href=\"javascript:"));
        }
    }

    #[test]
    fn links_keep_web_targets_only() {
        let html = html_of(
            "[a](https://x.example/) [b](javascript:alert(1)) [c](data:text/html,x) <d@e.example> ![f](https://x/)",
        );
        assert_eq!(html, "<p><a href=\"https://x.example/\">a</a> b c d@e.example f</p>\n");
    }

    #[test]
    fn an_html_block_becomes_a_paragraph_of_text() {
        assert_eq!(
            html_of("<script>\nalert(1)\n</script>\n"),
            "<p>&lt;script&gt;\nalert(1)\n&lt;/script&gt;\n</p>\n"
        );
    }
}
