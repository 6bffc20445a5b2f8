//! What a swarm saw, in words.

use std::fmt::Write as _;
use std::time::Duration;

use crate::swarm::{Failure, Harvest};
use crate::world::{Outcome, Tally};

/// The closing lines of a swarm. `took` is real time.
pub fn summary(harvest: &Harvest, took: Duration) -> String {
    let tally = &harvest.tally;
    let seconds = took.as_secs_f64().max(1e-3);
    let rate = |count: f64| count / seconds;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<28} {value}");
    };
    line("seeds", tally.seeds.to_string());
    line("simulated service-days", format!("{:.0}", tally.service_days()));
    line("service-days per second", format!("{:.0}", rate(tally.service_days())));
    line("steps of the engine", format!("{} ({:.0} per second)", tally.steps, rate(tally.steps as f64)));
    line("real time", format!("{seconds:.1} s"));
    line("lives of Horus", tally.lives.to_string());
    line("kills by the judge", kills(tally));
    line("signals by order", tally.signals_by_order.to_string());
    line("hangs", hangs(tally));
    line("detection delay / bound", delays(tally));
    line("incidents, notices", format!("{}, {}", tally.incidents, tally.notices));
    line("proofs, breakers", format!("{}, {}", tally.proofs, tally.breakers));
    line("runs of jobs", format!("{} finished, {} times skipped or missed", tally.runs, tally.skipped));
    line("declared work", work(tally));
    line("violations", harvest.failures.len().to_string());
    text
}

fn kills(tally: &Tally) -> String {
    let Tally { kills, kills_of_hung, kills_of_healthy, kills_forgotten, .. } = tally;
    format!(
        "{kills} ({kills_of_hung} of programs that hung, {kills_of_healthy} of healthy ones; {kills_forgotten} \
         forgotten by a killed Horus)"
    )
}

fn work(tally: &Tally) -> String {
    let Tally { stalls, stalls_seen, kills_of_stalled, .. } = tally;
    format!("{stalls} standstills, {stalls_seen} verdicts, {kills_of_stalled} kills")
}

fn hangs(tally: &Tally) -> String {
    let Tally { hangs, seen, healed, ended, open, .. } = tally;
    let missed = 0;
    format!(
        "{hangs}: {seen} detected, {healed} healed and {ended} ended before their bound, {open} not due at the end, {missed} missed"
    )
}

fn delays(tally: &Tally) -> String {
    let at = |share: f64| tally.delay_at(share).map_or("-".to_owned(), |delay| format!("{delay:.3}"));
    format!("p50 {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), at(1.0))
}

/// One failing seed: what was broken, and the last lines of its story.
pub fn failure(failure: &Failure, outcome: &Outcome) -> String {
    let Failure { seed, violation } = failure;
    let seconds = violation.at as f64 / 1e9;
    let mut text = format!("seed {seed}: {} is broken at {seconds:.3} s\n", violation.invariant);
    let _ = writeln!(text, "  {}: {}\n", violation.subject, violation.text);
    for line in &outcome.log.lines {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What a seed has chosen, on a few lines.
pub fn choices(options: &crate::world::options::Options) -> String {
    let mut text = format!(
        "seed {}: {} services, faults for {:.1} h\n",
        options.seed,
        options.habits.len(),
        options.span as f64 / 3.6e12
    );
    let _ = writeln!(text, "  {:?}", options.rates);
    for ((name, plan), habits) in options.plan.services.iter().zip(&options.habits) {
        let beats: Vec<&str> = plan.beats.iter().map(|beat| beat.kind().word()).collect();
        let every = plan.beats.iter().map(horus_core::plan::BeatPlan::every).max().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {name}: {beats:?} every {every:?}, deadline {:?}, startup {:?}, prove {:?}, {:?}, ready {:?}, after {:?}",
            plan.deadline, plan.startup, plan.kills.prove, plan.restart.on, plan.ready, plan.after
        );
        for work in plan.progress.values() {
            let _ = writeln!(text, "      {work:?}");
        }
        if let Some(schedule) = &plan.schedule {
            let _ = writeln!(text, "      {schedule:?}");
        }
        let _ = writeln!(text, "      {habits:?}");
    }
    text
}
