//! `install` and `uninstall`: from the command line to a plan, and from there to the words for it. What is to be done is
//! decided in `horus-service`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_config::{SystemEnvironment, load};
use horus_core::ids::ServiceName;
use horus_service::{
    Account, Action, Done, Executor, Manager, Plan, Refusal, RunError, Scope, SystemRunner, Target, Traced,
    Wanted, plan_install, plan_uninstall, survey,
};
use serde::Serialize;

use super::show::json;
use crate::cli::Place;
use crate::cli::args::{InstallArgs, ScopeArgs, UninstallArgs};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::text::clean;
use crate::daemon::executable::own_path;

/// Version of what `horus install --json` prints.
const PLAN_SCHEMA: u32 = 1;

/// `horus install --json`, `horus uninstall --json`
#[derive(Serialize)]
struct PlanReport<'a> {
    schema: u32,
    /// Nothing was done: this is what would be.
    dry_run: bool,
    #[serde(flatten)]
    plan: &'a Plan,
}

/// How a plan is to be carried out and shown.
#[derive(Clone, Copy)]
struct Manner {
    dry_run: bool,
    json: bool,
}

pub(super) fn install(place: &Place, args: &InstallArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let account = Account::of_process();
    let target = target(args.scope, &account);
    let config = config_file(place, target.scope, &account)?;
    let wanted = Wanted {
        stop_within: time_to_stop(&config)?,
        executable: followed(&own_path().map_err(|error| unknown_self(&error))?)?,
        config: followed(&config)?,
        linger: args.linger,
    };
    let facts = survey(target, account, &mut SystemRunner).map_err(|error| no_answer(&error))?;
    let plan = plan_install(target, &facts, &wanted).map_err(|refusal| refused(&refusal))?;
    let manner = Manner { dry_run: args.dry_run, json: args.json };
    carry_out(&plan, manner, "is installed, enabled and running", output)
}

pub(super) fn uninstall(args: &UninstallArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let account = Account::of_process();
    let target = target(args.scope, &account);
    let facts = survey(target, account, &mut SystemRunner).map_err(|error| no_answer(&error))?;
    let plan = plan_uninstall(target, &facts, args.purge).map_err(|refusal| refused(&refusal))?;
    let manner = Manner { dry_run: args.dry_run, json: args.json };
    carry_out(&plan, manner, "is not installed", output)
}

/// Whose service is meant, if that is not said.
pub(super) fn target(scope: ScopeArgs, account: &Account) -> Target {
    let scope = match (scope.system, scope.user) {
        (true, _) => Scope::System,
        (_, true) => Scope::User,
        _ if account.uid == 0 => Scope::System,
        _ => Scope::User,
    };
    Target { manager: Manager::of_this_system(), scope }
}

/// The configuration that the service is to have.
fn config_file(place: &Place, scope: Scope, account: &Account) -> Result<PathBuf, Fault> {
    let usual = || match scope {
        Scope::System => Some(PathBuf::from("/etc/horus/watchdog.toml")),
        Scope::User => account.home.as_ref().map(|home| home.join(".config/horus/watchdog.toml")),
    };
    let named = place.config.clone().or_else(usual).ok_or_else(|| refused(&Refusal::NoHome))?;
    let file = std::path::absolute(&named)?;
    if let Err(error) = std::fs::metadata(&file) {
        let shown = file.display();
        let folder = file.parent().unwrap_or(Path::new("/")).display();
        let hint = format!("mkdir -p {folder} && horus init {shown}; or name another with --config FILE");
        let message = format!("there is no configuration at {shown}");
        return Err(Fault::new(ExitStatus::BadConfig, message, hint).because(&error));
    }
    Ok(file)
}

/// A service that cannot start is not installed; how long its programs may take to end.
fn time_to_stop(config: &Path) -> Result<Duration, Fault> {
    let shown = config.display();
    let checked = load(config, &SystemEnvironment).into_result().map_err(|faults| {
        let message = format!("{shown} has {} faults; nothing was changed", faults.len());
        Fault::new(ExitStatus::BadConfig, message, format!("horus check {shown}"))
    })?;
    let services = &checked.plan.services;
    let mut known = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for name in services.keys() {
        let after = |name: &ServiceName| services.get(name).map_or(&[][..], |service| &service.after[..]);
        // Nobody waits for what others have started.
        let ours = |name: &ServiceName| services.get(name).filter(|service| service.owner.is_keeper());
        let grace = |name: &ServiceName| ours(name).map_or(Duration::ZERO, |service| service.stop.grace);
        longest = longest.max(chain(name, &after, &grace, &mut known));
    }
    Ok(longest)
}

/// Who started after somebody is ended before them: graces add up along the chain.
fn chain<'a>(
    name: &'a ServiceName,
    after: &impl Fn(&ServiceName) -> &'a [ServiceName],
    grace: &impl Fn(&ServiceName) -> Duration,
    known: &mut BTreeMap<&'a ServiceName, Duration>,
) -> Duration {
    if let Some(length) = known.get(name) {
        return *length;
    }
    // A circle is refused by the check; should one come through, it is walked once.
    known.insert(name, Duration::ZERO);
    let before = after(name).iter().map(|other| chain(other, after, grace, known)).max();
    let length = grace(name).saturating_add(before.unwrap_or_default());
    known.insert(name, length);
    length
}

