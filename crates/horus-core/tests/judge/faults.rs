//! What only one deliberate fault would break: each of these was written because that fault was planted and nobody saw it
//! (`cargo xtask planted`, `cargo mutants`).

use std::time::Duration;

use horus_core::Remembered;
use horus_core::event::{Outcome, What};
use horus_core::ids::Generation;
use horus_core::notice::Story;
use horus_core::observation::{
    Beat, Declared, Exit, HostObservation, Input, LoopSeen, Observation, OperatorRequest,
};
use horus_core::plan::{BeatKind, BeatPlan, KillPlan, ProgressPlan, Ready, ServicePlan};
use horus_core::verdict::Verdict;

use super::{hangs_after_100, one, ticks};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Another life of Horus, a minute later, with what this one wrote down; the program was started anew.
fn next_life(rig: &Rig, plan: ServicePlan, doing: Behaviour) -> Rig {
    let memory = rig.memories[&name("bot")].clone();
    let remembered =
        Remembered { service: name("bot"), memory, elapsed: 60 * SECOND, away: Some(60 * SECOND) };
    Rig::with_memory(&[("bot", plan, doing)], vec![remembered])
}

/// The last delay of a start.
fn last_delay(rig: &Rig) -> Option<Duration> {
    let mut delays = rig.events.iter().filter_map(|(_, _, what)| match what {
        What::Delayed { delay, .. } => Some(*delay),
        _ => None,
    });
    delays.next_back()
}

/// How long each proof took.
fn proofs(rig: &Rig) -> Vec<u64> {
    let proofs = rig.events.iter().filter_map(|(_, _, what)| match what {
        What::Proven { after } => Some(after.as_secs()),
        _ => None,
    });
    proofs.collect()
}

fn beat(rig: &mut Rig, generation: Generation, tick: u64) {
    say(rig, generation, tick, None);
}

fn say(rig: &mut Rig, generation: Generation, tick: u64, declared: Option<Declared>) {
    let beat = Beat {
        source: BeatKind::Http,
        tick: Some(tick),
        progress: Default::default(),
        declared,
        gauges: Default::default(),
        loop_lag_ms: None,
    };
    rig.observe(&name("bot"), Observation::Beat { generation, beat });
}

fn is_breaker_open(rig: &Rig) -> bool {
    rig.engine.status(rig.now).services[0].breaker_open
}

#[test]
fn a_life_of_minutes_resets_no_backoff() {
    let lives: [Behaviour; 3] = [
        |age| if age < 61 { Doing::Ticks } else { Doing::Exits(Exit::Code(3)) },
        |age| if age < 129 { Doing::Ticks } else { Doing::Exits(Exit::Code(3)) },
        |age| if age < 290 { Doing::Ticks } else { Doing::Exits(Exit::Code(3)) },
    ];
    for life in lives {
        let mut rig = one(life);
        rig.run(3 * 3600);
        let last = last_delay(&rig);
        assert!(last.is_some_and(|delay| delay >= 250 * SECOND), "{last:?} after three hours of deaths");
    }
}

