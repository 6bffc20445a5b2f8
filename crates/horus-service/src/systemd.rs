//! Plans for systemd. The templates are the files in `systemd/`; four lines of them are this machine's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::facts::{ASK_WITHIN, Account, Existing, Facts, Traced, Wanted, unit_path as path_of};
use crate::plan::{Action, Attempts, Plan, Refusal, Scope, Target, Until};
use crate::runner::{RunError, Runner};
use crate::trust::distrust;

/// The unit's name, of the machine and of a user alike.
pub(crate) const UNIT: &str = "horus.service";

const SYSTEM_UNIT: &str = include_str!("../../../systemd/horus.service");
const USER_UNIT: &str = include_str!("../../../systemd/horus-user.service");

/// Where packages put units.
const PACKAGED_IN: [&str; 3] = ["/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"];

/// The templates' `TimeoutStartSec`, and what it takes to say that it was not enough.
const START_WITHIN: Duration = Duration::from_secs(100);
/// The templates' `TimeoutStopSec`: never less.
const STOP_WITHIN_MIN: Duration = Duration::from_secs(120);
/// What Horus itself may need after the last of its programs has ended.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Most time for ending everything that a unit is given, in spite of what the configuration sums up to.
const STOP_WITHIN_MAX: Duration = Duration::from_secs(30 * 60);
/// Everything that is quick or broken.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn unit_path(target: Target, account: &Account) -> Option<PathBuf> {
    match target.scope {
        Scope::System => Some(Path::new("/etc/systemd/system").join(UNIT)),
        Scope::User => account.home.as_ref().map(|home| home.join(".config/systemd/user").join(UNIT)),
    }
}

pub(crate) fn packaged_paths(target: Target) -> Vec<PathBuf> {
    if target.manager != crate::Manager::Systemd {
        return Vec::new();
    }
    PACKAGED_IN.iter().map(|base| Path::new(base).join(folder(target.scope)).join(UNIT)).collect()
}

/// `systemctl`, speaking to the right manager.
pub(crate) fn systemctl<'a>(scope: Scope, words: &[&'a str]) -> Vec<&'a str> {
    let user = (scope == Scope::User).then_some("--user");
    std::iter::once("systemctl").chain(user).chain(words.iter().copied()).collect()
}

