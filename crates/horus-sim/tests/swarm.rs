//! A swarm of seeds without a broken guarantee; that a seed decides everything; and that the guarantees can be broken.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use horus_core::command::Command;
use horus_core::reason::{Reason, Rule};
use horus_sim::recording;
use horus_sim::report;
use horus_sim::swarm::Swarm;
use horus_sim::world::log::LINES_KEPT_MAX;
use horus_sim::world::options::Length;
use horus_sim::world::{Probe, Run, Shim};

/// Seeds that run unless `HORUS_SIM_SEEDS` asks for another number.
const SEEDS: u64 = 2_000;

#[test]
fn no_seed_breaks_a_guarantee() {
    let seeds = std::env::var("HORUS_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let swarm = Swarm {
        first: 1,
        seeds: Some(seeds.unwrap_or(SEEDS)),
        service_days: None,
        jobs: NonZeroUsize::new(2).unwrap_or(NonZeroUsize::MIN),
        length: Length::Short,
    };
    #[expect(clippy::disallowed_methods, reason = "how long a swarm takes is real time")]
    let began = Instant::now();
    let harvest = swarm.run();
    print!("{}", report::summary(&harvest, began.elapsed().max(Duration::from_millis(1))));
    for failure in &harvest.failures {
        let again = swarm.one(failure.seed, LINES_KEPT_MAX);
        println!("{}", report::failure(failure, &again));
    }
    assert!(harvest.failures.is_empty(), "{} seeds broke a guarantee", harvest.failures.len());
    assert_eq!(harvest.tally.kills_of_healthy, 0);
    // A swarm in which nothing happens proves nothing.
    let tally = &harvest.tally;
    assert!(tally.kills > tally.seeds / 10 && tally.seen > tally.seeds / 4, "{tally:?}");
    assert!(tally.runs > tally.seeds && tally.skipped > tally.seeds / 10, "{tally:?}");
    assert!(tally.stalls > tally.seeds / 10 && tally.kills_of_stalled > tally.seeds / 100, "{tally:?}");
    assert!(tally.lives > tally.seeds && tally.breakers > 0 && tally.proofs > 0, "{tally:?}");
}

/// Seeds that once broke a guarantee, and why. What a seed chooses for newer kinds of services is drawn apart, so that these go
/// on meaning what they meant.
const KEPT: [(u64, Length, &str); 23] = [
    (6_629, Length::Short, "a trial of the same cause was forgotten when a third silence came between"),
    (10_615, Length::Short, "what was lawful when it was decided was not a moment later, at the signal"),
    (7_970, Length::Short, "one move of a number is enough to be red, and to be counted"),
    (12_797, Length::Short, "the clock was set out of a maintenance window: it ended then"),
    (5_801, Length::Short, "a person closed the breaker between a try and its signal"),
    (8_004_832, Length::Ages, "a program that is slow again and again turned without a tick"),
    (7_001_652, Length::Ages, "people restarted what they were told about after all was well"),
    (199, Length::Short, "who has halted on purpose is not red"),
    (153, Length::Short, "a funnel that lets nothing through asks for no restart, so it is not red"),
    (723, Length::Short, "a resume shrinks the limits in the middle of a silence: it began when it did"),
    (1124, Length::Short, "the same, and the next silence began an hour later"),
    (2_274, Length::Short, "lateness of Horus moves its clocks, and not the beginning of a silence"),
    (4_059, Length::Short, "a resume of who was condemned already ended its trial, and the next was killed"),
    (266, Length::Short, "a job that stopped itself on purpose and ended well was started again"),
    (30, Length::Short, "a time that a suspend jumped over, after a clock that was set back"),
    (
        7_007,
        Length::Short,
        "the second of three that were red was restarted as soon as the first was well, and not proven",
    ),
    (7_262, Length::Short, "the same"),
    (
        5_858,
        Length::Short,
        "limits that shrink do not move the beginning of a standstill of work: the witness was wrong",
    ),
    (2_143, Length::Short, "the same"),
    (
        607,
        Length::Short,
        "what was told of one silence kept a person from being told of the next, in another life",
    ),
    (568, Length::Short, "a job that is not in the plan is not due: the witness was wrong"),
    (1_905, Length::Short, "a silence that a long step follows begins after that: the witness was wrong"),
    (13_556, Length::Short, "a run that left with the plan was begun again when the keeper came back"),
];

