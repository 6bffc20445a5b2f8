//! `hold` and `resume`, of one service or of a group; what became of a group is looked up by pid, not believed.

use horus_api::Client;
use horus_core::ids::{GroupName, ServiceName};
use horus_core::observation::OperatorRequest;
use horus_core::status::ServiceStatus;
use horus_sys::process::{ProcessId, identify, is_alive};

use super::ask;
use crate::cli::args::{HoldArgs, NAMES_MAX, ResumeArgs};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::style::Paint;
use crate::cli::render::text::clean;

/// A service and the process that it had before it was ordered about.
pub(crate) struct Member {
    pub(crate) name: ServiceName,
    pub(crate) process: Option<ProcessId>,
}

/// `horus hold`
pub(super) async fn hold(client: &Client, args: &HoldArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let request = |service: ServiceName| OperatorRequest::Hold {
        service,
        reason: args.reason.clone(),
        expires_in: args.expires_in,
        stop: args.stop,
    };
    match (&args.whom.name, &args.whom.group) {
        (Some(name), _) => ask::ask(client, vec![request(name.clone())], output).await,
        (None, Some(group)) => {
            let members = members(client, group).await?;
            let asked = ask_all(client, &members, request, output).await?;
            let so = verify_held(client, &members, args.stop, output).await?;
            Ok(if so { asked } else { ExitStatus::Failed })
        }
        (None, None) => Err(nobody()),
    }
}

/// `horus resume`
pub(super) async fn resume(client: &Client, args: &ResumeArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let request = |service: ServiceName| OperatorRequest::Resume { service, reason: args.reason.clone() };
    match (&args.whom.name, &args.whom.group) {
        (Some(name), _) => ask::ask(client, vec![request(name.clone())], output).await,
        (None, Some(group)) => ask_all(client, &members(client, group).await?, request, output).await,
        (None, None) => Err(nobody()),
    }
}

fn nobody() -> Fault {
    Fault::new(
        ExitStatus::Usage,
        "neither a service nor a group was named",
        "horus hold NAME, or --group GROUP",
    )
}

/// The services of the group, each with its process of this moment.
pub(crate) async fn members(client: &Client, group: &GroupName) -> Result<Vec<Member>, Fault> {
    let services = client.status().await?.services;
    let members: Vec<Member> = services
        .iter()
        .filter(|service| service.groups.contains(group))
        .map(|service| Member { name: service.name.clone(), process: process(service) })
        .collect();
    if !members.is_empty() {
        return Ok(members);
    }
    let mut known: Vec<&str> =
        services.iter().flat_map(|service| &service.groups).map(GroupName::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let hint = match known.as_slice() {
        [] => "write `groups = [\"NAME\"]` into the services that belong together".to_owned(),
        known => format!("one of {}", known.join(", ")),
    };
    Err(Fault::new(ExitStatus::Failed, format!("no service is in the group '{group}'"), hint))
}

/// The process that a service has now.
pub(crate) fn process(service: &ServiceStatus) -> Option<ProcessId> {
    identify(service.pid?).ok().flatten()
}

/// Asks for all of them, so many at a time as fit on a screen. The exit status is that of the first that failed.
pub(crate) async fn ask_all(
    client: &Client,
    members: &[Member],
    request: impl Fn(ServiceName) -> OperatorRequest,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let mut status = ExitStatus::Done;
    for some in members.chunks(NAMES_MAX) {
        let requests = some.iter().map(|member| request(member.name.clone())).collect();
        let asked = ask::ask(client, requests, output).await?;
        status = if status == ExitStatus::Done { asked } else { status };
    }
    Ok(status)
}

/// Whether every one of them is held, and its process as ordered: gone, or the very same. Each is said.
pub(crate) async fn verify_held(
    client: &Client,
    members: &[Member],
    stopped: bool,
    output: &Output,
) -> Result<bool, Fault> {
    let mut all = true;
    for member in members {
        let now = client.service(&member.name).await?;
        let (what, so) = held(member, &now, stopped);
        all &= so;
        let (mark, paint) = if so { ("verified", Paint::Good) } else { ("NOT SO", Paint::Bad) };
        output.data(format!(
            "{}  {}: {what}\n",
            output.style.paint(paint, mark),
            clean(member.name.as_str())
        ))?;
    }
    Ok(all)
}

fn held(member: &Member, now: &ServiceStatus, stopped: bool) -> (String, bool) {
    if now.hold.is_none() {
        return ("it is not held".to_owned(), false);
    }
    match (&member.process, stopped) {
        (Some(old), true) if is_alive(old) => (format!("held, but pid {} still runs", old.pid), false),
        (_, true) if now.pid.is_some() => ("held, but it has a process".to_owned(), false),
        (Some(old), true) => (format!("held, pid {} is gone", old.pid), true),
        (Some(old), false) => {
            let same = process(now).as_ref() == Some(old) && is_alive(old);
            let what = if same { "runs on untouched" } else { "is not its process any more" };
            (format!("held, pid {} {what}", old.pid), same)
        }
        (None, _) => ("held, it has no process".to_owned(), now.pid.is_none()),
    }
}