#[test]
fn a_kill_after_a_long_life_is_not_the_first() {
    // Shorter than the proof, longer than anything that looks like a crash.
    let mut rig = one(|age| if age <= 250 { Doing::Ticks } else { Doing::Hangs });
    rig.run(2 * 3600);
    let numbers: Vec<u32> = rig
        .events
        .iter()
        .filter_map(|(_, _, what)| match what {
            What::KillDecided { kill, .. } => Some(*kill),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(is_breaker_open(&rig));
}

#[test]
fn an_edited_plan_closes_no_breaker() {
    let mut rig = one(hangs_after_100);
    rig.run(2 * 3600);
    assert!(is_breaker_open(&rig));
    let kills = rig.kills();
    for seconds in 1..=20 {
        rig.change_plan(|plan| {
            let bot = plan.services.get_mut("bot").unwrap();
            bot.stop.grace = seconds * SECOND;
            bot.deadline = (10 + seconds) * SECOND;
        });
        assert!(is_breaker_open(&rig), "after edit {seconds}");
        rig.run(120);
    }
    assert_eq!(rig.kills(), kills);
    // A person may.
    rig.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    assert!(!is_breaker_open(&rig));
}

#[test]
fn late_beats_of_a_dead_run_speak_for_nobody() {
    let mut rig = one(ticks);
    rig.run(20);
    let old = rig.alive[&name("bot")].0.generation;
    rig.behaviour.insert(name("bot"), |_| Doing::Nothing);
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(5);
    assert_ne!(rig.alive[&name("bot")].0.generation, old);
    let ready = rig.count(|what| matches!(what, What::BecameReady { .. }));
    for tick in 1000..1010 {
        beat(&mut rig, old, tick);
        rig.run(1);
    }
    assert_eq!(rig.count(|what| matches!(what, What::BecameReady { .. })), ready);
    let status = &rig.engine.status(rig.now).services[0];
    assert!(status.beats.iter().all(|beat| beat.heard_ms.is_none()), "{:?}", status.beats);
    // Its own are believed.
    let new = rig.alive[&name("bot")].0.generation;
    for tick in 1..=2 {
        beat(&mut rig, new, tick);
    }
    assert_eq!(rig.count(|what| matches!(what, What::BecameReady { .. })), ready + 1);
}

#[test]
fn the_backoff_outlives_horus_and_ends_with_a_proof() {
    let crashes: Behaviour = |_| Doing::Exits(Exit::Code(1));
    let mut rig = one(crashes);
    rig.run(600);
    let before = last_delay(&rig).unwrap();
    assert!(before > 100 * SECOND, "{before:?}");
    let mut next = next_life(&rig, service(), crashes);
    next.run(2);
    assert!(last_delay(&next).is_some_and(|delay| delay >= before), "{:?}", last_delay(&next));
    // It works for long enough: its next death is the first again.
    next.behaviour.insert(name("bot"), ticks);
    next.run(1200);
    assert_eq!(proofs(&next), [300]);
    let starts = next.starts.len();
    next.end(&name("bot"), Exit::Code(1));
    next.run(1);
    assert_eq!(next.starts.len(), starts + 1, "at once");
}

#[test]
fn deaths_at_one_age_are_counted_across_a_restart_of_horus() {
    let dies: Behaviour = |age| if age < 129 { Doing::Ticks } else { Doing::Exits(Exit::Signal(15)) };
    let mut rig = one(dies);
    rig.run(2 * 129 + 10);
    assert!(rig.told.iter().all(|(_, notice)| !matches!(notice.story, Story::SameAge { .. })));
    let mut next = next_life(&rig, service(), dies);
    next.run(140);
    assert!(next.stories().iter().any(|story| matches!(story, Story::SameAge { deaths: 3, .. })));
}

#[test]
fn a_kill_counts_for_a_day_and_no_longer_across_restarts_of_horus() {
    let mut rig = one(hangs_after_100);
    rig.run(200);
    assert_eq!(rig.kills(), 1);
    let killed = rig.events.iter().find(|(_, _, what)| matches!(what, What::Signalled { .. })).unwrap().0;
    let today = |rig: &Rig, now| rig.engine.status(now).services[0].kills_today;
    assert_eq!(today(&rig, killed + (DAY - SECOND)), 1);
    assert_eq!(today(&rig, killed + DAY), 0);
    let next = next_life(&rig, service(), ticks);
    let status = &next.engine.status(next.now).services[0];
    assert_eq!((status.kills_today, status.kills_unproven), (1, 1));
    assert!(!status.breaker_open);
    assert_eq!(status.deadline_ms, 20_000, "patience is remembered, too");
}

#[test]
fn an_open_breaker_outlives_horus() {
    let mut rig = one(hangs_after_100);
    rig.run(3600);
    assert!(is_breaker_open(&rig));
    let next = next_life(&rig, service(), ticks);
    assert!(is_breaker_open(&next));
}

#[test]
fn a_proof_takes_twice_the_age_at_which_it_hung() {
    let mut rig = one(|age| if age <= 1000 { Doing::Ticks } else { Doing::Hangs });
    rig.run(1030);
    assert_eq!(rig.kills(), 1);
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(1900);
    assert_eq!(proofs(&rig), [] as [u64; 0], "it hung at 1000 s: that age has to be outlived twice");
    rig.run(200);
    assert_eq!(proofs(&rig), [2000]);
    // What was proven lies behind it: a crash has its own, shorter proof.
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(400);
    assert_eq!(proofs(&rig), [2000, 300]);
}

#[test]
fn a_habit_of_hours_has_to_be_outlived_and_two_hangs_are_no_habit() {
    let mut rig = one(|age| if age <= 10_000 { Doing::Ticks } else { Doing::Hangs });
    rig.run(3 * 10_050 + 200);
    assert_eq!(rig.kills(), 3, "each was proven after an hour");
    assert_eq!(proofs(&rig), [3600, 3600]);
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(19_000);
    assert_eq!(proofs(&rig).len(), 2);
    rig.run(1500);
    assert_eq!(proofs(&rig), [3600, 3600, 20_000]);
}

#[test]
fn the_third_hang_at_the_same_age_is_named_and_the_second_is_not() {
    // Two kills are allowed: the breaker opens on them, and two of anything are no pattern.
    let kills = |limit| ServicePlan { kills: KillPlan { limit, ..service().kills }, ..service() };
    for (limit, named) in [(2, false), (3, true)] {
        let mut rig = Rig::new(&[("bot", kills(limit), hangs_after_100)]);
        rig.run(3600);
        assert!(is_breaker_open(&rig));
        let said = rig.events.iter().any(|(_, _, what)| {
            matches!(what, What::BreakerOpened { reason, .. } if reason.text.contains("after each start"))
        });
        assert_eq!(said, named, "{limit} kills");
    }
}

#[test]
fn silence_before_a_suspend_is_not_added_to_the_silence_after_it() {
    // The network takes longer to come back than everybody is let settle, and less than the deadline.
    let plan = ServicePlan { deadline: 60 * SECOND, ..service() };
    let gap: Behaviour = |age| if (201..340).contains(&age) { Doing::Hangs } else { Doing::Ticks };
    let mut rig = Rig::new(&[("bot", plan, gap)]);
    rig.run(300);
    rig.step(Input::Host(HostObservation::Suspended { slept: 3600 * SECOND }));
    rig.run(600);
    assert!(rig.signals.is_empty(), "100 s before the lid, 40 s after it; a restart takes 120 s at once");
}

#[test]
fn who_said_ready_and_never_beat_is_told_of_and_not_restarted() {
    // READY=1 is sent by its framework; nobody has ever written the line that sends WATCHDOG=1.
    let plan = ServicePlan { beats: vec![BeatPlan::Notify], ready: Ready::Notify, ..service() };
    let mut rig = Rig::new(&[("bot", plan, |_| Doing::Nothing)]);
    let generation = rig.alive[&name("bot")].0.generation;
    rig.run(1);
    rig.observe(&name("bot"), Observation::SaidReady { generation });
    rig.run(24 * 3600);
    assert!(rig.signals.is_empty());
    assert!(matches!(rig.stories()[..], [Story::ProbePath { .. }]), "{:?}", rig.stories());
}

#[test]
fn who_takes_cpu_between_two_captures_is_not_proven_blocked() {
    for (cpu_step, restarted_at) in [(0, 110), (1_000_000, 120)] {
        let mut rig = one(hangs_after_100);
        (rig.seen, rig.cpu_step) = (Some(LoopSeen::Blocked), cpu_step);
        rig.run(restarted_at - 1);
        assert!(rig.signals.is_empty(), "{cpu_step} ns");
        rig.run(2);
        assert_eq!(rig.signals.len(), 1, "{cpu_step} ns");
    }
}

#[test]
fn the_signal_waits_for_the_store_but_not_for_ever() {
    let mut rig = one(hangs_after_100);
    rig.confirms = false;
    rig.run(121);
    assert!(rig.told.iter().any(|(_, notice)| matches!(notice.story, Story::StuckRestarting { .. })));
    assert!(rig.signals.is_empty(), "told a moment ago, and not stored yet");
    rig.run(60);
    assert_eq!(rig.signals.len(), 1, "a store that is broken saves nobody");
}

#[test]
fn the_signal_waits_for_evidence_but_not_for_ever() {
    let mut rig = one(hangs_after_100);
    rig.captures = false;
    rig.run(121);
    assert_eq!(rig.kills(), 1);
    assert!(rig.told.is_empty() && rig.signals.is_empty(), "nobody has looked yet");
    rig.run(60);
    let said = |what: &What| matches!(what, What::EvidenceCaptured { finding, .. } if finding.missing.iter().any(|why| why.contains("no evidence within")));
    assert_eq!(rig.count(said), 1, "what is missing is said");
    assert_eq!(rig.signals.len(), 1, "a camera that is broken saves nobody");
}

#[test]
fn a_cause_that_shows_itself_again_minutes_later_is_the_same_cause() {
    // Both fell silent at 100 s. One has a deadline of 10 s and was healed long ago; the other's is five minutes.
    let slow = ServicePlan { deadline: 300 * SECOND, ..service() };
    let mut rig = Rig::new(&[("a", service(), hangs_after_100), ("b", slow, hangs_after_100)]);
    rig.run(125);
    assert_eq!(rig.signals.len(), 1, "one alone is its own affair");
    rig.behaviour.insert(name("a"), ticks);
    rig.run(300);
    let common = rig.stories().iter().any(|story| matches!(story, Story::CommonCause { .. }));
    assert!(common, "{:?}", rig.stories());
    rig.run(300);
    assert_eq!(rig.signals.len(), 1, "whatever they share is not cured by restarts");
}

#[test]
fn who_was_on_trial_when_horus_ended_is_on_trial_when_it_is_back() {
    let hangs_at_30: Behaviour = |age| if age <= 30 { Doing::Ticks } else { Doing::Hangs };
    let fleet = |a: Behaviour, b: Behaviour| [("a", service(), a), ("b", service(), b)];
    for (proven, seconds, waits) in [(false, 250, true), (false, 500, false), (true, 60, false)] {
        let mut rig = Rig::new(&fleet(hangs_after_100, ticks));
        rig.run(125);
        assert_eq!(rig.signals.len(), 1);
        rig.behaviour.insert(name("a"), ticks);
        rig.run(if proven { 600 } else { 5 });
        let remembered = |(service, memory): (&_, &horus_core::command::Memory)| {
            let (service, memory) = (Clone::clone(service), memory.clone());
            Remembered { service, memory, elapsed: SECOND, away: Some(SECOND) }
        };
        let remembered = rig.memories.iter().map(remembered).collect();
        let mut next = Rig::adopting(&fleet(ticks, hangs_at_30), remembered);
        next.run(seconds);
        assert_eq!(next.signals.is_empty(), waits, "proven: {proven}, after {seconds} s");
    }
}

#[test]
fn a_loop_that_ticks_pardons_itself_and_not_the_work() {
    let work = ProgressPlan { counter: "filled".into(), stalled: 60 * SECOND };
    let plan = ServicePlan { progress: [("fills".to_owned(), work)].into(), ..service() };
    let mut rig = Rig::new(&[("bot", plan, |age| if age <= 300 { Doing::Works } else { Doing::Ticks })]);
    rig.confirms = false;
    rig.run(300 + 120 + 10);
    assert_eq!(rig.signals.len(), 1, "its loop has ticked all the time");
    assert_eq!(rig.count(|what| matches!(what, What::WouldHave { .. })), 0);

    let mut rig = one(hangs_after_100);
    rig.confirms = false;
    rig.run(121);
    assert_eq!(rig.kills(), 1);
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(60);
    assert!(rig.signals.is_empty());
    let pardoned = |what: &What| matches!(what, What::WouldHave { reason, .. } if reason.text.contains("a fresh tick came"));
    assert_eq!(rig.count(pardoned), 1);
}

#[test]
fn nobody_starts_beside_the_children_of_the_last_run() {
    let mut rig = one(ticks);
    rig.run(20);
    let (old, _) = rig.alive.remove(&name("bot")).unwrap();
    let exited = Observation::Exited { generation: old.generation, exit: Exit::Code(1), strays: 2 };
    rig.observe(&name("bot"), exited);
    assert!(rig.signals.iter().any(|(_, signal)| signal == "bot SIGKILL"), "{:?}", rig.signals);
    rig.run(5);
    assert_eq!(rig.starts.len(), 2);
}

#[test]
fn a_run_that_the_keeper_knows_of_has_its_number_for_itself() {
    let mut rig = one(ticks);
    rig.run(20);
    rig.engine.raise_generation(&name("bot"), Generation(41));
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(5);
    assert_eq!(rig.alive[&name("bot")].0.generation, Generation(42));
}

#[test]
fn work_that_stands_still_after_the_restart_was_not_cured_by_it() {
    // Its proof would be due after 300 s of ticks, long before the work is overdue again.
    let work = ProgressPlan { counter: "filled".into(), stalled: 1000 * SECOND };
    let plan = ServicePlan { progress: [("fills".to_owned(), work)].into(), ..service() };
    let mut rig = Rig::new(&[("bot", plan, |age| if age <= 100 { Doing::Works } else { Doing::Ticks })]);
    rig.run(1000);
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(1105);
    assert_eq!(rig.signals.len(), 1);
    rig.run(900);
    assert_eq!(proofs(&rig), [] as [u64; 0], "its loop ticks, and nothing is filled");
    rig.behaviour.insert(name("bot"), |_| Doing::Works);
    rig.run(700);
    assert_eq!(proofs(&rig).len(), 1);
}

#[test]
fn a_detector_that_is_right_every_time_goes_on() {
    let names = ["a", "b", "c"];
    let mut rig = Rig::new(&names.map(|text| (text, service(), ticks as Behaviour)));
    for pause in [4000, 6000, 9000] {
        for text in names {
            rig.run(pause);
            rig.behaviour.insert(name(text), |_| Doing::Hangs);
            rig.run(25);
            rig.behaviour.insert(name(text), ticks);
        }
    }
    rig.run(80_000);
    assert_eq!((rig.kills(), proofs(&rig).len()), (9, 9));
    assert_eq!(rig.count(|what| matches!(what, What::DetectorDemoted { .. })), 0);
}

#[test]
fn a_trickle_of_hangs_of_which_none_is_proven_cured_has_a_common_cause() {
    let later: Behaviour = |age| if age <= 300 { Doing::Ticks } else { Doing::Hangs };
    let mut rig = Rig::new(&[("a", service(), hangs_after_100), ("b", service(), later)]);
    rig.run(125);
    assert_eq!(rig.signals.len(), 1);
    rig.behaviour.insert(name("a"), ticks);
    rig.run(205);
    assert_eq!(rig.signals.len(), 1, "the first is not proven yet, and here is the second");
    assert!(rig.stories().iter().any(|story| matches!(story, Story::CommonCause { .. })));
}

#[test]
fn who_halted_on_purpose_is_told_of_once_and_lives() {
    let mut rig = one(|age| if age <= 20 { Doing::Ticks } else { Doing::Nothing });
    rig.run(20);
    let generation = rig.alive[&name("bot")].0.generation;
    for _ in 0..600 {
        say(&mut rig, generation, 20, Some(Declared::Halted));
        rig.run(1);
    }
    assert!(rig.signals.is_empty());
    let verdict = rig.engine.status(rig.now).services.first().map(|service| service.verdict);
    assert_eq!(verdict, Some(Verdict::Halted), "its tick stands still, as it said");
    assert!(matches!(rig.stories()[..], [Story::Halted]), "{:?}", rig.stories());
    assert!(rig.told[0].1.loud && rig.told[0].1.needs_you);
    for tick in 21..30 {
        say(&mut rig, generation, tick, Some(Declared::Ok));
        rig.run(1);
    }
    assert!(matches!(rig.stories()[..], [Story::Halted, Story::Over { .. }]), "{:?}", rig.stories());
}

#[test]
fn a_hang_that_ends_with_its_process_is_over() {
    let mut rig = one(|age| match age {
        0..=100 => Doing::Ticks,
        101..=115 => Doing::Hangs,
        _ => Doing::Exits(Exit::Code(1)),
    });
    rig.run(115);
    assert_eq!(rig.engine.open_incidents().len(), 1, "past its deadline, and not restarted yet");
    rig.run(2);
    let over = |what: &What| matches!(what, What::IncidentClosed { outcome: Outcome::Superseded, .. });
    assert_eq!(rig.count(over), 1, "{:?}", rig.events);
    assert_eq!(rig.kills(), 0);
}

#[test]
fn who_halted_on_purpose_and_ended_stays_down_and_says_so() {
    let mut rig = one(|age| if age <= 20 { Doing::Ticks } else { Doing::Nothing });
    rig.run(20);
    let generation = rig.alive[&name("bot")].0.generation;
    say(&mut rig, generation, 20, Some(Declared::Halted));
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(600);
    assert_eq!(rig.starts.len(), 1);
    assert!(matches!(rig.stories()[..], [Story::Halted]), "{:?}", rig.stories());
}
