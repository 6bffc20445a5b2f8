//! No text makes the reader panic, and what it says always points into the text.

use proptest::prelude::*;

use crate::machine::{configs, parse};

/// What a careless hand does to a file.
#[derive(Clone, Debug)]
enum Slip {
    Delete(usize, usize),
    Insert(usize, String),
    SwapLines(usize, usize),
    RepeatLine(usize),
}

fn slip() -> impl Strategy<Value = Slip> {
    let pieces = prop::sample::select(vec![
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "\n",
        "#",
        "\\",
        "0",
        "-1",
        "9999999999999999999",
        "1e400",
        "\"ä\"",
        "'''",
        "[[service]]",
        "[service.bot]",
        "nan",
        "1979-05-27",
        "\u{0}",
        "\u{202e}",
        "99999999999999h",
        "\"~\"",
        "true",
        "{ url = \"x\" }",
        "\"\\u0000\"",
        "url",
        "env.",
    ]);
    prop_oneof![
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Slip::Delete(at, length)),
        (any::<usize>(), pieces).prop_map(|(at, text)| Slip::Insert(at, text.to_owned())),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Slip::SwapLines(a, b)),
        any::<usize>().prop_map(Slip::RepeatLine),
    ]
}

fn apply(text: &str, slip: &Slip) -> String {
    let place = |at: usize| text.floor_char_boundary(at % (text.len() + 1));
    let mut lines: Vec<&str> = text.lines().collect();
    let count = lines.len().max(1);
    match slip {
        Slip::Delete(at, length) => {
            let start = place(*at);
            let end = text.floor_char_boundary((start + length).min(text.len()));
            format!("{}{}", &text[..start], &text[end..])
        }
        Slip::Insert(at, piece) => format!("{}{piece}{}", &text[..place(*at)], &text[place(*at)..]),
        Slip::SwapLines(a, b) if !lines.is_empty() => {
            lines.swap(a % count, b % count);
            lines.join("\n")
        }
        Slip::RepeatLine(at) if !lines.is_empty() => {
            lines.insert(at % count, lines[at % count]);
            lines.join("\n")
        }
        _ => text.to_owned(),
    }
}

fn holds(text: &str) {
    let loaded = parse(text);
    assert_eq!(loaded.checked.is_some(), loaded.faults.is_empty());
    for finding in loaded.faults.iter().chain(&loaded.warnings) {
        assert!(text.get(finding.span.clone()).is_some(), "{finding:?} at {:?}", finding.span);
        assert!(!finding.message.is_empty() && finding.line >= 1 && finding.column >= 1);
        assert!(finding.line <= text.matches('\n').count() + 1);
        let mut drawn = String::new();
        miette::NarratableReportHandler::new().render_report(&mut drawn, finding).unwrap();
        for secret in ["secret-valid", "secret-a", "secret-b", "secret-c", "secret-d"] {
            assert!(!format!("{}", finding.one_line()).contains(secret), "{finding:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slips_of_the_hand_never_panic(which in any::<usize>(), slips in prop::collection::vec(slip(), 1..6)) {
        let files: Vec<(String, String)> = configs("valid").into_iter().chain(configs("invalid")).collect();
        let mut text = files[which % files.len()].1.clone();
        for slip in &slips {
            text = apply(&text, slip);
        }
        holds(&text);
    }

    #[test]
    fn noise_never_panics(text in "\\PC{0,200}") {
        holds(&text);
    }
}

#[test]
fn many_services_and_many_faults_are_all_told() {
    let mut text = "version = 1\n".to_owned();
    for n in 0..500 {
        let fault = if n % 10 == 0 { "dedline = '1s'\n" } else { "" };
        let after = if n > 0 { format!("after = ['s{}']\n", n - 1) } else { String::new() };
        text += &format!(
            "[service.s{n}]\ncommand = ['bot']\ndeadline = '1x'\nheartbeat.notify = true\n{fault}{after}"
        );
    }
    let loaded = parse(&text);
    assert_eq!(loaded.faults.len(), 550);
    assert!(loaded.faults.is_sorted_by_key(|fault| fault.span.start));
}
