//! What systemd itself says of the units, where it is installed.

use std::path::{Path, PathBuf};

use horus_service::{Action, Manager, Runner, Scope, SystemRunner, plan_install};

use crate::{machine, of_root, skipped, target};

const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

fn analyze(words: &[&str]) -> Option<String> {
    let argv: Vec<String> =
        std::iter::once(&"systemd-analyze").chain(words).map(|word| (*word).into()).collect();
    SystemRunner.run(&argv, WITHIN).ok().map(|answer| answer.text)
}

/// The unit as installing writes it, for a program that is there.
fn written(scope: Scope, folder: &Path) -> PathBuf {
    let (facts, mut wanted) = machine(Manager::Systemd, scope);
    wanted.executable = of_root(Path::new("/usr/bin/env"));
    wanted.config = of_root(Path::new("/etc/horus/a file of \"mine\" at 100% $HOME.toml"));
    let plan = plan_install(target(Manager::Systemd, scope), &facts, &wanted).unwrap();
    let content = plan.steps.iter().find_map(|step| match &step.action {
        Action::WriteFile { content, .. } => Some(content.clone()),
        _ => None,
    });
    let path = folder.join("horus.service");
    let file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &file, content.unwrap().as_bytes()).unwrap();
    path
}

/// It exits with 0 on an unknown key: only silence is good.
#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    if analyze(&["--version"]).is_none() {
        return skipped("systemd_has_nothing_to_say_about_the_units", "systemd-analyze is not installed");
    }
    for scope in [Scope::System, Scope::User] {
        let folder = tempfile::tempdir().unwrap();
        let unit = written(scope, folder.path());
        // Without `--user`: that needs a user manager, and the keys are the same.
        let words = ["verify", unit.to_str().unwrap()];
        let said = analyze(&words).unwrap();
        // Only the tester's own machine, never the unit.
        let said: Vec<&str> = said.lines().filter(|line| line.contains("horus")).collect();
        assert_eq!(said, Vec::<&str>::new(), "{scope:?}");

        let spoiled = std::fs::read_to_string(&unit).unwrap().replace("KillMode=", "KilMode=");
        let file = std::fs::File::create(&unit).unwrap();
        std::io::Write::write_all(&mut &file, spoiled.as_bytes()).unwrap();
        let said = analyze(&words).unwrap();
        assert!(said.contains("KilMode"), "a planted fault is not seen: {said}");
    }
}

/// A supervisor of anything stays exposed by nature. The number is printed, not chased; it must not get worse unseen.
#[test]
fn the_security_score_is_told() {
    const WORST: f64 = 9.3;
    let folder = tempfile::tempdir().unwrap();
    let unit = written(Scope::System, folder.path());
    let said = analyze(&["security", "--offline=true", "--no-pager", unit.to_str().unwrap()]);
    let score =
        said.as_deref().and_then(|said| said.lines().rev().find(|line| line.contains("exposure level")));
    let Some(line) = score else {
        return skipped("the_security_score_is_told", "this systemd-analyze judges no file offline");
    };
    eprintln!("{line}");
    let number = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).next_back();
    assert!(number.unwrap() <= WORST, "{line}");
}

/// What would make a mount namespace for Horus, or be inherited by programs that cannot give it back, is in no unit.
#[test]
fn no_option_is_inherited_that_programs_cannot_live_with() {
    let units = [
        include_str!("../../../../systemd/horus.service"),
        include_str!("../../../../systemd/horus-user.service"),
    ];
    for unit in units {
        for line in unit.lines().filter(|line| !line.starts_with('#')) {
            let key = line.split('=').next().unwrap_or_default();
            let bad = key.starts_with("Protect")
                || key.starts_with("Private")
                || key.starts_with("Limit")
                || key.ends_with("Paths")
                || [
                    "NoNewPrivileges",
                    "OOMScoreAdjust",
                    "UMask",
                    "SystemCallFilter",
                    "User",
                    "RootDirectory",
                ]
                .contains(&key);
            assert!(!bad, "{line}");
        }
        for needed in [
            "KillMode=process",
            "RuntimeDirectoryPreserve=yes",
            "Type=notify",
            "Restart=always",
            "OOMPolicy=continue",
            "StartLimitIntervalSec=0",
        ] {
            assert!(unit.lines().any(|line| line == needed), "{needed}");
        }
    }
}
