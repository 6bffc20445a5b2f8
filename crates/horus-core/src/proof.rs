//! What each way of looking at a program proves, and what it cannot.
//!
//! One table, in the words of people: `horus check` prints the rows that a service has, `docs/concepts/probes.md` all of them (a test
//! compares). What nobody looks at is said as well: most hangs that were never noticed were not hidden, they were not asked for.

use serde::Serialize;

use crate::activity;
use crate::ids::ServiceName;
use crate::plan::{BeatPlan, ServicePlan};

/// One way of looking at a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described by its row")]
pub enum Way {
    HttpTick,
    HttpBare,
    NotifyTick,
    NotifyBare,
    Agent,
    File,
    Log,
    ExecTick,
    ExecBare,
    Tcp,
    Counter,
    OwnCounter,
    ReadyWord,
    Kernel,
    Process,
}

/// What a way of looking is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Which way it is, by its keys in the configuration.
    pub source: &'static str,
    /// What it proves when it says that all is well.
    pub proves: &'static str,
    /// What it does not prove.
    pub not: &'static str,
    /// When to take it; for the documentation.
    #[serde(skip)]
    pub when: &'static str,
}

impl Way {
    /// All of them, the strongest first.
    pub const ALL: [Self; 15] = [
        Self::HttpTick,
        Self::HttpBare,
        Self::NotifyTick,
        Self::NotifyBare,
        Self::Agent,
        Self::File,
        Self::Log,
        Self::ExecTick,
        Self::ExecBare,
        Self::Tcp,
        Self::Counter,
        Self::OwnCounter,
        Self::ReadyWord,
        Self::Kernel,
        Self::Process,
    ];

    /// Its row.
    pub fn proof(self) -> Proof {
        let row = |source, proves, not, when| Proof { source, proves, not, when };
        match self {
            Self::HttpTick => row(
                "`heartbeat.http` with `seq`",
                "the path to it works, its handler answered, and the number that its own loop moves has moved",
                "that the work goes on",
                "you can add an endpoint, or the program has one with a number that moves",
            ),
            Self::HttpBare => row(
                "`heartbeat.http` without `seq`",
                "somebody answered 200 on that port",
                "that the loop turns: a page served by another thread answers during a hang",
                "nothing better is there",
            ),
            Self::NotifyTick => row(
                "`heartbeat.notify` with `X_HORUS_SEQ`",
                "the main process, or a child of it, said so, and its tick moved",
                "that a client could reach it",
                "the program uses a client (`crates/horus-heartbeat`, [Python](../../clients/python/README.md)), or can send one \
                 datagram a second",
            ),
            Self::NotifyBare => row(
                "`heartbeat.notify`, `WATCHDOG=1`",
                "one of its processes ran the line that sends it",
                "that the loop ran, if a helper thread sends it",
                "the program was written for systemd",
            ),
            Self::Agent => row(
                "`agent`",
                "the event loop of the main thread turned, and how late it was",
                "that the work goes on; other loops and threads",
                "nothing may be changed in the program: [agents](../guides/agents.md)",
            ),
            Self::File => row(
                "`heartbeat.file`",
                "somebody changed the file",
                "who did it",
                "the program writes a state or pid file in its loop",
            ),
            Self::Log => row(
                "`heartbeat.log`",
                "it printed a line that matches",
                "that the loop goes on: a retry handler prints, too",
                "the program cannot be changed and logs regularly",
            ),
            Self::ExecTick => row(
                "`heartbeat.exec` with `seq`",
                "the command ended with 0, and the first line that it printed has changed",
                "anything else; a slow host makes it late",
                "there is a command that prints a number of the program's own",
            ),
            Self::ExecBare => row(
                "`heartbeat.exec`",
                "whatever the command checks",
                "anything else; a slow host makes it late",
                "there is a check command already",
            ),
            Self::Tcp => row(
                "`heartbeat.tcp`",
                "the kernel accepts connections on that port",
                "anything about the program: a stopped or hung one passes",
                "to see that the port is there at all",
            ),
            Self::Counter => row(
                "`counter`",
                "when it moves: the work that it counts was done",
                "anything when the page does not answer, or answers and nothing moves it: it is no beat",
                "the program has a page for Prometheus, or any JSON with a number that grows",
            ),
            Self::OwnCounter => row(
                "`horus.output`, `horus.cpu`, `horus.io`",
                "when it stands still: the program prints, uses or moves nothing",
                "that the work goes on when it moves: a retry storm moves all three",
                "the program counts nothing itself",
            ),
            Self::ReadyWord => row(
                "`ready = \"notify\"`",
                "it said `READY=1`: its start was over",
                "anything afterwards",
                "the program was written for systemd and promises no beats",
            ),
            Self::Kernel => row(
                "the kernel (`sampler`)",
                "its loop comes home to its wait for events, or hangs, and where",
                "that the work is done; anything of a program that has no loop. Without a beat a hang is told, and not cured",
                "always: it is on unless `sampler = false`",
            ),
            Self::Process => {
                row("the process", "it is there, or how it ended", "that it does anything", "always")
            }
        }
    }
}

