//! How the service itself is, in the words of its manager.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::facts::{ASK_WITHIN, Account};
use crate::launchd;
use crate::plan::{Manager, Target};
use crate::runner::{RunError, Runner};
use crate::systemd::{UNIT, owned, systemctl};

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The manager does not know it.
    NotInstalled,
    /// It is there and does not run.
    Stopped,
    /// It is being started, stopped, or waits for its next try.
    Changing,
    /// It runs.
    Running,
    /// It ended with a failure and is not tried again.
    Failed,
}

/// How the service is. What a manager does not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Which.
    pub target: Target,
    /// The name by which the manager knows it.
    pub unit: String,
    /// In one word.
    pub state: State,
    /// In the manager's words.
    pub detail: String,
    /// What tells the manager how to run it.
    pub file: Option<PathBuf>,
    /// It is started with the machine or the session.
    pub enabled: Option<bool>,
    /// Its process.
    pub pid: Option<i32>,
    /// Since when it is in this state, as the manager writes it.
    pub since: Option<String>,
    /// How often the manager has started it again.
    pub restarts: Option<u64>,
    /// Descriptors that the manager keeps for it.
    pub kept_descriptors: Option<u64>,
    /// How many it would keep; 0: none.
    pub keeps_at_most: Option<u64>,
    /// How often it has to beat, in milliseconds; 0: never.
    pub watchdog_ms: Option<u64>,
    /// What it says of itself.
    pub says: Option<String>,
    /// Its file was changed and not read since.
    pub needs_reload: Option<bool>,
    /// The program that the manager starts.
    pub program: Option<PathBuf>,
    /// Its process executes another file than the one that stands there now.
    pub runs_another: Option<bool>,
    /// What a service that `horus install` made has and this one has not.
    pub lacks: Vec<Lack>,
}

/// A setting that is missing, and what is lost without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// As it would stand in the unit.
    pub setting: &'static str,
    /// What cannot be relied on.
    pub loss: &'static str,
}

impl Lack {
    /// What to type.
    pub fn hint(&self) -> &'static str {
        if *self == FULL { "systemctl edit horus.service" } else { "horus install" }
    }
}

/// A promise that needs the manager.
struct Need {
    /// The name under which the manager shows it.
    shown: &'static str,
    /// Values with which the promise is kept. `None`: whatever is not nothing.
    good: Option<&'static [&'static str]>,
    lack: Lack,
}

const NEEDS: [Need; 7] = [
    Need {
        shown: "Type",
        good: Some(&["notify", "notify-reload"]),
        lack: Lack { setting: "Type=notify", loss: "systemd does not know whether Horus is ready or hangs" },
    },
    Need {
        shown: "Restart",
        good: Some(&["always", "on-failure"]),
        lack: Lack { setting: "Restart=always", loss: "a Horus that died is not started again" },
    },
    Need {
        shown: "WatchdogUSec",
        good: None,
        lack: Lack { setting: "WatchdogSec=30s", loss: "a Horus that hangs is not replaced" },
    },
    Need {
        shown: "KillMode",
        good: Some(&["process", "none"]),
        lack: Lack {
            setting: "KillMode=process",
            loss: "programs that are in the unit's group end with each restart of Horus",
        },
    },
    Need {
        shown: "RuntimeDirectoryPreserve",
        good: Some(&["yes", "restart"]),
        lack: Lack {
            setting: "RuntimeDirectoryPreserve=yes",
            loss: "a restart takes away the records and pipes of what runs",
        },
    },
    Need {
        shown: "Delegate",
        good: Some(&["yes"]),
        lack: Lack {
            setting: "Delegate=yes",
            loss: "where there is no scope, programs have no groups either",
        },
    },
    Need {
        shown: "FileDescriptorStoreMax",
        good: None,
        lack: Lack {
            setting: "FileDescriptorStoreMax=8192",
            loss: "last words and exit status of a program that ends while Horus and its keeper are both dead",
        },
    },
];

