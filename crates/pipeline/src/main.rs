//! The `pipeline` program: three verbs over the library. Data goes to stdout, events and errors to stderr.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use horus_heartbeat::fault::FaultPlan;
use jiff::Timestamp;
use pipeline::journal::{ItemSummary, Journal, JournalError};
use pipeline::render::Templates;
use pipeline::secrets::SecretPatterns;
use pipeline::service::{self, CheckedFault, Options, ServiceError};
use pipeline::slot::SlotLength;
use pipeline::stop_at::StopAt;
use pipeline::topic::{self, DEFAULT_TOPICS, DEFAULT_TOPICS_NAME, Entry};
use pipeline::web::{ITEMS_LIMIT, SNAPSHOT_SCHEMA, Snapshot};
use pipeline::work::{Pipeline, Settings, Turn, TurnError, chain_of};

/// The thing asked for failed.
const FAILED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 64;
/// A bug in this program.
const BUG: u8 = 70;
/// Bad configuration.
const CONFIG: u8 = 78;

/// A content pipeline that publishes exactly once per slot.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Publish slot after slot until SIGTERM.
    Run(RunArguments),
    /// Serve the current slot, print the file and leave.
    Once(Place),
    /// Print the newest items and missed slots.
    Items(ItemsArguments),
}

#[derive(Debug, Args)]
struct Place {
    /// Topics file; without it the built-in topics are used.
    #[arg(long, value_name = "FILE")]
    topics: Option<PathBuf>,
    /// Output folder.
    #[arg(long, value_name = "DIR", default_value = "pipeline-out")]
    out: PathBuf,
    /// State directory with the journal.
    #[arg(long, value_name = "DIR", default_value = "pipeline-state")]
    state: PathBuf,
    /// Length of a slot.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    every: SlotLength,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    place: Place,
    /// Address of /heartbeat, /healthz and /v1/items.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7802")]
    listen: SocketAddr,
    /// Go wrong on purpose: hang, stall-stage=NAME, lie, crash, slow-start=TIME, deaf or stop-beat, then @AFTER and ,once.
    #[arg(long, value_name = "KIND[@AFTER][,once]")]
    fault: Option<FaultPlan>,
    /// Publish to a remote. Does not exist yet: refused.
    #[arg(long)]
    live: bool,
}

#[derive(Debug, Args)]
struct ItemsArguments {
    /// State directory with the journal.
    #[arg(long, value_name = "DIR", default_value = "pipeline-state")]
    state: PathBuf,
    /// Print JSON, as /v1/items gives it.
    #[arg(long)]
    json: bool,
}

/// An end that is not a success: what to say and how to leave.
struct Ended {
    code: u8,
    message: String,
    hint: Option<&'static str>,
}

impl Ended {
    fn new(code: u8, error: &dyn std::error::Error) -> Self {
        Self { code, message: chain_of(error), hint: None }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. A closed pipe changes nothing about either.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_env_filter(filter).init();
    let ended = match cli.verb {
        Verb::Run(arguments) => run(arguments),
        Verb::Once(place) => once(&place),
        Verb::Items(arguments) => items(&arguments),
    };
    ended.unwrap_or_else(|ended| {
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "error: {}", ended.message);
        if let Some(hint) = ended.hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
        ExitCode::from(ended.code)
    })
}

fn run(arguments: RunArguments) -> Result<ExitCode, Ended> {
    refuse_live(&arguments)?;
    let fault =
        arguments.fault.map(CheckedFault::new).transpose().map_err(|error| Ended::new(USAGE, &error))?;
    let options = Options {
        listen: arguments.listen,
        every: arguments.place.every,
        state: arguments.place.state.clone(),
        fault,
    };
    let pipeline = prepare(&arguments.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Ended::new(FAILED, &error))?;
    runtime.block_on(service::run(pipeline, options)).map_err(|error| {
        let hint = match &error {
            ServiceError::Listen { .. } => "is another pipeline running? choose another --listen",
            ServiceError::Fatal(_) => "one pipeline per --state and --out",
            ServiceError::Signals(_) | ServiceError::Beat(_) => "see the events above",
        };
        Ended::new(code_of(&error), &error).hint(hint)
    })
}

fn refuse_live(arguments: &RunArguments) -> Result<(), Ended> {
    let message = match (arguments.live, &arguments.fault) {
        (false, _) => return Ok(()),
        (true, None) => "--live does not exist: this pipeline publishes into a local folder only".to_owned(),
        (true, Some(fault)) => {
            format!("--live and --fault {fault} together are refused: a fault on purpose never goes live")
        }
    };
    Err(Ended { code: CONFIG, message, hint: Some("leave --live out; the publications are in --out") })
}

