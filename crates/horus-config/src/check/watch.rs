//! Monitors and sinks.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::ids::{MonitorName, SinkName};
use horus_core::plan::{ExecBeat, MonitorCheck, MonitorPlan, SecretSource, SinkKind, SinkPlan, TcpBeat};

use super::Check;
use crate::at::{At, Span};
use crate::defaults;
use crate::fault::Code;
use crate::raw::{DurationText, Named, RawCheck, RawMonitor, RawSecret, RawSink};
use crate::secrets;
use crate::words::duration_text;

/// Longest mention.
const MENTION_MAX: usize = 64;

impl Check<'_> {
    pub(super) fn monitors(&mut self, raw: &Named<RawMonitor>) -> BTreeMap<MonitorName, MonitorPlan> {
        let mut plans = BTreeMap::new();
        for (name, monitor) in raw.iter().filter(|(_, monitor)| !monitor.value.is_unit()) {
            let parsed = MonitorName::parse(&name.value);
            if let Some(name_value) = self.name("monitor", name, parsed)
                && let Some(plan) = self.monitor(name, &monitor.value)
            {
                plans.insert(name_value, plan);
            }
        }
        plans
    }

    fn monitor(&mut self, name: &At<String>, raw: &RawMonitor) -> Option<MonitorPlan> {
        let Some(at) = &raw.check else {
            let help = "write `check.http = { url = \"https://example.com/ok\" }`, or `unit = \"postgresql.service\"`";
            self.missing(&["monitor", &name.value, "check"], &name.span, help);
            return None;
        };
        let (check, timeout) = self.monitor_check(name, at)?;
        let Some(down) = &raw.down_after else {
            return Some(MonitorPlan {
                down_after: check.every().saturating_mul(defaults::MONITOR_POLLS),
                check,
            });
        };
        let down_after = self.time(down, "down_after")?;
        let one_lost = check.every() + timeout;
        if down_after < one_lost {
            self.findings
                .report(
                    Code::DownAfterShort,
                    &down.span,
                    format!("one lost answer is enough to call `{}` down", name.value),
                )
                .label(format!("shorter than a poll and its timeout ({})", duration_text(one_lost)))
                .help(format!(
                    "write `down_after = \"{}\"` or more",
                    duration_text(check.every() + one_lost)
                ));
        }
        Some(MonitorPlan { check, down_after })
    }

    fn monitor_check(&mut self, name: &At<String>, at: &At<RawCheck>) -> Option<(MonitorCheck, Duration)> {
        let RawCheck { http, tcp, file, exec } = &at.value;
        let places = [
            ("http", http.as_ref().map(|at| &at.span)),
            ("tcp", tcp.as_ref().map(|at| &at.span)),
            ("file", file.as_ref().map(|at| &at.span)),
            ("exec", exec.as_ref().map(|at| &at.span)),
        ];
        let path = ["monitor", name.value.as_str(), "check"];
        self.exactly_one(&format!("`{}` needs one check", path[..2].join(".")), &path, &at.span, &places)?;
        let mut timing = |every: Option<&At<DurationText>>, timeout: Option<&At<DurationText>>| {
            let every = every.map_or(Some(defaults::MONITOR_EVERY), |at| self.time(at, "every"))?;
            let timeout = timeout.map_or(Some(defaults::MONITOR_TIMEOUT), |at| self.time(at, "timeout"))?;
            Some((every, timeout))
        };
        let help = |key: &str, example: &str| format!("write `{key} = {example}`");
        let missing_path = |kind, key| [path[0], path[1], path[2], kind, key];
        if let Some(At { value: raw, span }) = http {
            let times = timing(raw.every.as_ref(), raw.timeout.as_ref());
            let status = raw.status.as_ref().map_or(defaults::MONITOR_STATUS, |at| {
                self.number(
                    (100..=599).contains(&at.value),
                    at,
                    "a status is between 100 and 599".to_owned(),
                );
                at.value
            });
            let Some(url) = &raw.url else {
                self.missing(&missing_path("http", "url"), span, &help("url", "\"https://example.com/ok\""));
                return None;
            };
            let (url, (every, timeout)) = (self.url(url, &["https", "http"])?, times?);
            return Some((MonitorCheck::Http { url, every, timeout, status }, timeout));
        }
        if let Some(At { value: raw, span }) = tcp {
            let times = timing(raw.every.as_ref(), raw.timeout.as_ref());
            let Some(address) = &raw.address else {
                self.missing(&missing_path("tcp", "address"), span, &help("address", "\"10.0.0.7:5432\""));
                return None;
            };
            let (address, (every, timeout)) = (self.address(address)?, times?);
            return Some((MonitorCheck::Tcp(TcpBeat { address, every, timeout }), timeout));
        }
        if let Some(At { value: raw, span }) = file {
            let times = timing(raw.every.as_ref(), None);
            if raw.path.is_none() {
                self.missing(&missing_path("file", "path"), span, &help("path", "\"backup.tar\""));
            }
            if raw.max_age.is_none() {
                self.missing(&missing_path("file", "max_age"), span, &help("max_age", "\"26h\""));
            }
            let path = raw.path.as_ref().and_then(|at| self.path(at, "path"));
            let max_age = raw.max_age.as_ref().and_then(|at| self.time(at, "max_age"));
            let check = MonitorCheck::File { path: path?, every: times?.0, max_age: max_age? };
            return Some((check, Duration::ZERO));
        }
        let At { value: raw, span } = exec.as_ref()?;
        let times = timing(raw.every.as_ref(), raw.timeout.as_ref());
        let Some(command) = &raw.command else {
            self.missing(&missing_path("exec", "command"), span, &help("command", "[\"pg_isready\"]"));
            return None;
        };
        let (command, (every, timeout)) = (self.command(command, "command")?, times?);
        Some((MonitorCheck::Exec(ExecBeat { command, every, timeout, seq: false }), timeout))
    }

    pub(super) fn sinks(
        &mut self,
        raw: &Named<RawSink>,
    ) -> (BTreeMap<SinkName, SinkPlan>, BTreeMap<SinkName, Span>) {
        let mut plans = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, sink) in raw {
            let parsed = SinkName::parse(&name.value);
            let name_value = self.name("sink", name, parsed);
            let plan = self.sink(name, &sink.value);
            if let (Some(name), Some((plan, place))) = (name_value, plan) {
                plans.insert(name.clone(), plan);
                places.insert(name, place);
            }
        }
        (plans, places)
    }

    fn sink(&mut self, name: &At<String>, raw: &RawSink) -> Option<(SinkPlan, Span)> {
        let RawSink { discord, slack, webhook, severity, mention } = raw;
        let places = [
            ("discord", discord.as_ref().map(|at| &at.span)),
            ("slack", slack.as_ref().map(|at| &at.span)),
            ("webhook", webhook.as_ref().map(|at| &at.span)),
        ];
        let path = ["sink", name.value.as_str()];
        let message = format!("`{}` needs one place to send to", path.join("."));
        let mention = mention.as_ref().and_then(|at| {
            let fine =
                at.value.0.len() <= MENTION_MAX && at.value.0.bytes().all(|b| b.is_ascii_alphanumeric());
            let message = format!("a mention is an id of at most {MENTION_MAX} letters and digits");
            self.number(fine, at, message);
            self.text(at, "mention")
        });
        let targets = [(SinkKind::Discord, discord), (SinkKind::Slack, slack), (SinkKind::Webhook, webhook)];
        // Look at every secret, also where two targets are one too many: a literal URL must be told in any case.
        let secrets: Vec<_> = targets
            .iter()
            .zip(places)
            .filter_map(|((kind, target), (word, _))| {
                let at = target.as_ref()?;
                let path = ["sink", name.value.as_str(), word];
                Some((*kind, self.secret(&path, at), at.span.clone()))
            })
            .collect();
        self.exactly_one(&message, &path, &name.span, &places)?;
        let (kind, secret, place) = secrets.into_iter().next()?;
        let severity = severity.as_ref().map_or(defaults::SINK_SEVERITY, |at| at.value);
        Some((SinkPlan { kind, severity, secret: secret?, mention }, place))
    }

    /// Where the URL of the target at `path` comes from.
    pub(super) fn secret(&mut self, path: &[&str], at: &At<RawSecret>) -> Option<SecretSource> {
        let kind = path.last().copied().unwrap_or_default();
        let RawSecret { url_env, url_file, url } = &at.value;
        if let Some(url) = url {
            secrets::report_literal(&url.span, kind, self.findings);
            return None;
        }
        let places = [
            ("url_env", url_env.as_ref().map(|at| &at.span)),
            ("url_file", url_file.as_ref().map(|at| &at.span)),
        ];
        self.exactly_one(
            &format!("`{}` needs one source of its URL", path.join(".")),
            path,
            &at.span,
            &places,
        )?;
        if let Some(at) = url_env {
            let variable = at.value.0.trim();
            if variable.contains("://") {
                self.findings.hide(at.span.clone());
                secrets::report_literal(&at.span, kind, self.findings);
                return None;
            }
            if let Err(why) = crate::words::check_variable_name(variable) {
                self.findings.report(Code::BadVariable, &at.span, why).label("names no variable");
                return None;
            }
            return Some(SecretSource::Env(variable.to_owned()));
        }
        let at = url_file.as_ref()?;
        if at.value.0.contains("://") {
            self.findings.hide(at.span.clone());
            secrets::report_literal(&at.span, kind, self.findings);
            return None;
        }
        let path = self.path(at, "url_file")?;
        // A file that is not there yet is told by `resolve_secrets`; one that is open to others is a fault anywhere.
        if let Ok(facts) = self.environment.look(&path)
            && let Err((message, help)) = secrets::check_owner(&path, facts, self.environment.user_id())
        {
            self.findings
                .report(Code::SecretFileOpen, &at.span, message)
                .label("this secret is none")
                .help(help);
        }
        Some(SecretSource::File(path))
    }

    /// Exactly one of several keys has to be there.
    pub(super) fn exactly_one(
        &mut self,
        message: &str,
        path: &[&str],
        span: &Span,
        places: &[(&str, Option<&Span>)],
    ) -> Option<()> {
        let given: Vec<(&str, &Span)> =
            places.iter().filter_map(|(key, span)| Some((*key, (*span)?))).collect();
        let keys: Vec<String> = places.iter().map(|(key, _)| format!("`{key}`")).collect();
        match given.as_slice() {
            [_] => Some(()),
            [] => {
                if !self.was_cut(path) {
                    self.findings
                        .report(Code::ChooseOne, span, message)
                        .label("none here")
                        .help(format!("exactly one of {}", keys.join(", ")));
                }
                None
            }
            [(first, first_span), (second, second_span), ..] => {
                self.findings
                    .report(Code::ChooseOne, second_span, format!("{message}, not two"))
                    .label(format!("`{second}`"))
                    .also(first_span, format!("`{first}`"))
                    .help(if path.first() == Some(&"service") {
                        "keep one of them"
                    } else {
                        "give each a table of its own"
                    });
                None
            }
        }
    }
}
