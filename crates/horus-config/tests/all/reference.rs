//! What is committed about the format is what the code does.

use std::path::{Path, PathBuf};

use horus_config::{reference, schema, starter};
use serde_json::Value;

use crate::machine::{configs, parse};

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name)
}

fn compare(name: &str, made: &str) {
    let path = committed(name);
    if std::env::var_os("HORUS_UPDATE").is_some() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a person asked to have the committed file written anew"
        )]
        std::fs::write(&path, made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/reference/{name} is stale: run HORUS_UPDATE=1 cargo test -p horus-config and look at the difference"
    );
}

#[test]
fn the_committed_schema_is_the_one_of_the_code() {
    compare("watchdog.schema.json", &schema());
}

#[test]
fn the_committed_reference_is_the_one_of_the_code() {
    compare("config.md", &reference());
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(&schema()).unwrap()).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    let value: Value = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    validator().iter_errors(&value).map(|error| format!("{} at {}", error, error.instance_path())).collect()
}

#[test]
fn the_schema_accepts_what_the_reader_accepts() {
    for (name, text) in configs("valid") {
        assert_eq!(errors(&text), [""; 0], "{name}");
    }
    assert_eq!(errors(starter()), [""; 0]);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../watchdog.toml");
    if let Ok(text) = std::fs::read_to_string(shipped) {
        assert_eq!(errors(&text), [""; 0], "the shipped watchdog.toml");
    }
}

#[test]
fn the_schema_refuses_faults_of_shape() {
    for name in [
        "unknown-key-misspelt",
        "unknown-word",
        "wrong-type-everywhere",
        "wrong-type-number-for-a-duration",
        "missing-command",
        "version-missing",
        "version-of-the-future",
    ] {
        let (_, text) = configs("invalid").into_iter().find(|(found, _)| found == name).unwrap();
        assert!(!errors(&text).is_empty(), "{name}");
    }
}

/// Every key of the schema, with the name of its table.
fn keys(schema: &Value) -> Vec<(String, String, Value)> {
    let definitions = schema["$defs"].as_object().unwrap();
    let tables = definitions.iter().map(|(name, table)| (name.clone(), table));
    let mut keys = Vec::new();
    for (name, table) in tables.chain([("File".to_owned(), schema)]) {
        for (key, value) in table["properties"].as_object().unwrap() {
            keys.push((name.clone(), key.clone(), value.clone()));
        }
    }
    keys
}

#[test]
fn the_reference_names_every_key_with_a_meaning() {
    let text = std::fs::read_to_string(committed("config.md")).unwrap();
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let keys = keys(&schema);
    assert!(keys.len() > 90, "{}", keys.len());
    for (table, key, value) in keys {
        let row = |start: &str| text.lines().any(|line| line.starts_with(start) && !line.ends_with("|  |"));
        let named = row(&format!("| `{key}` |")) || row(&format!("| `{key}.NAME` |"));
        assert!(named || table == "File", "{table}.{key} is missing in config.md or has no meaning");
        assert!(value["description"].is_string(), "{table}.{key} has no description");
        // `[defaults]` means what `[service.NAME]` means; elsewhere a reader needs to know what holds in silence.
        let optional = !schema["$defs"][&table]["required"]
            .as_array()
            .is_some_and(|r| r.contains(&Value::from(key.clone())));
        let leaf = value.get("$ref").is_none() && value.get("additionalProperties").is_none();
        let choice = ["File", "Check", "Sink", "Secret", "Heartbeat", "Limits", "Defaults", "Polling"]
            .contains(&table.as_str());
        let description = value["description"].as_str().unwrap();
        let pointer = description.starts_with("JSON pointer");
        assert!(
            !optional
                || !leaf
                || choice
                || pointer
                || value.get("default").is_some()
                || description.contains("Default"),
            "{table}.{key} does not say what holds where the file is silent"
        );
    }
}

