//! Programs that know nothing of Horus, and count nothing: what they do is counted from outside.

use horus_core::event::What;
use horus_core::reason::Rule;
use horus_tests::{Rig, skipped};

use crate::{is_kill, rig, service, struck, triggers};

/// Prints a line now and then, until it is told to wait for ever without one. `$0` is the trigger.
const PRINTER: &str =
    "while [ ! -e \"$0\" ]; do echo page; sleep 0.1; done; rm \"$0\"; echo last words; exec sleep 1000";

/// A shell script without a heartbeat, whose output has to go on.
#[tokio::test]
async fn a_script_that_stops_printing_is_restarted_if_that_was_declared() {
    let mut rig = rig().await;
    let trigger = format!("{}/quiet", triggers(&rig, "scraper"));
    let keys =
        "progress.output = { counter = \"horus.output\", stalled = \"4s\" }\nstop = { grace = \"5s\" }\n";
    rig.run(&service("scraper", &["sh", "-c", PRINTER, &trigger], keys)).await;
    let process = rig.ready("scraper").await;
    // It has to have been seen to move: what never moved proves nothing.
    rig.explained("scraper", "printed ").await;
    struck(&rig, "scraper", "quiet").await;
    let kill = rig.first("scraper", "kill", is_kill).await;
    assert!(
        matches!(&kill.event.what, What::KillDecided { reason, .. } if reason.rule == Rule::Stalled),
        "{:?}",
        kill.event.what
    );
    let again = rig.ready_after(kill.seq, "scraper").await;
    let said = rig.told("scraper").await;
    assert!(said.full_text().contains("`horus.output` has not moved for"), "{}", said.full_text());
    assert_ne!(again, process, "another run of it");
    rig.end().await;
}

const BATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/batch.py");

fn is_step(what: &What) -> bool {
    matches!(what, What::StepBegun { .. })
}

/// A batch of two steps, each with two seconds.
async fn batch(rig: &Rig) -> Option<String> {
    let python = rig.python().await?;
    let triggers = triggers(rig, "train");
    let command = [python.as_str(), "-B", BATCH, &triggers, "load", "fit"];
    let keys = "heartbeat.notify = true\ndeadline = \"10s\"\nstep = { load = \"2s\", fit = \"2s\" }\n\
                stop = { grace = \"5s\" }\nrestart = { on = \"never\" }\n";
    Some(service("train", &command, keys))
}

/// Past its time a step that goes on working is told and left alone, and the next one ends that.
#[tokio::test]
async fn a_slow_step_is_told_and_left_alone_and_the_next_one_is_another() {
    let mut rig = rig().await;
    let Some(config) = batch(&rig).await else { return skipped("a batch with slow steps", "no python3") };
    rig.run(&config).await;
    let first = rig.first("train", "step", is_step).await;
    let said = rig.told("is still in its step `load`").await;
    assert!(said.full_text().contains("I let it run"), "{}", said.full_text());
    rig.explained("train", "in the step `load`").await;
    struck(&rig, "train", "next").await;
    rig.after(first.seq, "train", "step", is_step).await;
    struck(&rig, "train", "next").await;
    rig.first("train", "end", |what| matches!(what, What::Exited { .. })).await;
    rig.assert_never_signalled("train");
    rig.end().await;
}