pub(crate) fn owned(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn ask(
    target: Target,
    account: &Account,
    runner: &mut dyn Runner,
    existing: &mut Existing,
) -> Result<(), RunError> {
    let mut says =
        |argv: &[&str]| runner.run(&owned(argv), ASK_WITHIN).map(|answer| answer.text.trim().to_owned());
    existing.enabled = says(&systemctl(target.scope, &["is-enabled", UNIT]))?.starts_with("enabled");
    let state = says(&systemctl(target.scope, &["is-active", UNIT]))?;
    existing.active = ["active", "activating", "reloading"].contains(&state.as_str());
    if target.scope == Scope::User {
        let linger = ["loginctl", "show-user", &account.name, "--property=Linger", "--value"];
        // Without logind nobody lingers, and nobody asked.
        existing.lingers = says(&linger).is_ok_and(|text| text == "yes");
    }
    Ok(())
}

/// What keeps anybody from changing this service at all.
fn reachable(target: Target, facts: &Facts) -> Result<PathBuf, Refusal> {
    if target.scope == Scope::System && facts.account.uid != 0 {
        return Err(Refusal::NotRoot);
    }
    if !facts.manager_runs {
        return Err(Refusal::NoSystemd);
    }
    if target.scope == Scope::User && facts.account.runtime_directory.is_none() {
        return Err(Refusal::NoUserManager { name: facts.account.name.clone() });
    }
    let path = path_of(target, &facts.account).ok_or(Refusal::NoHome)?;
    let foreign = |text: &String| text.lines().next() != template(target.scope).lines().next();
    if facts.existing.file.as_ref().is_some_and(foreign) {
        return Err(Refusal::ForeignFile(path));
    }
    Ok(path)
}

pub(crate) fn install(target: Target, facts: &Facts, wanted: &Wanted) -> Result<Plan, Refusal> {
    let path = reachable(target, facts)?;
    if target.scope == Scope::System {
        trusted(&wanted.executable, "the program")?;
        trusted(&wanted.config, "the configuration")?;
    }
    let content = render(target.scope, wanted)?;
    let Existing { file, packaged, enabled, active, lingers, .. } = &facts.existing;
    let in_force = file.as_ref().or(packaged.as_ref().map(|(_, text)| text));
    let changed = in_force != Some(&content);

    let mut plan = Plan::new(target);
    let ctl = |words: &[&'static str]| systemctl(target.scope, words);
    if changed {
        if let Some(folder) = path.parent() {
            plan.step("units of this kind live there", Action::MakeDirectory { path: folder.to_owned() });
        }
        if let Some((packaged, _)) = packaged {
            plan.note(format!("it stands before the one of the package, {}", packaged.display()));
        }
        plan.step("tells systemd how to run Horus", Action::WriteFile { path, content });
        plan.run("systemd reads it", &ctl(&["daemon-reload"]), SOON);
    }
    if !enabled {
        let when = if target.scope == Scope::System { "the machine" } else { "your session" };
        plan.run(format!("it starts with {when}"), &ctl(&["enable", UNIT]), SOON);
    }
    let stop_within = stop_within(wanted.stop_within);
    if !active {
        plan.run("Horus runs, and says that it is ready", &ctl(&["start", UNIT]), START_WITHIN);
    } else if changed {
        let within = START_WITHIN + stop_within;
        plan.run("what was written is in force", &ctl(&["restart", UNIT]), within);
    }
    if wanted.linger && target.scope == Scope::User && !lingers {
        let argv = ["loginctl", "enable-linger", &facts.account.name];
        plan.run("it goes on without a session", &argv, SOON);
    } else if target.scope == Scope::User && !lingers {
        plan.note("it ends with your last session; `horus install --user --linger` makes it go on");
    }
    if !plan.steps.is_empty() {
        let argv = owned(&ctl(&["is-active", "--quiet", UNIT]));
        let wait = Action::WaitUntil { argv, until: Until::Succeeds, within: SOON };
        plan.step("it did not end at once", wait);
    }
    Ok(plan)
}

pub(crate) fn uninstall(target: Target, facts: &Facts, purge: bool) -> Result<Plan, Refusal> {
    let path = reachable(target, facts)?;
    let Existing { file, packaged, enabled, active, .. } = &facts.existing;
    let mut plan = Plan::new(target);
    let ctl = |words: &[&'static str]| systemctl(target.scope, words);
    match (file, packaged) {
        (None, Some((packaged, _))) => return Err(Refusal::Packaged(packaged.clone())),
        (Some(_), Some((packaged, _))) => {
            plan.note(format!("stays: {}, which came with a package", packaged.display()));
        }
        _ => {}
    }
    if file.is_some() || *active {
        if *active {
            let why = "your programs end in their order, then Horus";
            plan.run(why, &ctl(&["stop", UNIT]), STOP_WITHIN_MAX + SOON);
        }
        if *enabled {
            plan.run("it is not started again", &ctl(&["disable", UNIT]), SOON);
        }
        plan.step("systemd forgets how to run Horus", Action::RemoveFile { path });
        plan.run("systemd notices", &ctl(&["daemon-reload"]), SOON);
        let argv = owned(&ctl(&["reset-failed", UNIT]));
        let action = Action::Run { argv, within: SOON, attempts: Attempts::OnceAndNeverMind };
        plan.step("no failure of it is remembered", action);
    }
    leave_nothing(&mut plan, facts, purge);
    if let Some(config) = file.as_deref().and_then(config_of) {
        plan.note(format!("stays: {config}, which is yours"));
    }
    for path in &facts.existing.own_settings {
        plan.note(format!("stays: {}, with settings of yours", path.display()));
    }
    if facts.existing.lingers {
        plan.note(format!(
            "stays: lingering; if nothing else needs it: loginctl disable-linger {}",
            facts.account.name
        ));
    }
    Ok(plan)
}

/// The directories that Horus chose itself. What a configuration names elsewhere is not looked for.
pub(crate) fn leave_nothing(plan: &mut Plan, facts: &Facts, purge: bool) {
    let Existing { run_directories, run_directory_in_use, state_directory, .. } = &facts.existing;
    if *run_directory_in_use {
        plan.note("stays: the run directory; a Horus that is no service works in it");
    } else {
        for path in run_directories {
            plan.step("records of this boot", Action::RemoveTree { path: path.clone() });
        }
    }
    match state_directory {
        Some(path) if *run_directory_in_use && purge => {
            plan.note(format!("stays: {}; a Horus that is no service works in it", path.display()));
        }
        Some(path) if purge => {
            plan.step("journal, evidence and logs", Action::RemoveTree { path: path.clone() })
        }
        Some(path) => plan.note(format!(
            "stays: {} with journal, evidence and logs; `horus uninstall --purge` removes it",
            path.display()
        )),
        None => {}
    }
}

/// Root runs nothing that somebody else could replace.
pub(crate) fn trusted(traced: &Traced, what: &str) -> Result<(), Refusal> {
    let found = distrust(&traced.chain);
    if found.is_empty() {
        return Ok(());
    }
    let path = traced.path.display();
    let hint = match what {
        "the program" => format!(
            "sudo install -m 755 {path} /usr/local/bin/horus, then: sudo /usr/local/bin/horus install --system; or \
             horus install --user"
        ),
        _ => format!(
            "sudo install -D -m 600 {path} /etc/horus/watchdog.toml, then leave --config out; or horus install --user"
        ),
    };
    let why = found.into_iter().map(|entry| format!("{} {}", entry.path.display(), entry.what)).collect();
    Err(Refusal::NotOurs { path: traced.path.clone(), why, hint })
}

fn folder(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "system",
        Scope::User => "user",
    }
}

fn template(scope: Scope) -> &'static str {
    match scope {
        Scope::System => SYSTEM_UNIT,
        Scope::User => USER_UNIT,
    }
}

/// What the manager waits for a stop.
pub(crate) fn stop_within(programs: Duration) -> Duration {
    programs.saturating_add(STOP_MARGIN).clamp(STOP_WITHIN_MIN, STOP_WITHIN_MAX)
}

/// The template with this machine's paths and times.
pub(crate) fn render(scope: Scope, wanted: &Wanted) -> Result<String, Refusal> {
    let program = plain(&wanted.executable.path)?;
    let config = quoted(&wanted.config.path)?;
    let user = if scope == Scope::User { " --user" } else { "" };
    let environment = wanted.config.path.with_file_name("environment");
    let line = |line: &str| {
        let key = line.split_once('=').map_or("", |(key, _)| key);
        Ok(match key {
            "ExecStart" => format!("ExecStart={program} run --config {config}\n"),
            "ExecReload" => format!("ExecReload={program} reload --config {config}\n"),
            "ExecStopPost" => format!("ExecStopPost={program} stop-post{user}\n"),
            "EnvironmentFile" => format!("EnvironmentFile=-{}\n", specifiers(&environment)?),
            "TimeoutStopSec" => format!("TimeoutStopSec={}s\n", stop_within(wanted.stop_within).as_secs()),
            _ => format!("{line}\n"),
        })
    };
    template(scope).lines().map(line).collect()
}

/// The first word of `ExecStart` knows no variables and few quotes: it has to be plain.
fn plain(path: &Path) -> Result<&str, Refusal> {
    let odd = |what| Refusal::OddPath { path: path.to_owned(), what };
    let text = path.to_str().ok_or(odd("it is no UTF-8"))?;
    let good = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.starts_with('/') && text.chars().all(good) {
        Ok(text)
    } else {
        Err(odd("systemd would read some of its characters as something else"))
    }
}

/// A path in a place that knows `%` and nothing else.
fn specifiers(path: &Path) -> Result<String, Refusal> {
    let odd = |what| Refusal::OddPath { path: path.to_owned(), what };
    let text = path.to_str().ok_or(odd("it is no UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(odd("there is a control character in it"));
    }
    Ok(text.replace('%', "%%"))
}

/// A word of a command line of systemd.
fn quoted(path: &Path) -> Result<String, Refusal> {
    let text = specifiers(path)?.replace('\\', r"\\").replace('"', "\\\"").replace('$', "$$");
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%=:,".contains(c);
    Ok(if text.chars().all(plain) { text } else { format!("\"{text}\"") })
}

/// The configuration that a unit names, as it stands there.
fn config_of(unit: &str) -> Option<&str> {
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    command.split_once("--config ").map(|(_, config)| config.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(config: &str) -> Wanted {
        let traced = |path: &str| Traced { path: path.into(), chain: Vec::new() };
        Wanted {
            executable: traced("/usr/bin/horus"),
            config: traced(config),
            stop_within: Duration::from_secs(10),
            linger: false,
        }
    }

    #[test]
    fn the_templates_are_what_is_written_for_the_usual_paths() {
        assert_eq!(render(Scope::System, &wanted("/etc/horus/watchdog.toml")).unwrap(), SYSTEM_UNIT);
        // The user's home is written out, so that the unit says the same to everybody who reads it.
        let user = render(Scope::User, &wanted("/home/ann/.config/horus/watchdog.toml")).unwrap();
        assert_eq!(user, USER_UNIT.replace("%h", "/home/ann"));
    }

    #[test]
    fn what_systemd_would_read_otherwise_is_escaped() {
        let text = render(Scope::System, &wanted("/etc/50% off $HOME \"x\".toml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(line, r#"ExecStart=/usr/bin/horus run --config "/etc/50%% off $$HOME \"x\".toml""#);
        assert!(render(Scope::System, &wanted("/etc/a\nExecStartPre=/bin/evil")).is_err());
    }

    #[test]
    fn a_program_with_an_odd_name_is_refused() {
        for odd in ["/opt/my horus", "horus", "/opt/$x", "/opt/%i"] {
            assert!(plain(Path::new(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_time_to_stop_has_limits() {
        assert_eq!(stop_within(Duration::from_secs(5)), STOP_WITHIN_MIN);
        assert_eq!(stop_within(Duration::from_secs(300)), Duration::from_secs(330));
        assert_eq!(stop_within(Duration::MAX), STOP_WITHIN_MAX);
    }
}
