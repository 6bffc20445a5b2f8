//! `hang-7h` and `gateway-3am`: the process lives, the loop does not.

use horus_core::event::{DeathCause, Outcome, What};
use horus_core::notice::Story;
use horus_core::observation::{CaptureStage, KernelWord};
use horus_core::reason::Rule;
use horus_core::status::ServiceStatus;
use horus_core::verdict::{LoopAxis, ProgressAxis, Verdict};
use horus_sys::process::is_alive;
use horus_tests::skipped;

use crate::{bot, bot_at, hanger, is_kill, is_recovery, is_signal, millis, rig, struck};

/// Two seconds without a fresh tick are a fault, four seconds of proof.
const KEYS: &str =
    "deadline = \"2s\"\nstartup = \"30s\"\nkills = { prove = \"5s\" }\nstop = { grace = \"5s\" }\n";

/// Twice the deadline, a poll and a second (G4, by absence alone).
const BOUND_MS: i64 = 2 * 2_000 + 200 + 1_000;

/// (a) The loop waits in a synchronous call for an exchange that never answers.
#[tokio::test]
async fn hang_7h_in_a_synchronous_call_is_seen_located_healed_and_proven() {
    let mut rig = rig().await;
    let report = rig.room.path("witness.json");
    let database = rig.room.path("s/horus.db").display().to_string();
    let words = ["--witness", &database, &report.display().to_string()];
    let Some(config) = bot(&rig, &words, KEYS).await else { return skipped("hang-7h (a)", "no python3") };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    let since = struck(&rig, "bot", "block").await;

    let kill = rig.first("bot", "kill", is_kill).await;
    let took = millis(since, kill.at);
    assert!(took <= BOUND_MS, "decided {took} ms after the last fresh tick, bound {BOUND_MS} ms");
    let signal = rig.first("bot", "signal", is_signal).await;
    let evidence = rig
        .first("bot", "evidence", |what| {
            matches!(what, What::EvidenceCaptured { stage: CaptureStage::Verdict, .. })
        })
        .await;
    let told = rig
        .first("bot", "restart told", |what| {
            matches!(what, What::Told { story: Story::StuckRestarting { .. }, .. })
        })
        .await;
    assert!(
        kill.seq < evidence.seq && evidence.seq < told.seq && told.seq < signal.seq,
        "evidence, alert, then the signal"
    );
    let What::EvidenceCaptured { finding, .. } = &evidence.event.what else { unreachable!() };
    assert!(finding.phrase.contains("recv"), "the evidence names the call: {finding:?}");
    if cfg!(target_os = "linux") {
        // On a starved machine the witness may not have come to its end in time; then that is said.
        let without_stacks = finding.missing.iter().any(|missing| missing.to_lowercase().contains("stacks"));
        let named = finding.phrase.contains("(bot.py:");
        assert!(named || without_stacks, "and the line of the program's own: {finding:?}");
    }
    assert!(finding.last_lines.iter().any(|line| line.contains("asking the exchange")), "{finding:?}");
    let bundle = finding.bundle.as_ref().expect("the evidence is on disk");
    assert!(rig.room.path("s/evidence").join(bundle).exists(), "{bundle}");

    // What the bot itself found in Horus's database when the first signal reached it (G4, from outside).
    let witnessed: serde_json::Value = serde_json::from_str(&rig.file(&report).await).unwrap();
    let evidence_on_disk = witnessed["events"].as_array().unwrap().iter();
    let mut stages = evidence_on_disk.filter_map(|event| event["evidence_captured"]["stage"].as_str());
    assert!(stages.any(|stage| stage == "verdict"), "evidence was on disk before the signal");
    let outbox = witnessed["outbox"].as_array().unwrap();
    assert_eq!(outbox.len(), 2, "one row for each sink: {outbox:#?}");
    assert!(outbox.iter().all(|notice| notice["story"]["stuck_restarting"].is_object()), "{outbox:#?}");

    rig.first("bot", "recovery", is_recovery).await;
    let new = rig.ready_after(signal.seq, "bot").await;
    assert_ne!(old, new);
    assert!(!is_alive(&old), "the hung process is gone");
    let said = rig.told("bot has been stuck for").await;
    assert!(said.first_line().contains("I am restarting it now"), "{}", said.first_line());
    assert!(said.full_text().contains("recv"), "{}", said.full_text());
    let said = rig.told("bot was stuck, I restarted it, working again. Nothing to do.").await;
    assert!(said.full_text().contains("recv"), "{}", said.full_text());
    rig.first("bot", "proof", |what| matches!(what, What::Proven { .. })).await;
    let closed = rig.first("bot", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    assert!(matches!(closed.event.what, What::IncidentClosed { outcome: Outcome::HealedByRestart, .. }));
    assert_eq!(closed.event.incident, kill.event.incident, "one record");
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// (b) One stage waits for ever while the loop ticks on. Whoever names its counter as work that has to move gets a restart at
/// twice the limit, and the alert says which counter stood still.
#[tokio::test]
async fn hang_7h_of_one_stage_is_healed_where_its_counter_has_to_move() {
    let mut rig = rig().await;
    let keys = format!("{KEYS}progress.orders = {{ counter = \"orders\", stalled = \"3s\" }}\n");
    let Some(config) = bot(&rig, &[], &keys).await else { return skipped("hang-7h (b)", "no python3") };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    rig.status_until("bot", "seen working", |now| now.progress.is == ProgressAxis::Advancing).await;
    let since = struck(&rig, "bot", "stall").await;

    let kill = rig.first("bot", "kill", is_kill).await;
    let What::KillDecided { reason, .. } = &kill.event.what else { unreachable!() };
    assert_eq!(reason.rule, Rule::Stalled, "{}", reason.text);
    assert!(reason.text.contains("`orders` has not moved"), "{}", reason.text);
    let took = millis(since, kill.at);
    // The last order was heard of a poll before the stage stopped, at the earliest.
    assert!((2 * 3_000 - 500..=2 * 3_000 + 200 + 1_000).contains(&took), "decided after {took} ms");
    let status = rig.status("bot").await;
    assert_eq!(status.loop_axis.is, LoopAxis::Beating, "its loop lives: {}", status.loop_axis.because);

    rig.first("bot", "recovery", is_recovery).await;
    let new = rig.ready_after(kill.seq, "bot").await;
    assert_ne!(old, new);
    assert!(!is_alive(&old));
    let said = rig.told("bot was stuck, I restarted it, working again. Nothing to do.").await;
    assert!(said.full_text().contains("orders"), "the alert names the counter: {}", said.full_text());
    rig.first("bot", "proof", |what| matches!(what, What::Proven { .. })).await;
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// The same by a counter that its beat does not carry: Prometheus' page has it. The new run counts from zero, which is no fault.
#[tokio::test]
async fn work_that_only_a_page_of_prometheus_counts_is_healed_too() {
    let mut rig = rig().await;
    let port = rig.room.port();
    let keys = format!(
        "{KEYS}{}counter.filled = {{ url = \"http://127.0.0.1:{port}/metrics\", metric = 'bot_orders_total{{side!=\"none\"}}', every = \"200ms\" }}\n\
         counter.absent = {{ url = \"http://127.0.0.1:{port}/metrics\", metric = \"bot_seconds\", every = \"200ms\" }}\n\
         progress.orders = {{ counter = \"filled\", stalled = \"3s\" }}\nvalue.absent = {{ counter = \"absent\", stale = \"1h\" }}\n",
        crate::beat(port).replace(", progress = \"/progress\"", "")
    );
    let Some(config) = bot_at(&rig, "bot", port, &[], &keys).await else {
        return skipped("work on a page of Prometheus", "no python3");
    };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    rig.status_until("bot", "seen working", |now| now.progress.is == ProgressAxis::Advancing).await;
    let explained = rig.explained("bot", "counter absent").await;
    assert!(explained.contains("gauge"), "what cannot be read is shown: {explained}");
    struck(&rig, "bot", "stall").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let What::KillDecided { reason, .. } = &kill.event.what else { unreachable!() };
    assert_eq!(reason.rule, Rule::Stalled, "{}", reason.text);
    assert!(reason.text.contains("`filled` has not moved"), "{}", reason.text);
    rig.first("bot", "recovery", is_recovery).await;
    assert_ne!(rig.ready_after(kill.seq, "bot").await, old);
    rig.first("bot", "proof", |what| matches!(what, What::Proven { .. })).await;
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// It notices by itself that it hangs, and says so as a program of systemd does.
#[tokio::test]
async fn a_program_that_says_that_it_hangs_is_healed_before_its_deadline() {
    let mut rig = rig().await;
    let keys = "deadline = \"20s\"\nstartup = \"30s\"\nheartbeat.notify = true\n";
    let Some(config) = crate::bot_silent(&rig, &["--notify"], keys).await else {
        return skipped("WATCHDOG=trigger", "no python3");
    };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    let since = struck(&rig, "bot", "give-up").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let What::KillDecided { reason, .. } = &kill.event.what else { unreachable!() };
    assert_eq!(reason.rule, Rule::OwnWord, "{}", reason.text);
    let took = millis(since, kill.at);
    assert!((4_000..=8_000).contains(&took), "a quarter of its deadline, not twice: {took} ms");
    rig.told("bot was stuck, I restarted it, working again. Nothing to do.").await;
    assert_ne!(rig.ready_after(kill.seq, "bot").await, old);
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// A loop that is blocked behind a thread that goes on answering for the counters: what answers there is no sign of life.
#[tokio::test]
async fn a_page_of_prometheus_that_answers_is_no_beat() {
    let mut rig = rig().await;
    let port = rig.room.port();
    let keys = format!(
        "{KEYS}heartbeat.notify = true\n\
         counter.filled = {{ url = \"http://127.0.0.1:{port}/metrics\", metric = \"bot_orders_total\", every = \"200ms\" }}\n\
         value.orders = {{ counter = \"filled\", stale = \"1h\" }}\n"
    );
    let Some(config) = bot_at(&rig, "bot", port, &["--thread", "--notify"], &keys).await else {
        return skipped("counters that outlive a loop", "no python3");
    };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    rig.status_until("bot", "useful", |now| now.value.because.contains("grew")).await;
    let since = struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let took = millis(since, kill.at);
    assert!(took <= BOUND_MS, "decided {took} ms after the last fresh tick, bound {BOUND_MS} ms");
    assert_ne!(rig.ready_after(kill.seq, "bot").await, old);
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// (c) A helper thread answers 200 over a dead loop; the tick stands still.
#[tokio::test]
async fn hang_7h_behind_a_thread_that_says_200_is_a_lie_and_healed() {
    let mut rig = rig().await;
    let Some(config) = bot(&rig, &["--thread"], KEYS).await else {
        return skipped("hang-7h (c)", "no python3");
    };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    let since = struck(&rig, "bot", "block").await;

    let lying = rig
        .first("bot", "verdict lying", |what| matches!(what, What::Judged { to: Verdict::Lying, .. }))
        .await;
    let kill = rig.first("bot", "kill", is_kill).await;
    assert!(lying.seq < kill.seq);
    let took = millis(since, kill.at);
    assert!(took <= BOUND_MS, "decided {took} ms after the last fresh tick, bound {BOUND_MS} ms");
    rig.first("bot", "recovery", is_recovery).await;
    let new = rig.ready_after(kill.seq, "bot").await;
    assert_ne!(old, new);
    assert!(!is_alive(&old));
    let said = rig.told("bot was stuck, I restarted it, working again").await;
    assert!(said.full_text().contains("tick stands still"), "{}", said.full_text());
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// (c) without a tick in the beat: every answer is a beat, and says nothing of the loop. What the kernel shows is told;
/// nothing is restarted for it. Horus says so where the configuration is checked.
#[tokio::test]
async fn hang_7h_behind_a_thread_without_a_tick_is_told_and_not_restarted() {
    let mut rig = rig().await;
    let Some(config) = bot(&rig, &["--thread"], KEYS).await else {
        return skipped("hang-7h (c, no seq)", "no python3");
    };
    let config = config.replace("seq = \"/seq\", ", "");
    rig.write(&config);
    let check = rig.cli(&["check"]).await;
    assert_eq!(check.code, 0, "{}{}", check.out, check.err);
    let text = format!("{}{}", check.out, check.err);
    assert!(text.contains("a 200 from `bot` proves little"), "{text}");
    rig.start().await;
    let old = rig.ready("bot").await;
    if cfg!(not(target_os = "linux")) {
        return skipped("hang-7h (c, no seq)", "nobody looks from outside here");
    }
    // Both of its loops have to be known by then: the thread's, and the one that hangs.
    let seen = |now: &ServiceStatus| {
        let turns = now.kernel.as_ref().is_some_and(|kernel| kernel.word == KernelWord::Alive);
        turns && now.up_for_ms >= Some(8_000)
    };
    rig.status_until("bot", "seen to turn", seen).await;
    struck(&rig, "bot", "block").await;
    let said = rig.told("bot has been stuck for").await;
    assert!(said.full_text().contains("although its beats are fresh"), "{}", said.full_text());
    assert!(said.full_text().contains("ask_the_exchange"), "the place is named: {}", said.full_text());
    let up = rig.status("bot").await.up_for_ms.unwrap();
    let later = rig
        .status_until("bot", "3 x twice the deadline older", |now| now.up_for_ms >= Some(up + 12_000))
        .await;
    assert_eq!(later.verdict, Verdict::Blocked, "{}", later.because);
    assert_eq!(later.loop_axis.is, LoopAxis::Beating, "a 200 counts as a beat: {}", later.loop_axis.because);
    assert_eq!(rig.process("bot").await, old);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// `gateway-3am`, the success case: one kill, verified recovery, one record, and a notice that wakes nobody.
#[tokio::test]
async fn gateway_3am_is_healed_by_one_kill_and_told_quietly() {
    let mut rig = rig().await;
    let config = hanger(&rig, "gateway", KEYS);
    rig.run(&config).await;
    let old = rig.ready("gateway").await;
    struck(&rig, "gateway", "hang").await;
    let closed = rig.first("gateway", "end", |what| matches!(what, What::IncidentClosed { .. })).await;

    let events = rig.journal.all();
    let of_incident = events.iter().filter(|event| event.event.incident == closed.event.incident);
    let mut words: Vec<String> = of_incident.map(crate::word).collect();
    // Looks before the verdict, and the word that the verdict bears meanwhile, are as many as the clock allows.
    words.retain(|word| word != "judged");
    words.dedup();
    let expected = [
        "incident_opened",
        "evidence_captured",
        "kill_decided",
        "evidence_captured",
        "told",
        "signalled",
        "exited",
        "start_asked",
        "started",
        "became_ready",
        "recovered",
        "told",
        "proven",
        "incident_closed",
    ];
    assert_eq!(words, expected);
    let proven = rig.first("gateway", "proof", |what| matches!(what, What::Proven { .. })).await;
    assert!(proven.seq < closed.seq, "closed by proof, not by uptime");
    let exit = rig.first("gateway", "exit", crate::is_exit).await;
    assert!(matches!(exit.event.what, What::Exited { cause: DeathCause::Kill, .. }), "a kill is no crash");
    assert_eq!((rig.count("gateway", is_kill), rig.count("gateway", is_signal)), (1, 1));
    assert_ne!(rig.process("gateway").await, old);
    assert_eq!(rig.client.incidents(false, 100).await.unwrap().incidents.len(), 1, "one record");

    let said = rig.told("gateway was stuck, I restarted it, working again. Nothing to do.").await;
    assert!(!said.loud, "the last word makes no noise");
    assert!(said.pings.is_empty());
    rig.end().await;
}

/// Horus dies between the verdict and the signal: the next one takes the matter up, and nobody is killed twice for it.
#[tokio::test]
async fn a_kill_cut_short_by_the_death_of_horus_is_taken_up_by_the_next() {
    let mut rig = rig().await;
    let config = hanger(&rig, "gateway", KEYS);
    rig.run(&config).await;
    let old = rig.ready("gateway").await;
    struck(&rig, "gateway", "hang").await;
    rig.first("gateway", "kill", is_kill).await;
    rig.kill_horus().await;
    let last = rig.journal.last();
    rig.start().await;
    let recovered = rig.after(last, "gateway", "recovery", is_recovery).await;
    assert!(!is_alive(&old));
    assert_eq!(
        rig.count("gateway", |what| matches!(what, What::Started { .. })),
        2,
        "one start, one restart"
    );
    rig.told("gateway was stuck, I restarted it, working again. Nothing to do.").await;
    rig.after(recovered.seq, "gateway", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    let open = rig.client.incidents(true, 10).await.unwrap().incidents;
    assert!(open.is_empty(), "left open: {open:#?}");
    rig.end().await;
}
