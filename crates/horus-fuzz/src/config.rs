//! `watchdog.toml`.
//!
//! Promised: a file yields faults or a plan, never both and never neither; each finding has a place inside the file, one
//! line of words and advice; no secret is shown; a plan does not depend on how the same facts were laid out.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bolero::TypeGenerator;
use horus_config::{Checked, Environment, FileFacts, Loaded, UserFacts, Weight};
use horus_core::observation::Input;
use horus_core::plan::Plan;
use horus_core::time::Mono;

use crate::source::Source;
use crate::{assert_showable, mutate, seeds};

/// Stands for every secret. It is no word of any message.
const CANARY: &str = "c4n4ry-5eed";

/// Faults and warnings of one file. Reading alone stops at a hundred; what is read may be wrong in several ways.
const FINDINGS_MAX: usize = 5_000;

/// Words of the format.
const WORDS: [&str; 60] = [
    "version = 1\n",
    "[service.bot]\n",
    "[monitor.web]\n",
    "[sink.ops]\n",
    "[defaults]\n",
    "[daemon]\n",
    "[maintenance.night]\n",
    "command",
    "env",
    "env_file",
    "after",
    "deadline",
    "startup",
    "heartbeat",
    "http",
    "notify",
    "file",
    "log",
    "tcp",
    "exec",
    "url",
    "url_env",
    "url_file",
    "every",
    "timeout",
    "seq",
    "progress",
    "state",
    "value",
    "funnel",
    "stages",
    "expect",
    "gauge",
    "schedule",
    "cron",
    "kills",
    "limit",
    "retry",
    "\"never\"",
    "restart",
    "stop",
    "signal",
    "grace",
    "\"10s\"",
    "\"0s\"",
    "\"99999999999999999999h\"",
    "\"1ns\"",
    "18446744073709551615",
    "-1",
    "1e400",
    "nan",
    "true",
    "[",
    "]",
    "{",
    "}",
    "\"\"\"",
    "\u{202e}",
    "\u{feff}",
    "bot",
];

/// A machine on which the answer is always the same. Everything secret on it is the canary.
struct Machine;

impl Environment for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "PATH" => Some("/usr/bin:/bin".into()),
            "HORUS_DISCORD_URL" => Some(format!("https://discord.com/api/webhooks/1/{CANARY}")),
            _ => None,
        }
    }

    fn look(&self, path: &Path) -> io::Result<FileFacts> {
        let text = path.to_string_lossy();
        if text.contains("missing") {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(FileFacts {
            owner: 1000,
            mode: if text.contains("open") { 0o644 } else { 0o700 },
            directory: text.ends_with('d'),
        })
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let text = match path.extension().and_then(|end| end.to_str()) {
            Some("env") => format!("TOKEN={CANARY}\nA=1\n"),
            Some("bad") => format!("{CANARY}\n"),
            Some("url") => format!("https://hooks.slack.com/services/{CANARY}\n"),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(text.into_bytes().into_iter().take(limit).collect())
    }

    fn user_id(&self) -> u32 {
        1000
    }

    fn user(&self, name_or_number: &str) -> Option<UserFacts> {
        (name_or_number == "bot").then(|| UserFacts {
            id: 1000,
            name: "bot".into(),
            home: PathBuf::from("/home/bot"),
        })
    }

    fn group(&self, name_or_number: &str) -> Option<u32> {
        (name_or_number == "bots").then_some(1000)
    }

    fn host_name(&self) -> Option<String> {
        Some("fuzz".into())
    }

    fn current_directory(&self) -> PathBuf {
        PathBuf::from("/srv")
    }
}

fn parse(text: &str) -> Loaded {
    horus_config::parse(text, Path::new("/srv/watchdog.toml"), &Machine)
}

/// Any text.
pub fn check_bytes(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(text, only_secret_in_tree(text));
    }
}

/// A real example, edited.
pub fn check_edited(bytes: &[u8]) {
    let edited = mutate::text(&mut Source::new(bytes), seeds::configurations(), &WORDS);
    check_bytes(&edited);
}

/// Lines of a file, each right or nearly so, one of them with a secret at a place that is known to be secret.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Written {
    deadline: u8,
    beat: u8,
    secret_at: u8,
    extras: [u8; 4],
    numbers: [u16; 4],
    damage: u8,
}

