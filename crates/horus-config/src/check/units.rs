//! Monitors that are foreign units. A service that somebody else starts: the same checks, another owner.

use std::collections::BTreeMap;

use horus_core::foreign::{Owner, Unit, UnitManager, UnitScope};
use horus_core::ids::ServiceName;
use horus_core::plan::{DaemonPlan, ServicePlan};

use super::{Check, Sourced, Subject};
use crate::at::{At, Span};
use crate::defaults as built_in;
use crate::fault::Code;
use crate::raw::{
    CommandText, RawDefaults, RawExecBeat, RawFile, RawHeartbeat, RawMonitor, RawService, Text, UnitDomain,
};

/// Longest name of a unit that systemd takes.
const UNIT_NAME_MAX: usize = 255;
/// What Horus itself is called.
const OWN_UNIT: &str = "horus.service";
const OWN_LABELS: &str = "dev.horus.";
/// How far back the journal is searched for the last line that matches. Older ones are no sign of life for anybody.
const JOURNAL_SINCE: &str = "--since=-1h";

impl Check<'_> {
    /// Adds the foreign units to the services.
    pub(super) fn units(
        &mut self,
        raw: &RawFile,
        daemon: &DaemonPlan,
        services: &mut BTreeMap<ServiceName, ServicePlan>,
    ) {
        let mut seen: BTreeMap<Unit, Span> = BTreeMap::new();
        for (name, monitor) in raw.monitor.iter().filter(|(_, monitor)| monitor.value.is_unit()) {
            if let Some((other, _)) = raw.service.get_key_value(name) {
                self.findings
                    .report(Code::Contradiction, &name.span, format!("`{}` is a service already", name.value))
                    .label("a unit is started, stopped and held by its name, as a service is")
                    .also(&other.span, "the service")
                    .help("give one of them another name");
                continue;
            }
            let Some(unit) = self.unit(name, &monitor.value) else { continue };
            if let Some(other) = seen.get(&unit) {
                self.findings
                    .report(Code::Contradiction, &name.span, format!("`{unit}` is watched twice"))
                    .label("two judges, one program")
                    .also(other, "the other one")
                    .help("keep one of them");
                continue;
            }
            seen.insert(unit.clone(), name.span.clone());
            if let Some((name, plan)) = self.foreign(name, &monitor.value, unit, daemon) {
                services.insert(name, plan);
            }
        }
    }

    fn unit(&mut self, name: &At<String>, raw: &RawMonitor) -> Option<Unit> {
        let places = [
            ("check", raw.check.as_ref().map(|at| &at.span)),
            ("unit", raw.unit.as_ref().map(|at| &at.span)),
            ("label", raw.label.as_ref().map(|at| &at.span)),
        ];
        let path = ["monitor", name.value.as_str()];
        let message = format!("`{}` needs one thing to watch", path.join("."));
        self.exactly_one(&message, &path, &name.span, &places)?;
        if let Some(at) = &raw.unit {
            self.is_void(raw.domain.as_ref().map(|at| &at.span), "domain", "write `scope` for systemd");
            let scope = raw.scope.as_ref().map_or(UnitScope::System, |at| at.value);
            let name = self.unit_name(at)?;
            return Some(Unit { manager: UnitManager::Systemd, scope, name });
        }
        let at = raw.label.as_ref()?;
        self.is_void(raw.scope.as_ref().map(|at| &at.span), "scope", "write `domain` for launchd");
        let scope = match raw.domain.as_ref().map(|at| at.value) {
            Some(UnitDomain::Gui) => UnitScope::User,
            Some(UnitDomain::System) | None => UnitScope::System,
        };
        let name = self.label(at)?;
        Some(Unit { manager: UnitManager::Launchd, scope, name })
    }

    fn unit_name(&mut self, at: &At<Text>) -> Option<String> {
        let text = at.value.0.as_str();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let stem = text.strip_suffix(".service");
        let (why, help) = if text.len() > UNIT_NAME_MAX || text.starts_with('-') || !text.bytes().all(plain) {
            ("is no name of a unit", "write it as `systemctl` shows it: \"postgresql.service\"".to_owned())
        } else if text == OWN_UNIT {
            ("is Horus itself", "docs/concepts/who-watches.md tells who watches Horus".to_owned())
        } else if stem.is_none_or(str::is_empty) {
            ("does not end in `.service`", "only services have a main process: \"postgresql.service\"".into())
        } else if stem.is_some_and(|stem| stem.ends_with('@')) {
            (
                "is a template, and nothing of that name runs",
                "name one instance: \"getty@tty1.service\"".into(),
            )
        } else {
            return Some(text.to_owned());
        };
        self.bad_unit(at, format!("`{}` {why}", text.escape_debug()), help);
        None
    }

    fn label(&mut self, at: &At<Text>) -> Option<String> {
        let text = at.value.0.as_str();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > UNIT_NAME_MAX || text.starts_with('-') || !text.bytes().all(plain)
        {
            let help = "write it as `launchctl list` shows it: \"com.example.agent\"".to_owned();
            self.bad_unit(at, format!("`{}` is no label", text.escape_debug()), help);
            return None;
        }
        if text.starts_with(OWN_LABELS) {
            let help = "docs/concepts/who-watches.md tells who watches Horus".to_owned();
            self.bad_unit(at, format!("`{text}` is Horus itself"), help);
            return None;
        }
        Some(text.to_owned())
    }

    fn bad_unit(&mut self, at: &At<Text>, message: String, help: String) {
        self.findings.report(Code::BadUnit, &at.span, message).label("cannot be watched").help(help);
    }

    fn is_void(&mut self, span: Option<&Span>, key: &str, help: &str) {
        if let Some(span) = span {
            let message = format!("`{key}` means nothing here");
            self.findings.report(Code::Void, span, message).label("void").help(help);
        }
    }

    /// The service that the unit is judged as.
    fn foreign(
        &mut self,
        name: &At<String>,
        raw: &RawMonitor,
        unit: Unit,
        daemon: &DaemonPlan,
    ) -> Option<(ServiceName, ServicePlan)> {
        let parsed = self.name("monitor", name, ServiceName::parse(&name.value))?;
        self.is_void(raw.down_after.as_ref().map(|at| &at.span), "down_after", "write `deadline`");
        let on = raw.restart.as_ref().and_then(|restart| restart.on.as_ref());
        self.is_void(
            on.map(|at| &at.span),
            "on",
            "whether an end is followed by a start is said in the unit",
        );
        let service = RawService {
            heartbeat: raw.heartbeat.as_ref().and_then(|beats| self.beats_of_unit(beats, &unit)),
            deadline: raw.deadline.clone(),
            startup: raw.startup.clone(),
            restart: raw.restart.clone(),
            kills: raw.kills.clone(),
            ..RawService::default()
        };
        let heals = raw.heal.as_ref().is_some_and(|at| at.value);
        let defaults = RawDefaults::default();
        let (span, raw_service) = (name.span.clone(), &service);
        let subject = Subject { name: parsed, table: "monitor", span, raw: raw_service, defaults: &defaults };
        let mut policy = self.policy(&subject, daemon);
        policy.observe = !heals;
        let grace = raw.grace.as_ref().and_then(|at| self.time(at, "grace"));
        policy.grace = Sourced::built_in(grace.unwrap_or(built_in::UNIT_GRACE));
        let faults_before = self.findings.faults();
        let beats = self.beats(&subject, &policy.deadline);
        if self.findings.faults() == faults_before {
            self.judge_timing(&subject, &policy, &beats);
        }
        self.tabulate(&subject.name, &policy, &beats, None);
        let ready = self.ready(&subject, &beats);
        let plan = ServicePlan {
            owner: Owner::Unit(unit),
            ready,
            beats: beats.into_iter().map(|beat| beat.plan).collect(),
            deadline: policy.deadline.value,
            startup: policy.startup.value,
            stop: policy.stop_plan(),
            restart: policy.restart_plan(),
            kills: policy.kill_plan(),
            observe: policy.observe,
            ..ServicePlan::plain(Vec::new())
        };
        Some((subject.name, plan))
    }

    /// Its notify socket is its manager's, and its output is in the journal.
    fn beats_of_unit(&mut self, raw: &RawHeartbeat, unit: &Unit) -> Option<RawHeartbeat> {
        let mut beats = raw.clone();
        if let Some(at) = beats.notify.take().filter(|at| at.value) {
            self.findings
                .report(Code::Contradiction, &at.span, format!("`{unit}` sends its beats to its own manager"))
                .label("never heard here")
                .help("for systemd write `WatchdogSec=` into the unit; for Horus take `http`, `file`, `log` or `exec`");
        }
        let Some(log) = beats.log.take() else { return Some(beats) };
        let other = beats.exec.as_ref().map(|at| at.span.clone());
        let message = match (unit.manager, &other) {
            (UnitManager::Launchd, _) => "launchd keeps no journal",
            (UnitManager::Systemd, Some(_)) => {
                "`log` of a unit is a look at its journal by a command, and there is one"
            }
            (UnitManager::Systemd, None) => {
                beats.exec = Some(At { value: journal_beat(&log, unit)?, span: log.span });
                return Some(beats);
            }
        };
        self.findings
            .report(Code::Contradiction, &log.span, message)
            .label("cannot be had")
            .help("take another source");
        Some(beats)
    }
}

/// The last line of the unit's journal, or the last that matches: its time has to move.
fn journal_beat(log: &At<crate::raw::RawLogBeat>, unit: &Unit) -> Option<RawExecBeat> {
    let pattern = log.value.pattern.as_ref()?;
    let of_unit = match unit.scope {
        UnitScope::System => format!("--unit={unit}"),
        UnitScope::User => format!("--user-unit={unit}"),
    };
    let grep = format!("--grep={}", pattern.value.0);
    let words = [
        "journalctl",
        "--quiet",
        "--no-pager",
        &of_unit,
        "--lines=1",
        "--output=short-unix",
        JOURNAL_SINCE,
        &grep,
    ];
    let command = CommandText::Words(words.map(str::to_owned).to_vec());
    let span = pattern.span.clone();
    Some(RawExecBeat {
        command: Some(At { value: command, span: span.clone() }),
        seq: Some(At { value: true, span }),
        ..RawExecBeat::default()
    })
}
