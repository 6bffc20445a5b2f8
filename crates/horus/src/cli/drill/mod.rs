//! `horus drill`: a fault on purpose, and what became of it, step by step.
//!
//! A watchdog that has never been seen to bite is a hope. The drill makes a program hang, end or die, and follows the journal: was
//! it seen, was evidence taken and somebody told *before* anything was touched, is the old process gone by pid and start time, does
//! the new one live and beat. Each step is measured against its bound.
//!
//! Without `--service` all of it happens in a Horus of its own. With it, the daemon that runs is drilled, and only what is asked for
//! twice is touched.

mod conduct;
mod kill_switch;
mod sample;
mod sandbox;

use horus_api::Client;
use horus_config::SystemEnvironment;
use horus_core::ids::ServiceName;

use super::args::{DrillArgs, DrillFault, Place};
use super::exit::ExitStatus;
use super::fault::Fault;
use super::locate;
use super::output::Output;
use super::render::drill::render_drill;
use conduct::{Drilled, conduct};
use sandbox::Sandbox;

pub(crate) use conduct::{Drill, Step};
pub(crate) use sample::sample;

/// The body of `horus drill`.
///
/// # Errors
/// [`Fault`]
pub(crate) async fn drill(place: &Place, args: &DrillArgs, output: &Output) -> Result<ExitStatus, Fault> {
    if let Some(group) = &args.group {
        let client = locate::client(place, &SystemEnvironment)?;
        return kill_switch::drill(&client, group, output).await;
    }
    let drill = match &args.service {
        Some(service) => on_a_service(place, service, args, output).await?,
        None => in_a_sandbox(args, output).await?,
    };
    let status = if drill.passed() { ExitStatus::Done } else { ExitStatus::Failed };
    if args.json {
        let text = serde_json::to_string_pretty(&drill).map_err(|error| {
            Fault::new(ExitStatus::Bug, "the data cannot be written as JSON", "please report this")
                .because(&error)
        })?;
        output.data(text + "\n")?;
    } else {
        output.data(render_drill(&drill, output.style))?;
    }
    Ok(status)
}

async fn in_a_sandbox(args: &DrillArgs, output: &Output) -> Result<Drill, Fault> {
    output.note("a horus of its own is started for this drill; your services are not touched\n")?;
    let sandbox = Sandbox::start().await?;
    let drilled = match ServiceName::parse(sandbox::SERVICE) {
        Ok(service) => {
            let interrupted = async {
                let _ = tokio::signal::ctrl_c().await;
                Err(Fault::new(ExitStatus::Failed, "the drill was interrupted", "horus drill"))
            };
            let drilled = Drilled { client: &sandbox.client, service: &service, fault: args.fault };
            tokio::select! {
                done = conduct(&drilled) => done,
                fault = interrupted => fault,
            }
        }
        Err(_) => {
            Err(Fault::new(ExitStatus::Bug, "the drill's own service has no name", "please report this"))
        }
    };
    let gone = sandbox.end().await;
    let mut drill = drilled?;
    drill.cleaned_up = Some(gone);
    Ok(drill)
}

async fn on_a_service(
    place: &Place,
    service: &ServiceName,
    args: &DrillArgs,
    output: &Output,
) -> Result<Drill, Fault> {
    let client: Client = locate::client(place, &SystemEnvironment)?;
    let status = client.service(service).await?;
    let is_sample = status.said.as_deref() == Some(sample::SAID);
    if !is_sample && args.fault != DrillFault::Kill {
        return Err(Fault::new(
            ExitStatus::Usage,
            format!(
                "{service} is no sample: from outside it can be killed, but neither be made to hang nor to end"
            ),
            format!(
                "horus drill kill --service {service} --yes, or a service with the command [\"horus\", \"sample\"]"
            ),
        ));
    }
    output
        .note(&format!("{service} is drilled now; its alerts go to your sinks and look like any other\n"))?;
    let drilled = Drilled { client: &client, service, fault: args.fault };
    let drill = conduct(&drilled).await?;
    if let Some(incident) = drill.incident {
        // It is no surprise, so it owes no rule.
        client.note_drill(incident, &format!("a drill: {}", args.fault.word())).await?;
    }
    Ok(drill)
}
