//! The command line, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use horus_core::ids::{GroupName, IncidentId, ServiceName, SinkName};
use jiff::SignedDuration;
use serde::Serialize;

/// Most names on one command line: each gets a line of progress on the terminal.
pub(crate) const NAMES_MAX: usize = 64;

/// A watchdog supervisor: runs your programs, sees when they only look alive, heals them and tells you.
#[derive(Debug, Parser)]
#[command(
    name = "horus",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 the thing asked for failed, 64 wrong usage, 65 a file is not what it should \
                  be, 66 a file cannot be read, 69 no daemon answers, 70 a bug in horus, 78 wrong configuration.\n\nData goes to stdout, everything else to stderr. NO_COLOR is obeyed."
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which Horus is meant.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which horus")]
pub(crate) struct Place {
    /// The configuration file [default: ./watchdog.toml, ~/.config/horus/watchdog.toml, /etc/horus/watchdog.toml]
    #[arg(long, global = true, value_name = "FILE", env = "HORUS_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// The daemon's socket [default: horus.sock in the run directory that the configuration names]
    #[arg(long, global = true, value_name = "PATH", env = "HORUS_SOCKET", hide_env_values = true)]
    pub(crate) socket: Option<PathBuf>,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Supervise, in the foreground, until told to stop
    Run,
    /// Check a configuration, and show when Horus would act, and what it could not see
    Check(CheckArgs),
    /// Write a commented configuration to start from
    Init(InitArgs),
    /// Show how everything is, worst first
    Status(StatusArgs),
    /// Say what is known of a service, from which source, and what would have to happen for Horus to act
    Explain(ExplainArgs),
    /// Run services that were stopped
    Start(NamesArgs),
    /// End services and leave them ended
    Stop(NamesArgs),
    /// End services and run them again
    Restart(NamesArgs),
    /// Forbid that anything starts, kills or restarts a service
    Hold(HoldArgs),
    /// Lift a hold, and close the breaker
    Resume(ResumeArgs),
    /// Show what a service wrote
    Logs(LogsArgs),
    /// Show the journal
    Events(EventsArgs),
    /// List incidents, newest first
    Incidents(IncidentsArgs),
    /// Tell the story of one incident
    Incident(IncidentArgs),
    /// Look after alerts
    #[command(subcommand)]
    Alerts(AlertsVerb),
    /// Read the configuration again and follow what changed
    Reload(ReloadArgs),
    /// Become another program: everything goes on, Horus and its keeper are the new one
    Upgrade(UpgradeArgs),
    /// Live a recording again, step by step
    Replay(ReplayArgs),
    /// Try a configuration on what was recorded: what would it have done?
    Simulate(SimulateArgs),
    /// Propose thresholds for a service from what was recorded
    Tune(TuneArgs),
    /// Fire every rule, detector and sink once, in a sandbox, and name those that cannot fire
    Selftest(SelftestArgs),
    /// Make a program hang, end or die, and say what Horus did about it, when, and against which bound
    Drill(DrillArgs),
    /// Make Horus a service of this machine or of yourself, that comes back by itself
    Install(InstallArgs),
    /// Take the service away again, and say what stays
    Uninstall(UninstallArgs),
    /// Look whether this machine has what Horus needs
    Doctor(DoctorArgs),
    /// Say where a process stands: threads, Python stacks, asyncio tasks, native stacks. Nothing is stopped
    Capture(CaptureArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder. For whoever makes packages
    #[command(hide = true)]
    Manual(ManualArgs),
    /// End what a hung Horus left behind. Started by systemd after Horus has ended, not by people
    #[command(hide = true)]
    StopPost(StopPostArgs),
    /// Say whether this program could take over from the Horus that runs. Asked by that Horus, not by people
    #[command(hide = true)]
    Rehearse(RehearseArgs),
    /// Beat, and hang or end when told to: a program to be drilled on
    #[command(hide = true)]
    Sample(SampleArgs),
    /// Be the parent of all children. Started by `horus run`, not by people
    #[command(hide = true)]
    Keep(KeepArgs),
}

/// `horus run`, once its file is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunArgs {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Where to listen for the command line, if not in the run directory.
    pub(crate) socket: Option<PathBuf>,
}

