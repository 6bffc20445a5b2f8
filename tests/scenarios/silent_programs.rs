//! Programs that know nothing of Horus, and count nothing: what they do is counted from outside.

use horus_core::event::What;
use horus_core::reason::Rule;

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
