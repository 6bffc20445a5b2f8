//! What `horus check` knows from experience: settings that fit the file, and not the programs as they were recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use horus_config::{
    Checked, Fault as Finding, PauseHistory, StartHistory, lint_with_history, lint_with_pauses,
};
use horus_core::ids::ServiceName;
use horus_sim::backtest::lives::History;
use horus_sim::tune::shown;
use horus_store::{DigestError, read_digest};
use jiff::Timestamp;

use super::fault::Fault;
use super::output::Output;

/// How far it looks back.
const LOOK_BACK: Duration = Duration::from_secs(30 * 24 * 3600);

/// Warnings about what contradicts the record in the state directory. Without a record there are none, and one that cannot be
/// read is said: a check that compares less than it could must not look like one that found nothing.
///
/// # Errors
/// [`Fault`]: the output is gone.
pub(super) fn contradictions(
    checked: &Checked,
    state: Option<&Path>,
    output: &Output,
) -> Result<Vec<Finding>, Fault> {
    let directory = state.unwrap_or(&checked.plan.daemon.state_directory);
    let from = Timestamp::now().checked_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
    match read_digest(directory, from) {
        Ok(read) => Ok(History::of(&read.rows, read.unknown)
            .map_or_else(|_| Vec::new(), |history| compare(checked, &history))),
        // Nothing was recorded for this file yet, here.
        Err(DigestError::Nothing(_)) if state.is_none() => Ok(Vec::new()),
        Err(error) => {
            output.note(&format!("note: starts and pauses are not compared with the record: {error}\n"))?;
            Ok(Vec::new())
        }
    }
}

fn compare(checked: &Checked, history: &History) -> Vec<Finding> {
    let (mut starts, mut pauses) = (BTreeMap::new(), BTreeMap::new());
    for name in checked.plan.services.keys() {
        let Some(shown) = shown(history, name) else { continue };
        let name: ServiceName = name.clone();
        let longest = Duration::from_millis(shown.gaps.max_ms);
        pauses.insert(name.clone(), PauseHistory { count: shown.gaps.n, longest });
        if let Some(spread) = shown.starts {
            let [longest, p99] = [spread.max_ms, spread.p99_ms].map(Duration::from_millis);
            starts.insert(name, StartHistory { count: spread.n, longest, p99 });
        }
    }
    let mut findings = lint_with_history(checked, &starts);
    findings.extend(lint_with_pauses(checked, &pauses));
    findings
}

#[cfg(test)]
mod tests {
    use horus_config::SystemEnvironment;
    use horus_core::digest::Digest;
    use horus_core::ids::{Generation, Instance, ProcessId};
    use horus_core::observation::{Beat, Input, Observation};
    use horus_core::plan::BeatKind;
    use horus_core::time::Mono;

    use super::*;

    /// The first tick that moves after 47 s; a tick every 2 s, and each hour a pause of 20 s.
    fn recorded() -> History {
        let (mut digest, bot) = (Digest::new(), ServiceName::parse("bot").unwrap());
        let (start, epoch) = (Mono::from_origin(Mono::ORIGIN_BEFORE_START), Timestamp::UNIX_EPOCH);
        let mut tell = |second: u64, observation| {
            let since = Duration::from_secs(second);
            digest.take(start + since, epoch + since, &Input::Service(bot.clone(), observation));
        };
        let generation = Generation(1);
        tell(0, Observation::Spawned(Instance { generation, process: ProcessId { pid: 7, start_time: 1 } }));
        for second in (45..6 * 3600).step_by(2).filter(|second| second % 3600 > 20) {
            let (progress, gauges) = (BTreeMap::new(), BTreeMap::new());
            let (source, tick) = (BeatKind::Http, Some(second));
            let beat = Beat { source, tick, progress, declared: None, gauges, loop_lag_ms: None };
            tell(second, Observation::Beat { generation, beat });
        }
        let since = Duration::from_secs(6 * 3600);
        digest.finish(start + since, epoch + since);
        History::of(&digest.drain(), 0).unwrap()
    }

    fn warned(deadline: u64, startup: u64) -> Vec<String> {
        let text = format!(
            "version = 1\n[service.bot]\ncommand = [\"/bin/true\"]\nheartbeat.http = {{ url = \"http://127.0.0.1:1/\", \
             every = \"2s\", seq = \"/seq\" }}\ndeadline = \"{deadline}s\"\nstartup = \"{startup}s\"\n"
        );
        let checked = horus_config::parse(&text, Path::new("watchdog.toml"), &SystemEnvironment).checked;
        compare(&checked.unwrap(), &recorded()).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_cap_and_a_deadline_below_what_was_recorded_are_named() {
        assert_eq!(warned(60, 60), [] as [&str; 0]);
        let [startup] = &warned(60, 30)[..] else { panic!("{:?}", warned(60, 30)) };
        assert!(
            startup.contains("`bot` has 30s for its first tick, but the one recorded start took 47s"),
            "{startup}"
        );
        let [deadline] = &warned(10, 60)[..] else { panic!("{:?}", warned(10, 60)) };
        assert!(deadline.contains("it has paused for 22s and gone on by itself"), "{deadline}");
    }
}