/// `horus check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file, if not that of --config
    pub(crate) file: Option<PathBuf>,
    /// The state directory whose record is compared with the file, if not that of the configuration
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Print findings, the timing table and what each source proves as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write; it must not exist
    #[arg(default_value = "watchdog.toml")]
    pub(crate) file: PathBuf,
}

/// `horus status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this service, with every reason
    #[arg(value_parser = service_name)]
    pub(crate) name: Option<ServiceName>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every second, until interrupted
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Show how Horus itself is, as a service of systemd or launchd
    #[arg(long, conflicts_with_all = ["name", "watch"])]
    pub(crate) service: bool,
}

/// `horus start`, `stop`, `restart`
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// The services
    #[arg(required = true, value_name = "NAME", value_parser = service_name, num_args = 1..=NAMES_MAX)]
    pub(crate) names: Vec<ServiceName>,
}

/// One service, or all of a group.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhomArgs {
    /// The service
    #[arg(value_parser = service_name)]
    pub(crate) name: Option<ServiceName>,
    /// All services that have this name in their `groups`; what became of each is verified by pid
    #[arg(long, value_name = "GROUP", value_parser = group_name)]
    pub(crate) group: Option<GroupName>,
}

/// `horus hold`
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) whom: WhomArgs,
    /// Why. Whoever finds it held tomorrow reads this
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// End the hold by itself after so long, such as "2h" or "1h 30m"
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub(crate) expires_in: Option<Duration>,
    /// Stop it first
    #[arg(long)]
    pub(crate) stop: bool,
}

/// `horus resume`
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) whom: WhomArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `horus explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The service
    #[arg(value_parser = service_name)]
    pub(crate) name: ServiceName,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus logs`
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The service
    #[arg(value_parser = service_name)]
    pub(crate) name: ServiceName,
    /// Go on with what it writes
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How many lines of the past
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,
}

/// `horus events`
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only about this service or monitor
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only of this incident
    #[arg(long, value_name = "ID", value_parser = incident_id)]
    pub(crate) incident: Option<IncidentId>,
    /// How many of the past
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) number: usize,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus incidents`
#[derive(Debug, Args)]
pub(crate) struct IncidentsArgs {
    /// Only those that are not over
    #[arg(long)]
    pub(crate) open: bool,
    /// Those for which no rule and no test was noted yet, oldest first; one row for the same surprise
    #[arg(long, conflicts_with_all = ["open", "number"])]
    pub(crate) debt: bool,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) number: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus incident`
#[derive(Debug, Args)]
pub(crate) struct IncidentArgs {
    /// Its identifier, such as H-7F3K
    #[arg(value_parser = incident_id)]
    pub(crate) id: IncidentId,
    /// Show what was captured instead: the content of each bundle that is still kept
    #[arg(long)]
    pub(crate) evidence: bool,
    /// Write the post-mortem instead, as Markdown: timeline, evidence, what was ruled out, deeds, who was told
    #[arg(long, conflicts_with_all = ["evidence", "json"])]
    pub(crate) report: bool,
    /// Note what was done so that it does not happen again: a rule, a test, a threshold. It owes nothing from then on
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["evidence", "report"])]
    pub(crate) rule: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus alerts`
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsVerb {
    /// Send a test message and show what each sink says
    Test(AlertsTestArgs),
    /// Show what would be sent for each story, word for word. Nothing is sent, and no secret is read
    Preview(AlertsPreviewArgs),
}

/// `horus alerts test`
#[derive(Debug, Args)]
pub(crate) struct AlertsTestArgs {
    /// Only this sink
    #[arg(value_parser = sink_name)]
    pub(crate) sink: Option<SinkName>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus alerts preview`
