//! The judge against the incidents that it exists for, in simulated time.

mod rig;

#[path = "judge/bell.rs"]
mod bell;
#[path = "judge/captures.rs"]
mod captures;
#[path = "judge/clocks.rs"]
mod clocks;
#[path = "judge/endings.rs"]
mod endings;
#[path = "judge/faults.rs"]
mod faults;
#[path = "judge/fleet.rs"]
mod fleet;
#[path = "judge/jobs.rs"]
mod jobs;
#[path = "judge/outside.rs"]
mod outside;
#[path = "judge/own_word.rs"]
mod own_word;
#[path = "judge/proofs.rs"]
mod proofs;
#[path = "judge/silences.rs"]
mod silences;
#[path = "judge/trials.rs"]
mod trials;
#[path = "judge/views.rs"]
mod views;
#[path = "judge/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::command::Answer;
use horus_core::event::{DeathCause, What};
use horus_core::notice::Story;
use horus_core::observation::{CaptureStage, Exit, Input, OperatorRequest};
use horus_core::plan::{Mode, RestartOn, ValuePlan};
use horus_core::verdict::Verdict;
use rig::{Doing, Rig, SECOND, name, service};

fn ticks(_age: u64) -> Doing {
    Doing::Ticks
}

fn hangs_after_100(age: u64) -> Doing {
    if age <= 100 { Doing::Ticks } else { Doing::Hangs }
}

fn one(doing: fn(u64) -> Doing) -> Rig {
    Rig::new(&[("bot", service(), doing)])
}

fn is_signalled(what: &What) -> bool {
    matches!(what, What::Signalled { .. })
}

#[test]
fn invariant_g1_a_program_that_ticks_is_never_signalled() {
    let mut rig = one(ticks);
    rig.run(24 * 3600);
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    assert!(rig.told.is_empty(), "{:?}", rig.told);
    assert_eq!(rig.starts.len(), 1);
    // Stalls under the deadline are not worth a word either: nine seconds of silence out of ten.
    let mut slow = one(|age| if age % 10 == 0 || age < 3 { Doing::Ticks } else { Doing::Nothing });
    slow.run(24 * 3600);
    assert!(slow.signals.is_empty() && slow.told.is_empty());
}

#[test]
fn invariant_g1_a_probe_that_never_passed_cannot_kill() {
    for never in
        [(|_| Doing::Unreachable) as fn(u64) -> Doing, |_| Doing::Hangs, |_| Doing::Lies, |_| Doing::Nothing]
    {
        let mut rig = one(never);
        rig.run(7 * 24 * 3600);
        assert!(rig.signals.is_empty());
        assert_eq!(rig.starts.len(), 1);
        assert_eq!(rig.told.len(), 1, "one message, not a stream of them");
        assert!(matches!(rig.stories()[0], Story::StartOverdue { .. }));
    }
}

#[test]
fn scenario_hang_7h_is_healed_within_its_bound() {
    let mut rig = one(|age| if age <= 100 { Doing::Ticks } else { Doing::Hangs });
    rig.run(100);
    let (old, last_tick) = (rig.pid("bot"), rig.now);
    rig.behaviour
        .insert(name("bot"), |age| if age <= 100 || age > 1000 { Doing::Ticks } else { Doing::Hangs });
    rig.run(22);
    assert_ne!(rig.pid("bot"), old);
    let decided = rig.events.iter().find(|(_, _, what)| matches!(what, What::KillDecided { .. })).unwrap();
    let bound = 2 * 10 * SECOND + SECOND + SECOND;
    assert!(decided.0.since(last_tick) <= bound, "{:?}", decided.0.since(last_tick));
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(3);
    assert!(matches!(rig.stories()[0], Story::StuckRestarting { kill: 1, limit: 3, .. }));
    let Story::StuckHealed { place, .. } = rig.stories()[1] else { panic!("{:?}", rig.stories()) };
    assert!(place.as_ref().unwrap().contains("recvfrom"));
    assert_eq!(rig.count(|what| matches!(what, What::Recovered { .. })), 1);
    assert_eq!(rig.count(|what| matches!(what, What::Proven { .. })), 0, "a fresh tick is no proof");
    rig.run(301);
    assert_eq!(rig.count(|what| matches!(what, What::Proven { .. })), 1);
    assert_eq!(rig.engine.open_incidents(), []);
    assert_eq!(rig.kills(), 1);
}

