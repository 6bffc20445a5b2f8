//! `alerts preview`: what would be sent, in the sink's own wire format, and not sent.
//!
//! No secret is read at all: the request is made for a made-up address of the same kind, so nothing has to be hidden
//! afterwards. No daemon is needed; a configuration only to preview a sink of it.

use std::path::Path;

use horus_alert::sink::Sending;
use horus_alert::{Form, Route, samples};
use horus_config::{SystemEnvironment, load};
use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::Notice;
use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::{Secret, Severity, SinkKind};
use horus_sys::files::{Durability, write_atomic};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::cli::args::{AlertsPreviewArgs, Place};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::locate;
use crate::cli::output::Output;
use crate::cli::render::preview::{Preview, page, text};

/// When what a preview tells of has happened: 14:35:00 on a day that is over. The same page comes out every time.
const HAPPENED_MS: i64 = 1_772_721_300_000;

/// And when its incident was opened, three minutes earlier.
const OPENED_MS: i64 = 1_772_721_120_000;

/// Where the secret would stand.
const HIDDEN: &str = "hidden";

/// For what kind of sink, told in which way.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// How the sink is called: its name in the configuration, else the name of its kind.
    name: String,
    kind: SinkKind,
    mention: Option<String>,
    /// It hears what is at least as bad.
    severity: Severity,
    host: String,
}

pub(super) fn preview(place: &Place, args: &AlertsPreviewArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let targets = match &args.sink {
        Some(name) => vec![target(place, name)?],
        None => made_up(),
    };
    let previews = previews(&targets, args.kind.as_deref())?;
    if previews.is_empty() {
        let asked = args.kind.as_deref().unwrap_or_default();
        let keys: Vec<&str> = samples::notices().iter().map(|notice| samples::key(&notice.story)).collect();
        return Err(Fault::new(
            ExitStatus::Usage,
            format!("there is no story and no kind of incident '{}'", asked.escape_debug()),
            format!("one of {}; or a kind of incident, such as stuck", keys.join(", ")),
        ));
    }
    if let Some(file) = &args.html {
        write(file, &page(&previews))?;
        let written = format!("{} messages written to {}\n", previews.len(), file.display());
        output.note(&written)?;
        return Ok(ExitStatus::Done);
    }
    if args.json {
        output.data(super::show::json(&previews, true)?)?;
    } else {
        output.data(text(&previews, output.style))?;
    }
    Ok(ExitStatus::Done)
}

fn write(file: &Path, page: &str) -> Result<(), Fault> {
    write_atomic(file, page.as_bytes(), Durability::ThisBoot).map_err(|error| {
        Fault::new(
            ExitStatus::Failed,
            format!("{} cannot be written", file.display()),
            "name a file in a folder that is there and that you may write to",
        )
        .because(&error)
    })
}

/// One sink of each kind, as nobody has configured it.
pub(crate) fn made_up() -> Vec<Target> {
    let kinds = [("discord", SinkKind::Discord), ("slack", SinkKind::Slack), ("webhook", SinkKind::Webhook)];
    let target = |(name, kind): (&str, SinkKind)| Target {
        name: name.to_owned(),
        kind,
        mention: match kind {
            SinkKind::Discord => Some("123456789012345678".to_owned()),
            SinkKind::Slack => Some("U012AB3CD".to_owned()),
            SinkKind::Webhook => None,
        },
        severity: Severity::Info,
        host: "mini".to_owned(),
    };
    kinds.into_iter().map(target).collect()
}