#[test]
fn seeds_that_once_broke_a_guarantee_hold() {
    for (seed, length, why) in KEPT {
        let outcome = Run::of(seed, length).live();
        assert_eq!(outcome.violation, None, "seed {seed} {length:?}: {why}");
    }
}

#[test]
fn the_same_seed_gives_the_same_recording_to_the_byte() {
    for seed in [3, 58, 1_000_003] {
        let record = |record| Run { record, ..Run::of(seed, Length::Short) }.live();
        let (first, second) = (record(10), record(LINES_KEPT_MAX));
        assert!(first.log.recording.len() > 10_000, "seed {seed} leaves no recording");
        assert_eq!(first.log.recording, second.log.recording, "seed {seed}");
        // Whether somebody writes it down changes nothing.
        assert_eq!(record(0).tally.steps, first.tally.steps, "seed {seed}");
    }
}

#[test]
fn a_recording_lives_again_with_the_same_commands() {
    let run = Run { record: LINES_KEPT_MAX, ..Run::of(12, Length::Short) };
    let outcome = run.live();
    let lines = recording::read(&mut outcome.log.recording.as_slice()).unwrap();
    let told = lines.iter().filter(|line| matches!(line, recording::Line::Told { .. })).count();
    assert_eq!(told as u64, outcome.tally.steps);
}

/// Breaks the engine in one way and asks which guarantee notices, over some seeds.
fn broken(shim: Shim) -> BTreeSet<&'static str> {
    let runs = (1..=100).map(|seed| Run { shim: Some(shim), ..Run::of(seed, Length::Short) }.live());
    runs.filter_map(|outcome| outcome.violation).map(|violation| violation.invariant).collect()
}

fn assert_noticed(shim: Shim, by: &str) {
    let noticed = broken(shim);
    assert!(noticed.contains(by), "{by} did not notice; {noticed:?} did");
}

fn forge_a_kill(commands: &mut Vec<Command>, probe: &Probe<'_>) {
    if probe.step.is_multiple_of(500)
        && let Some((service, generation)) = probe.living.first()
    {
        commands.push(Command::Signal {
            service: service.clone(),
            generation: *generation,
            signal: "SIGTERM".into(),
            reason: Reason::new(Rule::Silent, "forged"),
        });
    }
}

#[test]
fn a_forged_kill_is_noticed() {
    assert_noticed(forge_a_kill, "invariant_g1_life_is_never_signalled");
}

#[test]
fn a_forged_order_is_noticed() {
    fn forge(commands: &mut Vec<Command>, probe: &Probe<'_>) {
        forge_a_kill(commands, probe);
        for command in commands {
            if let Command::Signal { reason, .. } = command {
                reason.rule = Rule::Operator;
            }
        }
    }
    assert_noticed(forge, "invariant_g6_no_signal_without_an_order");
}

#[test]
fn a_second_start_is_noticed() {
    fn double(commands: &mut Vec<Command>, probe: &Probe<'_>) {
        if probe.step.is_multiple_of(300)
            && let Some((service, generation)) = probe.living.first()
        {
            let (service, generation) = (service.clone(), generation.next());
            commands.push(Command::Start {
                service,
                generation,
                reason: Reason::new(Rule::Wanted, "forged"),
            });
        }
    }
    assert_noticed(double, "invariant_g6_one_instance");
}

