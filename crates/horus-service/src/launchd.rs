//! Plans for launchd. The templates are the files in `plists/`, read and written as property lists, never as text.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::Value;

use crate::facts::{ASK_WITHIN, Account, Existing, Facts, Wanted, unit_path};
use crate::plan::{Action, Attempts, Plan, Refusal, Scope, Target, Until};
use crate::runner::{RunError, Runner};
use crate::systemd::{leave_nothing, owned, stop_within, trusted};

/// The daemon of the machine.
pub(crate) const DAEMON_LABEL: &str = "dev.horus.daemon";
/// The agent of a user.
pub(crate) const AGENT_LABEL: &str = "dev.horus.agent";

const DAEMON: &[u8] = include_bytes!("../../../plists/dev.horus.daemon.plist");
const AGENT: &[u8] = include_bytes!("../../../plists/dev.horus.agent.plist");

/// `bootstrap` ends with this ("Input/output error") while an earlier life of the job is still being taken apart.
const NOT_YET: i32 = 5;
/// How long launchd may take to start or forget a job.
const SOON: Duration = Duration::from_secs(60);

pub(crate) fn plist_path(target: Target, account: &Account) -> Option<PathBuf> {
    let folder = match target.scope {
        Scope::System => PathBuf::from("/Library/LaunchDaemons"),
        Scope::User => account.home.as_ref()?.join("Library/LaunchAgents"),
    };
    Some(folder.join(format!("{}.plist", target.unit())))
}

fn logs(target: Target, account: &Account) -> Option<PathBuf> {
    match target.scope {
        Scope::System => Some(PathBuf::from("/Library/Logs/Horus")),
        Scope::User => account.home.as_ref().map(|home| home.join("Library/Logs/Horus")),
    }
}

/// `system` or `gui/501`: who starts it.
pub(crate) fn domain(target: Target, account: &Account) -> String {
    match target.scope {
        Scope::System => "system".into(),
        Scope::User => format!("gui/{}", account.uid),
    }
}

/// `system/dev.horus.daemon`
pub(crate) fn service(target: Target, account: &Account) -> String {
    format!("{}/{}", domain(target, account), target.unit())
}

pub(crate) fn ask(
    target: Target,
    account: &Account,
    runner: &mut dyn Runner,
    existing: &mut Existing,
) -> Result<(), RunError> {
    let answer = runner.run(&owned(&["launchctl", "print", &service(target, account)]), ASK_WITHIN)?;
    existing.active = answer.succeeded();
    existing.enabled = existing.active;
    Ok(())
}

fn reachable(target: Target, facts: &Facts) -> Result<PathBuf, Refusal> {
    if target.scope == Scope::System && facts.account.uid != 0 {
        return Err(Refusal::NotRoot);
    }
    unit_path(target, &facts.account).ok_or(Refusal::NoHome)
}

pub(crate) fn install(target: Target, facts: &Facts, wanted: &Wanted) -> Result<Plan, Refusal> {
    let path = reachable(target, facts)?;
    if target.scope == Scope::System {
        trusted(&wanted.executable, "the program")?;
        trusted(&wanted.config, "the configuration")?;
    }
    let logs = logs(target, &facts.account).ok_or(Refusal::NoHome)?;
    let content = render(target, wanted, &logs)?;
    let changed = facts.existing.file.as_ref() != Some(&content);
    let loaded = facts.existing.active;
    let (domain, service) = (domain(target, &facts.account), service(target, &facts.account));
    let shown = path.display().to_string();

    let mut plan = Plan::new(target);
    if loaded && !changed {
        return Ok(plan);
    }
    plan.step("launchd makes the log, not its folder", Action::MakeDirectory { path: logs });
    if changed {
        if let Some(folder) = path.parent() {
            plan.step("lists of this kind live there", Action::MakeDirectory { path: folder.to_owned() });
        }
        plan.step("tells launchd how to run Horus", Action::WriteFile { path, content });
    }
    if loaded {
        bootout(&mut plan, &service, stop_within(wanted.stop_within));
        plan.note("launchd reads a changed list only when the job is loaded again: your programs end and start again");
    }
    plan.run("nothing forbids it", &["launchctl", "enable", &service], SOON);
    let argv = owned(&["launchctl", "bootstrap", &domain, &shown]);
    let attempts = Attempts::WhileItEndsWith(NOT_YET);
    plan.step("launchd loads and starts it", Action::Run { argv, within: SOON, attempts });
    let argv = owned(&["launchctl", "print", &service]);
    let until = Until::Prints("state = running".into());
    plan.step("Horus runs", Action::WaitUntil { argv, until, within: SOON });
    if target.scope == Scope::User {
        plan.note(
            "it runs while you are logged in at the screen; a Mac that nobody logs in to needs --system",
        );
    }
    Ok(plan)
}