impl Written {
    fn text(&self) -> String {
        const BEATS: [&str; 8] = [
            "heartbeat.http = { url = \"http://127.0.0.1:1/\", seq = \"/seq\", every = \"{}s\" }",
            "heartbeat.notify = true",
            "heartbeat.file = { path = \"beat\", every = \"{}s\" }",
            "heartbeat.tcp = { address = \"127.0.0.1:{}\" }",
            "heartbeat.log = { pattern = '^tick {}$' }",
            "heartbeat.exec = { command = [\"true\"], every = \"{}s\", seq = true }",
            "heartbeat.http = { url = \"http://127.0.0.1:{}/\", progress = \"/progress\", state = \"/s\" }",
            "heartbeat = { every = \"{}s\", notify = true }",
        ];
        const SECRETS: [&str; 8] = [
            "env = { TOKEN = \"{}\" }",
            "env.TOKEN = \"{}\"",
            "env = { A = \"1\", \"{}\" = 1, TOKEN = \"{}\" }",
            "env_file = \"x.bad\"",
            "env = { TOKEN = ['{}'] }",
            "env = \"{}\"",
            "env = { TOKEN = '''\n{}''' }",
            "env_file = \"x.env\"",
        ];
        const EXTRAS: [&str; 16] = [
            "",
            "startup = \"{}s\"",
            "kills = { limit = {}, prove = \"{}m\", retry = \"never\" }",
            "restart = { on = \"always\", first = \"{}s\", next = \"1s\", max = \"{}s\" }",
            "stop = { signal = \"SIGINT\", grace = \"{}s\" }",
            "limits = { memory = \"{}MiB\", open_files = {} }",
            "value.orders = { counter = \"orders\", stale = \"{}h\", dead = \"{}h\" }",
            "funnel.entry = { stages = [\"a\", \"b\", \"c\"], blocked_after = {} }",
            "after = [\"feed\"]",
            "after = [\"bot\"]",
            "ready = \"notify\"",
            "log = { max_size = \"{}KiB\", keep = {} }",
            "mode = \"observe\"",
            "autostart = false",
            "user = \"{}\"",
            "directory = \"{}\"",
        ];
        let mut numbers = self.numbers.iter().cycle();
        let mut filled = |line: &str| {
            let mut parts = line.split("{}");
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |text, part| {
                format!("{text}{}{part}", numbers.next().copied().unwrap_or_default())
            })
        };
        let mut lines = vec![
            "version = 1".to_owned(),
            "[service.feed]".into(),
            "command = [\"feed\"]".into(),
            "[service.bot]".into(),
        ];
        lines.push("command = [\"bot\"]".into());
        lines.push(filled("deadline = \"{}s\"").replace("{}", &self.deadline.to_string()));
        lines.push(filled(BEATS[usize::from(self.beat) % BEATS.len()]));
        // The key of the third is shown as a name; the value never is.
        lines.push(
            SECRETS[usize::from(self.secret_at) % SECRETS.len()]
                .replacen("\"{}\" = 1", "B = 1", 1)
                .replace("{}", CANARY),
        );
        lines.extend(self.extras.iter().map(|extra| filled(EXTRAS[usize::from(*extra) % EXTRAS.len()])));
        lines.push("[sink.ops]".into());
        lines.push(
            [
                "discord = { url_env = \"HORUS_DISCORD_URL\" }".to_owned(),
                format!("discord = {{ url = \"https://x.example/{CANARY}\" }}"),
                format!("slack = \"https://hooks.slack.com/{CANARY}\""),
                "slack = { url_file = \"open.url\" }".into(),
            ][usize::from(self.secret_at / 8) % 4]
                .clone(),
        );
        match self.damage % 16 {
            0 => lines.insert(0, "a = [".into()),
            1 => lines.push("b = \"".into()),
            2 => lines.push("version = 1".into()),
            3 => lines.insert(4, "= 1".into()),
            4 => lines.insert(3, "[service.bot]".into()),
            5 => lines.insert(5, "dedline = \"1s\"".into()),
            _ => {}
        }
        lines.join("\n")
    }
}

/// A file that is nearly right and holds secrets.
pub fn check_written(written: &Written) {
    check(&written.text(), true);
}

