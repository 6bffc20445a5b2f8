//! `docs/reference/alerts.md` is generated here, so that it cannot tell other texts than the program sends.
//! `HORUS_UPDATE=1 cargo test -p horus-alert --test reference` writes it anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fmt::Write as _;
use std::path::Path;

use horus_alert::samples;
use horus_alert::words::{Context, message};
use jiff::tz::TimeZone;

const HEAD: &str = include_str!("reference-head.md");

fn generated() -> String {
    let zone = TimeZone::UTC;
    let context = Context {
        host: "mini",
        time_zone: &zone,
        now: "2026-03-05T14:35:20Z".parse().unwrap(),
        happened_at: "2026-03-05T14:35:10Z".parse().unwrap(),
        opened_at: "2026-03-05T14:32:00Z".parse().unwrap(),
    };
    let mut text = HEAD.to_owned();
    for notice in samples::notices() {
        let told = message(&notice, &context);
        let sound = if told.silent { "silent" } else { "loud" };
        let details: String = told.detail_lines.iter().map(|line| format!("<br>{}", cell(line))).collect();
        let key = samples::key(&notice.story);
        let colour = format!("{:?}", told.colour).to_lowercase();
        writeln!(text, "| `{key}` | {colour}, {sound} | **{}**{details} |", cell(&told.first_line)).unwrap();
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('_', "\\_").replace('*', "\\*").replace('<', "&lt;")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a generated file of the repository, written on request")]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/alerts.md");
    let generated = generated();
    if std::env::var_os("HORUS_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/reference/alerts.md is out of date; run HORUS_UPDATE=1 cargo test -p horus-alert --test reference"
    );
}
