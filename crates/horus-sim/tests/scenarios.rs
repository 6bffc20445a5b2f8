//! Every scenario in `scenarios/` is lived through; its lines are compared with its snapshot and its claims are checked.
//!
//! `INSTA_UPDATE=always cargo test -p horus-sim --test scenarios` makes the snapshots anew; the claims in the files do not
//! change with them. `HORUS_SCENARIO=hang-7h` looks at the scenarios whose names contain that.

#![expect(clippy::unwrap_used, reason = "a broken test has to fail loudly")]

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use horus_sim::scenario::{GRAMMAR, Scenario};

/// Scenarios that are written against rules which the core has not got yet. One that comes out right has to leave this
/// list: `what_the_core_can_do_waits_no_longer` sees to it.
const WAITS_FOR_THE_CORE: &[&str] = &[];

/// Rows of the supervisor table of incidents: each has to have its scenario.
const INCIDENTS: [&str; 16] = [
    "hang-7h",
    "kill-129",
    "gateway-3am",
    "never-traded",
    "all-vetoed",
    "zero-inventory",
    "kill-switch-fights-keepalive",
    "wrong-done-marker",
    "lived-7-minutes",
    "planned-counted-as-crash",
    "firewalled-probe",
    "dead-channel",
    "laptop-lid",
    "midnight-stall",
    "slow-cycle",
    "counter-reset",
];

/// Failures that users of other supervisors report: at least so many.
const REPORTED_MIN: usize = 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn files() -> Vec<PathBuf> {
    let wanted = std::env::var("HORUS_SCENARIO").unwrap_or_default();
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| path.file_name().unwrap().to_string_lossy().contains(&wanted))
        .collect();
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