#[test]
fn scenario_hang_7h_behind_a_friendly_answer_is_called_lying() {
    let mut rig = one(|age| if age <= 50 { Doing::Ticks } else { Doing::Lies });
    rig.run(75);
    assert_eq!(rig.kills(), 1);
    let lying = |what: &What| matches!(what, What::Judged { to: Verdict::Lying, .. });
    assert_eq!(rig.count(lying), 1);
}

#[test]
fn invariant_g4_evidence_and_alert_come_before_the_first_signal() {
    let mut rig = one(hangs_after_100);
    rig.run(125);
    let evidence =
        rig.place(|what| matches!(what, What::EvidenceCaptured { stage: CaptureStage::Verdict, .. }));
    let told = rig.place(|what| matches!(what, What::Told { .. }));
    let signalled = rig.place(is_signalled);
    assert!(evidence.is_some() && evidence < told && told < signalled, "{evidence:?} {told:?} {signalled:?}");
}

#[test]
fn invariant_g2_a_beat_that_stops_at_a_constant_age_gets_three_kills_a_day_at_most_then_the_breaker() {
    // The 129-second incident: healthy, but the beat stops 129 s after every start.
    let mut rig = one(|age| if age <= 129 { Doing::Ticks } else { Doing::Hangs });
    rig.run(6 * 3600);
    assert_eq!(rig.kills(), 3);
    assert_eq!(rig.count(|what| matches!(what, What::BreakerOpened { .. })), 1);
    let Some(Story::BreakerOpen { kills: 3, places, .. }) = rig.stories().last() else {
        panic!("{:?}", rig.stories())
    };
    assert_eq!(places.len(), 3, "the evidence of each kill is in the alert");
    assert!(rig.pid("bot").is_some(), "the instance is left running");
    // After that one try per six hours.
    rig.run(18 * 3600);
    assert!(rig.kills() <= 3 + 3, "{}", rig.kills());
}

#[test]
fn invariant_g2_no_period_of_failure_makes_a_kill_loop() {
    for period in [1_u64, 3, 20, 60, 129, 299, 301, 420, 900, 3600] {
        let mut rig = one(ticks);
        let mut kills_in_a_day = 0;
        rig.behaviour.insert(
            name("bot"),
            match period {
                1 => |age| if age <= 2 { Doing::Ticks } else { Doing::Hangs },
                3 => |age| if age <= 3 { Doing::Ticks } else { Doing::Hangs },
                20 => |age| if age <= 20 { Doing::Ticks } else { Doing::Lies },
                60 => |age| if age <= 60 { Doing::Ticks } else { Doing::Hangs },
                129 => |age| if age <= 129 { Doing::Ticks } else { Doing::Lies },
                299 => |age| if age <= 299 { Doing::Ticks } else { Doing::Hangs },
                301 => |age| if age <= 301 { Doing::Ticks } else { Doing::Hangs },
                420 => |age| if age <= 420 { Doing::Ticks } else { Doing::Hangs },
                900 => |age| if age <= 900 { Doing::Ticks } else { Doing::Hangs },
                _ => |age| if age <= 3600 { Doing::Ticks } else { Doing::Hangs },
            },
        );
        for _ in 0..24 {
            let before = rig.kills();
            rig.run(3600);
            kills_in_a_day += rig.kills() - before;
        }
        assert!(kills_in_a_day <= 24 + 4, "period {period}: {kills_in_a_day} kills in a day");
    }
}

#[test]
fn scenario_kill_129_by_a_stranger_is_named_after_the_third_death() {
    let mut rig = one(|age| if age < 129 { Doing::Ticks } else { Doing::Exits(Exit::Signal(15)) });
    rig.run(129 * 2 + 5);
    assert!(!rig.stories().iter().any(|story| matches!(story, Story::SameAge { .. })));
    rig.run(135);
    let named = rig.stories().into_iter().find(|story| matches!(story, Story::SameAge { .. }));
    let Some(Story::SameAge { deaths: 3, every, .. }) = named else { panic!("{:?}", rig.stories()) };
    assert_eq!(every.as_secs(), 129);
    assert_eq!(rig.kills(), 0);
    assert!(rig.signals.is_empty());
}