fn followed(path: &Path) -> Result<Traced, Fault> {
    Traced::follow(path).map_err(|error| {
        let message = format!("{} cannot be looked at", path.display());
        Fault::new(ExitStatus::NoInput, message, "sudo horus install --system").because(&error)
    })
}

fn unknown_self(error: &std::io::Error) -> Fault {
    let hint = "type the whole path: /usr/local/bin/horus install";
    Fault::new(ExitStatus::Failed, "the path of this program is not known", hint).because(error)
}

fn refused(refusal: &Refusal) -> Fault {
    Fault::new(ExitStatus::Failed, refusal.to_string(), refusal.hint())
}

pub(super) fn no_answer(error: &RunError) -> Fault {
    let hint = "is this a machine with systemd or launchd? `horus run` needs neither";
    Fault::new(ExitStatus::Failed, "the service manager does not answer", hint).because(error)
}

/// Shows the plan, or does it. `settled`: what is so when nothing is left to do.
fn carry_out(plan: &Plan, manner: Manner, settled: &str, output: &Output) -> Result<ExitStatus, Fault> {
    let report = PlanReport { schema: PLAN_SCHEMA, dry_run: manner.dry_run, plan };
    if manner.dry_run {
        output.data(if manner.json { json(&report, true)? } else { shown(plan, settled) })?;
        return Ok(ExitStatus::Done);
    }
    let mut failed_output = Ok(());
    let mut runner = SystemRunner;
    let executed = Executor::new(&mut runner).execute(plan, |step, done| {
        let word = if done == Done::Changed { "done  " } else { "was so" };
        let line = format!("{word}  {}\n", clean(&step.action.to_string()));
        // The work goes on when nobody reads.
        failed_output = output.note(&line);
    });
    if let Err(error) = executed {
        let hint = error.hint(plan);
        let fault = Fault::new(ExitStatus::Failed, error.to_string(), hint);
        return Err(match std::error::Error::source(&error) {
            Some(source) => fault.because(source),
            None => fault,
        });
    }
    failed_output?;
    output.data(if manner.json { json(&report, true)? } else { told(plan, settled) })?;
    Ok(ExitStatus::Done)
}

/// The dry run: each step with its reason, then the files.
fn shown(plan: &Plan, settled: &str) -> String {
    if plan.steps.is_empty() {
        return told(plan, settled);
    }
    let mut out = format!("{}; would do (this was a dry run):\n", plan.target);
    for step in &plan.steps {
        out += &format!("  {}\n      {}\n", clean(&step.action.to_string()), clean(&step.why));
    }
    out += &notes(plan);
    for step in &plan.steps {
        if let Action::WriteFile { path, content } = &step.action {
            let lines: String =
                content.lines().map(|line| format!("  {}\n", line.replace('\t', "  "))).collect();
            out += &format!("\n{}:\n{lines}", clean(&path.display().to_string()));
        }
    }
    out
}

/// What is so now.
fn told(plan: &Plan, settled: &str) -> String {
    let first = match plan.steps.len() {
        0 => format!("nothing to do: the {} {settled}\n", plan.target),
        _ => format!("the {} {settled}\n", plan.target),
    };
    first + &notes(plan)
}

fn notes(plan: &Plan) -> String {
    plan.notes.iter().map(|note| format!("  {}\n", clean(note))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    #[test]
    fn graces_add_up_along_the_longest_chain() {
        let names = ["a", "b", "c", "d"].map(name);
        // d after c after a, b alone; a circle between nobody.
        let after = |of: &ServiceName| match of.as_str() {
            "d" => &names[2..3],
            "c" => &names[0..1],
            _ => &[][..],
        };
        let grace = |of: &ServiceName| Duration::from_secs(if of.as_str() == "b" { 25 } else { 10 });
        let mut known = BTreeMap::new();
        let lengths = names.each_ref().map(|name| chain(name, &after, &grace, &mut known).as_secs());
        assert_eq!(lengths, [10, 25, 20, 30]);
        let circle = |_: &ServiceName| &names[0..1];
        assert_eq!(chain(&names[0], &circle, &grace, &mut BTreeMap::new()).as_secs(), 10);
    }

    #[test]
    fn root_means_the_machine_and_others_mean_themselves() {
        let account = |uid| Account { uid, ..Account::default() };
        let scope = |system, user| ScopeArgs { system, user };
        assert_eq!(target(scope(false, false), &account(0)).scope, Scope::System);
        assert_eq!(target(scope(false, false), &account(501)).scope, Scope::User);
        assert_eq!(target(scope(true, false), &account(501)).scope, Scope::System);
        assert_eq!(target(scope(false, true), &account(0)).scope, Scope::User);
    }
}