#[test]
fn documented_defaults_are_the_real_ones() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let defaults = |table: &str| -> toml::Table {
        let properties = schema["$defs"][table]["properties"].as_object().unwrap();
        let with_default = properties.iter().filter_map(|(key, value)| Some((key, value.get("default")?)));
        with_default.map(|(key, value)| (key.clone(), toml::Value::try_from(value).unwrap())).collect()
    };
    let mut service = defaults("Service");
    for (key, table) in [("stop", "Stop"), ("restart", "Restart"), ("kills", "Kills"), ("log", "Log")] {
        let table = defaults(table);
        assert!(table.len() > 1, "{key}");
        service.insert(key.into(), table.into());
    }
    service.insert("command".into(), vec!["bot"].into());
    let heartbeat: toml::Table =
        toml::from_str("http = { url = 'http://127.0.0.1:1/', progress = '/p' }").unwrap();
    service.insert("heartbeat".into(), heartbeat.into());
    let mut funnel = defaults("Funnel");
    funnel.insert("stages".into(), vec!["a", "b"].into());
    let named = |table: toml::Table| {
        toml::Value::Table([("x".to_owned(), toml::Value::Table(table))].into_iter().collect())
    };
    service.insert("funnel".into(), named(funnel));
    let mut expect = defaults("Expect");
    assert_eq!(expect.len(), 2);
    expect.insert("gauge".into(), "g".into());
    service.insert("expect".into(), named(expect));
    // A second service is the job.
    let mut schedule = defaults("Schedule");
    assert_eq!(schedule.len(), 2);
    schedule.extend([("cron".to_owned(), "0 6 * * *".into()), ("finish".to_owned(), "20m".into())]);
    let job: toml::Table =
        [("command".to_owned(), vec!["bot"].into()), ("schedule".to_owned(), schedule.into())]
            .into_iter()
            .collect();
    let mut maintenance = defaults("Maintenance");
    maintenance.extend([("cron".to_owned(), "0 3 * * *".into()), ("lasts".to_owned(), "1h".into())]);
    let mut check = defaults("HttpCheck");
    check.insert("url".into(), "https://example.com".into());
    let monitor: toml::Table = [("check".to_owned(), named(check))].into_iter().collect();
    let mut monitor_text = toml::to_string(&monitor).unwrap();
    monitor_text = monitor_text.replace("[check.x]", "[monitor.x.check.http]");
    let mut sink = defaults("Sink");
    sink.insert(
        "slack".into(),
        toml::Value::Table([("url_env".to_owned(), "U".into())].into_iter().collect()),
    );
    let whole: toml::Table = [
        ("version".to_owned(), toml::Value::Integer(1)),
        ("daemon".to_owned(), defaults("Daemon").into()),
        (
            "service".to_owned(),
            toml::Table::from_iter([("x".to_owned(), service.into()), ("y".to_owned(), job.into())]).into(),
        ),
        ("maintenance".to_owned(), named(maintenance)),
        ("sink".to_owned(), named(sink)),
    ]
    .into_iter()
    .collect();
    let spelt_out = parse(&format!("{}\n{monitor_text}", toml::to_string(&whole).unwrap()));
    let silent = parse(
        "version = 1\n[service.x]\ncommand = ['bot']\nheartbeat.http = { url = 'http://127.0.0.1:1/', progress = '/p' }\n\
         funnel.x = { stages = ['a', 'b'] }\nexpect.x.gauge = 'g'\n[service.y]\ncommand = ['bot']\n\
         schedule = { cron = '0 6 * * *', finish = '20m' }\n[maintenance.x]\ncron = '0 3 * * *'\nlasts = '1h'\n[monitor.x]\ncheck.http.url = 'https://example.com'\n[sink.x]\nslack.url_env = 'U'\n",
    );
    let spelt_out = spelt_out.into_result().unwrap().plan;
    assert_eq!(spelt_out, silent.into_result().unwrap().plan);
}

#[test]
fn the_starter_has_no_faults_and_works_as_it_stands() {
    let loaded = parse(starter());
    assert!(loaded.faults.is_empty(), "{:#?}", loaded.faults);
    let only_advice = loaded.warnings.iter().all(|finding| finding.code.as_str() == "config::no-sink");
    assert!(only_advice, "{:#?}", loaded.warnings);
    // What it shows in comments is right as well.
    let all: String = starter()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if code.starts_with('[') || code.contains(" = ") => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = parse(&all);
    assert!(loaded.faults.is_empty(), "{:#?}", loaded.faults);
    let plan = loaded.into_result().unwrap().plan;
    assert_eq!((plan.monitors.len(), plan.sinks.len()), (1, 1));
}
