use horus_core::ids::IncidentId;
use horus_core::notice::{IncidentKind, StormMember, Story};
use horus_core::plan::Severity;
use proptest::prelude::*;

use super::*;
use crate::samples;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn context(time_zone: &TimeZone) -> Context<'_> {
    Context {
        host: "mini",
        time_zone,
        now: at("2026-03-05T14:35:20Z"),
        happened_at: at("2026-03-05T14:35:10Z"),
        opened_at: at("2026-03-05T14:32:00Z"),
    }
}

fn rendered(message: &Message) -> String {
    let loudness = if message.silent { "silent" } else { "loud" };
    let details: String = message.detail_lines.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "{}\n  [{}]\n{details}  {} · {:?} · {loudness}\n",
        message.first_line, message.title, message.footer, message.colour
    )
}

#[test]
fn every_story_has_its_text() {
    let notices = samples::notices();
    let keys: std::collections::BTreeSet<_> =
        notices.iter().map(|notice| samples::key(&notice.story)).collect();
    assert_eq!(keys.len(), samples::STORIES, "a story has no sample");
    let text: Vec<_> =
        notices.iter().map(|notice| rendered(&message(notice, &context(&TimeZone::UTC)))).collect();
    insta::assert_snapshot!(text.join("\n"));
}

/// The rules for first lines, for every story, with short and long names, on time and late, calm and urgent.
#[test]
fn every_first_line_obeys_the_rules() {
    const JARGON: &[&str] = &[
        "SIG", "p99", "pid", "stack", "probe", "webhook", "http", "outbox", "tick", "loop", "daemon",
        "signal",
    ];
    let zone = TimeZone::UTC;
    let late = Context { now: at("2026-03-07T09:00:00Z"), ..context(&zone) };
    for context in [context(&zone), late] {
        for mut notice in samples::notices() {
            for name in ["x".to_owned(), "a-very-long-name_".repeat(4)[..64].to_owned()] {
                for needs_you in [false, true] {
                    notice.subject.clone_from(&name);
                    notice.needs_you = needs_you;
                    let line = message(&notice, &context).first_line;
                    assert!(units(&line) <= FIRST_LINE_MAX, "{} units: {line}", units(&line));
                    assert_eq!(line.contains("Needs you."), needs_you, "{line}");
                    assert!(!line.contains("recovered"), "{line}");
                    let (mark, text) = line.rsplit_once(") ").unwrap_or(("", &line));
                    assert_eq!(
                        mark.starts_with("(late: "),
                        context.now != self::context(&zone).now,
                        "{line}"
                    );
                    let (emoji, words) = text.split_once(' ').unwrap();
                    assert!(!emoji.is_ascii() && emoji.chars().count() <= 2, "{line}");
                    assert!(words.starts_with(&name[..name.len().min(12)]), "the name is not first: {line}");
                    assert!(words.is_ascii() || words.contains('…'), "a second emoji: {line}");
                    let fact = words.replace(&name, "");
                    assert!(!JARGON.iter().any(|word| fact.contains(word)), "jargon: {line}");
                }
            }
        }
    }
}

#[test]
fn working_again_is_only_said_of_what_was_seen_working() {
    for notice in samples::notices() {
        let line = message(&notice, &context(&TimeZone::UTC)).first_line;
        let proven = matches!(notice.story, Story::StuckHealed { .. } | Story::ExitHealed { .. });
        assert_eq!(line.contains("working again"), proven, "{line}");
    }
}

#[test]
fn a_late_message_says_so_in_local_time() {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let notice = &samples::notices()[2];
    let told = |now: &str| message(notice, &Context { now: at(now), ..context(&zone) });
    assert!(told("2026-03-05T14:37:10Z").first_line.starts_with('✅'));
    let late = told("2026-03-05T14:57:11Z");
    assert!(
        late.first_line.starts_with("(late: happened 16:35, sent 16:57) ✅ trading "),
        "{}",
        late.first_line
    );
    assert!(late.footer.ends_with(" · mini · 16:32-16:35"), "{}", late.footer);
    let later = told("2026-03-07T14:57:11Z").first_line;
    assert!(later.starts_with("(late: happened Mar 5 16:35, sent 16:57) "), "{later}");
    // A clock that was set back makes nothing late.
    assert!(told("2026-03-05T10:00:00Z").first_line.starts_with('✅'));
}

#[test]
fn the_footer_names_the_day_of_a_long_incident() {
    let zone = TimeZone::UTC;
    let context = Context { opened_at: at("2026-03-04T23:58:00Z"), ..context(&zone) };
    let footer = message(&samples::notices()[0], &context).footer;
    assert!(footer.ends_with(" · mini · Mar 4 23:58-14:35"), "{footer}");
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,80}",
        any::<String>(),
        Just(
            "@everyone <@123456789012345678> ```\n# x\n> y [a](http://b) \u{202E}<!channel> & \u{0}"
                .to_owned()
        ),
        Just("👩‍👩‍👧‍👦".repeat(500)),
        Just("x".repeat(100_000)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_breaks_a_limit(subject in hostile(), a in hostile(), b in hostile(), host in hostile(), needs_you: bool) {
        let story = |which| match which {
            0 => Story::CrashLoop { exits: u32::MAX, within: Duration::MAX, exit: a.clone(), next_in: Duration::MAX,
                last_line: Some(b.clone()) },
            1 => Story::BreakerOpen { kills: 3, how: a.clone(), places: vec![b.clone(); 30], retry: None },
            2 => Story::Over { lasted: Duration::MAX, how: a.clone() },
            3 => Story::FunnelBlocked { funnel: a.clone(), from: b.clone(), moved: u64::MAX, to: a.clone() },
            4 => Story::CommonCause { what: a.clone(), services: vec![b.clone(); 300], of: u32::MAX },
            5 => Story::NothingToWorkOn { gauge: a.clone(), is: Some(f64::MAX), min: f64::MIN, since: Duration::MAX },
            6 => Story::RunMissed { missed: u32::MAX, because: a.clone(), catches_up: false },
            8 => Story::Storm { members: vec![StormMember { subject: a.clone(), kind: IncidentKind::Exit, because: b.clone(), needs_you, over: false }; 300],
                more: u32::MAX },
            7 => Story::Demoted { detector: a.clone(), right: u32::MAX, wrong: u32::MAX },
            _ => Story::SinkDead { sink: a.clone(), fault: b.clone() },
        };
        for which in 0..10 {
            let notice = Notice { incident: IncidentId::nth(7), version: 1, subject: subject.clone(),
                kind: IncidentKind::CrashLoop, severity: Severity::Critical, needs_you, loud: true, within: None, story: story(which) };
            let zone = TimeZone::UTC;
            let told = message(&notice, &Context { host: &host, now: at("2026-03-07T09:00:00Z"), ..context(&zone) });
            prop_assert!(units(&told.first_line) <= FIRST_LINE_MAX, "{}", told.first_line);
            prop_assert!(!needs_you || told.first_line.ends_with("Needs you."), "{}", told.first_line);
            prop_assert!(units(&told.title) <= TITLE_MAX && units(&told.footer) <= FOOTER_MAX);
            prop_assert!(told.detail_lines.len() <= DETAILS_MAX);
            let all = [&told.first_line, &told.title, &told.footer];
            for text in told.detail_lines.iter().chain(all) {
                prop_assert!(units(text) <= DETAIL_MAX);
                let bad = |c: char| c.is_control() || ('\u{202A}'..='\u{202E}').contains(&c);
                prop_assert!(!text.contains(bad), "{text:?}");
            }
        }
    }
}