#[test]
fn a_notice_that_is_swallowed_is_noticed() {
    fn swallow(commands: &mut Vec<Command>, _: &Probe<'_>) {
        commands.retain(|command| !matches!(command, Command::Tell(notice) if notice.version == 1));
    }
    assert_noticed(swallow, "invariant_g7_versions_have_no_gap");
}

#[test]
fn evidence_that_is_not_written_down_is_noticed() {
    fn blind(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::What;
        commands.retain(|command| {
            !matches!(command, Command::Record(event) if matches!(event.what, What::EvidenceCaptured { .. }))
        });
    }
    assert_noticed(blind, "invariant_g4_no_notice_without_evidence");
}

#[test]
fn answers_that_never_come_are_noticed() {
    fn silent(commands: &mut Vec<Command>, _: &Probe<'_>) {
        commands.retain(|command| !matches!(command, Command::Answer { .. }));
    }
    assert_noticed(silent, "invariant_g5_every_request_is_answered");
}

#[test]
fn a_silence_that_is_not_written_down_is_noticed() {
    fn forget(commands: &mut Vec<Command>, _: &Probe<'_>) {
        for command in commands {
            if let Command::Remember { memory, .. } = command {
                memory.silent = None;
            }
        }
    }
    assert_noticed(forget, "invariant_g6_what_was_witnessed_is_written_down");
}

#[test]
fn a_silence_that_begins_anew_with_each_life_of_horus_is_noticed() {
    fn distrust(commands: &mut Vec<Command>, _: &Probe<'_>) {
        for command in commands {
            if let Command::Remember { memory, .. } = command
                && let Some(silent) = &mut memory.silent
            {
                silent.rules = 0;
            }
        }
    }
    assert_noticed(distrust, "invariant_g4_verdict_within_its_bound");
}

#[test]
fn a_silence_that_nobody_has_witnessed_is_noticed() {
    fn exaggerate(commands: &mut Vec<Command>, _: &Probe<'_>) {
        for command in commands {
            if let Command::Remember { memory, .. } = command
                && let Some(silent) = &mut memory.silent
            {
                silent.sources.iter_mut().for_each(|source| source.age *= 3);
            }
        }
    }
    assert_noticed(exaggerate, "invariant_g1_an_absence_of_horus_proves_nothing");
}

#[test]
fn times_of_jobs_of_which_nothing_becomes_are_noticed() {
    fn forget(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::What;
        commands.retain(|command| match command {
            Command::Remember { memory, .. } => !memory.job_started.is_some_and(|age| age.is_zero()),
            Command::Record(event) => !matches!(event.what, What::RunSkipped { .. }),
            _ => true,
        });
    }
    assert_noticed(forget, "invariant_each_time_of_a_job_is_met_or_told");
}

#[test]
fn a_run_that_nobody_was_due_for_is_noticed() {
    fn begin(commands: &mut Vec<Command>, probe: &Probe<'_>) {
        for command in commands {
            if let Command::Remember { memory, .. } = command
                && memory.job_started.is_some()
                && probe.step.is_multiple_of(7)
            {
                memory.job_started = Some(Duration::ZERO);
            }
        }
    }
    assert_noticed(begin, "invariant_a_job_runs_at_its_times_only");
}

#[test]
fn a_run_that_takes_too_long_and_is_not_told_is_noticed() {
    fn hush(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::What;
        use horus_core::notice::IncidentKind;
        commands.retain(|command| match command {
            Command::Tell(notice) => notice.kind != IncidentKind::RunOverdue,
            Command::Record(event) => {
                !matches!(event.what, What::IncidentOpened { kind: IncidentKind::RunOverdue, .. })
            }
            _ => true,
        });
    }
    assert_noticed(hush, "invariant_an_overlong_run_is_told");
}