#[test]
fn scenario_crash_loop_is_told_once_and_never_given_up() {
    let mut rig = one(|_| Doing::Exits(Exit::Code(1)));
    rig.run(24 * 3600);
    let loops = rig.stories().iter().filter(|story| matches!(story, Story::CrashLoop { .. })).count();
    assert_eq!(loops, 1);
    let last_hour = rig.starts.iter().filter(|(at, _)| rig.now.since(*at) < 3600 * SECOND).count();
    assert!((10..=16).contains(&last_hour), "it is still tried, at the slow end of the backoff: {last_hour}");
    assert_eq!(rig.kills(), 0, "exits are no kills");
}

#[test]
fn only_proof_resets_the_backoff_never_mere_uptime() {
    // Lives a minute each time: uptime-based resets would start over after every one.
    let mut rig = one(|age| if age < 60 { Doing::Ticks } else { Doing::Exits(Exit::Code(3)) });
    rig.run(2 * 3600);
    let waits: Vec<u64> = rig
        .events
        .iter()
        .filter_map(|(_, _, what)| match what {
            What::Delayed { delay, .. } => Some(delay.as_secs()),
            _ => None,
        })
        .collect();
    assert!(waits.last().is_some_and(|wait| *wait >= 270), "{waits:?}");
}

#[test]
fn invariant_g8_a_value_fault_alerts_and_never_restarts() {
    let mut plan = service();
    let hour = Duration::from_secs(3600);
    let value = ValuePlan { counter: "filled".into(), stale: 24 * hour, dead: Some(72 * hour) };
    plan.values = BTreeMap::from([("orders".to_owned(), value)]);
    let mut rig = Rig::new(&[("bot", plan, ticks)]);
    rig.run(504 * 3600);
    assert!(rig.signals.is_empty());
    assert_eq!(rig.starts.len(), 1);
    let stories = rig.stories();
    assert_eq!(stories.len(), 2, "one warning, one escalation: {stories:?}");
    assert!(matches!(stories[1], Story::Valueless { bound, .. } if *bound == 72 * hour));
    rig.behaviour.insert(name("bot"), |_| Doing::Works);
    rig.run(3);
    assert!(matches!(rig.stories().last(), Some(Story::Over { .. })));
}

#[test]
fn a_value_age_outlives_a_restart_of_horus_and_of_the_service() {
    let mut plan = service();
    let value = ValuePlan { counter: "filled".into(), stale: 3600 * SECOND, dead: None };
    plan.values = BTreeMap::from([("orders".to_owned(), value)]);
    let mut rig = Rig::new(&[("bot", plan.clone(), ticks)]);
    rig.run(1800);
    let memory = rig.memories[&name("bot")].clone();
    let elapsed = 60 * SECOND;
    let remembered = horus_core::Remembered { service: name("bot"), memory, elapsed, away: Some(elapsed) };
    let mut next = Rig::with_memory(&[("bot", plan, ticks)], vec![remembered]);
    next.run(1900);
    assert!(matches!(next.stories()[..], [Story::Valueless { .. }]), "{:?}", next.stories());
}

#[test]
fn invariant_g9_observe_mode_signals_nothing_and_says_what_it_would_have_done() {
    for global in [true, false] {
        let mut plan = service();
        plan.observe = !global;
        let mut rig = Rig::new(&[("bot", plan, hangs_after_100)]);
        rig.change_plan(|plan| plan.daemon.mode = if global { Mode::Observe } else { Mode::Enforce });
        rig.run(24 * 3600);
        assert!(rig.signals.is_empty());
        assert_eq!(rig.count(|what| matches!(what, What::WouldHave { .. })), 1);
        assert!(matches!(rig.stories()[..], [Story::StuckObserved { .. }]), "{:?}", rig.stories());
    }
}

