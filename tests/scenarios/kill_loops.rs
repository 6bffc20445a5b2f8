//! `kill-129`: the watchdog that killed a healthy program for hours. Horus must be unable to do this (G1, G2), and must
//! say so when somebody else does it.

use std::time::Duration;

use horus_core::event::{DeathCause, What};
use horus_core::notice::{IncidentKind, Story};
use horus_core::plan::Severity;
use horus_core::verdict::Verdict;
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;

use crate::{beat, is_exit, is_kill, is_signal, rig, service, subject, triggers};

/// A probe that never passes: the program works, Horus asks at the wrong place.
async fn a_probe_that_never_passes_kills_nobody(
    url_of: impl Fn(u16, u16) -> u16,
    program: &[&str],
    heard: &str,
) {
    let mut rig = rig().await;
    let (real, other) = (rig.room.port(), rig.room.port());
    let port = real.to_string();
    let command: Vec<&str> = program.iter().copied().chain(["--port", &port]).collect();
    let keys = format!("{}deadline = \"1s\"\nstartup = \"2s\"\n", beat(url_of(real, other)));
    rig.run(&service("bot", &command, &keys)).await;
    let said = rig.told("bot is not ready after").await;
    assert!(said.first_line().contains("or I ask it wrongly"), "{}", said.first_line());
    let text = said.full_text();
    assert!(text.contains(heard), "{text}");
    assert!(text.contains("I do not restart it for that"), "{text}");
    let process = rig.process("bot").await;
    let status = rig.status_until("bot", "8 deadlines old", |now| now.up_for_ms >= Some(8_000)).await;
    assert_eq!(status.verdict, Verdict::Starting, "startup ends with a tick: {}", status.because);
    assert_eq!(rig.process("bot").await, process);
    assert_eq!(rig.count("bot", crate::is_start), 1);
    assert_eq!(rig.count("bot", |what| matches!(what, What::IncidentOpened { .. })), 1, "said once");
    rig.assert_never_signalled("bot");
    rig.end().await;
}

#[tokio::test]
async fn kill_129_a_probe_at_the_wrong_port_kills_nobody() {
    a_probe_that_never_passes_kills_nobody(|_, other| other, &[subject!("hanger")], "refused").await;
}

#[tokio::test]
async fn kill_129_a_probe_at_the_wrong_page_kills_nobody() {
    let program = [subject!("black-hole"), "--mode", "page"];
    a_probe_that_never_passes_kills_nobody(|real, _| real, &program, "JSON").await;
}

/// A healthy program whose beat stops at a constant age: three kills that cure nothing, then the breaker.
#[tokio::test]
async fn kill_129_a_beat_that_always_stops_opens_the_breaker() {
    let mut rig = rig().await;
    let port = rig.room.port();
    let keys = format!(
        "{}deadline = \"1s\"\nstartup = \"30s\"\nkills = {{ limit = 3, prove = \"20s\", retry = \"6h\" }}\n",
        beat(port)
    );
    let port = port.to_string();
    let command = [subject!("stop-beat"), "--age", "1500", "--port", &port];
    rig.run(&service("bot", &command, &keys)).await;
    let opened = rig.first("bot", "open breaker", |what| matches!(what, What::BreakerOpened { .. })).await;
    let process = rig.process("bot").await;
    let events = rig.journal.all();
    let kills: Vec<u32> = events
        .iter()
        .filter_map(|event| match &event.event.what {
            What::KillDecided { kill, .. } => Some(*kill),
            _ => None,
        })
        .collect();
    assert_eq!(kills, [1, 2, 3], "at most three kills");
    let gaps: Vec<i64> = events
        .iter()
        .filter(|event| is_kill(&event.event.what))
        .collect::<Vec<_>>()
        .windows(2)
        .map(|pair| crate::millis(pair[0].at, pair[1].at))
        .collect();
    assert!(gaps[1] > gaps[0] + 2_000, "each unproven kill doubles the patience: {gaps:?}");

    let said = rig.told("bot gets stuck again and again. I stopped restarting it. Needs you.").await;
    let text = said.full_text();
    for kill in 1..=3 {
        assert!(text.contains(&format!("Before restart {kill} it hung in")), "{text}");
    }
    assert!(text.contains("horus resume bot"), "{text}");
    let incidents = rig.client.incidents(true, 10).await.unwrap().incidents;
    assert!(incidents.iter().any(|incident| incident.severity == Severity::Critical), "{incidents:#?}");

    let up = rig.status("bot").await.up_for_ms.unwrap();
    let status = rig.status_until("bot", "left running", |now| now.up_for_ms >= Some(up + 5_000)).await;
    assert!(status.breaker_open);
    assert!(is_alive(&process), "the instance is left running");
    assert_eq!(rig.count("bot", is_kill), 3);

    // The next Horus knows it too.
    rig.kill_horus().await;
    rig.start().await;
    rig.after(opened.seq, "bot", "adoption", |what| matches!(what, What::Adopted { .. })).await;
    let up = rig.status("bot").await.up_for_ms.unwrap();
    let status =
        rig.status_until("bot", "left running again", |now| now.up_for_ms >= Some(up + 10_000)).await;
    assert!(status.breaker_open);
    assert!(is_alive(&process));
    assert_eq!(rig.count("bot", is_kill), 3, "a new Horus begins no new series");
    let late = rig
        .journal
        .all()
        .iter()
        .filter(|event| event.seq > opened.seq && is_signal(&event.event.what))
        .count();
    assert_eq!(late, 0, "nothing is signalled after the breaker opened");
    let same_age = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::SameAge, .. });
    assert_eq!(rig.count("bot", same_age), 0, "its own kills are not a stranger's");
    rig.end().await;
}