#[test]
fn a_restart_for_work_that_nobody_declared_or_that_moves_is_noticed() {
    fn forge(commands: &mut Vec<Command>, probe: &Probe<'_>) {
        forge_a_kill(commands, probe);
        for command in commands {
            if let Command::Signal { reason, .. } = command {
                reason.rule = Rule::Stalled;
            }
        }
    }
    assert_noticed(forge, "invariant_g1_moving_work_is_never_signalled");
}

#[test]
fn a_restart_for_what_a_program_produces_is_noticed() {
    fn forge(commands: &mut Vec<Command>, _: &Probe<'_>) {
        for command in commands {
            if let Command::Signal { reason, .. } = command {
                reason.rule = Rule::Funnel;
            }
        }
    }
    assert_noticed(forge, "invariant_g8_no_restart_for_a_value_fault");
}

#[test]
fn a_standstill_of_work_that_is_not_judged_is_noticed() {
    fn mute(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::What;
        use horus_core::verdict::Verdict;
        commands.retain(|command| {
            let Command::Record(event) = command else { return true };
            match &event.what {
                What::Judged { to, .. } => *to != Verdict::WorkStalled,
                What::IncidentOpened { reason, .. } => reason.rule != Rule::Stalled,
                _ => true,
            }
        });
    }
    assert_noticed(mute, "invariant_g4_stalled_work_reaches_its_verdict");
}

#[test]
fn a_standstill_of_work_that_nobody_is_told_of_is_noticed() {
    fn mute(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::notice::Story;
        commands.retain(|command| match command {
            Command::Signal { reason, .. } => reason.rule != Rule::Stalled,
            Command::KillTree { reason, .. } => reason.rule != Rule::Silent,
            Command::Tell(notice) => match &notice.story {
                Story::StuckObserved { how, .. } | Story::StuckRestarting { how, .. } => {
                    !how.contains("cycles")
                }
                _ => true,
            },
            _ => true,
        });
    }
    assert_noticed(mute, "invariant_g4_no_stalled_work_stays_untold");
}

thread_local! {
    /// The service that was last restarted for its work.
    static STALLED: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn a_stall_that_is_called_proven_before_its_work_has_moved_is_noticed() {
    fn hurry(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::{Event, What};
        let mut forged = Vec::new();
        for command in commands.iter() {
            match command {
                Command::Signal { service, reason, .. } if reason.rule == Rule::Stalled => {
                    STALLED.set(Some(service.to_string()));
                }
                Command::Start { service, generation, .. } => {
                    if let Some(subject) = STALLED.take().filter(|stalled| *stalled == service.to_string()) {
                        let (generation, incident) = (Some(*generation), None);
                        let what = What::Proven { after: Duration::ZERO };
                        let event = Event { subject, generation, incident, what };
                        forged.push(Command::Record(Box::new(event)));
                    }
                }
                _ => {}
            }
        }
        commands.append(&mut forged);
    }
    assert_noticed(hurry, "invariant_g2_a_stall_is_proven_by_moving");
}

#[test]
fn a_verdict_that_is_not_reached_is_noticed() {
    fn mute(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::What;
        commands.retain(|command| {
            !matches!(command, Command::Record(event)
                if matches!(event.what, What::Judged { .. } | What::IncidentOpened { .. }))
                && !matches!(command, Command::Tell(_))
        });
    }
    assert_noticed(mute, "invariant_g4_verdict_within_its_bound");
}

#[test]
fn a_restart_without_a_delay_is_noticed() {
    fn hurry(commands: &mut Vec<Command>, _: &Probe<'_>) {
        use horus_core::event::{DeathCause, What};
        // What the ledger does not hold any more is forgotten by the delay, too: the ends are counted twice here.
        let ends: Vec<Command> = commands
            .iter()
            .filter(|command| {
                matches!(command, Command::Record(event)
                    if matches!(event.what, What::Exited { cause: DeathCause::Itself, .. }))
            })
            .cloned()
            .collect();
        commands.extend(ends);
    }
    assert_noticed(hurry, "invariant_g2_backoff_resets_by_proof_only");
}