/// Whether the text is TOML in which the canary stands at secret places only.
fn only_secret_in_tree(text: &str) -> bool {
    let Ok(tree) = text.parse::<toml::Table>() else { return false };
    let shown = |table: &toml::Table| toml::to_string(table).unwrap_or_default().contains(CANARY);
    let mut open = tree.clone();
    let mut blot = |path: &[&str]| {
        let Some((last, path)) = path.split_last() else { return };
        let table = path.iter().try_fold(&mut open, |table, key| table.get_mut(*key)?.as_table_mut());
        drop(table.and_then(|table| table.remove(*last)));
    };
    blot(&["defaults", "env"]);
    for service in tree.get("service").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys)
    {
        blot(&["service", service, "env"]);
    }
    shown(&tree) && !shown(&open)
}

fn check(text: &str, secret: bool) {
    let loaded = parse(text);
    let (faults, warnings) = (&loaded.faults, &loaded.warnings);
    assert_eq!(faults.is_empty(), loaded.checked.is_some(), "faults or a plan, never both and never neither");
    assert!(faults.len() + warnings.len() <= FINDINGS_MAX, "{} findings", faults.len() + warnings.len());
    assert!(
        warnings.iter().all(|warning| warning.weight < Weight::Fault)
            && faults.iter().all(|fault| fault.weight == Weight::Fault)
    );
    for finding in faults.iter().chain(warnings) {
        check_finding(finding, text, secret);
    }
    if let Some(checked) = &loaded.checked {
        if secret {
            assert!(!format!("{checked:?}").contains(CANARY), "the plan shows a secret when it is printed");
        }
        check_plan(text, checked);
    }
}

fn check_finding(finding: &horus_config::Fault, text: &str, secret: bool) {
    let lines = text.matches('\n').count() + 1;
    assert!(
        (1..=lines).contains(&finding.line) && finding.column >= 1,
        "{finding:?} is not in a file of {lines} lines"
    );
    assert!(text.get(finding.span.clone()).is_some(), "{finding:?} points at {:?}", finding.span);
    assert!(!finding.message.is_empty());
    assert_showable(&finding.one_line().to_string(), "a message");
    assert!(!finding.label.is_empty() || finding.help.is_some(), "{finding:?} gives no advice");
    if let Some(help) = &finding.help {
        help.lines().for_each(|line| assert_showable(line, "advice"));
    }
    for other in &finding.related {
        assert!((1..=lines).contains(&other.line) && text.get(other.span.clone()).is_some(), "{other:?}");
    }
    let mut drawn = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    handler.render_report(&mut drawn, finding).expect("a finding can be drawn");
    let json = serde_json::to_string(finding).expect("a finding is JSON");
    if secret {
        assert!(
            !drawn.contains(CANARY) && !json.contains(CANARY),
            "a secret is shown:\n{drawn}\n{json}\n--- of\n{text}"
        );
    }
}

fn check_plan(text: &str, checked: &Checked) {
    let again = |text: &str, how: &str| -> Plan {
        let loaded = parse(text);
        assert!(loaded.faults.is_empty(), "{how} has faults: {:?}", loaded.faults);
        loaded.checked.expect("a file without faults has a plan").plan
    };
    assert_eq!(again(text, "the same text"), checked.plan, "the same text has another plan");
    let tree: toml::Table = text.parse().expect("what was loaded is TOML");
    let canonical = toml::to_string(&tree).expect("a table is TOML");
    assert_eq!(
        again(&canonical, "the same file in another layout"),
        checked.plan,
        "the layout changes the plan:\n{canonical}"
    );
    assert!(horus_config::diff(&checked.plan, &checked.plan).is_empty(), "a plan differs from itself");

    let recorded = serde_json::to_string(&checked.plan).expect("a plan is JSON");
    let read: Plan = serde_json::from_str(&recorded).expect("a recorded plan can be read");
    assert_eq!(
        serde_json::to_string(&read).expect("a plan is JSON"),
        recorded,
        "a recorded plan changes when it is read"
    );

    let names: BTreeSet<_> = checked.plan.services.keys().cloned().collect();
    for (name, service) in &checked.plan.services {
        assert!(!service.deadline.is_zero() && !service.startup.is_zero(), "{name} has no time at all");
        assert!(service.after.iter().all(|other| names.contains(other)), "{name} waits for nobody");
    }
    let mut engine = horus_core::Engine::new(1, 0, Vec::new());
    let _ = engine.step(
        Mono::from_origin(Mono::ORIGIN_BEFORE_START),
        Input::PlanChanged(Box::new(checked.plan.clone())),
    );
    assert_eq!(engine.status(Mono::from_origin(Mono::ORIGIN_BEFORE_START)).services.len(), names.len());
}