#[derive(Debug, Args)]
pub(crate) struct AlertsPreviewArgs {
    /// Only this story, such as breaker_open, or the stories of this kind of incident, such as stuck
    #[arg(value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// As this sink of the configuration would get it, or any sink of this kind: discord, slack, webhook [default: each kind]
    #[arg(long, value_parser = sink_name)]
    pub(crate) sink: Option<SinkName>,
    /// Write a page that shows the messages as a phone would, light and dark. It loads nothing from anywhere
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus reload`
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Only say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus upgrade`
#[derive(Debug, Args)]
#[command(
    after_help = "Processes, open incidents, holds and ages go on, and so does the process of Horus itself. A program \
                  that cannot start, or does not read what this one writes, is refused and changes nothing. \
                  SIGUSR2 does the same."
)]
pub(crate) struct UpgradeArgs {
    /// This program, instead of the one by whose path Horus was started
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Only try it out
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus rehearse`
#[derive(Debug, Args)]
pub(crate) struct RehearseArgs {
    /// The run directory of the Horus that runs
    #[arg(long)]
    pub(crate) run_dir: PathBuf,
    /// Its state directory
    #[arg(long)]
    pub(crate) state_dir: PathBuf,
}

/// `horus replay`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --script or --transitions, instructions are read from stdin; `help` lists them."
)]
pub(crate) struct ReplayArgs {
    /// The recording
    pub(crate) file: PathBuf,
    /// Carry out these instructions and end, such as "break verdict silent; continue; diff"
    #[arg(long, value_name = "TEXT", conflicts_with = "transitions")]
    pub(crate) script: Option<String>,
    /// Print every state change on one line and end
    #[arg(long)]
    pub(crate) transitions: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was heard, and when.
#[derive(Debug, Args)]
pub(crate) struct HeardArgs {
    /// What was heard, from this file instead of the state directory
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "state"])]
    pub(crate) journal: Option<PathBuf>,
    /// How far to look back, such as "30d" or "12h"
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = days)]
    pub(crate) since: Duration,
    /// The state directory, if not that of the configuration
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// `horus simulate`
#[derive(Debug, Args)]
#[command(
    after_help = "The configuration to try is that of --config. Nothing is written, and a daemon may run meanwhile."
)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) heard: HeardArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus tune`
#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// The service
    #[arg(value_parser = service_name)]
    pub(crate) name: ServiceName,
    #[command(flatten)]
    pub(crate) heard: HeardArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus selftest`
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is started, signalled or sent, unless --send is given. Exit code 1: something that \
                        ought to fire did not."
)]
pub(crate) struct SelftestArgs {
    /// Only the judge's own rules, each on a line; no configuration is read
    #[arg(long, conflicts_with = "send")]
    pub(crate) rules: bool,
    /// Send one message, marked as a test, to every sink
    #[arg(long)]
    pub(crate) send: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a drill does to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DrillFault {
    /// Its loop stops; the process lives
    Hang,
    /// It ends with exit code 1
    Exit,
    /// It is killed
    Kill,
}

impl DrillFault {
    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Exit => "exit",
            Self::Kill => "kill",
        }
    }
}

/// `horus drill`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --service, a Horus of its own with a sample program is started in a private folder, drilled and \
                  ended. Exit code 1: a step did not happen, or not within its bound."
)]
pub(crate) struct DrillArgs {
    /// What happens to the program
    #[arg(value_enum, default_value = "hang")]
    pub(crate) fault: DrillFault,
    /// Drill this service of the Horus that runs. One whose command is `horus sample` takes every fault, any other only kill
    #[arg(long, value_name = "NAME", value_parser = service_name, requires = "yes")]
    pub(crate) service: Option<ServiceName>,
    /// Drill the kill-switch instead: hold and stop a group, verify by pid that all are gone, let them run again
    #[arg(long, requires = "group", requires = "yes", conflicts_with_all = ["service", "fault", "json"])]
    pub(crate) hold: bool,
    /// The group of --hold
    #[arg(long, value_name = "GROUP", value_parser = group_name, requires = "hold")]
    pub(crate) group: Option<GroupName>,
    /// Yes, harm it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus sample`
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// The process whose drill it is for: it ends well when that is gone
    #[arg(long, value_name = "PID", requires = "drill_start")]
    pub(crate) drill_pid: Option<i32>,
    /// When the kernel started that process
    #[arg(long, value_name = "TIME")]
    pub(crate) drill_start: Option<u64>,
}

