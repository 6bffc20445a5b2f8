//! `horus tune`: thresholds for one service, out of what was recorded. The work is in [`horus_sim::tune`].

use std::fmt::Write;
use std::time::Duration;

use horus_core::time::Human;
use horus_sim::tune::{Spread, TuneError, Tuning, tune as propose};
use jiff::tz::TimeZone;

use super::args::{Place, TuneArgs};
use super::exit::ExitStatus;
use super::fault::Fault;
use super::output::Output;
use super::render::style::{Paint, Style};
use super::render::text::{Cell, Table, clean, count};
use super::simulate::{candidate, details, history, json};

/// Hangs that are named.
const HANGS_NAMED_MAX: usize = 5;

/// Proposes thresholds.
///
/// # Errors
/// [`Fault`]
pub(super) fn tune(place: &Place, args: &TuneArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let Some(plan) = candidate(place, output)? else { return Ok(ExitStatus::BadConfig) };
    if !plan.services.contains_key(&args.name) {
        return Err(refused(&TuneError::Unknown(args.name.clone())));
    }
    let history = history(&args.heard, &plan)?;
    let tuning = propose(&history, &plan, &args.name).map_err(|error| refused(&error))?;
    let text = if args.json { json(&tuning)? } else { render(&tuning, &TimeZone::system(), output.style) };
    output.data(text)?;
    Ok(ExitStatus::Done)
}

fn refused(error: &TuneError) -> Fault {
    let hint = match error {
        TuneError::Unknown(_) => {
            "`horus check` lists the services of the configuration; --config FILE names another"
        }
        TuneError::NothingHeard(_) => "let it run under Horus for a day, or look further back: --since 90d",
        TuneError::NoBeats(_) => "give it a heartbeat: see docs/guides/getting-started.md",
        TuneError::TooLittle { .. } => "let it run for a whole day, nights included, and ask again",
    };
    Fault::new(ExitStatus::Failed, error.to_string(), hint)
}

fn human(ms: u64) -> String {
    Human(Duration::from_millis(ms)).to_string()
}

/// The numbers, the proposals, and what they would have done.
fn render(tuning: &Tuning, zone: &TimeZone, style: Style) -> String {
    let mut out = format!("{}, heard to tick for {}\n\n", tuning.service, human(tuning.observed_ms));
    let mut table = Table::default();
    let head = ["", "N", "P50", "P99", "P99.9", "LONGEST"];
    table.row(head.iter().map(|word| Cell::new(word, Paint::Dim)).collect(), String::new());
    table.row(spread("gaps between fresh ticks", &tuning.gaps), String::new());
    if let Some(starts) = &tuning.starts {
        table.row(spread("from start to first tick", starts), String::new());
    }
    out += &table.render(2, style);
    if !tuning.hangs_ms.is_empty() {
        let named: Vec<String> = tuning.hangs_ms.iter().take(HANGS_NAMED_MAX).map(|ms| human(*ms)).collect();
        let (hangs, named) = (count(tuning.hangs_ms.len(), "silence"), named.join(", "));
        let _ = writeln!(out, "\n{hangs} taken for hangs that ended by themselves, not for health: {named}");
    }
    out += "\nproposed:\n";
    let mut table = Table::default();
    for proposal in &tuning.proposals {
        table.row(
            vec![
                Cell::new(format!("  {}", proposal.key), Paint::Head),
                Cell::new(
                    format!("{} -> {}", human(proposal.now_ms), human(proposal.proposed_ms)),
                    Paint::Head,
                ),
                Cell::new(&proposal.because, Paint::Dim),
            ],
            String::new(),
        );
    }
    out += &table.render(2, style);
    for refusal in &tuning.refused {
        let _ = writeln!(out, "  {}", clean(refusal));
    }
    if let Some(effect) = &tuning.effect {
        let (old, new) = (&effect.old, &effect.new);
        let _ = writeln!(
            out,
            "\non this recording: kills {} -> {}, of healthy ones {} -> {}, alerts {} -> {}",
            old.kills.len(),
            new.kills.len(),
            old.healthy_killed(),
            new.healthy_killed(),
            old.alerts_in_all(),
            new.alerts_in_all()
        );
        out += &details(effect, zone);
    }
    out
}

