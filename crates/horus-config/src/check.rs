//! From `Raw` to [`Plan`]: references, limits, arithmetic. Every fault is collected; nothing stops at the first.
//!
//! ```text
//!  RawFile --+-- daemon      where things live
//!            +-- launch      command, environment, user, limits      \
//!            +-- tree        limits of all that comes from it         |
//!            +-- policy      deadline, stop, restart, kills           } one service each, over [defaults]
//!            +-- beats       where signs of life come from            |
//!            +-- calendar    jobs, maintenance                        |
//!            +-- work        progress                                 |
//!            +-- products    values, funnels, inventories            /
//!            +-- graph       what services say about each other
//!            +-- timing      arithmetic on what came out: "would this kill a healthy program?"
//!            +-- loops       "would it go round in circles?"
//!            +-- switches    "do these two contradict each other?"
//!            +-- watch       monitors and sinks
//!            +-- units       monitors that are units of a service manager: services that others start
//! ```

mod agent;
mod beats;
mod calendar;
mod counters;
mod daemon;
mod exclusive;
mod graph;
mod launch;
mod loops;
mod policy;
mod products;
mod switches;
mod timing;
mod tree;
mod units;
mod watch;
mod work;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use horus_core::foreign::Owner;
use horus_core::ids::{NAME_LENGTH_MAX, NameError, ServiceName, SinkName};
use horus_core::plan::{Plan, ServicePlan};

use crate::at::{At, Span};
use crate::environment::Environment;
use crate::fault::{Code, Findings};
use crate::raw::{DurationText, PathText, RawDefaults, RawFile, RawService, Text};
use crate::read::KeyPath;
use crate::timing::{Origin, TimingRow};
use crate::words::parse_duration;
use counters::Named;

/// The one version of the format that there is.
const VERSION: u32 = 1;

/// A value with its history.
#[derive(Clone, Debug)]
struct Sourced<T> {
    value: T,
    origin: Origin,
    /// Where it stands, if it stands anywhere.
    span: Option<Span>,
}

impl<T> Sourced<T> {
    fn built_in(value: T) -> Self {
        Self { value, origin: Origin::BuiltIn, span: None }
    }

    fn derived(value: T, how: impl Into<String>) -> Self {
        Self { value, origin: Origin::Derived(how.into()), span: None }
    }
}

/// Which of two tables a value stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Own,
    Defaults,
}

/// What came out of a check that found no fault.
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) timing: Vec<TimingRow>,
    /// Where each sink's secret is named.
    pub(crate) secret_places: BTreeMap<SinkName, Span>,
    /// Where the secret of the dead-man ping is named.
    pub(crate) ping_place: Span,
    pub(crate) timing_places: BTreeMap<ServiceName, TimingPlaces>,
}

/// Where two numbers of a service stand, or its name where one stands nowhere: for lints that need a record.
#[derive(Clone, Debug)]
pub(crate) struct TimingPlaces {
    pub(crate) startup: Span,
    pub(crate) deadline: Span,
}

/// Judges `raw`. The plan is only to be used if the findings hold no fault.
pub(crate) fn check(
    raw: &RawFile,
    cut: &[KeyPath],
    file: &Path,
    environment: &dyn Environment,
    findings: &mut Findings,
) -> Outcome {
    let absolute = environment.current_directory().join(file);
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
    let short_name =
        file.file_name().map_or_else(|| file.display().to_string(), |n| n.to_string_lossy().into_owned());
    let mut check = Check {
        cut,
        folder,
        short_name,
        environment,
        findings,
        timing: Vec::new(),
        timing_places: BTreeMap::new(),
    };
    check.version(raw);
    let daemon = check.daemon(raw);
    let no_defaults = RawDefaults::default();
    let defaults = raw.defaults.as_ref().unwrap_or(&no_defaults);
    check.defaults(defaults);
    let mut services = BTreeMap::new();
    for (name, service) in &raw.service {
        if let Some((name, plan)) = check.service(name, &service.value, defaults, &daemon) {
            services.insert(name, plan);
        }
    }
    check.graph(raw);
    check.units(raw, &daemon, &mut services);
    let monitors = check.monitors(&raw.monitor);
    let (sinks, secret_places) = check.sinks(&raw.sink);
    let maintenance = check.maintenance(raw);
    let plan = Plan { daemon, services, monitors, sinks, maintenance };
    check.whole(raw);
    let ping = raw.daemon.as_ref().and_then(|daemon| daemon.ping.as_ref());
    let ping_place = ping.map_or(0..0, |at| at.span.clone());
    Outcome { plan, timing: check.timing, secret_places, ping_place, timing_places: check.timing_places }
}

