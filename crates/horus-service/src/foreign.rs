//! Programs that a service manager runs for somebody else: how they stand, and the words by which they are restarted.
//!
//! Asked by `systemctl show` (one call for all units) and `launchctl print` (one call each), told by `systemctl restart` and
//! `launchctl kickstart -k`. Everything is an argument vector, no shell; orders do not wait for their outcome, because the next
//! look shows it and a manager carries an order out even if whoever gave it dies. What `launchctl print` says is no promise of
//! Apple's: it is read as it looks on macOS 12 to 15, and what is not understood is "absent", never "stopped".

use std::time::Duration;

use crate::plan::{Manager, Scope};
use crate::runner::{RunError, Runner};
use crate::systemd::{owned, systemctl};

/// How long a manager may take to say how its units stand.
const SHOW_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to accept an order.
const ORDER_WITHIN: Duration = Duration::from_secs(10);
/// Longest text of a manager that is passed on, in bytes.
const WORDS_MAX: usize = 200;

/// What is asked of systemd about each unit.
const PROPERTIES: &str =
    "--property=LoadState,ActiveState,SubState,MainPID,ExecMainPID,ExecMainCode,ExecMainStatus,Result,Job";

/// `launchctl print` of a label that it does not know.
const UNKNOWN_LABEL: i32 = 113;

/// One unit of one manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignUnit {
    /// Whose.
    pub scope: Scope,
    /// `postgresql.service`, or a label of launchd.
    pub name: String,
}

/// How a unit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The pid of its main process, if it has one.
    pub pid: Option<i32>,
    /// How it stands if it has none.
    pub rest: Rest,
    /// How the last main process ended, and which that was (0: the last one).
    pub ended: Option<(i32, End)>,
}

/// Why there is no main process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nobody wants one.
    Stopped,
    /// The manager has given it up.
    Failed(String),
    /// The manager is at it.
    Returning,
    /// It cannot be watched.
    Absent(String),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// What can be asked of a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start it; one that has failed, too.
    Start,
    /// End it and start it again.
    Restart,
    /// End it.
    Stop,
    /// SIGKILL for all of its processes.
    Kill,
}