/// The store has room for no more.
const FULL: Lack = Lack {
    setting: "a higher FileDescriptorStoreMax",
    loss: "the store is full: last words and exit status of some programs, if they end while Horus and its keeper are both dead",
};

/// Asks the manager.
///
/// # Errors
/// It gives no answer.
pub fn status(target: Target, account: &Account, runner: &mut dyn Runner) -> Result<ServiceStatus, RunError> {
    match target.manager {
        Manager::Systemd => {
            let argv = owned(&systemctl(target.scope, &["show", UNIT, PROPERTIES, "--no-pager"]));
            let mut status = of_systemd(target, &runner.run(&argv, ASK_WITHIN)?.text);
            status.runs_another = runs_another(&status);
            Ok(status)
        }
        Manager::Launchd => {
            let argv = owned(&["launchctl", "print", &launchd::service(target, account)]);
            let answer = runner.run(&argv, ASK_WITHIN)?;
            Ok(of_launchd(target, answer.succeeded().then_some(&answer.text)))
        }
    }
}

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,UnitFileState,FragmentPath,MainPID,NRestarts,\
                          StateChangeTimestamp,NFileDescriptorStore,WatchdogUSec,StatusText,NeedDaemonReload,ExecStart,\
                          Type,Restart,KillMode,RuntimeDirectoryPreserve,Delegate,FileDescriptorStoreMax";

/// Looks at the process and at the file. `None` if either cannot be seen.
fn runs_another(status: &ServiceStatus) -> Option<bool> {
    let number = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let runs = number(Path::new(&format!("/proc/{}/exe", status.pid?)))?;
    // A file that is not there is not what runs.
    Some(number(status.program.as_ref()?) != Some(runs))
}

/// `{ path=/usr/bin/horus ; argv[]=/usr/bin/horus run ; ... }`
fn program_in(exec_start: &str) -> Option<PathBuf> {
    let (_, path) = exec_start.split_once("path=")?;
    path.split(" ;").next().filter(|path| path.starts_with('/')).map(PathBuf::from)
}

fn lacks<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Vec<Lack> {
    let missing = |need: &&Need| {
        // What this systemd does not show cannot be missed.
        value(need.shown).is_some_and(|shown| match need.good {
            Some(good) => !good.contains(&shown),
            None => ["0", "infinity"].contains(&shown),
        })
    };
    let number = |name| value(name).and_then(|text| text.parse::<u64>().ok());
    let most = number("FileDescriptorStoreMax").filter(|most| *most > 0);
    let full = most.zip(number("NFileDescriptorStore")).is_some_and(|(most, kept)| kept >= most);
    NEEDS.iter().filter(missing).map(|need| need.lack).chain(full.then_some(FULL)).collect()
}

fn of_systemd(target: Target, shown: &str) -> ServiceStatus {
    let value = |name: &str| {
        let values = shown.lines().filter_map(|line| line.split_once('='));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).find(|value| !value.is_empty())
    };
    let number = |name| value(name).and_then(|text| text.parse::<u64>().ok());
    let active = value("ActiveState").unwrap_or_default();
    let state = match (value("LoadState"), active) {
        (Some("loaded"), "active" | "reloading") => State::Running,
        (Some("loaded"), "activating" | "deactivating") => State::Changing,
        (Some("loaded"), "failed") => State::Failed,
        (Some("loaded"), _) => State::Stopped,
        // A unit whose file was removed under it may still run.
        (_, "active") => State::Running,
        _ => State::NotInstalled,
    };
    let result = value("Result").filter(|result| *result != "success");
    let words = [Some(active), value("SubState"), result];
    ServiceStatus {
        target,
        unit: UNIT.to_owned(),
        state,
        detail: words.into_iter().flatten().collect::<Vec<_>>().join(", "),
        file: value("FragmentPath").map(PathBuf::from),
        enabled: value("UnitFileState").map(|state| state.starts_with("enabled")),
        pid: number("MainPID").filter(|pid| *pid > 0).and_then(|pid| i32::try_from(pid).ok()),
        since: value("StateChangeTimestamp").map(str::to_owned),
        restarts: number("NRestarts"),
        kept_descriptors: number("NFileDescriptorStore"),
        watchdog_ms: value("WatchdogUSec").and_then(milliseconds),
        says: value("StatusText").map(str::to_owned),
        needs_reload: value("NeedDaemonReload").map(|answer| answer == "yes"),
        keeps_at_most: number("FileDescriptorStoreMax"),
        program: value("ExecStart").and_then(program_in),
        runs_another: None,
        lacks: if value("LoadState") == Some("loaded") { lacks(value) } else { Vec::new() },
    }
}

