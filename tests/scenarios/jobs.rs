//! Services with a `schedule`: they are started at their times and have to finish.

use horus_core::event::{DeathCause, Outcome, What};
use horus_core::notice::{IncidentKind, Story};
use horus_core::reason::Rule;
use horus_tests::Rig;

use crate::{is_exit, is_start, rig, service, struck, subject, triggers};

/// The usual job: every two seconds, a fifth of a second long.
fn job(rig: &Rig) -> String {
    let triggers = triggers(rig, "report");
    let command = [subject!("job"), "--takes", "200", "--triggers", &triggers];
    service("report", &command, "schedule = { every = \"2s\", finish = \"20s\" }")
}

fn is_finish(what: &What) -> bool {
    matches!(what, What::RunFinished { .. })
}

fn is_skip(what: &What) -> bool {
    matches!(what, What::RunSkipped { .. })
}

fn is_start_on_time(what: &What) -> bool {
    matches!(what, What::StartAsked { reason } if reason.rule == Rule::Schedule)
}

#[tokio::test]
async fn a_job_is_run_at_its_times_and_its_end_is_no_fault() {
    let mut rig = rig().await;
    rig.run(&job(&rig)).await;
    let mut last = 0;
    let mut starts = Vec::new();
    for _ in 0..3 {
        let start = rig.after(last, "report", "start", is_start_on_time).await;
        let finish = rig.after(start.seq, "report", "finish", is_finish).await;
        last = finish.seq;
        starts.push(start.at);
    }
    for pair in starts.windows(2) {
        let between = crate::millis(pair[0], pair[1]);
        assert!((1_500..=4_000).contains(&between), "{between} ms from one start to the next");
    }
    let status = rig.status_until("report", "between two runs", |now| now.pid.is_none()).await;
    assert!(status.because.contains("waits for its time: next in"), "{}", status.because);
    assert!(rig.output("report").contains("report written"));
    assert_eq!(rig.sinks.first_lines(), Vec::<String>::new(), "an end that is hoped for is not talked about");
    rig.assert_never_signalled("report");
    rig.end().await;
}

/// The time comes while the last run goes on: it is skipped, told once, and nothing runs twice or is ended for it.
#[tokio::test]
async fn a_job_that_overlaps_is_skipped_and_told_and_left_alone() {
    let mut rig = rig().await;
    rig.run(&job(&rig)).await;
    struck(&rig, "report", "slow").await;
    let slow = rig.process("report").await;
    let first = rig.first("report", "skip", is_skip).await;
    let second = rig.after(first.seq, "report", "second skip", is_skip).await;
    assert_eq!(rig.process("report").await, slow, "one run at a time");
    let events = rig.journal.all();
    let between = events.iter().filter(|event| (first.seq..second.seq).contains(&event.seq));
    assert_eq!(
        between.filter(|event| is_start(&event.event.what)).count(),
        0,
        "nothing was started meanwhile"
    );
    let said = rig.told("report still runs after").await;
    assert!(said.full_text().contains("I let it run"), "{}", said.full_text());

    rig.room.trigger("report/release");
    rig.after(second.seq, "report", "finish", is_finish).await;
    let closed =
        rig.after(second.seq, "report", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    assert!(matches!(closed.event.what, What::IncidentClosed { outcome: Outcome::CameBackAlone, .. }));
    rig.after(closed.seq, "report", "next run", is_start_on_time).await;
    let told = |what: &What| matches!(what, What::Told { story: Story::RunOverdue { .. }, .. });
    assert_eq!(rig.count("report", told), 1, "however many times are skipped");
    rig.assert_never_signalled("report");
    rig.end().await;
}

/// A run that fails is told and not tried again before its next time; the next run that finishes ends the matter.
#[tokio::test]
async fn a_job_that_fails_is_told_and_waits_for_its_next_time() {
    let mut rig = rig().await;
    rig.run(&job(&rig)).await;
    struck(&rig, "report", "fail").await;
    let by_itself = |what: &What| matches!(what, What::Exited { exit, cause: DeathCause::Itself, .. } if !exit.is_clean());
    let exit = rig.first("report", "failed run", by_itself).await;
    let opened = rig
        .first("report", "incident", |what| {
            matches!(what, What::IncidentOpened { kind: IncidentKind::Exit, .. })
        })
        .await;
    let next = rig.after(exit.seq, "report", "start", is_start).await;
    assert!(is_start_on_time(&next.event.what), "by its schedule, not as a restart: {next:?}");
    let said = rig.told("report ended").await;
    assert!(said.full_text().contains("the ledger is locked"), "{}", said.full_text());
    rig.after(next.seq, "report", "finish", is_finish).await;
    let closed =
        rig.after(next.seq, "report", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    assert_eq!(closed.event.incident, opened.event.incident);
    assert_eq!(rig.count("report", |what| is_exit(what) && by_itself(what)), 1);
    rig.end().await;
}
