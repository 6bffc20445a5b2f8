use std::path::Path;

use super::*;
use crate::cli::verbs::preview::{made_up, previews};

/// The page that is looked at in a review, beside the texts that it shows.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/previews/alerts.html");

fn all() -> Vec<Preview> {
    previews(&made_up(), None).unwrap()
}

fn drawn() -> Vec<Preview> {
    all().into_iter().filter(|preview| preview.kind != SinkKind::Webhook).collect()
}

#[test]
fn the_committed_page_is_what_would_be_sent() {
    let page = page(&drawn());
    if std::env::var_os("HORUS_UPDATE").is_some() {
        let durability = horus_sys::files::Durability::ThisBoot;
        horus_sys::files::write_atomic(Path::new(PAGE), page.as_bytes(), durability).unwrap();
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        committed == page,
        "docs/previews/alerts.html is out of date: HORUS_UPDATE=1 cargo test -p horus preview"
    );
}

#[test]
fn the_page_loads_nothing_and_shows_every_story_twice_for_each_sink() {
    let previews = drawn();
    let page = page(&previews);
    for loads in ["<script", "<img", "<link", "<iframe", "src=", "href=", "url(", "@import", "javascript:"] {
        assert!(!page.contains(loads), "{loads}");
    }
    assert!(page.contains("default-src 'none'"));
    assert_eq!(page.matches("<section class=\"phone ").count(), 2 * previews.len());
    assert_eq!(page.matches("<section").count(), page.matches("</section>").count());
    assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
    assert!(page.contains(".phone { box-sizing: border-box; width: 390px;"));
}

#[test]
fn hostile_texts_stay_texts_on_the_page() {
    let hostile = "</div><script>alert(1)</script> &lt; <@123> @everyone";
    let mut previews = drawn();
    for preview in &mut previews {
        preview.sink = hostile.into();
        preview.story = hostile.into();
        preview.first_line = hostile.into();
        let body = preview.body.as_object_mut().unwrap();
        body.insert("content".into(), hostile.into());
        body.insert("text".into(), hostile.into());
        body.insert(
            "embeds".into(),
            serde_json::json!([{ "title": hostile, "description": hostile, "color": "red" }]),
        );
        body.insert(
            "blocks".into(),
            serde_json::json!([{ "type": hostile, "text": { "type": "mrkdwn", "text": hostile } }]),
        );
    }
    let page = page(&previews);
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
}

#[test]
fn the_text_has_each_body_and_no_address_that_is_secret() {
    let text = text(&all(), Style::new(false));
    for part in [
        "breaker_open to discord (loud)\nPOST https://discord.com/api/v10/webhooks/hidden/hidden?wait=true\n",
        "stuck_healed to slack (meant to be silent, which Slack cannot)\nPOST https://hooks.slack.com/services/hidden\n",
        "POST https://hidden/\n",
        "\"parse\": []",
        "\"type\": \"horus.incident\"",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains('\u{1b}'));
}