/// The work on one file.
struct Check<'a> {
    /// Entries that the first stage could not read.
    cut: &'a [KeyPath],
    /// Where relative paths start.
    folder: PathBuf,
    /// The file's name for origins.
    short_name: String,
    environment: &'a dyn Environment,
    findings: &'a mut Findings,
    timing: Vec<TimingRow>,
    timing_places: BTreeMap<ServiceName, TimingPlaces>,
}

/// A service while it is judged.
struct Subject<'a> {
    name: ServiceName,
    /// `service`, or `monitor` for a foreign unit.
    table: &'static str,
    /// Where the name stands.
    span: Span,
    raw: &'a RawService,
    defaults: &'a RawDefaults,
}

impl Check<'_> {
    fn version(&mut self, raw: &RawFile) {
        match &raw.version {
            Some(version) if version.value == VERSION => {}
            Some(version) => {
                self.findings
                    .report(
                        Code::Version,
                        &version.span,
                        format!("this Horus reads version {VERSION} of the format"),
                    )
                    .label(format!("this is version {}", version.value))
                    .help("use the Horus that the file was written for, or the file of this one");
            }
            None if self.was_cut(&["version"]) => {}
            None => {
                self.findings
                    .report(Code::Version, &(0..0), "the file does not say which version of the format it is")
                    .label("missing here")
                    .help("write `version = 1` as the first line");
            }
        }
    }

    /// One service, in the order in which a person reads it.
    fn service(
        &mut self,
        name: &At<String>,
        raw: &RawService,
        defaults: &RawDefaults,
        daemon: &horus_core::plan::DaemonPlan,
    ) -> Option<(ServiceName, ServicePlan)> {
        let parsed = ServiceName::parse(&name.value);
        let name_value = self.name("service", name, parsed)?;
        let subject = Subject { name: name_value, table: "service", span: name.span.clone(), raw, defaults };
        let launch = self.launch(&subject);
        let tree = self.tree_limits(&subject, daemon);
        let faults_before = self.findings.faults();
        let policy = self.policy(&subject, daemon);
        let beats = self.beats(&subject, &policy.deadline);
        let job = self.schedule(&subject);
        let job = job.as_ref();
        // Arithmetic on a value that was replaced because it could not be read would only confuse.
        if self.findings.faults() == faults_before && !self.was_cut(&["defaults"]) {
            self.judge_timing(&subject, &policy, &beats);
            self.judge_switches(&subject, &policy, &beats, job, daemon);
        }
        self.tabulate(&subject.name, &policy, &beats, job);
        let ready = self.ready(&subject, &beats);
        let values = self.values(&subject, &beats, job);
        let funnels = self.funnels(&subject, &beats);
        let progress = self.progress(&subject, &beats, job, &values);
        let expects = self.expects(&subject, &beats, job);
        let named = Named { values: &values, funnels: &funnels, progress: &progress };
        let counters = self.counters(&subject, &named);
        let steps = self.steps(&subject, &beats, ready, job);
        let after = self.after(raw);
        let groups = self.groups(raw);
        let place = |span: &Option<Span>| span.clone().unwrap_or_else(|| subject.span.clone());
        let places =
            TimingPlaces { startup: place(&policy.startup.span), deadline: place(&policy.deadline.span) };
        self.timing_places.insert(subject.name.clone(), places);
        let plan = ServicePlan {
            owner: Owner::Keeper,
            launch,
            tree,
            after,
            groups,
            ready,
            beats: beats.into_iter().map(|beat| beat.plan).collect(),
            deadline: policy.deadline.value,
            startup: policy.startup.value,
            stop: policy.stop_plan(),
            restart: policy.restart_plan(),
            kills: policy.kill_plan(),
            observe: policy.observe,
            autostart: policy.autostart,
            sampler: policy.sampler,
            values,
            funnels,
            progress,
            expects,
            counters,
            steps,
            schedule: job.map(|job| job.plan.clone()),
        };
        Some((subject.name, plan))
    }

    fn whole(&mut self, raw: &RawFile) {
        let nothing = raw.service.is_empty() && raw.monitor.is_empty();
        if nothing && !self.was_cut(&["service"]) && !self.was_cut(&["monitor"]) {
            self.findings
                .report(Code::NothingToDo, &(0..0), "there is neither a service nor a monitor")
                .help("`horus init` writes a file with an example");
        }
        if !raw.sink.is_empty() || nothing || self.was_cut(&["sink"]) {
            return;
        }
        if let Some(monitor) = raw.monitor.keys().next() {
            self.findings
                .report(
                    Code::Unheard,
                    &monitor.span,
                    format!(
                        "`{}` is only watched, and there is no sink: nobody would be told",
                        monitor.value
                    ),
                )
                .label("an alert is all that comes of a monitor")
                .help("[sink.ops]\ndiscord = { url_env = \"HORUS_DISCORD_URL\" }");
        } else {
            self.findings
                .report(
                    Code::NoSink,
                    &(0..0),
                    "there is no sink: alerts are only printed and kept in the journal",
                )
                .help("[sink.ops]\ndiscord = { url_env = \"HORUS_DISCORD_URL\" }");
        }
    }

    // What the parts share.

    /// Was this entry, something in it, or a table around it cut out by the first stage (and told)?
    fn was_cut(&self, path: &[&str]) -> bool {
        self.cut.iter().any(|cut| cut.iter().zip(path).all(|(a, b)| a == b))
    }

    /// A key that has to be there is not.
    fn missing(&mut self, path: &[&str], span: &Span, help: &str) {
        if !self.was_cut(path) {
            let key = path.last().copied().unwrap_or_default();
            let owner = path.split_last().map_or_else(String::new, |(_, owner)| owner.join("."));
            self.findings
                .report(Code::MissingKey, span, format!("`{owner}` has no `{key}`"))
                .label(format!("`{key}` is missing"))
                .help(help);
        }
    }

    fn name<N>(&mut self, table: &str, name: &At<String>, parsed: Result<N, NameError>) -> Option<N> {
        parsed
            .inspect_err(|error| {
                self.findings
                    .report(Code::BadName, &name.span, format!("this is no name of a {table}: {error}"))
                    .label(if *error == NameError::TooLong {
                        format!("longer than {NAME_LENGTH_MAX} characters")
                    } else {
                        "not a name".to_owned()
                    })
                    .help("it also names files and stands in alerts, so it is kept plain: `trading-bot_2`");
            })
            .ok()
    }

    fn origin(&self, table: Table, span: &Span) -> Origin {
        let (file, line) = (self.short_name.clone(), self.findings.line(span.start));
        match table {
            Table::Own => Origin::Service { file, line },
            Table::Defaults => Origin::Defaults { file, line },
        }
    }

    /// The service's own value, else that of `[defaults]`, else `fallback`.
    fn pick<T, V>(
        &mut self,
        own: Option<&At<T>>,
        shared: Option<&At<T>>,
        fallback: Sourced<V>,
        read: impl Fn(&mut Self, &At<T>) -> Option<V>,
    ) -> Sourced<V> {
        let (table, at) = match (own, shared) {
            (Some(at), _) => (Table::Own, at),
            // What is wrong with a default was told once, where `[defaults]` was judged.
            (None, Some(at)) => (Table::Defaults, at),
            (None, None) => return fallback,
        };
        match read(self, at) {
            Some(value) => {
                Sourced { value, origin: self.origin(table, &at.span), span: Some(at.span.clone()) }
            }
            None => fallback,
        }
    }

    /// A duration above zero.
    fn time(&mut self, at: &At<DurationText>, key: &str) -> Option<Duration> {
        let duration = self.time_or_zero(at, key)?;
        if duration.is_zero() {
            self.bad_duration(&at.span, format!("`{key}` may not be zero"), "zero");
            return None;
        }
        Some(duration)
    }

    fn time_or_zero(&mut self, at: &At<DurationText>, key: &str) -> Option<Duration> {
        parse_duration(&at.value.0)
            .inspect_err(|why| {
                self.bad_duration(&at.span, format!("`{key}` {why}"), "not a duration to work with")
            })
            .ok()
    }

    fn bad_duration(&mut self, span: &Span, message: String, label: &str) {
        // The same default is read for every service.
        if !self.findings.has(Code::BadDuration, span) {
            self.findings
                .report(Code::BadDuration, span, message)
                .label(label)
                .help("durations are written \"250ms\", \"90s\", \"1m 30s\", \"6h\" or \"30d\"");
        }
    }

    /// An absolute path; a relative one starts at the folder of the file.
    fn path(&mut self, at: &At<PathText>, key: &str) -> Option<PathBuf> {
        let text = &at.value.0;
        if text.is_empty() || text.contains('\0') {
            if !self.findings.has(Code::BadPath, &at.span) {
                self.findings
                    .report(Code::BadPath, &at.span, format!("`{key}` is no path"))
                    .label(if text.is_empty() { "empty" } else { "holds a NUL byte" });
            }
            return None;
        }
        Some(tidy(&self.folder.join(text)))
    }

    fn text(&mut self, at: &At<Text>, key: &str) -> Option<String> {
        let text = at.value.0.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            self.findings
                .report(Code::MissingKey, &at.span, format!("`{key}` is empty or holds control characters"))
                .label("nothing to work with");
            return None;
        }
        Some(text.to_owned())
    }
}

/// The same path without `.` and empty parts. `..` is kept: it may lead through a link.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}