pub(crate) fn uninstall(target: Target, facts: &Facts, purge: bool) -> Result<Plan, Refusal> {
    let path = reachable(target, facts)?;
    let mut plan = Plan::new(target);
    if facts.existing.active {
        // How long its programs may take is launchd's business: it has the number from the list.
        bootout(&mut plan, &service(target, &facts.account), stop_within(Duration::MAX));
    }
    if facts.existing.file.is_some() {
        plan.step("launchd forgets how to run Horus", Action::RemoveFile { path });
    }
    leave_nothing(&mut plan, facts, purge);
    if let Some(logs) = logs(target, &facts.account).filter(|_| facts.existing.file.is_some()) {
        if purge {
            plan.step("what Horus said", Action::RemoveTree { path: logs });
        } else {
            plan.note(format!("stays: {} with what Horus said", logs.display()));
        }
    }
    if let Some(config) = facts.existing.file.as_deref().and_then(config_of) {
        plan.note(format!("stays: {config}, which is yours"));
    }
    Ok(plan)
}

/// `bootout` returns before the job is gone.
fn bootout(plan: &mut Plan, service: &str, within: Duration) {
    let why = "your programs end in their order, then Horus";
    plan.run(why, &["launchctl", "bootout", service], SOON);
    let argv = owned(&["launchctl", "print", service]);
    plan.step("it is gone", Action::WaitUntil { argv, until: Until::Fails, within });
}

/// The template with this machine's paths and times.
fn render(target: Target, wanted: &Wanted, logs: &Path) -> Result<String, Refusal> {
    let text = |path: &Path| {
        let odd = Refusal::OddPath { path: path.to_owned(), what: "it is no UTF-8" };
        path.to_str().map(str::to_owned).ok_or(odd)
    };
    let template = if target.scope == Scope::System { DAEMON } else { AGENT };
    let Ok(Value::Dictionary(mut job)) = Value::from_reader_xml(Cursor::new(template)) else {
        return Err(Refusal::OddPath { path: "plists".into(), what: "the template is no property list" });
    };
    let words = [text(&wanted.executable.path)?, "run".into(), "--config".into(), text(&wanted.config.path)?];
    let log = text(&logs.join("horus.log"))?;
    let seconds = stop_within(wanted.stop_within).as_secs();
    job.insert("ProgramArguments".into(), Value::Array(words.into_iter().map(Value::String).collect()));
    job.insert("ExitTimeOut".into(), Value::Integer(seconds.into()));
    job.insert("StandardOutPath".into(), Value::String(log.clone()));
    job.insert("StandardErrorPath".into(), Value::String(log));
    let mut xml = Vec::new();
    // Writing into memory fails for no reason that a person could mend.
    let odd = |_| Refusal::OddPath { path: wanted.config.path.clone(), what: "no property list can hold it" };
    Value::Dictionary(job).to_writer_xml(&mut xml).map_err(odd)?;
    xml.push(b'\n');
    Ok(String::from_utf8_lossy(&xml).into_owned())
}

/// The configuration that a list names.
fn config_of(list: &str) -> Option<String> {
    let Ok(Value::Dictionary(job)) = Value::from_reader_xml(Cursor::new(list.as_bytes())) else {
        return None;
    };
    let words = job.get("ProgramArguments")?.as_array()?;
    let at = words.iter().position(|word| word.as_string() == Some("--config"))?;
    words.get(at + 1)?.as_string().map(str::to_owned)
}
