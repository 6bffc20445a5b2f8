//! What a person sees: one snapshot for each fixture, as `horus check` would draw it.

use std::collections::BTreeSet;
use std::path::Path;

use horus_config::{Code, Fault, Weight, load, parse};
use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::machine::{Machine, configs, parse_fixture};

fn render(findings: &[&Fault]) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false);
    let mut text = String::new();
    for finding in findings {
        handler.render_report(&mut text, *finding).unwrap();
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn findings_of(name: &str, text: &str) -> Vec<Fault> {
    let loaded = parse_fixture(name, text);
    assert_eq!(loaded.checked.is_none(), !loaded.faults.is_empty());
    let mut all = loaded.faults;
    all.extend(loaded.warnings);
    all
}

fn snapshot(kind: &str, name: &str, findings: &[Fault]) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::assert_snapshot!(format!("{kind}-{name}"), render(&findings.iter().collect::<Vec<_>>()));
    });
}

#[test]
fn each_invalid_file_says_what_is_wrong() {
    for (name, text) in configs("invalid") {
        let findings = findings_of(&name, &text);
        assert!(findings.iter().any(|finding| finding.weight == Weight::Fault), "{name} has no fault");
        snapshot("invalid", &name, &findings);
    }
}

#[test]
fn each_valid_file_is_usable() {
    for (name, text) in configs("valid") {
        let findings = findings_of(&name, &text);
        let faults: Vec<_> = findings.iter().filter(|finding| finding.weight == Weight::Fault).collect();
        assert!(faults.is_empty(), "{name}: {faults:#?}");
        assert_eq!(findings.is_empty(), !name.starts_with("warns-"), "{name}: {findings:#?}");
        if !findings.is_empty() {
            snapshot("valid", &name, &findings);
        }
    }
}

#[test]
fn every_code_has_a_fixture() {
    // These cannot be told by a text alone; other tests in this folder do.
    let elsewhere = [
        Code::Unreadable,
        Code::TooMany,
        Code::SecretMissing,
        Code::BadSecret,
        Code::StartupBelowRecord,
        Code::DeadlineBelowRecord,
    ];
    let mut seen: BTreeSet<Code> = elsewhere.into();
    for (name, text) in configs("invalid").into_iter().chain(configs("valid")) {
        seen.extend(findings_of(&name, &text).iter().map(|finding| finding.code));
    }
    let unseen: Vec<_> = Code::ALL.iter().filter(|code| !seen.contains(code)).collect();
    assert!(unseen.is_empty(), "no fixture for {unseen:?}");
}

#[test]
fn no_finding_shows_a_secret() {
    for (name, text) in configs("invalid").into_iter().chain(configs("valid")) {
        let findings = findings_of(&name, &text);
        let shown = format!(
            "{}\n{}\n{findings:?}\n{:?}",
            render(&findings.iter().collect::<Vec<_>>()),
            serde_json::to_string(&findings).unwrap(),
            parse_fixture(&name, &text).checked,
        );
        for word in text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .chain(["secret-line", "secret-env-file"])
        {
            // Names of the fixtures begin with "secret-" too, but no value does that is not meant as one.
            assert!(!(word.starts_with("secret-") && shown.contains(word)), "{name} shows {word}:\n{shown}");
        }
    }
}

#[test]
fn places_are_those_an_editor_shows() {
    let text =
        "version = 1\n[service.bot]\ncommand = [\"bot\"]\nheartbeat.notify = true\n  deadlin = \"1s\"\n";
    let loaded = parse(text, Path::new("conf/watchdog.toml"), &Machine::new(1000));
    assert_eq!(
        loaded.faults[0].one_line().to_string(),
        "conf/watchdog.toml:5:3: there is no key `deadlin` in `[service.bot]`"
    );
    let json = serde_json::to_value(&loaded.faults[0]).unwrap();
    assert_eq!(json["code"], "config::unknown-key");
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(5), Some(3)));
    assert_eq!(&text[loaded.faults[0].span.clone()], "deadlin");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let mut machine = Machine::new(1000);
    let mut codes = |content: Option<&[u8]>| {
        if let Some(content) = content {
            machine.add("watchdog.toml", 1000, 0o600, false, "");
            machine.files.get_mut(Path::new("watchdog.toml")).unwrap().1 = content.to_vec();
        }
        let loaded = load(Path::new("watchdog.toml"), &machine);
        assert!(loaded.checked.is_none());
        loaded.faults.iter().map(|fault| fault.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(None), [Code::Unreadable]);
    assert_eq!(codes(Some(b"version = 1 # \xff")), [Code::Unreadable]);
    assert_eq!(codes(Some(&vec![b'\n'; (1 << 20) + 1])), [Code::Unreadable]);
    assert_eq!(codes(Some(b"")), [Code::Version]);
}

#[test]
fn the_wrong_file_ends_in_one_word_about_it() {
    let text: String = (0..500).map(|n| format!("key{n} = {n}\n")).collect();
    let faults = findings_of("wrong", &text);
    assert!(faults.iter().any(|fault| fault.code == Code::TooMany));
    assert_eq!(faults.len(), 101);
}
