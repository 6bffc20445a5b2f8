//! What is wrong with a property list for launchd, said on any system.
//!
//! launchd ignores a key that it does not know and answers most other faults with "Bootstrap failed: 5: Input/output
//! error". So each key of launchd.plist(5) stands in a table with its type, and what a Horus needs stands below it.

use std::fmt;

use plist::{Dictionary, Value};

/// In whose domain the list is to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/Library/LaunchDaemons`
    Daemon,
    /// `~/Library/LaunchAgents`
    Agent,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: a key, `Key.Part` or `Key[1]`.
    pub place: String,
    /// What, in words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.what)
    }
}

/// What a value may be.
enum Shape {
    Boolean,
    Integer,
    Text,
    /// Text, absolute: neither `~` nor `$NAME` are expanded.
    Place,
    Texts,
    /// Any dictionary.
    Anything,
    /// A dictionary of texts.
    Variables,
    /// A dictionary with these keys and no others.
    Parts(&'static [(&'static str, Shape)]),
    /// One of several.
    Either(&'static [Shape]),
    /// An array of dictionaries with these keys.
    Many(&'static [(&'static str, Shape)]),
}

use Shape::{Anything, Boolean, Either, Integer, Many, Parts, Place, Text, Texts, Variables};

const LIMITS: Shape = Parts(&[
    ("Core", Integer),
    ("CPU", Integer),
    ("Data", Integer),
    ("FileSize", Integer),
    ("MemoryLock", Integer),
    ("NumberOfFiles", Integer),
    ("NumberOfProcesses", Integer),
    ("ResidentSetSize", Integer),
    ("Stack", Integer),
]);

const CALENDAR: &[(&str, Shape)] =
    &[("Minute", Integer), ("Hour", Integer), ("Day", Integer), ("Weekday", Integer), ("Month", Integer)];

const KEEP_ALIVE: &[(&str, Shape)] = &[
    ("SuccessfulExit", Boolean),
    ("NetworkState", Boolean),
    ("PathState", Anything),
    ("OtherJobEnabled", Anything),
    ("Crashed", Boolean),
    ("AfterInitialDemand", Boolean),
];

/// launchd.plist(5).
const KEYS: &[(&str, Shape)] = &[
    ("AbandonProcessGroup", Boolean),
    ("AssociatedBundleIdentifiers", Either(&[Text, Texts])),
    ("BundleProgram", Text),
    ("Debug", Boolean),
    ("Disabled", Boolean),
    ("EnableGlobbing", Boolean),
    ("EnablePressuredExit", Boolean),
    ("EnableTransactions", Boolean),
    ("EnvironmentVariables", Variables),
    ("ExitTimeOut", Integer),
    ("GroupName", Text),
    ("HardResourceLimits", LIMITS),
    ("HopefullyExitsFirst", Boolean),
    ("HopefullyExitsLast", Boolean),
    ("InitGroups", Boolean),
    ("KeepAlive", Either(&[Boolean, Parts(KEEP_ALIVE)])),
    ("Label", Text),
    ("LaunchEvents", Anything),
    ("LaunchOnlyOnce", Boolean),
    ("LegacyTimers", Boolean),
    ("LimitLoadFromHardware", Anything),
    ("LimitLoadFromHosts", Texts),
    ("LimitLoadToHardware", Anything),
    ("LimitLoadToHosts", Texts),
    ("LimitLoadToSessionType", Either(&[Text, Texts])),
    ("LowPriorityBackgroundIO", Boolean),
    ("LowPriorityIO", Boolean),
    ("MachServices", Anything),
    ("MaterializeDatalessFiles", Boolean),
    ("Nice", Integer),
    ("OnDemand", Boolean),
    ("ProcessType", Text),
    ("Program", Place),
    ("ProgramArguments", Texts),
    ("QueueDirectories", Texts),
    ("RootDirectory", Place),
    ("RunAtLoad", Boolean),
    ("ServiceDescription", Text),
    ("ServiceIPC", Boolean),
    ("SessionCreate", Boolean),
    ("Sockets", Anything),
    ("SoftResourceLimits", LIMITS),
    ("StandardErrorPath", Place),
    ("StandardInPath", Place),
    ("StandardOutPath", Place),
    ("StartCalendarInterval", Either(&[Parts(CALENDAR), Many(CALENDAR)])),
    ("StartInterval", Integer),
    ("StartOnMount", Boolean),
    ("ThrottleInterval", Integer),
    ("TimeOut", Integer),
    ("Umask", Either(&[Integer, Text])),
    ("UserName", Text),
    ("WaitForDebugger", Boolean),
    ("WatchPaths", Texts),
    ("WorkingDirectory", Place),
    ("inetdCompatibility", Parts(&[("Wait", Boolean)])),
];