/// systemd writes lengths of time as `1min 30s`, and `infinity` for none.
fn milliseconds(text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(0);
    }
    let mut sum: u64 = 0;
    for word in text.split_whitespace() {
        let split = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let (number, unit) = word.split_at(split);
        let scale: u64 = match unit {
            "us" => return number.parse::<u64>().ok().map(|micros| sum + micros / 1_000),
            "ms" => 1,
            "s" => 1_000,
            "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if number == "0" => 0,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let part: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        sum = sum
            .checked_add(whole.parse::<u64>().ok()?.checked_mul(scale)?)?
            .checked_add(part * scale / 1_000)?;
    }
    Some(sum)
}

fn of_launchd(target: Target, printed: Option<&String>) -> ServiceStatus {
    // The first of each name: below it stand those of the job's parts.
    let value = |name: &str| {
        let lines = printed.into_iter().flat_map(|text| text.lines());
        lines
            .filter_map(|line| line.trim().split_once(" = "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    };
    let told = value("state").unwrap_or_default();
    let state = match (printed, told) {
        (None, _) => State::NotInstalled,
        (_, "running") => State::Running,
        (_, "spawn scheduled" | "spawning") => State::Changing,
        _ => State::Stopped,
    };
    let last = value("last exit code").filter(|code| *code != "(never exited)");
    let detail = match last {
        Some(code) => format!("{told}, last ended with {code}"),
        None => told.to_owned(),
    };
    ServiceStatus {
        target,
        unit: target.unit().to_owned(),
        state,
        detail,
        file: value("path").map(PathBuf::from),
        enabled: printed.map(|_| true),
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        since: None,
        restarts: value("runs").and_then(|runs| runs.parse::<u64>().ok()).map(|runs| runs.saturating_sub(1)),
        kept_descriptors: None,
        watchdog_ms: None,
        says: None,
        needs_reload: None,
        keeps_at_most: None,
        program: None,
        runs_another: None,
        lacks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Scope;

    const SHOWN: &str = "Result=success\nNRestarts=2\nMainPID=4711\nWatchdogUSec=30s\nLoadState=loaded\nActiveState=active\n\
        SubState=running\nFragmentPath=/etc/systemd/system/horus.service\nUnitFileState=enabled\nStatusText=3 services, 3 healthy\n\
        StateChangeTimestamp=Sun 2026-11-22 10:00:00 UTC\nNFileDescriptorStore=6\nNeedDaemonReload=no\n\
        ExecStart={ path=/usr/bin/horus ; argv[]=/usr/bin/horus run ; ignore_errors=no ; pid=4711 }\nType=notify\nRestart=always\n\
        KillMode=process\nRuntimeDirectoryPreserve=yes\nDelegate=yes\nFileDescriptorStoreMax=8192\n";

    fn systemd() -> Target {
        Target { manager: Manager::Systemd, scope: Scope::System }
    }

    #[test]
    fn what_systemd_shows_is_read() {
        let status = of_systemd(systemd(), SHOWN);
        assert_eq!((status.state, status.pid, status.restarts), (State::Running, Some(4711), Some(2)));
        assert_eq!((status.watchdog_ms, status.kept_descriptors), (Some(30_000), Some(6)));
        assert_eq!(status.says.as_deref(), Some("3 services, 3 healthy"));
        assert_eq!((status.enabled, status.needs_reload), (Some(true), Some(false)));
        assert_eq!(status.detail, "active, running");
        assert_eq!((status.keeps_at_most, status.lacks), (Some(8_192), vec![]));
        assert_eq!(status.program, Some(PathBuf::from("/usr/bin/horus")));
    }

    #[test]
    fn what_a_unit_of_an_older_hand_lacks_is_named() {
        let shown = SHOWN
            .replace("=8192", "=0")
            .replace("KillMode=process", "KillMode=control-group")
            .replace("WatchdogUSec=30s", "WatchdogUSec=infinity");
        let settings: Vec<_> = of_systemd(systemd(), &shown).lacks.iter().map(|lack| lack.setting).collect();
        assert_eq!(settings, ["WatchdogSec=30s", "KillMode=process", "FileDescriptorStoreMax=8192"]);
        let full = of_systemd(systemd(), &SHOWN.replace("=8192", "=6"));
        assert_eq!(full.lacks, [FULL]);
        // An older systemd shows less, and one that has no such unit shows nothing that could be missed.
        let silent = SHOWN.replace("Delegate=yes\n", "");
        assert_eq!(of_systemd(systemd(), &silent).lacks, []);
        assert_eq!(of_systemd(systemd(), "LoadState=not-found\nType=simple\n").lacks, []);
    }

    #[test]
    fn a_program_that_was_replaced_under_its_process_is_seen() {
        let own = std::env::current_exe().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let status = |program: &Path| {
            let mut status = of_systemd(systemd(), SHOWN);
            (status.pid, status.program) = (Some(pid), Some(program.to_owned()));
            status
        };
        assert_eq!(runs_another(&status(&own)), Some(false));
        for other in ["/bin/sh", "/no/such/file"] {
            assert_eq!(runs_another(&status(Path::new(other))), Some(true), "{other}");
        }
        assert_eq!(runs_another(&of_systemd(systemd(), "")), None);
    }

    #[test]
    fn a_unit_that_is_not_there_and_one_that_failed_are_told_apart() {
        let none = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nUnitFileState=\n";
        let status = of_systemd(systemd(), none);
        assert_eq!((status.state, status.pid, status.enabled), (State::NotInstalled, None, None));
        let failed = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nMainPID=0\n";
        let status = of_systemd(systemd(), failed);
        assert_eq!((status.state, status.detail.as_str()), (State::Failed, "failed, failed, exit-code"));
    }

    #[test]
    fn lengths_of_time_are_read_as_systemd_writes_them() {
        for (text, wanted) in [
            ("30s", Some(30_000)),
            ("1min 30s", Some(90_000)),
            ("1.5s", Some(1_500)),
            ("infinity", Some(0)),
            ("0", Some(0)),
            ("soon", None),
        ] {
            assert_eq!(milliseconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_launchd_prints_is_read() {
        let printed = "system/dev.horus.daemon = {\n\tactive count = 1\n\tpath = /Library/LaunchDaemons/dev.horus.daemon.plist\n\
            \tstate = running\n\n\tprogram = /usr/local/bin/horus\n\truns = 3\n\tpid = 512\n\tlast exit code = 1\n\tspawn = {\n\t\tstate = x\n\t}\n}\n";
        let target = Target { manager: Manager::Launchd, scope: Scope::System };
        let status = of_launchd(target, Some(&printed.to_owned()));
        assert_eq!((status.state, status.pid, status.restarts), (State::Running, Some(512), Some(2)));
        assert_eq!(status.detail, "running, last ended with 1");
        assert_eq!(of_launchd(target, None).state, State::NotInstalled);
    }
}