#[test]
fn invariant_g5_a_held_service_is_neither_signalled_nor_started() {
    let mut rig = one(hangs_after_100);
    rig.run(50);
    let hold = |stop, expires_in| OperatorRequest::Hold {
        service: name("bot"),
        reason: "debugging".into(),
        expires_in,
        stop,
    };
    let ticket = rig.ask(hold(false, None));
    assert!(matches!(&rig.answers[&ticket], Answer::Done(text) if text.contains("keeps running")));
    rig.run(3600);
    assert!(rig.signals.is_empty());
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(3600);
    assert_eq!(rig.starts.len(), 1);
    // It survives a restart of Horus.
    let memory = rig.memories[&name("bot")].clone();
    let remembered = horus_core::Remembered {
        service: name("bot"),
        memory,
        elapsed: 10 * SECOND,
        away: Some(10 * SECOND),
    };
    let mut next = Rig::with_memory(&[("bot", service(), ticks)], vec![remembered]);
    next.run(3600);
    assert!(next.starts.is_empty());
    let refused = next.ask(OperatorRequest::Start(name("bot")));
    assert!(matches!(&next.answers[&refused], Answer::Refused { hint, .. } if hint == "horus resume bot"));
    next.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    assert_eq!(next.starts.len(), 1);
    // And it may expire.
    next.run(10);
    next.ask(hold(true, Some(60 * SECOND)));
    assert_eq!(next.pid("bot"), None);
    next.run(59);
    assert_eq!(next.pid("bot"), None);
    next.run(2);
    assert!(next.pid("bot").is_some());
}

#[test]
fn a_stop_is_answered_when_the_process_is_gone() {
    let mut rig = one(ticks);
    rig.ignores_term = true;
    rig.run(10);
    let ticket = rig.ask(OperatorRequest::Stop(name("bot")));
    rig.run(4);
    assert!(!rig.answers.contains_key(&ticket), "SIGTERM was ignored: nothing is done yet");
    rig.run(2);
    assert!(matches!(rig.answers[&ticket], Answer::Done(_)));
    assert_eq!(rig.pid("bot"), None);
    rig.run(3600);
    assert_eq!(rig.starts.len(), 1, "a person's stop outranks the restart policy");
    let planned = |what: &What| matches!(what, What::Exited { cause: DeathCause::Planned, .. });
    assert_eq!(rig.count(planned), 1);
    assert!(rig.told.is_empty(), "what a person asked for is no news");
}

#[test]
fn the_firewalled_probe_kills_nobody() {
    // 683 failed probes in a row against a healthy service: the probe's own path was blocked.
    let mut rig = one(|age| if age <= 60 { Doing::Ticks } else { Doing::Unreachable });
    rig.run(60 + 683);
    assert!(rig.signals.is_empty());
    assert!(matches!(rig.stories()[..], [Story::ProbePath { .. }]), "{:?}", rig.stories());
}

#[test]
fn a_slow_start_of_a_minute_is_waited_for() {
    let mut rig = one(|age| if age < 60 { Doing::Unreachable } else { Doing::Ticks });
    rig.run(300);
    assert!(rig.signals.is_empty());
    assert_eq!(rig.starts.len(), 1);
}

#[test]
fn own_lateness_is_held_against_nobody() {
    let mut rig = one(ticks);
    rig.run(100);
    // Horus itself stood still for ten minutes.
    rig.now = rig.now + 600 * SECOND;
    rig.step(Input::Wake);
    rig.run(300);
    assert!(rig.signals.is_empty());
    assert!(rig.told.is_empty());
    assert_eq!(rig.count(|what| matches!(what, What::OwnLateness { .. })), 1);
}

