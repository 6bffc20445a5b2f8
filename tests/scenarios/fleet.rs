//! Many at once: a common cause is suspected before a common cure (G3).

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_core::record::Recorded;
use horus_tests::{Rig, skipped};

use crate::{bot_named, is_kill, is_recovery, is_signal, rig, taken};

const BOTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// By itself each would be restarted after four seconds; the guard holds fire for half a minute.
const KEYS: &str =
    "deadline = \"2s\"\nstartup = \"30s\"\nkills = { prove = \"5s\" }\nstop = { grace = \"1s\" }\n";

/// The guard says that it closes, or, later, that it lets one go at a time.
async fn guard(rig: &Rig, after: u64, text: &str) -> Recorded {
    let says = |what: &What| matches!(what, What::GuardClosed { reason, .. } if reason.text.contains(text));
    rig.after(after, "horus", text, says).await
}

/// Three bots stop in the same instant. Nobody is touched while a common cause is likely, one message tells of all of
/// them, and afterwards each has to prove that restarts cure before the next one is restarted.
#[tokio::test]
async fn invariant_g3_three_that_hang_at_once_are_healed_one_at_a_time() {
    let mut rig = rig().await;
    let mut config = String::new();
    for name in BOTS {
        let Some(service) = bot_named(&rig, name, &[], KEYS).await else {
            return skipped("three-at-once", "no python3");
        };
        config += &service;
    }
    rig.run(&config).await;
    for name in BOTS {
        rig.ready(name).await;
    }
    for name in BOTS {
        rig.room.trigger(&format!("{name}/block"));
    }
    for name in BOTS {
        taken(&rig, name, "block").await;
    }

    let closed = guard(&rig, 0, "nothing is restarted for").await;
    rig.told("restarts nothing for now").await;
    let one_at_a_time = guard(&rig, closed.seq, "one is restarted at a time").await;
    let What::GuardClosed { services, .. } = &one_at_a_time.event.what else { unreachable!() };
    assert_eq!(services.iter().map(ToString::to_string).collect::<Vec<_>>(), BOTS, "all three, still");
    let lines = rig.sinks.first_lines();
    assert_eq!(lines.len(), 1, "one message for all of them: {lines:#?}");

    let opened =
        rig.after(closed.seq, "horus", "opened", |what| matches!(what, What::GuardOpened { .. })).await;
    let events = rig.journal.all();
    let of_guard = events.iter().filter(|event| event.seq <= opened.seq);
    let story: Vec<_> =
        of_guard.filter(|event| is_kill(&event.event.what) || is_proof(&event.event.what)).collect();
    let first = story.first().expect("somebody was restarted");
    assert!(one_at_a_time.seq < first.seq, "nobody is killed during the hold");
    for (kill, proof) in story.chunks(2).map(|pair| (pair[0], pair[1])) {
        assert!(
            is_kill(&kill.event.what) && is_proof(&proof.event.what),
            "a kill, then its proof, then the next"
        );
        assert_eq!(kill.event.subject, proof.event.subject, "one is on trial at a time");
    }
    let mut healed: Vec<_> = story.iter().step_by(2).map(|event| event.event.subject.as_str()).collect();
    healed.sort_unstable();
    assert_eq!(healed, BOTS, "each was restarted once");
    for name in BOTS {
        let signal = rig.first(name, "signal", is_signal).await;
        assert!(one_at_a_time.seq < signal.seq, "{name} was not touched before");
        rig.first(name, "recovery", is_recovery).await;
        assert_eq!(rig.count(name, is_kill), 1);
        rig.told(&format!("{name} was stuck, I restarted it, working again")).await;
    }

    let incidents = rig.client.incidents(false, 100).await.unwrap().incidents;
    let common = incidents.iter().filter(|incident| incident.kind == IncidentKind::CommonCause);
    assert_eq!(common.count(), 1, "{incidents:#?}");
    rig.end().await;
}

fn is_proof(what: &What) -> bool {
    matches!(what, What::Proven { .. })
}