/// Keys that do nothing any more, or not what their name says.
const OUTLIVED: &[(&str, &str)] = &[
    ("OnDemand", "outlived: KeepAlive says it"),
    ("ServiceIPC", "outlived: ignored"),
    ("Debug", "outlived: ignored"),
    ("HopefullyExitsFirst", "outlived: ignored"),
    ("HopefullyExitsLast", "outlived: ignored"),
    ("TimeOut", "no time to stop: ExitTimeOut is that"),
];

/// Below this launchd takes ten seconds anyway.
const THROTTLE_MIN_SECONDS: i64 = 10;
/// Shorter than launchd's own default there is hardly time to end anything in order.
const EXIT_MIN_SECONDS: i64 = 20;

/// Everything that is wrong with the list, `file_name` among it. Empty: launchd takes it, and Horus survives in it.
pub fn lint_plist(list: &Value, file_name: &str, kind: Kind) -> Vec<Finding> {
    let mut lint = Lint { findings: Vec::new() };
    match list.as_dictionary() {
        Some(job) => lint.job(job, file_name, kind),
        None => lint.say("the list", "has to be a dictionary"),
    }
    lint.findings
}

struct Lint {
    findings: Vec<Finding>,
}

impl Lint {
    fn say(&mut self, place: &str, what: impl Into<String>) {
        self.findings.push(Finding { place: place.to_owned(), what: what.into() });
    }

    fn job(&mut self, job: &Dictionary, file_name: &str, kind: Kind) {
        for (key, value) in job {
            match KEYS.iter().find(|(name, _)| name == key) {
                Some((_, shape)) => self.fits(value, shape, key),
                None => self.say(key, "launchd knows no such key and ignores it"),
            }
            if let Some((_, what)) = OUTLIVED.iter().find(|(name, _)| name == key) {
                self.say(key, *what);
            }
        }
        self.identity(job, file_name);
        self.place_of(job, kind);
        self.what_horus_needs(job);
    }

    fn fits(&mut self, value: &Value, shape: &Shape, place: &str) {
        match shape {
            Boolean if value.as_boolean().is_none() => self.say(place, "has to be true or false"),
            Integer if value.as_signed_integer().is_none() => self.say(place, "has to be an integer"),
            Text if value.as_string().is_none() => self.say(place, "has to be a string"),
            Place => match value.as_string() {
                None => self.say(place, "has to be a string"),
                Some(path) if !path.starts_with('/') => {
                    self.say(place, "has to be absolute: neither ~ nor $NAME are expanded");
                }
                Some(_) => {}
            },
            Texts => match value.as_array() {
                None => self.say(place, "has to be an array"),
                Some(values) => {
                    for (number, value) in values.iter().enumerate() {
                        self.fits(value, &Text, &format!("{place}[{number}]"));
                    }
                }
            },
            Anything if value.as_dictionary().is_none() => self.say(place, "has to be a dictionary"),
            Variables => self.variables(value, place),
            Parts(parts) => self.parts(value, parts, place),
            Either(shapes) => self.either(value, shapes, place),
            Many(parts) => match value.as_array() {
                None => self.say(place, "has to be an array"),
                Some(values) => {
                    for (number, value) in values.iter().enumerate() {
                        self.parts(value, parts, &format!("{place}[{number}]"));
                    }
                }
            },
            Boolean | Integer | Text | Anything => {}
        }
    }

    fn variables(&mut self, value: &Value, place: &str) {
        let Some(variables) = value.as_dictionary() else { return self.say(place, "has to be a dictionary") };
        for (name, value) in variables {
            let place = format!("{place}.{name}");
            match value.as_string() {
                None => self.say(&place, "has to be a string"),
                Some(text) if text.contains('$') || text.split(':').any(|part| part.starts_with('~')) => {
                    self.say(&place, "launchd expands neither ~ nor $NAME");
                }
                Some(_) => {}
            }
        }
    }

    fn parts(&mut self, value: &Value, parts: &[(&str, Shape)], place: &str) {
        let Some(there) = value.as_dictionary() else { return self.say(place, "has to be a dictionary") };
        for (key, value) in there {
            let place = format!("{place}.{key}");
            match parts.iter().find(|(name, _)| name == key) {
                Some((_, shape)) => self.fits(value, shape, &place),
                None => self.say(&place, "launchd knows no such key and ignores it"),
            }
        }
    }