fn code_of(error: &ServiceError) -> u8 {
    match error {
        ServiceError::Fatal(TurnError::Journal(JournalError::Newer { .. })) => CONFIG,
        _ => FAILED,
    }
}

/// Reads everything that can be wrong before anything is touched.
fn prepare(place: &Place) -> Result<Pipeline, Ended> {
    let bug = |error: &dyn std::error::Error| Ended::new(BUG, error);
    let stop_at = StopAt::from_environment().map_err(|error| Ended::new(CONFIG, &error))?;
    let secrets = SecretPatterns::compile().map_err(|error| bug(&error))?;
    let templates = Templates::compile().map_err(|error| bug(&error))?;
    let topics = match &place.topics {
        Some(path) => topic::read_file(path, &secrets),
        None => topic::parse(DEFAULT_TOPICS_NAME, DEFAULT_TOPICS, &secrets),
    }
    .map_err(|error| Ended::new(CONFIG, &error).hint("docs/guides/pipeline.md shows a topics file"))?;
    for entry in &topics {
        if let Entry::Invalid(topic) = entry {
            for fault in &topic.faults {
                tracing::warn!(topic = %topic.label, "{fault}");
            }
        }
    }
    let settings =
        Settings { out: place.out.clone(), state: place.state.clone(), every: place.every, stop_at };
    Ok(Pipeline::new(settings, topics, templates, secrets))
}

fn once(place: &Place) -> Result<ExitCode, Ended> {
    let mut pipeline = prepare(place)?;
    let now = Timestamp::now();
    loop {
        match pipeline.turn(now, None) {
            Ok(Turn::Nothing) => break,
            Ok(_) => (),
            Err(error) => {
                return Err(Ended::new(FAILED, &error).hint("nothing is lost: the same command continues"));
            }
        }
    }
    let slot = place.every.slot_at(now);
    let items = pipeline.open_journal().map_or_else(|| Ok(Vec::new()), |journal| journal.newest(ITEMS_LIMIT));
    let items = items.map_err(|error| Ended::new(FAILED, &error))?;
    let published = items
        .iter()
        .find(|item| item.slot == slot.to_string() && item.state == pipeline::item::State::Published);
    match published.and_then(|item| item.slug.as_ref()) {
        Some(slug) => {
            print(&format!("{}\n", place.out.join("content").join(format!("{slug}.md")).display()));
            Ok(ExitCode::SUCCESS)
        }
        None if pipeline.holds(slot) => {
            let _ = writeln!(io::stderr().lock(), "the slot {slot} was published before");
            Ok(ExitCode::SUCCESS)
        }
        None => Err(Ended {
            code: FAILED,
            message: format!("the slot {slot} has no publication"),
            hint: Some("pipeline items shows why"),
        }),
    }
}

fn items(arguments: &ItemsArguments) -> Result<ExitCode, Ended> {
    let failed = |error: JournalError| Ended::new(FAILED, &error);
    let journal = Journal::open_to_read(&arguments.state).map_err(failed)?.ok_or_else(|| Ended {
        code: FAILED,
        message: format!("there is no journal in {}", arguments.state.display()),
        hint: Some("pipeline items --state DIR, with the directory that `pipeline run` uses"),
    })?;
    let snapshot = Snapshot {
        schema: SNAPSHOT_SCHEMA,
        problem: None,
        items: journal.newest(ITEMS_LIMIT).map_err(failed)?,
        missed: journal.missed(ITEMS_LIMIT).map_err(failed)?,
    };
    if arguments.json {
        let json = serde_json::to_string_pretty(&snapshot).map_err(|error| Ended::new(BUG, &error))?;
        print(&format!("{json}\n"));
    } else {
        print(&table_of(&snapshot));
    }
    Ok(ExitCode::SUCCESS)
}

fn table_of(snapshot: &Snapshot) -> String {
    let mut lines = String::new();
    for ItemSummary { slot, state, title, reason, .. } in &snapshot.items {
        lines.push_str(&format!("{slot}  {:<11}  {title}\n", state.word()));
        if let Some(reason) = reason {
            lines.push_str(&format!("{:20}  because      {reason}\n", ""));
        }
    }
    for gap in &snapshot.missed {
        let slots = if gap.slots == 1 { "slot" } else { "slots" };
        lines.push_str(&format!(
            "{}  missed       {} {slots} up to {}: {}\n",
            gap.first, gap.slots, gap.last, gap.reason
        ));
    }
    if lines.is_empty() {
        lines.push_str("no items yet\n");
    }
    lines
}

/// A reader that went away is no failure of ours.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