/// A sink of the configuration; or one of that kind, if there is none of that name.
fn target(place: &Place, name: &SinkName) -> Result<Target, Fault> {
    let known = made_up().into_iter().find(|target| target.name == name.as_str());
    let file = match (locate::config(place, &SystemEnvironment), known.clone()) {
        (Ok(file), _) => file,
        (Err(_), Some(target)) => return Ok(target),
        (Err(fault), None) => return Err(fault),
    };
    let plan = load(&file, &SystemEnvironment).checked.map(|checked| checked.plan);
    let sink = plan.as_ref().and_then(|plan| plan.sinks.get(name).map(|sink| (plan, sink)));
    if let Some((plan, sink)) = sink {
        return Ok(Target {
            name: name.to_string(),
            kind: sink.kind,
            mention: sink.mention.clone(),
            severity: sink.severity,
            host: plan.daemon.host.clone(),
        });
    }
    known.ok_or_else(|| {
        let names: Vec<&str> = plan.iter().flat_map(|plan| plan.sinks.keys()).map(SinkName::as_str).collect();
        let kinds: Vec<String> = made_up().into_iter().map(|target| target.name).collect();
        Fault::new(
            ExitStatus::Usage,
            format!("{} has no sink '{name}', or has faults", file.display()),
            format!("one of {}; or a kind: {}", names.join(", "), kinds.join(", ")),
        )
    })
}

/// The stories that are meant, each for each sink. `wanted`: a story, or a kind of incident.
pub(crate) fn previews(targets: &[Target], wanted: Option<&str>) -> Result<Vec<Preview>, Fault> {
    let wanted = wanted.map(|wanted| wanted.replace('-', "_"));
    let is_meant = |notice: &Notice| {
        wanted.as_deref().is_none_or(|wanted| {
            samples::key(&notice.story) == wanted || notice.kind.word().replace('-', "_") == wanted
        })
    };
    let mut previews = Vec::new();
    for notice in samples::notices().into_iter().filter(is_meant) {
        for target in targets {
            previews.push(one(target, &notice)?);
        }
    }
    Ok(previews)
}

fn one(target: &Target, notice: &Notice) -> Result<Preview, Fault> {
    let bug = |what: &str| Fault::new(ExitStatus::Bug, what.to_owned(), "please report this");
    let address = match target.kind {
        SinkKind::Discord => "https://discord.com/api/webhooks/0/hidden",
        SinkKind::Slack => "https://hooks.slack.com/services/hidden",
        SinkKind::Webhook => "https://hidden",
    };
    let route = Route::new(target.kind, &Secret::new(address.into()), target.mention.as_deref());
    let route = route.map_err(|error| bug("the made-up address is none").because(&error))?;
    let time = |millis| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    let item = OutboxItem {
        sink: SinkName::parse(&target.name).map_err(|_| bug("the sink's name is none"))?,
        notice: Notice { incident: IncidentId::nth(7), ..notice.clone() },
        happened_at: time(HAPPENED_MS),
        opened_at: time(OPENED_MS),
        delivered_version: None,
        remote_id: None,
        in_doubt: false,
        attempts: 0,
    };
    let now = time(HAPPENED_MS);
    let (host, time_zone) = (&target.host, &TimeZone::UTC);
    let sending = Sending { item: &item, host, time_zone, now, how: Move::Post, form: Form::Rich };
    let message = sending.message();
    let request = route.request(&sending);
    let body: Value =
        serde_json::from_slice(&request.body).map_err(|error| bug("the body is not JSON").because(&error))?;
    Ok(Preview {
        story: samples::key(&notice.story).to_owned(),
        sink: target.name.clone(),
        kind: target.kind,
        heard: notice.severity >= target.severity,
        needs_you: notice.needs_you,
        silent: message.silent,
        first_line: message.first_line,
        address: request.url.as_str().replace("/0/", &format!("/{HIDDEN}/")),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_is_previewed_for_every_kind_of_sink() {
        let targets = made_up();
        let all = previews(&targets, None).unwrap();
        assert_eq!(all.len(), samples::STORIES * targets.len());
        let one = previews(&targets, Some("breaker-open")).unwrap();
        assert_eq!(one.len(), targets.len());
        let of_kind = previews(&targets, Some("stuck")).unwrap();
        assert!(of_kind.len() > targets.len() && of_kind.len() < all.len(), "{}", of_kind.len());
        assert!(previews(&targets, Some("teleported")).unwrap().is_empty());
    }
}