    /// The findings of the shape that comes closest.
    fn either(&mut self, value: &Value, shapes: &[Shape], place: &str) {
        let tries = shapes.iter().map(|shape| {
            let mut lint = Self { findings: Vec::new() };
            lint.fits(value, shape, place);
            lint.findings
        });
        let of_this_type = |findings: &Vec<Finding>| findings.iter().any(|finding| finding.place == place);
        let best = tries.min_by_key(|findings| (of_this_type(findings), findings.len()));
        self.findings.extend(best.unwrap_or_default());
    }

    fn identity(&mut self, job: &Dictionary, file_name: &str) {
        match job.get("Label").and_then(Value::as_string) {
            None | Some("") => self.say("Label", "has to be there: launchd knows the job by it"),
            Some(label) if file_name != format!("{label}.plist") => {
                self.say("Label", format!("the file has to be called {label}.plist, not {file_name}"));
            }
            Some(_) => {}
        }
        let first = job.get("ProgramArguments").and_then(Value::as_array).and_then(|words| words.first());
        let program = job.get("Program").or(first).and_then(Value::as_string);
        match program {
            None => self.say("ProgramArguments", "has to be there: what is to be run?"),
            Some(program) if !program.starts_with('/') => {
                self.say("ProgramArguments", "the program has to be absolute: launchd has a PATH of its own");
            }
            Some(_) => {}
        }
    }

    fn place_of(&mut self, job: &Dictionary, kind: Kind) {
        if kind == Kind::Agent {
            for key in ["UserName", "GroupName", "InitGroups"] {
                if job.contains_key(key) {
                    self.say(key, "is for daemons: an agent runs as its user");
                }
            }
        } else if job.contains_key("LimitLoadToSessionType") {
            self.say("LimitLoadToSessionType", "is for agents: a daemon has no session");
        }
        let integer = |key: &str| job.get(key).and_then(Value::as_signed_integer);
        if integer("ThrottleInterval").is_some_and(|seconds| seconds < THROTTLE_MIN_SECONDS) {
            self.say("ThrottleInterval", "launchd takes 10 seconds for less");
        }
        if let Some(word) = job.get("ProcessType").and_then(Value::as_string)
            && !["Background", "Standard", "Adaptive", "Interactive"].contains(&word)
        {
            self.say("ProcessType", "has to be Background, Standard, Adaptive or Interactive");
        }
    }

    /// A list that launchd takes and in which Horus would lose its programs, or itself.
    fn what_horus_needs(&mut self, job: &Dictionary) {
        let is = |key: &str| job.get(key).and_then(Value::as_boolean) == Some(true);
        for (key, why) in [
            ("KeepAlive", "has to be true: Horus comes back whenever it ends"),
            ("RunAtLoad", "has to be true: Horus runs as soon as it is loaded"),
            ("AbandonProcessGroup", "has to be true: launchd would kill the programs when Horus ends"),
        ] {
            if !is(key) {
                self.say(key, why);
            }
        }
        if job.get("ProcessType").and_then(Value::as_string) != Some("Interactive") {
            self.say("ProcessType", "has to be Interactive: all else throttles the programs too");
        }
        match job.get("ExitTimeOut").and_then(Value::as_signed_integer) {
            Some(0) => self.say("ExitTimeOut", "0 waits for ever"),
            Some(seconds) if seconds < EXIT_MIN_SECONDS => {
                self.say("ExitTimeOut", "is too short to end the programs in order");
            }
            Some(_) => {}
            None => self
                .say("ExitTimeOut", "has to be there: 20 seconds is too short to end the programs in order"),
        }
        for key in ["EnableTransactions", "EnablePressuredExit"] {
            if is(key) {
                self.say(key, "lets launchd kill Horus without asking it to end");
            }
        }
        let files = |key: &str| {
            let limits = job.get(key).and_then(Value::as_dictionary);
            limits.is_some_and(|limits| limits.contains_key("NumberOfFiles"))
        };
        for key in ["SoftResourceLimits", "HardResourceLimits"].into_iter().filter(|key| files(key)) {
            self.say(key, "NumberOfFiles of a daemon changes the limit of the whole machine");
        }
        for key in ["StandardOutPath", "StandardErrorPath"] {
            if !job.contains_key(key) {
                self.say(key, "has to be there: nobody would read what Horus says");
            }
        }
        let variables = job.get("EnvironmentVariables").and_then(Value::as_dictionary);
        if !variables.is_some_and(|variables| variables.contains_key("PATH")) {
            self.say("EnvironmentVariables", "has to hold PATH: that of launchd is short");
        }
    }
}