/// Somebody else kills it on a schedule: named after the third death, and never counted as a kill of Horus.
#[tokio::test]
async fn kill_129_by_a_stranger_is_named_after_the_third_death() {
    // Shorter lives are a crash loop, whatever their age.
    const AGE: Duration = Duration::from_secs(11);
    let mut rig = rig().await;
    let port = rig.room.port();
    let keys = format!("{}deadline = \"2s\"\nrestart = {{ next = \"250ms\" }}\n", beat(port));
    let port = port.to_string();
    let triggers = triggers(&rig, "bot");
    rig.run(&service("bot", &[subject!("hanger"), "--port", &port, "--triggers", &triggers], &keys)).await;
    let mut after = 0;
    for _ in 0..3 {
        let started = rig.after(after, "bot", "start", |what| matches!(what, What::Started { .. })).await;
        let lived = jiff::Timestamp::now().duration_since(started.at).unsigned_abs();
        // The stranger's schedule, which is what this scenario is about.
        tokio::time::sleep(AGE.saturating_sub(lived)).await;
        rig.signal(&rig.process("bot").await, Signal::TERM);
        let exit = rig.after(started.seq, "bot", "exit", is_exit).await;
        assert!(
            matches!(exit.event.what, What::Exited { cause: DeathCause::Itself, .. }),
            "{:?}",
            exit.event.what
        );
        let named = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::SameAge, .. });
        let deaths = rig.count("bot", is_exit);
        assert!(deaths == 3 || rig.count("bot", named) == 0, "named too early, after {deaths}");
        after = exit.seq;
    }
    let told = rig
        .first("bot", "same age", |what| matches!(what, What::Told { story: Story::SameAge { .. }, .. }))
        .await;
    let What::Told { story: Story::SameAge { deaths, every, .. }, .. } = &told.event.what else {
        unreachable!()
    };
    assert_eq!(*deaths, 3);
    assert!(every.abs_diff(AGE) < Duration::from_millis(300), "{every:?}");
    let said = rig.told("Something seems to stop it on a schedule. Needs you.").await;
    assert!(said.first_line().contains("bot ends every 11"), "{}", said.first_line());
    assert!(said.full_text().contains("signal 15"), "{}", said.full_text());
    assert!(said.full_text().contains("I did not end it"), "{}", said.full_text());
    rig.assert_never_signalled("bot");
    let status = rig.status("bot").await;
    assert_eq!((status.kills_unproven, status.kills_today), (0, 0), "exits and kills have separate ledgers");
    rig.end().await;
}
