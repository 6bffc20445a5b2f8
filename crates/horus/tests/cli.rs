//! The command line as a script sees it: exit codes, what goes to stdout and what to stderr. The daemon is a fake that
//! speaks the API's wire format, so that the format is pinned here too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What the fake answers to one request line.
struct Answer {
    request: &'static str,
    status: u16,
    kind: &'static str,
    body: String,
}

fn says(request: &'static str, body: &Value) -> Answer {
    Answer { request, status: 200, kind: "application/json", body: body.to_string() }
}

fn streams(request: &'static str, lines: &[Value]) -> Answer {
    let body = lines.iter().map(|line| format!("{line}\n")).collect();
    Answer { request, status: 200, kind: "application/x-ndjson", body }
}

fn refuses(request: &'static str, status: u16, kind: &str, detail: &str, hint: &str) -> Answer {
    let body = json!({
        "schema": 1, "type": format!("urn:horus:problem:{kind}"), "title": kind, "status": status,
        "detail": detail, "hint": hint,
    });
    Answer { request, status, kind: "application/problem+json", body: body.to_string() }
}

/// A directory with a configuration, and perhaps a fake daemon at its socket.
struct Stage {
    directory: TempDir,
}

impl Stage {
    fn empty() -> Self {
        let stage = Self { directory: tempfile::tempdir().unwrap() };
        stage.write(
            "watchdog.toml",
            "version = 1\nunrelated_fault = true\n[daemon]\nrun_directory = \"run\"\n",
        );
        stage
    }