#[test]
fn a_fresh_tick_after_the_decision_pardons() {
    let mut rig = one(hangs_after_100);
    rig.run(119);
    assert_eq!(rig.kills(), 0);
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(600);
    assert!(rig.signals.is_empty());
    assert!(rig.told.is_empty(), "it healed alone: recorded and quiet");
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn dependants_wait_for_readiness_and_leave_first() {
    let mut after = service();
    after.after = vec![name("feed")];
    fn slow(age: u64) -> Doing {
        if age < 20 { Doing::Unreachable } else { Doing::Ticks }
    }
    let mut rig = Rig::new(&[("bot", after, ticks), ("feed", service(), slow), ("web", service(), ticks)]);
    let started: Vec<&str> = rig.starts.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(started, ["feed", "web"], "independents start at once");
    rig.run(25);
    assert_eq!(rig.starts.last().unwrap().1, "bot");
    // A dependency that dies later does not take the dependant with it.
    rig.end(&name("feed"), Exit::Code(1));
    rig.end(&name("bot"), Exit::Code(1));
    assert!(rig.pid("bot").is_some());
    rig.run(30);
    rig.step(Input::ShutDown);
    rig.run(10);
    assert!(rig.finished);
    let order: Vec<&str> = rig.signals.iter().map(|(_, text)| text.split(' ').next().unwrap()).collect();
    let position = |wanted| order.iter().position(|name| *name == wanted).unwrap();
    assert!(position("bot") < position("feed"), "{order:?}");
}

#[test]
fn reload_touches_only_what_changed() {
    let mut rig = Rig::new(&[("a", service(), ticks), ("b", service(), ticks), ("c", service(), ticks)]);
    rig.run(10);
    let pids = (rig.pid("a"), rig.pid("b"), rig.pid("c"));
    rig.change_plan(|plan| {
        plan.services.get_mut("a").unwrap().deadline = 20 * SECOND;
        plan.services.get_mut("b").unwrap().launch.command.push("--fast".into());
    });
    rig.run(1);
    assert_eq!(rig.pid("a"), pids.0, "a policy change touches nothing that runs");
    assert_ne!(rig.pid("b"), pids.1, "a changed command needs a restart");
    assert_eq!(rig.pid("c"), pids.2);
    rig.change_plan(|plan| drop(plan.services.remove("c")));
    rig.run(10);
    assert_eq!(rig.pid("c"), None);
    assert_eq!(rig.engine.status(rig.now).services.len(), 2);
}

#[test]
fn a_clean_exit_stays_down_if_the_policy_says_so() {
    let mut plan = service();
    plan.restart.on = RestartOn::Failure;
    let mut rig =
        Rig::new(&[("job", plan, |age| if age < 5 { Doing::Ticks } else { Doing::Exits(Exit::Code(0)) })]);
    rig.run(3600);
    assert_eq!(rig.starts.len(), 1);
    assert!(rig.told.is_empty());
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_healed_crash_is_one_quiet_message() {
    let mut rig = one(ticks);
    rig.run(100);
    rig.end(&name("bot"), Exit::Signal(9));
    assert!(rig.pid("bot").is_some(), "the first restart is immediate");
    rig.run(400);
    let [(_, notice)] = &rig.told[..] else { panic!("{:?}", rig.told) };
    assert!(matches!(notice.story, Story::ExitHealed { .. }));
    assert!(!notice.loud && !notice.needs_you);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn same_inputs_same_commands() {
    let run = || {
        let mut rig = one(|age| match age % 97 {
            0 => Doing::Exits(Exit::Code(1)),
            n if n > 70 => Doing::Hangs,
            _ => Doing::Ticks,
        });
        rig.run(5000);
        (format!("{:?}", rig.events), format!("{:?}", rig.told))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_program_that_somebody_has_stopped_is_told_of_and_left_alone() {
    let mut rig = one(hangs_after_100);
    rig.stopped = Some("it is stopped by SIGSTOP or a debugger".into());
    rig.run(3600);
    assert!(rig.signals.is_empty());
    let [Story::StuckObserved { because, .. }] = rig.stories()[..] else { panic!("{:?}", rig.stories()) };
    assert!(because.contains("SIGSTOP"), "{because}");
    // Let go again, it beats; and a real hang afterwards is acted on.
    rig.stopped = None;
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(10);
    rig.behaviour.insert(name("bot"), |_| Doing::Hangs);
    rig.run(22);
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn a_planned_restart_of_a_healed_program_is_not_told_as_healed_again() {
    let mut rig = one(ticks);
    rig.run(100);
    rig.end(&name("bot"), Exit::Signal(9));
    rig.run(10);
    rig.change_plan(|plan| plan.services.get_mut("bot").unwrap().launch.command.push("--fast".into()));
    rig.run(10);
    assert_eq!(rig.starts.len(), 3);
    assert_eq!(rig.told.len(), 1, "{:?}", rig.told);
    // A second crash is news again.
    rig.end(&name("bot"), Exit::Signal(9));
    rig.run(10);
    assert_eq!(rig.told.len(), 2, "{:?}", rig.told);
}
