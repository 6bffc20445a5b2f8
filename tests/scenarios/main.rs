//! The scenarios: what happened in the field, at a smaller scale, against the real programs.
//!
//! Each asserts three things: what the journal says and in which order, what a person was told, and which processes
//! live. Times are scaled down: a deadline is one or two seconds instead of ten or thirty.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod agents;
mod alerts;
mod bad_input;
mod clients;
mod exclusive;
mod faults;
mod fleet;
mod hang;
mod holding;
mod host;
mod isolation;
mod jobs;
mod kernel_view;
mod kill_loops;
mod life;
mod limits;
mod monitors;
mod node_beats;
mod order;
mod packages;
mod python_beats;
mod reloading;
mod rust_beats;
mod secrets;
mod shipped;
mod silent_programs;
mod slow_start;
mod stopping;
mod story;
mod survival;
mod torture;
mod upgrading;
mod value;
mod watching_horus;

use horus_core::event::What;
use horus_core::record::Recorded;
use horus_tests::{Options, Rig};

/// Program of a subject.
macro_rules! subject {
    ($name:literal) => {
        env!(concat!("CARGO_BIN_EXE_", $name))
    };
}
pub(crate) use subject;

/// A rig with nothing unusual about it.
async fn rig() -> Rig {
    rig_with(Options::default()).await
}

async fn rig_with(options: Options) -> Rig {
    Rig::new(subject!("hanger"), options).await
}

/// `heartbeat.http` at `port`, polled five times a second.
fn beat(port: u16) -> String {
    format!(
        "heartbeat.http = {{ url = \"http://127.0.0.1:{port}/\", every = \"200ms\", timeout = \"400ms\", \
         seq = \"/seq\", progress = \"/progress\", state = \"/state\" }}\n"
    )
}

/// A service that runs `command` (program and arguments), with more keys.
fn service(name: &str, command: &[&str], keys: &str) -> String {
    let command = serde_json::to_string(command).unwrap();
    format!("[service.{name}]\ncommand = {command}\n{keys}\n")
}

/// A hanger that beats at a port of its own, with more keys.
fn hanger(rig: &Rig, name: &str, keys: &str) -> String {
    let port = rig.room.port();
    let triggers = triggers(rig, name);
    let command = [subject!("hanger"), "--port", &port.to_string(), "--triggers", &triggers, "--talk"];
    service(name, &command, &format!("{}{keys}", beat(port)))
}

/// A folder of triggers of its own for each service.
fn triggers(rig: &Rig, name: &str) -> String {
    let folder = rig.room.path("triggers").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder.display().to_string()
}

/// The bot in Python, with more words on its command line and more keys. `None`: there is no Python here.
async fn bot(rig: &Rig, words: &[&str], keys: &str) -> Option<String> {
    bot_named(rig, "bot", words, keys).await
}

/// The same under another name, for those of whom there are several.
async fn bot_named(rig: &Rig, name: &str, words: &[&str], keys: &str) -> Option<String> {
    let port = rig.room.port();
    bot_at(rig, name, port, words, &format!("{}{keys}", beat(port))).await
}

/// The same, and nobody asks it for its beats.
async fn bot_silent(rig: &Rig, words: &[&str], keys: &str) -> Option<String> {
    bot_at(rig, "bot", rig.room.port(), words, keys).await
}

async fn bot_at(rig: &Rig, name: &str, port: u16, words: &[&str], keys: &str) -> Option<String> {
    let python = rig.python().await?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/bot.py");
    let (port, triggers) = (port.to_string(), triggers(rig, name));
    let mut command = vec![python.as_str(), program, "--port", &port, "--triggers", &triggers];
    command.extend(words);
    Some(service(name, &command, keys))
}

/// The word of an event.
fn word(event: &Recorded) -> String {
    let json = serde_json::to_value(&event.event.what).unwrap();
    json.as_object().and_then(|object| object.keys().next().cloned()).unwrap_or_default()
}

fn is_kill(what: &What) -> bool {
    matches!(what, What::KillDecided { .. })
}

fn is_signal(what: &What) -> bool {
    matches!(what, What::Signalled { .. })
}

fn is_start(what: &What) -> bool {
    matches!(what, What::StartAsked { .. })
}

fn is_exit(what: &What) -> bool {
    matches!(what, What::Exited { .. })
}

fn is_recovery(what: &What) -> bool {
    matches!(what, What::Recovered { .. })
}

/// Waits until a subject has taken the trigger: the instant in which it goes wrong.
async fn struck(rig: &Rig, service: &str, trigger: &str) -> jiff::Timestamp {
    rig.room.trigger(&format!("{service}/{trigger}"));
    taken(rig, service, trigger).await;
    jiff::Timestamp::now()
}

/// Waits until a subject has taken a trigger that was dropped.
async fn taken(rig: &Rig, service: &str, trigger: &str) {
    let path = rig.room.path("triggers").join(service).join(trigger);
    let taking = async {
        while path.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(horus_tests::FAILSAFE, taking).await.is_ok(), "{service} does not go wrong");
}

/// Milliseconds from one instant to the other.
fn millis(from: jiff::Timestamp, to: jiff::Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap()
}
