//! One incident is one message where a message can be changed: against the fake Discord, through a worker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use horus_alert::fake::{Bucket, Fake, Fault, Shown};
use horus_alert::sink::PERHAPS_TWICE;
use horus_alert::{MemoryOutbox, Outbox, WorkerHandle, wall_clock};
use horus_core::ids::IncidentId;
use horus_core::notice::{Notice, Story};
use horus_core::plan::SinkKind;
use jiff::Timestamp;

use support::{FAILSAFE, http_sink, name, notice, urgent};

struct Stage {
    fake: Fake,
    outbox: Arc<MemoryOutbox>,
    worker: WorkerHandle,
}

impl Stage {
    async fn new() -> Self {
        Self::with_timeout(FAILSAFE).await
    }

    async fn with_timeout(timeout: Duration) -> Self {
        let fake = Fake::start().await.unwrap();
        fake.set_bucket(Bucket { limit: u32::MAX, window: Duration::from_secs(1) });
        let outbox = Arc::new(MemoryOutbox::new(wall_clock()));
        let sink = http_sink(SinkKind::Discord, &fake.discord_url(), timeout, wall_clock());
        let (worker, _health) = support::start("ops", sink, Arc::clone(&outbox), wall_clock());
        Self { fake, outbox, worker }
    }

    fn put(&self, notice: Notice) {
        self.outbox.put(&name("ops"), notice, Timestamp::now());
    }

    /// Puts it and waits until the fake has taken so many requests in all.
    async fn tell(&self, notice: Notice, requests: usize) -> Vec<Shown> {
        self.put(notice);
        self.fake.wait_for(requests).await.unwrap();
        self.fake.channel()
    }
}

fn quiet(notice: Notice) -> Notice {
    Notice { loud: false, ..notice }
}

#[tokio::test]
async fn what_makes_no_noise_changes_the_message_and_a_noise_is_one_line_beside_it() {
    let stage = Stage::new().await;
    let first = stage.tell(notice(1, 1), 1).await;
    assert_eq!((first.len(), first[0].loud, first[0].changes), (1, true, 0));

    let second = stage.tell(quiet(notice(1, 2)), 2).await;
    assert_eq!((second.len(), second[0].changes), (1, 1));
    assert_ne!(second[0].full_text(), first[0].full_text());

    // A noise, then the change: two requests.
    let third = stage.tell(urgent(1, 3), 4).await;
    assert_eq!((third.len(), third[0].changes, third[1].changes), (2, 2, 0));
    assert!(third[1].loud && third[1].full_text().contains("Needs you."));
    assert!(third[1].full_text().contains(&IncidentId::nth(1).to_string()), "{}", third[1].full_text());
    assert!(third[0].full_text().contains("Needs you."), "the message itself says it, too");
    let pings: Vec<usize> = stage.fake.accepted().iter().map(|accepted| accepted.pings.len()).collect();
    assert_eq!(pings, [0, 0, 1, 0], "a change notifies nobody, the line does");

    let fourth = stage.tell(quiet(notice(1, 4)), 5).await;
    assert_eq!((fourth.len(), fourth[0].changes), (2, 3));
    assert_eq!(stage.fake.rejected(), []);
}

#[tokio::test]
async fn a_message_that_is_gone_or_cannot_be_changed_any_more_is_posted_anew() {
    let stage = Stage::new().await;
    stage.tell(quiet(notice(1, 1)), 1).await;
    stage.fake.delete_messages();
    let anew = stage.tell(quiet(notice(1, 2)), 2).await;
    assert_eq!((anew.len(), anew[0].changes, anew[0].loud), (1, 0, false));
    stage.tell(quiet(notice(1, 3)), 3).await;

    stage.fake.set_changes_max(1);
    let limited = stage.tell(quiet(notice(1, 4)), 4).await;
    assert_eq!(limited.len(), 2, "the second takes its place");
    let last = stage.tell(quiet(notice(1, 5)), 5).await;
    assert_eq!((last[0].changes, last[1].changes), (1, 1), "and is the one that is changed from then on");
    let refusals: Vec<u16> = stage.fake.rejected().iter().map(|rejected| rejected.status).collect();
    assert_eq!(refusals, [404, 400]);
}

#[tokio::test]
async fn what_may_have_arrived_is_marked_when_it_is_sent_again_and_what_was_refused_is_not() {
    let stage = Stage::with_timeout(Duration::from_secs(1)).await;
    stage.fake.script([Fault::RateLimited { after_s: 0.1 }]);
    let refused = stage.tell(notice(1, 1), 1).await;
    assert!(!refused[0].full_text().contains(PERHAPS_TWICE));

    stage.fake.script([Fault::AcceptThenHang]);
    let twice = stage.tell(notice(2, 1), 3).await;
    let of_second: Vec<&Shown> =
        twice.iter().filter(|shown| shown.full_text().contains(&IncidentId::nth(2).to_string())).collect();
    assert_eq!(of_second.len(), 2, "the service offers no way to know");
    assert!(!of_second[0].full_text().contains(PERHAPS_TWICE));
    assert!(of_second[1].full_text().contains(PERHAPS_TWICE));

    // A change that is made twice is there once.
    stage.fake.script([Fault::AcceptThenHang]);
    let changed = stage.tell(quiet(notice(1, 2)), 5).await;
    assert_eq!((changed.len(), changed[0].changes), (3, 2));
    assert!(!changed[0].full_text().contains(PERHAPS_TWICE));
}

/// What nobody could be told of while the network was away is told once, with the noise that is owed.
#[tokio::test]
async fn a_noise_that_was_not_made_is_owed_by_what_comes_after_it_but_not_by_the_end() {
    let stage = Stage::new().await;
    let away = || std::iter::repeat_n(Fault::Reset, 1);
    stage.fake.script(away());
    stage.put(urgent(1, 1));
    stage.fake.wait_for_requests(1).await.unwrap();
    let owed = stage.tell(Notice { needs_you: true, story: Story::Halted, ..quiet(notice(1, 2)) }, 1).await;
    assert_eq!((owed.len(), owed[0].loud), (1, true), "one message, and it is heard");

    stage.fake.script(away());
    stage.put(Notice { story: Story::Halted, ..notice(2, 1) });
    stage.fake.wait_for_requests(3).await.unwrap();
    let ended = stage.tell(quiet(notice(2, 2)), 2).await;
    assert_eq!((ended.len(), ended[1].loud), (2, false), "it is over: nobody is woken for it");
    assert!(stage.worker.stop(FAILSAFE).await);
    assert_eq!(stage.outbox.next_due_at(&name("ops")).await, None);
}