/// Why a manager gave no answer, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It was not reached.
    #[error("{0}")]
    Run(#[from] RunError),
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// How the units stand, in their order.
///
/// # Errors
/// [`ForeignError`]: then nothing is known of any of them.
pub fn show(
    manager: Manager,
    units: &[ForeignUnit],
    uid: u32,
    runner: &mut dyn Runner,
) -> Result<Vec<Shown>, ForeignError> {
    match manager {
        Manager::Systemd => show_systemd(units, runner),
        Manager::Launchd => units.iter().map(|unit| show_launchd(unit, uid, runner)).collect(),
    }
}

/// Gives an order. That it was accepted is all that is known afterwards.
///
/// # Errors
/// [`ForeignError`]: it was not accepted.
pub fn order(
    manager: Manager,
    unit: &ForeignUnit,
    order: Order,
    uid: u32,
    runner: &mut dyn Runner,
) -> Result<(), ForeignError> {
    if (manager, order) == (Manager::Systemd, Order::Start) {
        // Else a unit that has failed too often is not started by anybody. That it has not failed is no fault.
        runner.run(&words(manager, unit, &["--no-ask-password", "reset-failed"], uid), ORDER_WITHIN)?;
    }
    let argv = match (manager, order) {
        (Manager::Systemd, Order::Start) => {
            words(manager, unit, &["--no-ask-password", "--no-block", "start"], uid)
        }
        (Manager::Systemd, Order::Restart) => {
            words(manager, unit, &["--no-ask-password", "--no-block", "restart"], uid)
        }
        (Manager::Systemd, Order::Stop) => {
            words(manager, unit, &["--no-ask-password", "--no-block", "stop"], uid)
        }
        (Manager::Systemd, Order::Kill) => {
            words(manager, unit, &["--no-ask-password", "--signal=SIGKILL", "kill"], uid)
        }
        (Manager::Launchd, Order::Start) => words(manager, unit, &["kickstart"], uid),
        (Manager::Launchd, Order::Restart) => words(manager, unit, &["kickstart", "-k"], uid),
        (Manager::Launchd, Order::Stop) => words(manager, unit, &["kill", "SIGTERM"], uid),
        (Manager::Launchd, Order::Kill) => words(manager, unit, &["kill", "SIGKILL"], uid),
    };
    let answer = runner.run(&argv, ORDER_WITHIN)?;
    if answer.succeeded() { Ok(()) } else { Err(ForeignError::Refused(short(&answer.text))) }
}

fn words(manager: Manager, unit: &ForeignUnit, verb: &[&str], uid: u32) -> Vec<String> {
    match manager {
        Manager::Systemd => owned(&systemctl(unit.scope, &[verb, &["--", &unit.name]].concat())),
        Manager::Launchd => {
            let target = target(unit, uid);
            owned(&[&["launchctl"], verb, &[target.as_str()]].concat())
        }
    }
}

fn target(unit: &ForeignUnit, uid: u32) -> String {
    match unit.scope {
        Scope::System => format!("system/{}", unit.name),
        Scope::User => format!("gui/{uid}/{}", unit.name),
    }
}

fn show_systemd(units: &[ForeignUnit], runner: &mut dyn Runner) -> Result<Vec<Shown>, ForeignError> {
    let mut all: Vec<Option<Shown>> = vec![None; units.len()];
    for scope in [Scope::System, Scope::User] {
        let of_scope = || units.iter().enumerate().filter(|(_, unit)| unit.scope == scope);
        let names: Vec<&str> = of_scope().map(|(_, unit)| unit.name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        let argv = owned(&systemctl(scope, &[&["show", PROPERTIES, "--"], names.as_slice()].concat()));
        let answer = runner.run(&argv, SHOW_WITHIN)?;
        let blocks: Vec<&str> =
            answer.text.trim().split("\n\n").filter(|block| block.contains("LoadState=")).collect();
        if !answer.succeeded() || blocks.len() != names.len() {
            return Err(ForeignError::Refused(short(&answer.text)));
        }
        for ((place, _), block) in of_scope().zip(blocks) {
            if let Some(shown) = all.get_mut(place) {
                *shown = Some(read_systemd(block));
            }
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// One block of `systemctl show`.
fn read_systemd(block: &str) -> Shown {
    let find = |key: &str| {
        block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().trim()
    };
    let number = |key: &str| find(key).parse::<i32>().ok().filter(|number| *number > 0);
    let pid = number("MainPID");
    let ended = number("ExecMainPID").and_then(|pid| {
        let status = find("ExecMainStatus").parse().ok()?;
        // The kernel's CLD_EXITED, CLD_KILLED, CLD_DUMPED.
        let end = match find("ExecMainCode") {
            "1" => End::Code(status),
            "2" | "3" => End::Signal(status),
            _ => return None,
        };
        Some((pid, end))
    });
    let has_job = number("Job").is_some();
    let rest = match (find("LoadState"), find("ActiveState")) {
        (_, "activating" | "deactivating" | "maintenance") => Rest::Returning,
        (_, "inactive" | "failed") if has_job => Rest::Returning,
        (_, "failed") => Rest::Failed(find("Result").to_owned()),
        ("not-found", _) => Rest::Absent("systemd knows no unit of that name".into()),
        ("masked", _) => Rest::Absent("it is masked".into()),
        ("loaded", "inactive") => Rest::Stopped,
        ("loaded", state) => {
            Rest::Absent(format!("it is {state} ({}), without a main process", find("SubState")))
        }
        (load, _) => Rest::Absent(format!("systemd cannot load it ({load}): systemctl status tells more")),
    };
    Shown { pid, rest, ended }
}

fn show_launchd(unit: &ForeignUnit, uid: u32, runner: &mut dyn Runner) -> Result<Shown, ForeignError> {
    let answer = runner.run(&words(Manager::Launchd, unit, &["print"], uid), SHOW_WITHIN)?;
    if answer.code == UNKNOWN_LABEL {
        let rest = Rest::Absent("launchd knows no job of that label in that domain".into());
        return Ok(Shown { pid: None, rest, ended: None });
    }
    if !answer.succeeded() {
        return Err(ForeignError::Refused(short(&answer.text)));
    }
    Ok(read_launchd(&answer.text))
}

/// What `launchctl print` says, of which only the lines one tab deep are about the job itself.
fn read_launchd(text: &str) -> Shown {
    let lines =
        || text.lines().filter_map(|line| line.strip_prefix('\t')).filter(|line| !line.starts_with('\t'));
    let find =
        |key: &str| lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).map(str::trim);
    let pid = find("pid").and_then(|text| text.parse().ok()).filter(|pid: &i32| *pid > 0);
    // `78: EX_CONFIG`, `0`, `(never exited)`
    let code = find("last exit code").and_then(|text| text.split(':').next()?.trim().parse().ok());
    // `Killed: 9`
    let signal =
        find("last terminating signal").and_then(|text| text.rsplit(':').next()?.trim().parse().ok());
    let end = signal.map(End::Signal).or(code.map(End::Code));
    let rest = match find("state") {
        Some("running" | "spawn scheduled" | "spawning" | "starting") => Rest::Returning,
        Some("not running" | "waiting" | "exited") => match end {
            None | Some(End::Code(0)) => Rest::Stopped,
            Some(End::Code(code)) => Rest::Failed(format!("exit code {code}")),
            Some(End::Signal(signal)) => Rest::Failed(format!("signal {signal}")),
        },
        Some(state) => Rest::Absent(format!("launchd calls it '{}'", short(state))),
        None => Rest::Absent("launchd does not say how it stands".into()),
    };
    Shown { pid, rest, ended: end.map(|end| (0, end)) }
}

/// The first line that says something, for people: the others say where to look.
fn short(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no answer");
    let mut end = line.len().min(WORDS_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::Answer;

    /// Answers by what is asked, and writes that down.
    struct Said {
        asked: Vec<String>,
        answers: Vec<(i32, &'static str)>,
    }

    impl Runner for Said {
        fn run(&mut self, argv: &[String], _: Duration) -> Result<Answer, RunError> {
            self.asked.push(argv.join(" "));
            let (code, text) = self.answers.remove(0);
            Ok(Answer { code, text: text.to_owned() })
        }

        fn pause(&mut self, _: Duration) {}
    }

    fn said(answers: &[(i32, &'static str)]) -> Said {
        Said { asked: Vec::new(), answers: answers.to_vec() }
    }

    fn unit(scope: Scope, name: &str) -> ForeignUnit {
        ForeignUnit { scope, name: name.to_owned() }
    }

    /// As systemd 252 printed it.
    const RUNNING: &str = "Result=success\nExecMainPID=214\nExecMainCode=0\nExecMainStatus=0\nMainPID=214\nLoadState=loaded\nActiveState=active\nSubState=running\n";

    #[test]
    fn one_call_tells_of_all_units_of_a_scope_in_their_order() {
        let gone = "MainPID=0\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nResult=success\nExecMainPID=0\nExecMainCode=0\nExecMainStatus=0\n";
        let both = Box::leak(format!("{RUNNING}\n{gone}").into_boxed_str());
        let mut runner = said(&[(0, both), (0, RUNNING)]);
        let units = [
            unit(Scope::System, "a.service"),
            unit(Scope::User, "u.service"),
            unit(Scope::System, "b.service"),
        ];
        let shown = show(Manager::Systemd, &units, 0, &mut runner).unwrap();
        assert_eq!(shown.iter().map(|shown| shown.pid).collect::<Vec<_>>(), [Some(214), Some(214), None]);
        assert!(matches!(&shown[2].rest, Rest::Absent(why) if why.contains("no unit")), "{shown:?}");
        assert_eq!(runner.asked[0], format!("systemctl show {PROPERTIES} -- a.service b.service"));
        assert_eq!(runner.asked[1], format!("systemctl --user show {PROPERTIES} -- u.service"));
    }

    #[test]
    fn every_state_of_systemd_has_its_word() {
        let state = |load: &str, active: &str, job: &str| {
            let block = format!(
                "LoadState={load}\nActiveState={active}\nSubState=x\nMainPID=0\nResult=exit-code\n{job}"
            );
            read_systemd(&block).rest
        };
        assert_eq!(state("loaded", "inactive", ""), Rest::Stopped);
        assert_eq!(state("loaded", "inactive", "Job=0\n"), Rest::Stopped);
        assert_eq!(state("loaded", "inactive", "Job=308\n"), Rest::Returning);
        assert_eq!(state("loaded", "activating", ""), Rest::Returning, "auto-restart");
        assert_eq!(state("loaded", "deactivating", ""), Rest::Returning);
        assert_eq!(state("loaded", "failed", ""), Rest::Failed("exit-code".into()));
        assert_eq!(
            state("not-found", "failed", ""),
            Rest::Failed("exit-code".into()),
            "its file was taken away"
        );
        for (load, active) in
            [("masked", "inactive"), ("bad-setting", "inactive"), ("loaded", "active"), ("", "")]
        {
            assert!(matches!(state(load, active, ""), Rest::Absent(_)), "{load} {active}");
        }
    }

    #[test]
    fn the_end_of_the_last_main_process_is_told_with_its_pid() {
        let end = |code: &str, status: &str| {
            read_systemd(&format!(
                "LoadState=loaded\nExecMainPID=7\nExecMainCode={code}\nExecMainStatus={status}"
            ))
            .ended
        };
        assert_eq!(end("1", "42"), Some((7, End::Code(42))));
        assert_eq!(end("2", "9"), Some((7, End::Signal(9))));
        assert_eq!(end("3", "6"), Some((7, End::Signal(6))));
        assert_eq!(end("0", "0"), None, "it has not ended");
    }

    #[test]
    fn an_answer_that_is_none_is_no_state() {
        let mut runner = said(&[(1, "Failed to connect to bus: No such file or directory\n")]);
        let error = show(Manager::Systemd, &[unit(Scope::System, "a.service")], 0, &mut runner).unwrap_err();
        assert_eq!(error.to_string(), "Failed to connect to bus: No such file or directory");
    }

    /// Put together from published listings; none was recorded on a machine of ours.
    const PRINTED: &str = "system/com.example.agent = {\n\tactive count = 1\n\tpath = /Library/LaunchDaemons/com.example.agent.plist\n\ttype = LaunchDaemon\n\tstate = running\n\n\tprogram = /usr/local/bin/agent\n\tendpoints = {\n\t\t\"com.example.port\" = {\n\t\t\tpid = 1\n\t\t}\n\t}\n\truns = 2\n\tpid = 4711\n\tlast exit code = 78: EX_CONFIG\n}\n";

    #[test]
    fn launchd_is_read_by_the_lines_about_the_job_itself() {
        let shown = read_launchd(PRINTED);
        assert_eq!((shown.pid, shown.ended), (Some(4711), Some((0, End::Code(78)))));
        let rest = |text: &str| read_launchd(&format!("x = {{\n{text}\n}}")).rest;
        assert_eq!(rest("\tstate = not running\n\tlast exit code = (never exited)"), Rest::Stopped);
        assert_eq!(rest("\tstate = not running\n\tlast exit code = 1"), Rest::Failed("exit code 1".into()));
        let killed = "\tstate = not running\n\tlast terminating signal = Killed: 9";
        assert_eq!(rest(killed), Rest::Failed("signal 9".into()));
        assert_eq!(rest("\tstate = spawn scheduled\n\tlast exit code = 1"), Rest::Returning);
        assert!(matches!(rest("\tstate = something new"), Rest::Absent(_)));
        assert!(matches!(rest(""), Rest::Absent(_)));
    }

    #[test]
    fn orders_are_words_without_a_shell_and_ask_for_no_password() {
        let all = [Order::Start, Order::Restart, Order::Stop, Order::Kill];
        let mut runner = said(&[(0, ""); 9]);
        for what in all {
            order(Manager::Systemd, &unit(Scope::User, "a.service"), what, 501, &mut runner).unwrap();
            order(Manager::Launchd, &unit(Scope::User, "com.example.a"), what, 501, &mut runner).unwrap();
        }
        assert_eq!(
            runner.asked,
            [
                "systemctl --user --no-ask-password reset-failed -- a.service",
                "systemctl --user --no-ask-password --no-block start -- a.service",
                "launchctl kickstart gui/501/com.example.a",
                "systemctl --user --no-ask-password --no-block restart -- a.service",
                "launchctl kickstart -k gui/501/com.example.a",
                "systemctl --user --no-ask-password --no-block stop -- a.service",
                "launchctl kill SIGTERM gui/501/com.example.a",
                "systemctl --user --no-ask-password --signal=SIGKILL kill -- a.service",
                "launchctl kill SIGKILL gui/501/com.example.a",
            ]
        );
        let mut runner = said(&[(1, "Failed to restart a.service: Access denied\nSee system logs.\n")]);
        let refused =
            order(Manager::Systemd, &unit(Scope::System, "a.service"), Order::Restart, 501, &mut runner);
        assert!(refused.unwrap_err().to_string().contains("Access denied"));
    }
}