    fn with_daemon(answers: Vec<Answer>) -> Self {
        let stage = Self::empty();
        std::fs::create_dir(stage.path("run")).unwrap();
        let listener = UnixListener::bind(stage.path("run/horus.sock")).unwrap();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                converse(stream.unwrap(), &answers);
            }
        });
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a file of a test, in a directory of its own")]
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_horus"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("COLUMNS", "80");
        command
    }

    fn horus(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn converse(mut stream: UnixStream, answers: &[Answer]) {
    let request = read_request(&mut stream);
    let Some(answer) = answers.iter().find(|answer| request.starts_with(answer.request)) else {
        panic!("nobody expected: {request}");
    };
    let Answer { status, kind, body, .. } = answer;
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    // A reader that has seen enough is part of some tests.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// "POST /path {body}"
fn read_request(stream: &mut UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let line = first.trim_end().trim_end_matches(" HTTP/1.1");
    format!("{line} {}", String::from_utf8(body).unwrap())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn ended(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

fn status_report() -> Value {
    let axis = |is: &str| json!({ "is": is, "because": "as scripted" });
    json!({
        "schema": 1, "host": "mini", "mode": "enforce", "monitors": [], "store_fault": null, "dead_sinks": [],
        "services": [{
            "name": "trading", "verdict": "healthy", "because": "fresh tick 0.4 s ago", "wanted": "up",
            "phase": "running", "process": axis("running"), "loop": axis("beating"), "progress": axis("advancing"),
            "value": axis("fresh"), "observe": false, "hold": null, "pid": 4711, "generation": 3,
            "up_for_ms": 60000, "next_start_in_ms": null, "deadline_ms": 10000, "kills_unproven": 0,
            "kills_limit": 3, "kills_today": 0, "breaker_open": false, "exits_recent": 0, "beats": [],
            "said": null, "incidents": []
        }]
    })
}

fn event(seq: u64) -> Value {
    json!({ "seq": seq, "at": "2026-11-22T16:18:06Z", "subject": "horus", "what": { "horus": { "text": "started 0.1.0" } } })
}

#[test]
fn without_a_daemon_the_way_to_one_is_told() {
    let stage = Stage::empty();
    let output = stage.horus(&["status"]);
    ended(&output, 69);
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).starts_with("error: no horus is running here"), "{}", stderr(&output));
    assert!(stderr(&output).contains("\nhint: start it with `horus run`"), "{}", stderr(&output));
    ended(&stage.horus(&["stop", "trading", "pipeline"]), 69);
}

#[test]
fn wrong_usage_is_64_help_and_version_are_0() {
    let stage = Stage::empty();
    for wrong in [
        &["explode"][..],
        &[],
        &["stop"],
        &["stop", "NOT A NAME"],
        &["hold", "trading"],
        &["hold", "trading", "--reason", "x", "--for", "soon"],
        &["incident", "7"],
        &["logs", "trading", "-n", "1000000"],
    ] {
        let output = stage.command(wrong).env("HORUS_SOCKET", "/nowhere").output().unwrap();
        ended(&output, 64);
        assert_eq!(stdout(&output), "", "{wrong:?}");
        assert!(!stderr(&output).is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["--version"], &["hold", "--help"]] {
        let output = stage.horus(right);
        ended(&output, 0);
        assert!(!stdout(&output).is_empty(), "{right:?}");
    }
}

#[test]
fn without_a_configuration_the_way_to_one_is_told() {
    let stage = Stage { directory: tempfile::tempdir().unwrap() };
    if Path::new("/etc/horus/watchdog.toml").exists() {
        return;
    }
    for verb in ["status", "run", "check"] {
        let output = stage.horus(&[verb]);
        ended(&output, 78);
        assert!(stderr(&output).contains("horus init"), "{verb}: {}", stderr(&output));
    }
}

#[test]
fn status_is_data_and_needs_no_flawless_configuration() {
    let stage = Stage::with_daemon(vec![
        says("GET /api/v1/status", &status_report()),
        refuses(
            "GET /api/v1/services/nobody",
            404,
            "no-such-service",
            "there is no service 'nobody'",
            "horus status",
        ),
    ]);
    let output = stage.horus(&["status"]);
    ended(&output, 0);
    assert_eq!(stderr(&output), "");
    assert!(stdout(&output).starts_with("1 service, 1 healthy\n"), "{}", stdout(&output));
    assert!(!stdout(&output).contains('\u{1b}'), "no colour where there is no terminal");

    let output = stage.horus(&["status", "--json"]);
    ended(&output, 0);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).unwrap(), status_report());

    let output = stage.horus(&["status", "nobody"]);
    ended(&output, 1);
    assert_eq!(stderr(&output), "error: there is no service 'nobody'\n\nhint: horus status\n");
}

#[test]
fn a_stop_shows_its_progress_and_its_outcome() {
    let stage = Stage::with_daemon(vec![
        streams(
            "POST /api/v1/services/trading/stop {}",
            &[
                json!({ "progress": { "text": "SIGTERM sent", "limit_ms": 20000 } }),
                json!({ "answer": { "done": "trading is down, pid 4711 is gone" } }),
            ],
        ),
        streams(
            "POST /api/v1/services/pipeline/stop {}",
            &[json!({ "answer": { "failed": "it does not die" } })],
        ),
        refuses(
            "POST /api/v1/services/held/start",
            409,
            "refused",
            "held is held: disk swap",
            "horus resume held",
        ),
    ]);
    let output = stage.horus(&["stop", "trading"]);
    ended(&output, 0);
    assert_eq!(stdout(&output), "trading is down, pid 4711 is gone\n");
    assert_eq!(stderr(&output), "stopping trading: SIGTERM sent (at most 20 s)\n");

    let output = stage.horus(&["stop", "trading", "pipeline"]);
    ended(&output, 1);
    assert_eq!(stdout(&output), "trading is down, pid 4711 is gone\n");
    assert!(stderr(&output).contains("error: pipeline: it does not die\n\nhint: horus status pipeline\n"));

    let output = stage.horus(&["start", "held"]);
    ended(&output, 1);
    assert_eq!(stderr(&output), "error: held is held: disk swap\n\nhint: horus resume held\n");
}

#[test]
fn a_daemon_that_dies_in_the_middle_is_not_taken_for_success() {
    let progress = json!({ "progress": { "text": "SIGTERM sent", "limit_ms": null } });
    let stage = Stage::with_daemon(vec![streams("POST /api/v1/services/trading/stop", &[progress])]);
    let output = stage.horus(&["stop", "trading"]);
    ended(&output, 69);
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("broke off while waiting for the outcome"), "{}", stderr(&output));
}

