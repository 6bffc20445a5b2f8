//! The lint of property lists, on those that Horus ships and writes, and on planted faults.

use std::io::Cursor;

use horus_service::{Action, Kind, Manager, Scope, lint_plist, plan_install};
use plist::Value;

use crate::{machine, target};

const DAEMON: &str = include_str!("../../../../plists/dev.horus.daemon.plist");
const AGENT: &str = include_str!("../../../../plists/dev.horus.agent.plist");

fn lint(text: &str, file_name: &str, kind: Kind) -> Vec<String> {
    let list = Value::from_reader_xml(Cursor::new(text.as_bytes())).unwrap();
    lint_plist(&list, file_name, kind).into_iter().map(|finding| finding.to_string()).collect()
}

#[test]
fn what_is_shipped_and_what_is_written_is_clean() {
    let nothing: [String; 0] = [];
    assert_eq!(lint(DAEMON, "dev.horus.daemon.plist", Kind::Daemon), nothing);
    assert_eq!(lint(AGENT, "dev.horus.agent.plist", Kind::Agent), nothing);
    for (scope, kind) in [(Scope::System, Kind::Daemon), (Scope::User, Kind::Agent)] {
        let (facts, mut wanted) = machine(Manager::Launchd, scope);
        wanted.config = crate::of_root("/Users/ann & bob/<watchdog>.toml".as_ref());
        let plan = plan_install(target(Manager::Launchd, scope), &facts, &wanted).unwrap();
        let written = plan.steps.iter().find_map(|step| match &step.action {
            Action::WriteFile { path, content } => Some((path.clone(), content.clone())),
            _ => None,
        });
        let (path, content) = written.unwrap();
        assert_eq!(lint(&content, path.file_name().unwrap().to_str().unwrap(), kind), nothing);
        assert!(content.contains("/Users/ann &amp; bob/&lt;watchdog&gt;.toml"));
    }
}

/// Each fault is planted alone, and found by name, alone.
#[test]
fn every_planted_fault_is_found() {
    let yes = |key: &str| format!("<key>{key}</key>\n\t<true/>");
    let no = |key: &str| format!("<key>{key}</key>\n\t<false/>");
    let after_run_at_load = |more: &str| (yes("RunAtLoad"), format!("{}\n{more}", yes("RunAtLoad")));
    let text = |key: &str, value: &str| format!("<key>{key}</key><string>{value}</string>");
    let exit = |value: &str| {
        let old = "<key>ExitTimeOut</key>\n\t<integer>120</integer>".to_owned();
        (old, value.to_owned())
    };
    let cases: Vec<((String, String), &str)> = vec![
        ((yes("KeepAlive"), no("KeepAlive")), "KeepAlive: has to be true"),
        (
            (yes("KeepAlive"), "<key>KeepAlive</key><dict><key>Crashd</key><true/></dict>".into()),
            "KeepAlive.Crashd: launchd knows no such key",
        ),
        ((yes("RunAtLoad"), no("RunAtLoad")), "RunAtLoad: has to be true"),
        ((yes("AbandonProcessGroup"), String::new()), "AbandonProcessGroup: has to be true"),
        (
            ("AbandonProcessGroup".into(), "AbandonChildGroup".into()),
            "AbandonChildGroup: launchd knows no such key",
        ),
        (("Interactive".into(), "Background".into()), "ProcessType: has to be Interactive"),
        (
            ("Interactive".into(), "Fast".into()),
            "ProcessType: has to be Background, Standard, Adaptive or Interactive",
        ),
        (("<integer>10<".into(), "<integer>1<".into()), "ThrottleInterval: launchd takes 10 seconds"),
        (
            ("<integer>10</integer>".into(), "<string>10</string>".into()),
            "ThrottleInterval: has to be an integer",
        ),
        (exit("<key>ExitTimeOut</key><integer>0</integer>"), "ExitTimeOut: 0 waits for ever"),
        (exit("<key>ExitTimeOut</key><integer>5</integer>"), "ExitTimeOut: is too short"),
        (exit(""), "ExitTimeOut: has to be there"),
        (
            exit("<key>ExitTimeOut</key><integer>60</integer><key>TimeOut</key><integer>60</integer>"),
            "TimeOut: no time to stop",
        ),
        (
            ("<string>/usr/local/bin/horus</string>".into(), "<string>horus</string>".into()),
            "ProgramArguments: the program has to be absolute",
        ),
        (
            ("<string>run</string>".into(), "<integer>1</integer>".into()),
            "ProgramArguments[1]: has to be a string",
        ),
        (
            ("<string>/Library/Logs/Horus/horus.log".into(), "<string>~/Library/horus.log".into()),
            "StandardOutPath: has to be absolute",
        ),
        (
            ("<key>StandardOutPath</key>".into(), "<key>StandardInPath</key>".into()),
            "StandardOutPath: has to be there",
        ),
        (
            ("/opt/homebrew/bin".into(), "$HOME/bin".into()),
            "EnvironmentVariables.PATH: launchd expands neither",
        ),
        (("<key>PATH</key>".into(), "<key>ROUTE</key>".into()), "EnvironmentVariables: has to hold PATH"),
        (
            ("<string>dev.horus.daemon<".into(), "<string>dev.horus.other<".into()),
            "Label: the file has to be called dev.horus.other.plist",
        ),
        (
            ("<key>Label</key>\n\t<string>dev.horus.daemon</string>".into(), String::new()),
            "Label: has to be there",
        ),
        (after_run_at_load(&yes("EnableTransactions")), "EnableTransactions: lets launchd kill Horus"),
        (after_run_at_load(&yes("OnDemand")), "OnDemand: outlived"),
        (after_run_at_load(&text("LimitLoadToSessionType", "Aqua")), "LimitLoadToSessionType: is for agents"),
        (
            after_run_at_load(
                "<key>SoftResourceLimits</key><dict><key>NumberOfFiles</key><integer>9999</integer></dict>",
            ),
            "SoftResourceLimits: NumberOfFiles of a daemon",
        ),
        (
            after_run_at_load(
                "<key>HardResourceLimits</key><dict><key>Files</key><integer>1</integer></dict>",
            ),
            "HardResourceLimits.Files: launchd knows no such key",
        ),
        (
            after_run_at_load(
                "<key>StartCalendarInterval</key><array><dict><key>Hour</key><string>1</string></dict></array>",
            ),
            "StartCalendarInterval[0].Hour: has to be an integer",
        ),
    ];
    for ((old, new), wanted) in cases {
        let spoiled = DAEMON.replacen(&old, &new, 2);
        assert_ne!(spoiled, DAEMON, "{wanted}: the fault was not planted");
        let found = lint(&spoiled, "dev.horus.daemon.plist", Kind::Daemon);
        assert!(found.iter().any(|finding| finding.starts_with(wanted)), "{wanted}: found {found:?}");
        assert!(found.len() <= 2, "{wanted}: too much is said: {found:?}");
    }
    let agent = AGENT.replace("<key>Label</key>", "<key>UserName</key><string>ann</string><key>Label</key>");
    let found = lint(&agent, "dev.horus.agent.plist", Kind::Agent);
    assert_eq!(found, ["UserName: is for daemons: an agent runs as its user"]);
    let list = Value::Array(Vec::new());
    assert_eq!(lint_plist(&list, "x.plist", Kind::Agent).len(), 1);
}