fn read(file: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(file).unwrap();
    Scenario::parse(file, &text)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// What is wrong with a scenario's outcome; the whole story comes with it.
fn outcome(file: &Path) -> Result<String, String> {
    let scenario = read(file)?;
    let run = scenario.run();
    let story = scenario.story(&run);
    match scenario.disappointments(&run) {
        wrong if wrong.is_empty() => Ok(story),
        wrong => Err(format!("{}:\n  {}\n\n{story}", scenario.name, wrong.join("\n  "))),
    }
}

#[test]
fn every_scenario_comes_out_as_it_should() {
    let mut wrong = Vec::new();
    for file in files() {
        let name = stem(&file);
        if WAITS_FOR_THE_CORE.contains(&name.as_str()) {
            continue;
        }
        match outcome(&file) {
            Ok(story) => {
                let mut settings = insta::Settings::clone_current();
                settings.set_snapshot_path("snapshots/scenarios");
                settings.set_prepend_module_to_snapshot(false);
                settings.set_omit_expression(true);
                let snapshot = || insta::assert_snapshot!(name.clone(), story);
                if std::panic::catch_unwind(AssertUnwindSafe(|| settings.bind(snapshot))).is_err() {
                    wrong.push(format!("{name}: it reads otherwise than its snapshot"));
                }
            }
            Err(text) => wrong.push(text),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_the_core_can_do_waits_no_longer() {
    for name in WAITS_FOR_THE_CORE {
        let file = folder().join(format!("{name}.toml"));
        assert!(outcome(&file).is_err(), "{name} comes out right: take it off the list");
    }
}

#[test]
fn every_incident_has_its_scenario_under_its_name() {
    if std::env::var_os("HORUS_SCENARIO").is_some() {
        return;
    }
    let names: BTreeSet<String> = files().iter().map(|file| stem(file)).collect();
    for incident in INCIDENTS {
        assert!(names.iter().any(|name| name.starts_with(incident)), "{incident} has no scenario");
    }
    let reported =
        files().iter().filter_map(|file| read(file).ok()).filter(|it| !it.reported.is_empty()).count();
    assert!(reported >= REPORTED_MIN, "{reported} scenarios come from users of other supervisors");
    let snapshots =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/scenarios")).unwrap();
    for snapshot in snapshots {
        let name = snapshot.unwrap().file_name().to_string_lossy().into_owned();
        let stem = name.split('.').next().unwrap().to_owned();
        assert!(names.contains(&stem), "tests/snapshots/scenarios/{name} belongs to no scenario");
    }
}

const CONFIG: &str = "config = '''\nversion = 1\n[service.bot]\ncommand = [\"bot\"]\nheartbeat.http = { url = \"http://127.0.0.1:1/\", seq = \"/seq\" }\n'''\n";

fn faults(rest: &str) -> String {
    let text = format!("about = \"x\"\n{CONFIG}{rest}");
    let faults = Scenario::parse(Path::new("dir/wrong.toml"), &text).unwrap_err();
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_fault_is_told_with_its_file_its_line_and_what_is_allowed() {
    let expect = "until = \"1h\"\n[expect]\nkills = 0\nalerts = []\n";
    let text = faults(&format!("timeline = [\n  {{ at = \"5s\", bot = \"hangz\" }},\n]\n{expect}"));
    assert!(text.starts_with("wrong.toml:9: `bot`: \"hangz\" is not understood"), "{text}");
    assert!(text.contains("allowed: hangs [for <span>]"), "{text}");
    let text = faults(&format!("timeline = [{{ at = \"5s\", bto = \"hangs\" }}]\n{expect}"));
    assert!(
        text.contains("there is no `bto`") && text.contains("all, bot, config, horus, host, operator"),
        "{text}"
    );
    let text = faults(&format!("timeline = [{{ at = \"soon\", bot = \"hangs\" }}]\n{expect}"));
    assert!(text.contains("`at` is no time: \"soon\"") && text.contains("16:18:06"), "{text}");
    let order = "timeline = [{ at = \"9s\", bot = \"hangs\" }, { at = \"5s\", bot = \"hangs\" }]\n";
    assert!(faults(&format!("{order}{expect}")).contains("lies before the entry above it"));
    assert!(faults(&format!("timeline = [{{ at = \"5s\" }}]\n{expect}")).contains("says nothing of anybody"));
    let all = faults(
        "timeline = [{ at = \"5s\", bot = \"hangz\" }, { at = \"6s\", host = \"burns\" }]\nuntil = \"1h\"\n[expect]\nkills = 0\nalerts = []\n",
    );
    assert!(all.contains("hangz") && all.contains("burns"), "all faults at once: {all}");
}

#[test]
fn claims_about_nobody_and_without_sense_are_faults() {
    let rest = |expect: &str| format!("timeline = []\nuntil = \"1h\"\n[expect]\n{expect}");
    assert!(faults(&rest("kills = 0\nalerts = []\nup = [\"bto\"]\n")).contains("there is no service `bto`"));
    assert!(faults(&rest("kills = \"few\"\nalerts = []\n")).contains("<= 3"));
    assert!(
        faults(&rest("alerts = []\n")).contains("missing field `kills`"),
        "what it is for has to be said"
    );
    assert!(faults(&rest("kills = 0\nalerts = []\nkilled = 1\n")).contains("unknown field `killed`"));
}

#[test]
fn a_claim_that_does_not_hold_is_told() {
    let expect = "[expect]\nkills = 0\nalerts = [\"halted\"]\nopen = [\"bot exit\"]\ndown = [\"bot\"]\nshows = [\"dragons\"]\n";
    let text = format!(
        "about = \"x\"\n{CONFIG}timeline = [{{ at = \"1m\", bot = \"hangs\" }}]\nuntil = \"1h\"\n{expect}detected.bot = {{ as = \"silent\", after = \"hangs\", within = \"1s\" }}\n"
    );
    let scenario = Scenario::parse(Path::new("x.toml"), &text).unwrap();
    let wrong = scenario.disappointments(&scenario.run()).join("\n");
    for expected in [
        "kills: 1, expected 0",
        "people are told of [\"stuck\"], expected [\"halted\"]",
        "open at the end: [], expected [\"bot exit\"]",
        "bot runs at the end",
        "no line shows \"dragons\"",
        "is called silent after",
    ] {
        assert!(wrong.contains(expected), "{expected}:\n{wrong}");
    }
}

#[test]
fn the_same_scenario_tells_the_same_story() {
    for file in files().iter().take(5) {
        let scenario = read(file).unwrap();
        assert_eq!(scenario.story(&scenario.run()), scenario.story(&scenario.run()));
    }
}

#[test]
fn the_language_is_documented() {
    let page = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/concepts/scenarios.md"),
    );
    let page = page.unwrap();
    for (subject, forms) in GRAMMAR {
        for form in forms {
            assert!(
                page.contains(form),
                "docs/concepts/scenarios.md does not tell of \"{form}\" ({subject})"
            );
        }
    }
}
