//! Where signs of life come from.

use std::time::Duration;

use horus_core::activity;
use horus_core::plan::{BeatPlan, ExecBeat, FileBeat, FileTick, HttpBeat, LogBeat, Ready, TcpBeat};
use regex::RegexBuilder;
use url::Url;

use super::{Check, Sourced, Subject};
use crate::at::{At, Span};
use crate::defaults as built_in;
use crate::fault::Code;
use crate::raw::{
    DurationText, RawExecBeat, RawFileBeat, RawHttpBeat, RawLogBeat, RawProgress, RawTcpBeat, Text,
};
use crate::words::{check_address, check_pointer, duration_text};

/// Memory that one compiled pattern may take; a pattern is run on every line.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A beat of a service, with what its arithmetic needs.
pub(super) struct Beat {
    pub(super) plan: BeatPlan,
    /// Where its table stands.
    pub(super) span: Span,
    /// `None`: it is pushed.
    pub(super) polling: Option<Polling>,
}

/// How a beat is polled.
pub(super) struct Polling {
    pub(super) every: Sourced<Duration>,
    /// `None`: looking takes no time worth speaking of.
    pub(super) timeout: Option<Sourced<Duration>>,
}

impl Check<'_> {
    pub(super) fn beats(&mut self, subject: &Subject<'_>, deadline: &Sourced<Duration>) -> Vec<Beat> {
        let mut beats = Vec::new();
        let Some(raw) = &subject.raw.heartbeat else {
            match Self::beat_of_agent(subject) {
                Some(beat) => beats.push(beat),
                None => self.no_beats(subject),
            }
            return beats;
        };
        beats.extend(raw.http.as_ref().and_then(|at| self.http_beat(subject, at, deadline)));
        if let Some(at) = raw.notify.as_ref().filter(|at| at.value) {
            beats.push(Beat { plan: BeatPlan::Notify, span: at.span.clone(), polling: None });
        }
        beats.extend(raw.file.as_ref().and_then(|at| self.file_beat(subject, at, deadline)));
        beats.extend(raw.log.as_ref().and_then(|at| self.log_beat(subject, at)));
        beats.extend(raw.tcp.as_ref().and_then(|at| self.tcp_beat(subject, at, deadline)));
        beats.extend(raw.exec.as_ref().and_then(|at| self.exec_beat(subject, at, deadline)));
        let tried = [
            raw.http.is_some(),
            raw.file.is_some(),
            raw.log.is_some(),
            raw.tcp.is_some(),
            raw.exec.is_some(),
        ];
        if beats.is_empty() && tried == [false; 5] {
            match Self::beat_of_agent(subject) {
                Some(beat) if raw.notify.is_none() => beats.push(beat),
                _ => self.no_beats(subject),
            }
        }
        self.agent_is_heard(subject, &beats);
        beats
    }

    fn no_beats(&mut self, subject: &Subject<'_>) {
        // A job that hangs is told by its `finish`.
        if self.was_cut(&[subject.table, subject.name.as_str(), "heartbeat"]) || self.is_job(subject) {
            return;
        }
        let own_work =
            |at: &At<RawProgress>| at.value.counter.as_ref().is_some_and(|at| activity::is_own(&at.value.0));
        let (comes, label) = if subject.raw.progress.values().any(own_work) {
            // What it does is counted from outside, and its standstill is cured.
            return;
        } else if Self::sampler(subject) {
            ("a hang is told of where the kernel shows it, and never cured", "judged from outside alone")
        } else {
            ("a hang will not be seen, only an end", "judged by its process alone")
        };
        self.findings
            .report(Code::NoHeartbeat, &subject.span, format!("`{}` has no heartbeat: {comes}", subject.name))
            .label(label)
            .help(
                "give it one: `heartbeat.http = { url = \"http://127.0.0.1:7801/heartbeat\", seq = \"/seq\" }`, \
                 `heartbeat.notify = true`, or at least `heartbeat.log = { pattern = \"tick\" }`",
            );
    }

    /// What makes the service ready.
    pub(super) fn ready(&mut self, subject: &Subject<'_>, beats: &[Beat]) -> Ready {
        let Some(at) = &subject.raw.ready else {
            return if beats.is_empty() { Ready::Process } else { Ready::Tick };
        };
        let broken = subject.raw.heartbeat.as_ref().is_some_and(|raw| {
            raw.http.is_some()
                || raw.file.is_some()
                || raw.log.is_some()
                || raw.tcp.is_some()
                || raw.exec.is_some()
        }) || self.was_cut(&[subject.table, subject.name.as_str(), "heartbeat"]);
        if at.value == Ready::Tick && beats.is_empty() && !broken {
            let message =
                format!("`{}` would never be ready: it has no heartbeat that could tick", subject.name);
            self.findings.report(Code::NeverReady, &at.span, message).label("waits for ever").help(
                "add a `heartbeat`, or write `ready = \"process\"`, or `\"notify\"` if it says `READY=1`",
            );
        }
        at.value
    }

    fn http_beat(
        &mut self,
        subject: &Subject<'_>,
        at: &At<RawHttpBeat>,
        deadline: &Sourced<Duration>,
    ) -> Option<Beat> {
        let raw = &at.value;
        let polling =
            self.polling(subject, raw.every.as_ref(), raw.timeout.as_ref(), deadline, built_in::POLL_MIN);
        let seq = self.pointer(raw.seq.as_ref(), "seq");
        let progress = self.pointer(raw.progress.as_ref(), "progress");
        let state = self.pointer(raw.state.as_ref(), "state");
        let lag = self.pointer(raw.lag.as_ref(), "lag");
        let gauges = self.pointer(raw.gauges.as_ref(), "gauges");
        let seq_was_cut = self.was_cut(&[subject.table, subject.name.as_str(), "heartbeat", "http", "seq"]);
        if raw.seq.is_none() && !seq_was_cut {
            self.findings
                .report(Code::NoTick, &at.span, format!("a 200 from `{}` proves little", subject.name))
                .label("no `seq`: any answer counts as a beat")
                .help(
                    "a health page can be served by a thread that still lives while the main loop hangs: name the number \
                     that only this loop moves, `seq = \"/seq\"`",
                );
        }
        let path = [subject.table, subject.name.as_str(), "heartbeat", "http", "url"];
        let Some(url) = &raw.url else {
            self.missing(&path, &at.span, "write `url = \"http://127.0.0.1:7801/heartbeat\"`");
            return None;
        };
        let url = self.url(url, &["http"])?;
        let plan = HttpBeat {
            url,
            every: polling.every.value,
            timeout: polling.timeout.as_ref().map_or(built_in::TIMEOUT_MAX, |timeout| timeout.value),
            seq,
            progress,
            state,
            lag,
            gauges,
        };
        Some(Beat { plan: BeatPlan::Http(plan), span: at.span.clone(), polling: Some(polling) })
    }

    fn file_beat(
        &mut self,
        subject: &Subject<'_>,
        at: &At<RawFileBeat>,
        deadline: &Sourced<Duration>,
    ) -> Option<Beat> {
        let raw = &at.value;
        let mut polling = self.polling(subject, raw.every.as_ref(), None, deadline, built_in::POLL_MIN);
        polling.timeout = None;
        let path = [subject.table, subject.name.as_str(), "heartbeat", "file", "path"];
        let Some(file) = &raw.path else {
            self.missing(&path, &at.span, "write `path = \"bot.beat\"`");
            return None;
        };
        let plan = FileBeat {
            path: self.path(file, "path")?,
            every: polling.every.value,
            look_at: raw.look_at.as_ref().map_or(FileTick::Mtime, |at| at.value),
        };
        Some(Beat { plan: BeatPlan::File(plan), span: file.span.clone(), polling: Some(polling) })
    }

    fn log_beat(&mut self, subject: &Subject<'_>, at: &At<RawLogBeat>) -> Option<Beat> {
        let path = [subject.table, subject.name.as_str(), "heartbeat", "log", "pattern"];
        let Some(pattern) = &at.value.pattern else {
            self.missing(&path, &at.span, "write `pattern = \"tick\"`");
            return None;
        };
        if let Err(error) = RegexBuilder::new(&pattern.value.0).size_limit(PATTERN_BYTES_MAX).build() {
            // The crate's text is a drawing of several lines; its last one is the reason.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.findings
                .report(
                    Code::BadPattern,
                    &pattern.span,
                    format!("`pattern` is no regular expression: {reason}"),
                )
                .label("cannot be matched")
                .help("write patterns in '...' so that TOML leaves the backslashes alone");
            return None;
        }
        let plan = LogBeat { pattern: pattern.value.0.clone() };
        Some(Beat { plan: BeatPlan::Log(plan), span: pattern.span.clone(), polling: None })
    }

    fn tcp_beat(
        &mut self,
        subject: &Subject<'_>,
        at: &At<RawTcpBeat>,
        deadline: &Sourced<Duration>,
    ) -> Option<Beat> {
        let raw = &at.value;
        let polling =
            self.polling(subject, raw.every.as_ref(), raw.timeout.as_ref(), deadline, built_in::POLL_MIN);
        self.findings
            .report(
                Code::TcpProvesLittle,
                &at.span,
                format!("a TCP connect to `{}` proves little", subject.name),
            )
            .label("the kernel accepts for a program that hangs")
            .help("for a service use `heartbeat.http` with `seq`, `notify`, `file` or `log`");
        let path = [subject.table, subject.name.as_str(), "heartbeat", "tcp", "address"];
        let Some(address) = &raw.address else {
            self.missing(&path, &at.span, "write `address = \"127.0.0.1:5432\"`");
            return None;
        };
        let plan = TcpBeat {
            address: self.address(address)?,
            every: polling.every.value,
            timeout: polling.timeout.as_ref().map_or(built_in::TIMEOUT_MAX, |timeout| timeout.value),
        };
        Some(Beat { plan: BeatPlan::Tcp(plan), span: address.span.clone(), polling: Some(polling) })
    }

    fn exec_beat(
        &mut self,
        subject: &Subject<'_>,
        at: &At<RawExecBeat>,
        deadline: &Sourced<Duration>,
    ) -> Option<Beat> {
        let raw = &at.value;
        let (every, timeout) = (raw.every.as_ref(), raw.timeout.as_ref());
        let polling = self.polling(subject, every, timeout, deadline, built_in::EXEC_POLL_MIN);
        let path = [subject.table, subject.name.as_str(), "heartbeat", "exec", "command"];
        let Some(command) = &raw.command else {
            self.missing(&path, &at.span, "write `command = [\"bot\", \"alive\"]`");
            return None;
        };
        let plan = ExecBeat {
            command: self.command(command, "command")?,
            every: polling.every.value,
            timeout: polling.timeout.as_ref().map_or(built_in::TIMEOUT_MAX, |timeout| timeout.value),
            seq: raw.seq.as_ref().is_some_and(|at| at.value),
        };
        Some(Beat { plan: BeatPlan::Exec(plan), span: command.span.clone(), polling: Some(polling) })
    }

    fn polling(
        &mut self,
        subject: &Subject<'_>,
        every: Option<&At<DurationText>>,
        timeout: Option<&At<DurationText>>,
        deadline: &Sourced<Duration>,
        least: Duration,
    ) -> Polling {
        let shared = subject.defaults.heartbeat.as_ref();
        let derived = built_in::poll(deadline.value).max(least);
        let how = format!("deadline / {}", built_in::POLLS_PER_DEADLINE);
        let how = match deadline.value / built_in::POLLS_PER_DEADLINE {
            exact if exact == derived => how,
            smaller if smaller < derived => format!("{how}, at least {}", duration_text(derived)),
            _ => format!("{how}, at most {}", duration_text(derived)),
        };
        let every = self.pick(
            every,
            shared.and_then(|polling| polling.every.as_ref()),
            Sourced::derived(derived, how),
            |check, at| check.time(at, "every"),
        );
        let derived = built_in::poll_timeout(every.value);
        let how = if derived == every.value * 2 { "2 x every" } else { "2 x every, at most 2s" };
        let timeout = self.pick(
            timeout,
            shared.and_then(|polling| polling.timeout.as_ref()),
            Sourced::derived(derived, how),
            |check, at| check.time(at, "timeout"),
        );
        Polling { every, timeout: Some(timeout) }
    }

    pub(super) fn pointer(&mut self, at: Option<&At<Text>>, key: &str) -> Option<String> {
        let at = at?;
        match check_pointer(&at.value.0) {
            Ok(()) => Some(at.value.0.clone()),
            Err(why) => {
                self.findings
                    .report(Code::BadPointer, &at.span, format!("`{key}` is no JSON pointer: it {why}"))
                    .label("points to nothing")
                    .help(if at.value.0.starts_with('/') {
                        "in a pointer `~` is written `~0`, and a `/` inside a name `~1`".to_owned()
                    } else {
                        format!("write \"/{}\"", at.value.0.trim_matches(['/', '.', '$']).replace('.', "/"))
                    });
                None
            }
        }
    }

    pub(super) fn address(&mut self, at: &At<Text>) -> Option<String> {
        let text = at.value.0.trim();
        match check_address(text) {
            Ok(()) => Some(text.to_owned()),
            Err(why) => {
                self.findings
                    .report(Code::BadAddress, &at.span, format!("`address` {why}"))
                    .label("cannot be connected to")
                    .help("write \"host:port\": \"127.0.0.1:5432\", \"[::1]:5432\"");
                None
            }
        }
    }

    /// A URL with one of these schemes, a host, and no password.
    pub(super) fn url(&mut self, at: &At<Text>, schemes: &[&str]) -> Option<String> {
        let text = at.value.0.trim();
        if text.contains('@') {
            // Perhaps a password, whether the rest is a URL or not.
            self.findings.hide(at.span.clone());
        }
        let scheme_list = schemes.iter().map(|s| format!("{s}://")).collect::<Vec<_>>().join(" or ");
        let (message, help) = match Url::parse(text) {
            Err(url::ParseError::RelativeUrlWithoutBase) => (
                format!("`url` does not start with {scheme_list}"),
                format!("write \"{}://{}\"", schemes[0], text.rsplit('@').next().unwrap_or_default()),
            ),
            Err(error) => (
                format!("`url` is no URL: {error}"),
                format!("it starts with {scheme_list}: \"{}://127.0.0.1:7801/heartbeat\"", schemes[0]),
            ),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => (
                "`url` holds a user name or password".to_owned(),
                "Horus sends none and shows URLs to everybody: leave it out".to_owned(),
            ),
            Ok(url) if !schemes.contains(&url.scheme()) => {
                let mut help = format!("it starts with {scheme_list}");
                if url.scheme() == "https" {
                    help.push_str("; TLS is for monitors, a heartbeat stays on the machine");
                }
                (format!("`url` has the scheme `{}`, which is not asked here", url.scheme()), help)
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) || url.port_or_known_default() == Some(0) => {
                (
                    "`url` has no host and port to ask".to_owned(),
                    format!("it starts with {scheme_list}HOST:PORT/"),
                )
            }
            Ok(_) => return Some(text.to_owned()),
        };
        self.findings.report(Code::BadUrl, &at.span, message).label("cannot be asked").help(help);
        None
    }
}