fn spread(what: &str, spread: &Spread) -> Vec<Cell> {
    let numbers = [spread.p50_ms, spread.p99_ms, spread.p999_ms, spread.max_ms].map(human);
    let cells = [what.to_owned(), spread.n.to_string()].into_iter().chain(numbers);
    cells.map(|text| Cell::new(text, Paint::Plain)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use horus_config::SystemEnvironment;
    use horus_core::digest::Digest;
    use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
    use horus_core::observation::{Beat, Exit, Input, Observation};
    use horus_core::plan::{BeatKind, Plan};
    use horus_core::time::Mono;
    use horus_sim::backtest::lives::History;
    use jiff::Timestamp;

    use super::*;

    fn plan() -> Plan {
        let text = "version = 1\n[service.bot]\ncommand = [\"/bin/true\"]\nheartbeat.http = { url = \"http://127.0.0.1:1/\", every = \
                    \"2s\", seq = \"/seq\" }\ndeadline = \"10s\"\n[service.mute]\ncommand = [\"/bin/true\"]\n";
        let loaded = horus_config::parse(text, Path::new("watchdog.toml"), &SystemEnvironment);
        loaded.into_result().unwrap_or_else(|faults| panic!("{faults:?}")).plan
    }

    /// Starts of 20 s, a tick every 2 s, at midnight a stall of `stall` seconds, a crash every 8 hours.
    fn recorded(hours: u64, stall: u64) -> History {
        let (mut digest, bot) = (Digest::new(), ServiceName::parse("bot").unwrap());
        let (start, midnight) = (Mono::from_origin(Mono::ORIGIN_BEFORE_START), Timestamp::UNIX_EPOCH);
        let mut tell = |second: u64, observation| {
            let since = Duration::from_secs(second);
            digest.take(start + since, midnight + since, &Input::Service(bot.clone(), observation));
        };
        let (mut run, mut begun) = (0, 0);
        for second in (0..hours * 3600).step_by(2) {
            if second % (8 * 3600) == 0 {
                if run > 0 {
                    let (generation, exit) = (Generation(run), Exit::Code(1));
                    tell(second, Observation::Exited { generation, exit, strays: 0 });
                }
                (run, begun) = (run + 1, second);
                let process = ProcessId { pid: 7, start_time: run };
                tell(second, Observation::Spawned(Instance { generation: Generation(run), process }));
            }
            let midnight = second % 86_400 >= 3600 && second % 86_400 < 3600 + stall;
            if second - begun >= 18 && !midnight {
                let (progress, gauges) = (BTreeMap::new(), BTreeMap::new());
                let (source, tick) = (BeatKind::Http, Some(second));
                let beat = Beat { source, tick, progress, declared: None, gauges, loop_lag_ms: None };
                tell(second, Observation::Beat { generation: Generation(run), beat });
            }
        }
        let since = Duration::from_secs(hours * 3600);
        digest.finish(start + since, midnight + since);
        History::of(&digest.drain(), 0).unwrap()
    }

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    #[test]
    fn proposals_with_the_numbers_that_justify_them() {
        let tuning = propose(&recorded(72, 40), &plan(), &name("bot")).unwrap();
        insta::assert_snapshot!(render(&tuning, &TimeZone::UTC, Style::new(false)));
    }

    #[test]
    fn a_silence_of_an_hour_is_no_health() {
        let tuning = propose(&recorded(48, 3600), &plan(), &name("bot")).unwrap();
        assert_eq!(tuning.hangs_ms, [3_602_000, 3_602_000]);
        assert!(tuning.proposals[0].proposed_ms < 30_000, "{:?}", tuning.proposals);
    }

    #[test]
    fn where_there_is_too_little_there_is_no_proposal() {
        let said = |history: &History, service: &str| match propose(history, &plan(), &name(service)) {
            Err(error) => match refused(&error) {
                Fault::Said(said) => said.render(),
                Fault::ClosedPipe => panic!("no pipe here"),
            },
            Ok(tuning) => panic!("{tuning:?}"),
        };
        let short = recorded(3, 0);
        let all: String = ["bot", "mute", "nobody"].map(|service| said(&short, service)).concat();
        insta::assert_snapshot!(all);
    }
}
