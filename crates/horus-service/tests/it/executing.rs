//! Carrying plans out: in a folder, with a manager that only writes down what it is asked.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use horus_service::{
    Action, Attempts, Done, ExecuteError, Executor, Manager, Plan, Scope, Step, Until, plan_install,
    plan_uninstall,
};

use crate::{Recording, answer, machine, target};

fn execute(plan: &Plan, runner: &mut Recording, root: &Path) -> Result<Vec<Done>, ExecuteError> {
    let mut told = Vec::new();
    Executor::below(runner, root).execute(plan, |_, done| told.push(done))?;
    Ok(told)
}

fn one(action: Action) -> Plan {
    let steps = vec![Step { why: "a test".into(), action }];
    Plan { target: target(Manager::Launchd, Scope::System), steps, notes: Vec::new() }
}

#[test]
fn the_whole_plan_is_carried_out_and_a_second_time_changes_no_file() {
    let root = tempfile::tempdir().unwrap();
    let (facts, wanted) = machine(Manager::Systemd, Scope::System);
    let plan = plan_install(target(Manager::Systemd, Scope::System), &facts, &wanted).unwrap();
    let mut runner = Recording::default();
    execute(&plan, &mut runner, root.path()).unwrap();
    assert_eq!(
        runner.asked,
        [
            "systemctl daemon-reload",
            "systemctl enable horus.service",
            "systemctl start horus.service",
            "systemctl is-active --quiet horus.service"
        ]
    );
    let unit = root.path().join("etc/systemd/system/horus.service");
    let before = std::fs::metadata(&unit).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o644);

    let again = execute(&plan, &mut Recording::default(), root.path()).unwrap();
    assert_eq!(again.iter().take(2).collect::<Vec<_>>(), [&Done::AsItWas, &Done::AsItWas]);
    assert_eq!(std::fs::metadata(&unit).unwrap().modified().unwrap(), before.modified().unwrap());
}

#[test]
fn what_is_taken_away_is_gone_and_may_be_gone_already() {
    let root = tempfile::tempdir().unwrap();
    let (mut facts, _) = machine(Manager::Systemd, Scope::System);
    facts.existing.file = Some(include_str!("../../../../systemd/horus.service").into());
    facts.existing.active = true;
    facts.existing.enabled = true;
    facts.existing.run_directories = vec!["/run/horus".into()];
    facts.existing.state_directory = Some("/var/lib/horus".into());
    for directory in ["run/horus/slots", "var/lib/horus/logs", "etc/systemd/system"] {
        std::fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    std::fs::File::create(root.path().join("etc/systemd/system/horus.service")).unwrap();
    let plan = plan_uninstall(target(Manager::Systemd, Scope::System), &facts, true).unwrap();
    for _ in 0..2 {
        let mut runner = Recording::default();
        execute(&plan, &mut runner, root.path()).unwrap();
        assert_eq!(
            runner.asked,
            [
                "systemctl stop horus.service",
                "systemctl disable horus.service",
                "systemctl daemon-reload",
                "systemctl reset-failed horus.service"
            ]
        );
        for left in ["run/horus", "var/lib/horus", "etc/systemd/system/horus.service"] {
            assert!(!root.path().join(left).exists(), "{left}");
        }
    }
}

#[test]
fn launchd_s_not_yet_is_tried_again_ever_slower() {
    let (mut facts, wanted) = machine(Manager::Launchd, Scope::System);
    facts.existing.active = true;
    facts.existing.file = Some("an older one".into());
    let plan = plan_install(target(Manager::Launchd, Scope::System), &facts, &wanted).unwrap();
    let root = tempfile::tempdir().unwrap();
    let not_yet = answer(5, "Bootstrap failed: 5: Input/output error");
    // bootout; print: still there, then gone; enable; bootstrap: twice not yet; print: starting, then running
    let answers = [
        answer(0, ""),
        answer(0, "state = running"),
        answer(113, "Could not find service"),
        answer(0, ""),
        not_yet.clone(),
        not_yet,
        answer(0, ""),
        answer(0, "state = spawn scheduled"),
    ];
    let mut runner = Recording { answers: answers.into(), ..Recording::default() };
    execute(&plan, &mut runner, root.path()).unwrap();
    let (job, list) = ("system/dev.horus.daemon", "/Library/LaunchDaemons/dev.horus.daemon.plist");
    let bootstrap = format!("launchctl bootstrap system {list}");
    assert_eq!(
        runner.asked,
        [
            format!("launchctl bootout {job}"),
            format!("launchctl print {job}"),
            format!("launchctl print {job}"),
            format!("launchctl enable {job}"),
            bootstrap.clone(),
            bootstrap.clone(),
            bootstrap,
            format!("launchctl print {job}"),
            format!("launchctl print {job}"),
        ]
    );
    let milliseconds: Vec<u128> = runner.paused.iter().map(|pause| pause.as_millis()).collect();
    assert_eq!(milliseconds, [200, 200, 300, 200]);
}

#[test]
fn another_failure_ends_the_plan_and_says_what_was_said() {
    let run = |attempts| {
        one(Action::Run {
            argv: vec!["launchctl".into(), "bootstrap".into()],
            within: std::time::Duration::from_secs(1),
            attempts,
        })
    };
    let root = tempfile::tempdir().unwrap();
    let refused = answer(125, "Domain does not support specified action\n");
    let failing = |times| Recording { answers: vec![refused.clone(); times].into(), ..Recording::default() };

    let mut runner = failing(1);
    let plan = run(Attempts::WhileItEndsWith(5));
    let error = execute(&plan, &mut runner, root.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`launchctl bootstrap` ended with 125: Domain does not support specified action"
    );
    assert!(error.hint(&plan).contains("launchctl print system/dev.horus.daemon"));

    let mut runner = failing(100);
    let error = execute(&run(Attempts::WhileItEndsWith(125)), &mut runner, root.path()).unwrap_err();
    assert!(matches!(error, ExecuteError::Refused { .. }));
    assert_eq!(runner.asked.len(), 10, "tries have a limit");

    assert!(execute(&run(Attempts::OnceAndNeverMind), &mut failing(1), root.path()).is_ok());
}

#[test]
fn what_never_comes_is_said_with_the_last_answer() {
    let wait = one(Action::WaitUntil {
        argv: vec!["launchctl".into(), "print".into()],
        until: Until::Fails,
        within: std::time::Duration::from_secs(1),
    });
    let root = tempfile::tempdir().unwrap();
    let mut runner = Recording::default();
    let error = execute(&wait, &mut runner, root.path()).unwrap_err();
    assert_eq!(error.to_string(), "wait until this fails: launchctl print: not within 1 s: state = running");
    assert_eq!(runner.asked.len(), 6);
}

#[test]
fn nothing_but_a_folder_of_horus_is_removed_whole() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("var/lib/other")).unwrap();
    for path in ["/", "/horus", "/var/lib/other", "/var/lib/horus/.."] {
        let plan = one(Action::RemoveTree { path: path.into() });
        let error = execute(&plan, &mut Recording::default(), root.path()).unwrap_err();
        assert!(matches!(error, ExecuteError::NotOurFolder(_)), "{path}: {error}");
    }
    assert!(root.path().join("var/lib/other").is_dir());
}