#[test]
fn holds_and_resumes_arrive_as_they_were_typed() {
    let done = [json!({ "answer": { "done": "trading is held" } })];
    let hold = r#"POST /api/v1/services/trading/hold {"for_ms":7200000,"reason":"disk swap","stop":true}"#;
    let resume = r#"POST /api/v1/services/trading/resume {"reason":null}"#;
    let stage = Stage::with_daemon(vec![streams(hold, &done), streams(resume, &done)]);
    ended(&stage.horus(&["hold", "trading", "--reason", "disk swap", "--for", "2h", "--stop"]), 0);
    ended(&stage.horus(&["resume", "trading"]), 0);
}

#[test]
fn events_are_lines_and_json_lines() {
    let page = json!({ "schema": 1, "events": [event(811), event(812)] });
    let stage = Stage::with_daemon(vec![
        says("GET /api/v1/events?limit=2&follow=false", &page),
        streams(
            "GET /api/v1/events?limit=100&follow=true&service=horus",
            &[
                json!({ "event": event(813) }),
                json!({ "end": { "why": "shutting-down", "detail": "horus is shutting down" } }),
            ],
        ),
    ]);
    let output = stage.horus(&["events", "-n", "2"]);
    ended(&output, 0);
    assert_eq!(stdout(&output).lines().count(), 2);
    assert!(stdout(&output).starts_with("2026-11-22 16:18:06.000  horus"), "{}", stdout(&output));

    let output = stage.horus(&["events", "-n", "2", "--json"]);
    let rows: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[1]["schema"], &rows[1]["seq"]), (&json!(1), &json!(812)));

    let output = stage.horus(&["events", "-f", "--service", "horus"]);
    ended(&output, 69);
    assert_eq!(stdout(&output).lines().count(), 1);
    assert!(stderr(&output).starts_with("error: horus is shutting down"), "{}", stderr(&output));
}

/// Output that nobody reads any more must be plenty: more than a pipe holds.
#[test]
fn a_closed_pipe_ends_quietly() {
    let lines: Vec<Value> = (0..20_000).map(|seq| json!({ "event": event(seq) })).collect();
    let stage = Stage::with_daemon(vec![streams("GET /api/v1/events", &lines)]);
    let mut child: Child =
        stage.command(&["events", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("horus started"), "{first}");
    let output = child.wait_with_output().unwrap();
    ended(&output, 0);
    assert_eq!(stderr(&output), "");
}

#[test]
fn logs_pass_as_they_are() {
    let body = "line one\n\u{1b}[31mred\u{1b}[0m\n".to_owned();
    let request = "GET /api/v1/services/trading/logs?lines=100&follow=false";
    let stage =
        Stage::with_daemon(vec![Answer { request, status: 200, kind: "text/plain", body: body.clone() }]);
    let output = stage.horus(&["logs", "trading"]);
    ended(&output, 0);
    assert_eq!(stdout(&output), body);
}

#[test]
fn incidents_of_all_kinds_of_answers() {
    let row = json!({
        "id": "H-7F3K", "subject": "trading", "kind": "stuck", "severity": "critical", "reason": "no fresh tick",
        "opened_at": "2026-11-22T16:18:06Z", "closed_at": null, "outcome": null,
    });
    let story = json!({ "schema": 1, "incident": row, "events": [], "deliveries": [], "evidence": [] });
    let stage = Stage::with_daemon(vec![
        says("GET /api/v1/incidents?open=false", &json!({ "schema": 1, "incidents": [row] })),
        says("GET /api/v1/incidents?open=true", &json!({ "schema": 1, "incidents": [] })),
        says("GET /api/v1/incidents/H-7F3K", &story),
    ]);
    let output = stage.horus(&["incidents"]);
    ended(&output, 0);
    assert!(
        stdout(&output)
            .contains("H-7F3K  2026-11-22 16:18:06  critical  trading: its loop stopped  open for")
    );
    let output = stage.horus(&["incidents", "--open"]);
    ended(&output, 0);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("", "no incident is open\n"));
    // As it is typed from a phone.
    ended(&stage.horus(&["incident", "7f3k"]), 0);
    let output = stage.horus(&["incident", "7f3k", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).unwrap(), story);
}

