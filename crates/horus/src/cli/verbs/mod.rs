//! What each verb does. One module per kind: asking for something, showing something, looking after Horus itself.

mod ask;
mod capture;
mod care;
mod doctor;
mod evidence;
pub(crate) mod groups;
mod install;
mod postmortem;
pub(super) mod preview;
mod show;
mod unit;
mod upgrade;

use horus_config::SystemEnvironment;
use horus_core::observation::OperatorRequest;

use super::args::{AlertsVerb, CommandLine, RunArgs, Verb};
use super::exit::ExitStatus;
use super::fault::Fault;
use super::locate;
use super::output::Output;
use super::{Invocation, Place};
use super::{drill, replay, selftest, simulate, tune};

/// Does it, or finds out what the daemon's part of the program has to do.
///
/// # Errors
/// [`Fault`]
pub(crate) fn dispatch(line: CommandLine, output: &Output) -> Result<Invocation, Fault> {
    let CommandLine { place, verb } = line;
    match verb {
        Verb::Run => {
            let config = locate::config(&place, &SystemEnvironment)?;
            Ok(Invocation::Run(RunArgs { config, socket: place.socket }))
        }
        Verb::Keep(args) => Ok(Invocation::Keep(args)),
        Verb::Rehearse(args) => Ok(Invocation::Rehearse(place, args)),
        Verb::Check(args) => care::check(&place, &args, output).map(Invocation::Over),
        Verb::Init(args) => care::init(&args, output).map(Invocation::Over),
        Verb::Replay(args) => replay::replay(&args, output).map(Invocation::Over),
        Verb::Simulate(args) => simulate::simulate(&place, &args, output).map(Invocation::Over),
        Verb::Tune(args) => tune::tune(&place, &args, output).map(Invocation::Over),
        Verb::Selftest(args) => in_runtime(selftest::selftest(&place, &args, output)).map(Invocation::Over),
        Verb::Drill(args) => in_runtime(drill::drill(&place, &args, output)).map(Invocation::Over),
        Verb::Sample(args) => in_runtime(drill::sample(&args, output)).map(Invocation::Over),
        Verb::Doctor(args) => doctor::doctor(&place, &args, output).map(Invocation::Over),
        Verb::Capture(args) => capture::capture(&args, output).map(Invocation::Over),
        Verb::Completions(args) => care::completions(&args, output).map(Invocation::Over),
        Verb::Install(args) => install::install(&place, &args, output).map(Invocation::Over),
        Verb::Uninstall(args) => install::uninstall(&args, output).map(Invocation::Over),
        Verb::Manual(args) => unit::manual(&args, output).map(Invocation::Over),
        Verb::StopPost(args) => unit::stop_post(&args, output).map(Invocation::Over),
        Verb::Alerts(AlertsVerb::Preview(args)) => {
            preview::preview(&place, &args, output).map(Invocation::Over)
        }
        Verb::Status(args) if args.service => unit::status(&args, output).map(Invocation::Over),
        verb => in_runtime(over_the_socket(&place, verb, output)).map(Invocation::Over),
    }
}

/// Everything that is asked of a daemon.
async fn over_the_socket(place: &Place, verb: Verb, output: &Output) -> Result<ExitStatus, Fault> {
    let client = locate::client(place, &SystemEnvironment)?;
    let each = |names: Vec<_>, request: fn(_) -> OperatorRequest| names.into_iter().map(request).collect();
    match verb {
        Verb::Status(args) => show::status(&client, &args, output).await,
        Verb::Explain(args) => show::explain(&client, &args, output).await,
        Verb::Start(args) => ask::ask(&client, each(args.names, OperatorRequest::Start), output).await,
        Verb::Stop(args) => ask::ask(&client, each(args.names, OperatorRequest::Stop), output).await,
        Verb::Restart(args) => ask::ask(&client, each(args.names, OperatorRequest::Restart), output).await,
        Verb::Hold(args) => groups::hold(&client, &args, output).await,
        Verb::Resume(args) => groups::resume(&client, &args, output).await,
        Verb::Logs(args) => show::logs(&client, &args, output).await,
        Verb::Events(args) => show::events(&client, &args, output).await,
        Verb::Incidents(args) => show::incidents(&client, &args, output).await,
        Verb::Incident(args) => show::incident(&client, &args, output).await,
        Verb::Alerts(AlertsVerb::Test(args)) => care::alerts_test(&client, &args, output).await,
        Verb::Reload(args) => care::reload(&client, &args, output).await,
        Verb::Upgrade(args) => upgrade::upgrade(&client, &args, output).await,
        Verb::Run
        | Verb::Keep(_)
        | Verb::Rehearse(_)
        | Verb::Check(_)
        | Verb::Init(_)
        | Verb::Replay(_)
        | Verb::Simulate(_)
        | Verb::Tune(_)
        | Verb::Selftest(_)
        | Verb::Install(_)
        | Verb::Uninstall(_)
        | Verb::Alerts(AlertsVerb::Preview(_))
        | Verb::Manual(_)
        | Verb::StopPost(_)
        | Verb::Doctor(_)
        | Verb::Drill(_)
        | Verb::Sample(_)
        | Verb::Capture(_)
        | Verb::Completions(_) => {
            Err(Fault::new(ExitStatus::Bug, "this verb needs no daemon", "please report this"))
        }
    }
}

fn in_runtime(work: impl Future<Output = Result<ExitStatus, Fault>>) -> Result<ExitStatus, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let none = |error: std::io::Error| {
        Fault::new(ExitStatus::Failed, "the command cannot wait for anything", "too many open files?")
            .because(&error)
    };
    runtime.map_err(none)?.block_on(work)
}