/// The ways in which a service is looked at, in the order of [`Way::ALL`].
pub fn ways(plan: &ServicePlan) -> Vec<Way> {
    let beat = |is_it: fn(&BeatPlan) -> bool| plan.beats.iter().any(is_it);
    let named = named_counters(plan);
    let has = |way: &Way| match way {
        Way::HttpTick => beat(|beat| matches!(beat, BeatPlan::Http(http) if http.seq.is_some())),
        Way::HttpBare => beat(|beat| matches!(beat, BeatPlan::Http(http) if http.seq.is_none())),
        Way::NotifyTick | Way::NotifyBare => beat(|beat| *beat == BeatPlan::Notify),
        Way::Agent => plan.launch.agent.is_some(),
        Way::File => beat(|beat| matches!(beat, BeatPlan::File(_))),
        Way::Log => beat(|beat| matches!(beat, BeatPlan::Log(_))),
        Way::ExecTick => beat(|beat| matches!(beat, BeatPlan::Exec(exec) if exec.seq)),
        Way::ExecBare => beat(|beat| matches!(beat, BeatPlan::Exec(exec) if !exec.seq)),
        Way::Tcp => beat(|beat| matches!(beat, BeatPlan::Tcp(_))),
        Way::Counter => !plan.counters.is_empty(),
        Way::OwnCounter => named.iter().any(|counter| activity::is_own(counter)),
        Way::ReadyWord => plan.is_ready_by_word_alone(),
        Way::Kernel => plan.sampler,
        Way::Process => true,
    };
    Way::ALL.into_iter().filter(has).collect()
}

fn named_counters(plan: &ServicePlan) -> Vec<&str> {
    let work = plan.progress.values().map(|work| work.counter.as_str());
    let values = plan.values.values().map(|value| value.counter.as_str());
    let stages = plan.funnels.values().flat_map(|funnel| funnel.stages.iter().map(String::as_str));
    work.chain(values).chain(stages).collect()
}

/// What nobody would notice of a service, as sentences.
pub fn unseen(plan: &ServicePlan) -> Vec<&'static str> {
    let ways = ways(plan);
    let any = |these: &[Way]| these.iter().any(|way| ways.contains(way));
    let ticks = [Way::HttpTick, Way::NotifyTick, Way::Agent, Way::File, Way::ExecTick];
    let mut unseen = Vec::new();
    let ends = plan.schedule.is_some();
    if plan.beats.is_empty() && !ends && plan.progress.is_empty() {
        unseen.push(if plan.sampler {
            "no heartbeat: a hang is told where the kernel shows it, and never cured by a restart"
        } else {
            "neither a heartbeat nor `sampler`: a hang is not noticed, only its end"
        });
    } else if !plan.beats.is_empty() && !any(&ticks) {
        unseen.push("no tick: something else may go on answering, connecting or printing over a dead loop");
    }
    if plan.progress.is_empty() && plan.steps.is_empty() && !ends {
        unseen.push(if named_counters(plan).is_empty() {
            "no `progress` and no `value`: a program that runs and does nothing is not noticed"
        } else {
            "no `progress`: work that stands still is told where a `value` or `funnel` counts it, and never cured by a restart"
        });
    }
    if plan.beats.is_empty() && !plan.counters.is_empty() {
        unseen
            .push("`counter` is no heartbeat: when its page stops answering, nothing is concluded from that");
    }
    unseen
}