/// `horus doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus capture`
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// The process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show all threads, also those that wait beside the main one
    #[arg(long)]
    pub(crate) threads: bool,
    /// Say where this thread stands, instead of the one that runs the loop, or the main one
    #[arg(long, value_name = "TID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) thread: Option<i32>,
}

/// Whose service is meant.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ScopeArgs {
    /// The service of the machine, which runs as root from boot on [default for root]
    #[arg(long, conflicts_with = "user")]
    pub(crate) system: bool,
    /// Your own service, which runs as you [default for everybody else]
    #[arg(long)]
    pub(crate) user: bool,
}

/// `horus install`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --config, the file is /etc/horus/watchdog.toml, or ~/.config/horus/watchdog.toml with \
                        --user. Typed again, it changes only what is not as it should be."
)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let your services run without a session of yours (systemd)
    #[arg(long, conflicts_with = "system")]
    pub(crate) linger: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus uninstall`
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove journal, evidence and logs too
    #[arg(long)]
    pub(crate) purge: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `horus manual`
#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// The folder
    pub(crate) folder: PathBuf,
}

/// `horus stop-post`
#[derive(Debug, Args)]
pub(crate) struct StopPostArgs {
    /// By the service manager of a user
    #[arg(long)]
    pub(crate) user: bool,
}

/// `horus completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub(crate) shell: Shell,
}

/// `horus keep`
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct KeepArgs {
    /// The run directory
    #[arg(long)]
    pub(crate) run_dir: PathBuf,
    /// The descriptor of the lock that whoever started it has taken
    #[arg(long)]
    pub(crate) lock_fd: Option<i32>,
    /// A delegated cgroup v2 directory
    #[arg(long)]
    pub(crate) cgroup: Option<PathBuf>,
}

fn service_name(text: &str) -> Result<ServiceName, String> {
    ServiceName::parse(text).map_err(|fault| fault.to_string())
}

fn group_name(text: &str) -> Result<GroupName, String> {
    GroupName::parse(text).map_err(|fault| fault.to_string())
}

fn sink_name(text: &str) -> Result<SinkName, String> {
    SinkName::parse(text).map_err(|fault| fault.to_string())
}

fn incident_id(text: &str) -> Result<IncidentId, String> {
    IncidentId::parse(text).ok_or_else(|| "incident ids look like H-7F3K".into())
}

fn length(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.parse().map_err(|_| "a length of time looks like 90s, 2h or 1h 30m".to_owned())?;
    match Duration::try_from(parsed) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err("it has to be longer than nothing".into()),
    }
}

/// Like [`length`], and days and weeks of 24 hours: "30d", "2w".
fn days(text: &str) -> Result<Duration, String> {
    let whole = |unit: char, hours: u64| {
        let number: u64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        (1..=36_500).contains(&number).then(|| Duration::from_secs(number * hours * 3600))
    };
    match whole('d', 24).or_else(|| whole('w', 7 * 24)) {
        Some(length) => Ok(length),
        None => length(text).map_err(|_| "a time to look back looks like 30d, 12h or 90m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn days_are_read_too() {
        assert_eq!(days("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(days("2w"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(days("12h"), Ok(Duration::from_secs(43_200)));
        for bad in ["", "d", "0d", "-1d", "soon"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        assert_eq!(length("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(length("1h 30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "2", "0s", "-1h", "soon"] {
            assert!(length(bad).is_err(), "{bad}");
        }
    }
}