#[test]
fn a_reload_with_faults_is_78_and_says_where() {
    let fault = json!({ "place": "watchdog.toml:3:7", "message": "no key `deadlin`", "help": "did you mean `deadline`?" });
    let report = |applied: bool, changes: Value, faults: Value| json!({ "schema": 1, "dry_run": false, "applied": applied, "changes": changes, "faults": faults });
    let stage = Stage::with_daemon(vec![says(
        "POST /api/v1/reload {\"dry_run\":false}",
        &report(false, json!([]), json!([fault])),
    )]);
    let output = stage.horus(&["reload"]);
    ended(&output, 78);
    assert!(
        stderr(&output)
            .starts_with("watchdog.toml:3:7: error: no key `deadlin` (help: did you mean `deadline`?)\n")
    );
    assert!(stderr(&output).contains("nothing was changed"));

    let changes = json!(["trading: deadline 10 s -> 20 s"]);
    let stage = Stage::with_daemon(vec![says("POST /api/v1/reload", &report(true, changes, json!([])))]);
    let output = stage.horus(&["reload"]);
    ended(&output, 0);
    assert_eq!(stdout(&output), "in force:\n  trading: deadline 10 s -> 20 s\n");
}

#[test]
fn alerts_that_do_not_arrive_are_a_failure() {
    let sinks = json!([
        { "sink": "ops", "delivered": true, "detail": "status 204" },
        { "sink": "old", "delivered": false, "detail": "status 404: the webhook is gone" },
    ]);
    let stage = Stage::with_daemon(vec![
        says("POST /api/v1/alerts/test {\"sink\":null}", &json!({ "schema": 1, "sinks": sinks })),
        says("POST /api/v1/alerts/test {\"sink\":\"none\"}", &json!({ "schema": 1, "sinks": [] })),
    ]);
    let output = stage.horus(&["alerts", "test"]);
    ended(&output, 1);
    assert_eq!(
        stdout(&output),
        "ops  delivered  status 204\nold  FAILED     status 404: the webhook is gone\n"
    );
    ended(&stage.horus(&["alerts", "test", "none"]), 1);
}

#[test]
fn an_answer_of_another_world_is_not_understood() {
    let stage = Stage::with_daemon(vec![says("GET /api/v1/status", &json!({ "hello": 1 }))]);
    let output = stage.horus(&["status"]);
    ended(&output, 1);
    assert!(stderr(&output).contains("is not understood"), "{}", stderr(&output));
}

#[test]
fn check_tells_every_fault_and_the_timing() {
    let stage = Stage::empty();
    let output = stage.horus(&["check"]);
    ended(&output, 78);
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("watchdog.toml:2:1: error:"), "{}", stderr(&output));

    stage.write("good.toml", "version = 1\n[service.one]\ncommand = [\"/bin/sleep\", \"9\"]\n");
    let output = stage.horus(&["check", "good.toml"]);
    ended(&output, 0);
    assert!(stdout(&output).starts_with("one"), "{}", stdout(&output));
    assert!(stderr(&output).contains("good.toml: no faults"), "{}", stderr(&output));

    for (file, usable) in [("good.toml", true), ("watchdog.toml", false), ("missing.toml", false)] {
        let output = stage.horus(&["check", file, "--json"]);
        ended(&output, if usable { 0 } else { 78 });
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&report["schema"], &report["usable"]), (&json!(1), &json!(usable)), "{file}");
        assert_eq!(report["faults"].as_array().unwrap().is_empty(), usable);
    }
}

#[test]
fn init_writes_a_file_that_checks_and_never_over_another() {
    let stage = Stage { directory: tempfile::tempdir().unwrap() };
    ended(&stage.horus(&["init"]), 0);
    ended(&stage.horus(&["check"]), 0);
    let before = std::fs::read(stage.path("watchdog.toml")).unwrap();
    let output = stage.horus(&["init"]);
    ended(&output, 1);
    assert!(stderr(&output).contains("hint: horus check watchdog.toml"), "{}", stderr(&output));
    assert_eq!(std::fs::read(stage.path("watchdog.toml")).unwrap(), before);
}

#[test]
fn completions_know_the_verbs() {
    let stage = Stage::empty();
    for shell in ["bash", "zsh", "fish"] {
        let output = stage.horus(&["completions", shell]);
        ended(&output, 0);
        assert!(stdout(&output).contains("incidents"), "{shell}");
    }
}