/// All that there is to say of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Which service.
    pub service: ServiceName,
    /// What it is looked at by.
    pub sources: Vec<Proof>,
    /// What nobody would notice.
    pub unseen: Vec<&'static str>,
}

impl Standing {
    /// Of a service with this plan.
    pub fn of(service: &ServiceName, plan: &ServicePlan) -> Self {
        let sources = ways(plan).into_iter().map(Way::proof).collect();
        Self { service: service.clone(), sources, unseen: unseen(plan) }
    }
}

/// The table of the documentation, in Markdown.
pub fn table() -> String {
    let mut text = String::from(
        "| source | a good word of it proves | it does not prove | take it when |\n| --- | --- | --- | --- |\n",
    );
    for way in Way::ALL {
        let Proof { source, proves, not, when } = way.proof();
        text.push_str(&format!("| {source} | {proves} | {not} | {when} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::plan::{HttpBeat, ProgressPlan, Ready, TcpBeat};

    fn plain() -> ServicePlan {
        ServicePlan::plain(vec!["bot".into()])
    }

    fn http(seq: Option<&str>) -> BeatPlan {
        let second = Duration::from_secs(1);
        BeatPlan::Http(HttpBeat {
            url: "http://127.0.0.1:1/".into(),
            every: second,
            timeout: second,
            seq: seq.map(str::to_owned),
            progress: None,
            state: None,
            lag: None,
            gauges: None,
        })
    }

    /// `docs/concepts/probes.md` shows this very table. (`HORUS_UPDATE=1` writes it there.)
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a generated table in the source tree, not state")]
    fn the_documentation_shows_the_same_table() {
        const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/concepts/probes.md");
        let page = std::fs::read_to_string(FILE).unwrap();
        let (before, rest) = page.split_once("<!-- proofs -->\n").expect("the mark at the beginning");
        let (_, after) = rest.split_once("<!-- /proofs -->").expect("the mark at the end");
        let wanted = format!("{before}<!-- proofs -->\n{}<!-- /proofs -->{after}", table());
        if std::env::var_os("HORUS_UPDATE").is_some() {
            std::fs::write(FILE, &wanted).unwrap();
        } else {
            assert!(
                page == wanted,
                "docs/concepts/probes.md is out of date: HORUS_UPDATE=1 cargo test -p horus-core proof"
            );
        }
    }

    #[test]
    fn a_service_has_the_rows_of_its_plan() {
        assert_eq!(ways(&plain()), [Way::Kernel, Way::Process]);
        let beats = vec![http(Some("/seq")), BeatPlan::Notify];
        let bot = ServicePlan { beats, ready: Ready::Tick, sampler: false, ..plain() };
        assert_eq!(ways(&bot), [Way::HttpTick, Way::NotifyTick, Way::NotifyBare, Way::Process]);
        let said = ServicePlan { ready: Ready::Notify, ..plain() };
        assert_eq!(ways(&said), [Way::ReadyWord, Way::Kernel, Way::Process]);
    }

    #[test]
    fn what_is_missing_is_said_and_what_is_there_is_not() {
        let says = |plan: &ServicePlan, text: &str| unseen(plan).iter().any(|line| line.contains(text));
        assert!(says(&plain(), "no heartbeat") && says(&plain(), "runs and does nothing"));
        assert!(says(&ServicePlan { sampler: false, ..plain() }, "only its end"));
        let second = Duration::from_secs(1);
        let tcp = BeatPlan::Tcp(TcpBeat { address: "h:1".into(), every: second, timeout: second });
        assert!(says(&ServicePlan { beats: vec![tcp, http(None)], ..plain() }, "no tick"));
        let work = ProgressPlan { counter: "cycles".into(), stalled: second };
        let whole = ServicePlan {
            beats: vec![http(Some("/seq"))],
            ready: Ready::Tick,
            progress: BTreeMap::from([("cycles".to_owned(), work)]),
            ..plain()
        };
        assert_eq!(unseen(&whole), Vec::<&str>::new());
    }
}
