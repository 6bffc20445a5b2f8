//! The program as its supervisor meets it: started, asked, killed, told to go wrong.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper that fails is a test that fails")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::Value;

/// For things that must happen; never waited for in full by a test that passes.
const FAILSAFE: Duration = Duration::from_secs(60);

/// How long to listen for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(700);

struct Trading {
    child: Child,
    address: String,
    lines: Receiver<String>,
}

fn command(arguments: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a test starts the program that it tests")]
    let mut command = Command::new(env!("CARGO_BIN_EXE_trading"));
    command.args(arguments).env_remove("NOTIFY_SOCKET").env_remove("TRADING_FAULT").env_remove("RUST_LOG");
    command
}

impl Trading {
    fn start(state: &Path, arguments: &[&str]) -> Self {
        Self::start_with(state, arguments, &[])
    }

    fn start_with(state: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(&["run", "--listen", "127.0.0.1:0", "--state", state.to_str().unwrap()]);
        command.args(arguments).envs(environment.iter().copied());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut trading = Self { child, address: String::new(), lines };
        let starting = trading.wait_for("starting listen=");
        let address = starting.split("listen=").nth(1).unwrap().split(' ').next().unwrap();
        address.clone_into(&mut trading.address);
        trading
    }

    fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(FAILSAFE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(why) => panic!("no line with `{text}` ({why}) after:\n{}", seen.join("\n")),
            }
        }
    }

    /// All lines until the program ends.
    fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(FAILSAFE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("still running"),
            }
        }
    }

    fn ask(&self, path: &str, patience: Duration) -> Option<(String, Value)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: trading\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.lines().next()?.to_owned();
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(path, FAILSAFE).unwrap();
        assert_eq!(status, "HTTP/1.1 200 OK");
        body
    }

    /// Asks for the beat until it is as wanted.
    fn beat_until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = now() + FAILSAFE;
        loop {
            let beat = self.get("/heartbeat");
            if wanted(&beat) {
                return beat;
            }
            assert!(now() < deadline, "the beat stayed {beat}");
        }
    }

    fn terminate(&self) {
        #[expect(clippy::disallowed_methods, reason = "the shell's kill spares the test an unsafe call")]
        let mut shell = Command::new("sh");
        let sent = shell.args(["-c", &format!("kill -TERM {}", self.child.id())]).status().unwrap();
        assert!(sent.success());
    }

    fn wait(&mut self) -> ExitStatus {
        let _ = self.rest();
        self.child.wait().unwrap()
    }

    fn stop(mut self) {
        self.terminate();
        assert_eq!(self.wait().code(), Some(0));
    }
}

impl Drop for Trading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "real time passes in a real process")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn it_trades_the_recording_and_tells_how_far_it_got() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--speed", "200"]);
    trading.wait_for("ready slots=3");
    let beat = trading.beat_until(|beat| number(&beat["progress"]["orders_filled"]) >= 2);
    assert_eq!((&beat["schema"], &beat["state"], &beat["ready"]), (&1.into(), &"ok".into(), &true.into()));
    assert_eq!(beat["gauges"], serde_json::json!(["open_positions", "slots"]));
    let progress = &beat["progress"];
    assert!(number(&progress["bars"]) > number(&progress["signals"]), "{beat}");
    assert!(number(&progress["signals"]) >= number(&progress["passed"]), "{beat}");
    assert_eq!(trading.get("/healthz")["status"], "ok");
    assert_eq!(trading.get("/v1/signals")["signals"].as_array().unwrap().len(), 3);
    let gates = trading.get("/v1/gates");
    assert_eq!(gates["chain"][0]["name"], "warm_up");
    assert_eq!(gates["never_ran"], serde_json::json!([]));
    assert_eq!(trading.get("/v1/account")["paper"], true);
    assert_eq!(trading.ask("/v1/nothing", FAILSAFE).unwrap().0, "HTTP/1.1 404 Not Found");
    trading.stop();
}

#[test]
fn a_stop_is_told_saved_and_quick() {
    let state = tempfile::tempdir().unwrap();
    let socket = state.path().join("notify");
    let horus = UnixDatagram::bind(&socket).unwrap();
    horus.set_read_timeout(Some(FAILSAFE)).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let mut trading = Trading::start_with(state.path(), &["--speed", "100"], &environment);
    let hear = |text: &str| {
        let mut datagram = [0; 4096];
        loop {
            let n = horus.recv(&mut datagram).unwrap();
            let told = String::from_utf8(datagram[..n].to_vec()).unwrap();
            if told.contains(text) {
                return told;
            }
        }
    };
    hear("READY=1\n");
    let beat = hear("WATCHDOG=1\n");
    assert!(beat.contains("\nX_HORUS_SEQ=") && beat.contains("\nX_HORUS_GAUGE=slots:3\n"), "{beat}");
    trading.wait_for("filled");
    let asked = now();
    trading.terminate();
    hear("STOPPING=1\n");
    let lines = trading.rest();
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    assert_eq!(trading.wait().code(), Some(0));
    assert!(lines.iter().any(|line| line.contains("saved fills=")), "{lines:?}");
}

/// What the journal says, by other arithmetic than the program's.
struct Books {
    fills: u64,
    cash: Decimal,
    positions: BTreeMap<String, Decimal>,
}

fn read_books(state: &Path) -> Books {
    let mut books = Books { fills: 0, cash: Decimal::from(100_000), positions: BTreeMap::new() };
    let mut orders_seen = std::collections::BTreeSet::new();
    let text = std::fs::read_to_string(state.join("journal.jsonl")).unwrap();
    // A torn last line was never acknowledged.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let fill = &line["record"]["fill"];
        if fill.is_null() {
            continue;
        }
        let decimal = |field: &str| fill[field].as_str().unwrap().parse::<Decimal>().unwrap();
        assert!(orders_seen.insert(number(&fill["order"])), "order filled twice: {fill}");
        let sign = if fill["side"] == "buy" { Decimal::ONE } else { -Decimal::ONE };
        books.fills += 1;
        books.cash -= sign * decimal("price") * decimal("quantity") + decimal("fee");
        *books.positions.entry(fill["symbol"].as_str().unwrap().to_owned()).or_default() +=
            sign * decimal("quantity");
    }
    books.positions.retain(|_, quantity| !quantity.is_zero());
    books
}

#[test]
fn killed_at_any_time_it_comes_back_with_every_acknowledged_fill() {
    let state = tempfile::tempdir().unwrap();
    let mut fills_before = 0;
    for round in 0..6_usize {
        let mut trading = Trading::start(state.path(), &["--speed", "1000"]);
        let mut told = 0;
        // Another number of fills in each round, so another place in the step.
        for _ in 0..=round * 3 {
            trading.wait_for("filled");
            told += 1;
        }
        trading.child.kill().unwrap();
        trading.child.wait().unwrap();
        let books = read_books(state.path());
        assert!(books.fills >= fills_before + told, "a fill that was told is on disk");
        fills_before = books.fills;
        drop(trading);

        // Reconciled, but not yet trading: what it thinks that it has.
        let reconciled = Trading::start(state.path(), &["--fault", "slow-start=1h"]);
        let line = reconciled.wait_for("reconciled");
        assert!(line.contains(&format!("fills={}", books.fills)), "{line}");
        let snapshot: Value =
            serde_json::from_slice(&std::fs::read(state.path().join("snapshot.json")).unwrap()).unwrap();
        let ledger = &snapshot["ledger"];
        assert_eq!(ledger["cash"].as_str().unwrap().parse::<Decimal>().unwrap(), books.cash);
        let held: BTreeMap<String, Decimal> = ledger["positions"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(symbol, p)| (symbol.clone(), p["quantity"].as_str().unwrap().parse().unwrap()))
            .collect();
        assert_eq!(held, books.positions);
        assert_eq!(number(&snapshot["tally"]["orders_filled"]), books.fills);
    }
}

#[test]
fn fault_hang_silences_everything() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--fault", "hang@300ms"]);
    trading.wait_for("fault on purpose fault=hang");
    assert_eq!(trading.ask("/heartbeat", SILENCE), None);
    assert_eq!(trading.ask("/healthz", SILENCE), None);
}

#[test]
fn fault_lie_answers_with_a_still_tick() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start_with(state.path(), &[], &[("TRADING_FAULT", "lie@300ms")]);
    trading.wait_for("fault on purpose fault=lie");
    let first = trading.get("/heartbeat");
    let until = now() + SILENCE;
    while now() < until {
        let beat = trading.get("/heartbeat");
        assert_eq!((&beat["seq"], &beat["state"]), (&first["seq"], &"ok".into()));
    }
    trading.stop();
}

#[test]
fn fault_stop_beat_silences_only_the_beat() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--fault", "stop-beat@300ms"]);
    trading.wait_for("fault on purpose fault=stop-beat");
    assert_eq!(trading.ask("/heartbeat", SILENCE), None);
    assert_eq!(trading.get("/healthz")["status"], "ok");
    trading.stop();
}

#[test]
fn fault_stall_stage_stops_the_output_while_the_loop_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--speed", "100", "--fault", "stall-stage=venue@500ms"]);
    trading.wait_for("fault on purpose fault=stall-stage=venue");
    let stalled = trading.beat_until(|_| true);
    let (seq, bars) = (number(&stalled["seq"]), number(&stalled["progress"]["bars"]));
    let later = trading.beat_until(|beat| number(&beat["progress"]["bars"]) > bars + 600);
    assert!(number(&later["seq"]) > seq);
    let orders = |beat: &Value| number(&beat["progress"]["orders"]);
    let filled = |beat: &Value| number(&beat["progress"]["orders_filled"]);
    assert_eq!(filled(&later), filled(&stalled), "200 s of tape without a fill");
    assert!(orders(&later) > filled(&later), "orders wait: {later}");
    trading.stop();
}

#[test]
fn fault_crash_ends_it_in_three_ways() {
    let state = tempfile::tempdir().unwrap();
    let end = |fault: &str| Trading::start(state.path(), &["--fault", fault]).wait();
    assert_eq!(end("crash@100ms").code(), Some(42));
    assert_eq!(end("crash=panic@100ms").code(), Some(101));
    let sigabrt = 6;
    assert_eq!(end("crash=abort@100ms").signal(), Some(sigabrt));
}

#[test]
fn fault_once_lets_the_next_start_be() {
    let state = tempfile::tempdir().unwrap();
    let arguments = ["--fault", "crash@0s,once", "--speed", "100"];
    assert_eq!(Trading::start(state.path(), &arguments).wait().code(), Some(42));
    let healed = Trading::start(state.path(), &arguments);
    healed.beat_until(|beat| number(&beat["seq"]) > 5);
    healed.stop();
}

#[test]
fn fault_deaf_ignores_sigterm_and_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--fault", "deaf"]);
    trading.wait_for("ready");
    trading.terminate();
    trading.wait_for("SIGTERM is ignored");
    let seq = number(&trading.get("/heartbeat")["seq"]);
    trading.beat_until(|beat| number(&beat["seq"]) > seq + 1);
}

#[test]
fn fault_slow_start_answers_but_does_not_tick_and_can_be_stopped() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--fault", "slow-start=1h"]);
    trading.wait_for("reconciled");
    let beat = trading.get("/heartbeat");
    assert_eq!((&beat["seq"], &beat["ready"]), (&0.into(), &false.into()));
    assert_eq!(trading.get("/healthz")["status"], "starting");
    assert_eq!(trading.get("/v1/signals")["signals"][0]["risk_context"]["gate"], "WARMUP");
    trading.stop();
}

#[test]
fn wrong_books_halt_it_instead_of_a_restart_loop() {
    let state = tempfile::tempdir().unwrap();
    let trading = Trading::start(state.path(), &["--speed", "200"]);
    trading.wait_for("filled");
    trading.stop();
    let path = state.path().join("snapshot.json");
    let snapshot = std::fs::read_to_string(&path).unwrap().replacen("\"cash\":\"9", "\"cash\":\"19", 1);
    std::fs::File::create(&path).unwrap().write_all(snapshot.as_bytes()).unwrap();
    let trading = Trading::start(state.path(), &[]);
    trading.wait_for("halted: a person has to look");
    let beat = trading.get("/heartbeat");
    assert_eq!(beat["state"], "halted");
    assert!(beat["status"].as_str().unwrap().contains("the books contradict themselves: cash is"), "{beat}");
    trading.stop();
}

#[test]
fn a_disk_that_takes_no_record_halts_it_and_nothing_unrecorded_counts() {
    let state = tempfile::tempdir().unwrap();
    // Files may grow to 4 KiB here; a write beyond that fails, as on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec '{}' run --listen 127.0.0.1:0 --speed 1000 --state '{}'",
        env!("CARGO_BIN_EXE_trading"),
        state.path().display(),
    );
    #[expect(clippy::disallowed_methods, reason = "a test starts the program that it tests")]
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env_remove("TRADING_FAULT");
    let trading = Trading::spawn(shell);
    let line = trading.wait_for("halted: a person has to look");
    assert!(line.contains("the step could not be recorded"), "{line}");
    let beat = trading.get("/heartbeat");
    assert_eq!(beat["state"], "halted");
    let books = read_books(state.path());
    assert!(books.fills > 0);
    trading.stop();
    let healed = Trading::start(state.path(), &["--fault", "slow-start=1h"]);
    let line = healed.wait_for("reconciled");
    assert!(line.contains(&format!("fills={}", books.fills)) && line.contains("torn=true"), "{line}");
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_must_not_be_is_refused_with_a_reason() {
    let (code, text) = refused(&["run", "--live"]);
    assert_eq!(code, Some(78));
    assert!(text.starts_with("trading: there is no live mode"), "{text}");
    let (code, text) = refused(&["run", "--live", "--fault", "hang"]);
    assert_eq!(code, Some(78));
    assert!(text.starts_with("trading: a fault on purpose is refused in live mode"), "{text}");
    let (code, text) = refused(&["run", "--fault", "hnag@20s"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("no fault is called `hnag`; there are hang,"), "{text}");
    let (code, text) = refused(&["run", "--fault", "stall-stage=vennue@20s"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(64), "trading: no stage is called `vennue`; there are feed, bars, signals, gates, venue\n",)
    );
    assert_eq!(refused(&["run", "--speed", "0"]).0, Some(64));
    assert_eq!(refused(&["tape", "derive", "/no/such/file"]).0, Some(65));
}

#[test]
fn one_state_has_one_program() {
    let state = tempfile::tempdir().unwrap();
    let first = Trading::start(state.path(), &[]);
    first.wait_for("ready");
    let (code, text) =
        refused(&["run", "--listen", "127.0.0.1:0", "--state", state.path().to_str().unwrap()]);
    assert_eq!(code, Some(69));
    assert!(text.contains("another trading program works on"), "{text}");
    let (code, text) = refused(&["run", "--listen", &first.address, "--state", "unused"]);
    assert_eq!(code, Some(69));
    assert!(text.contains(&format!("the beat endpoint cannot listen on {}", first.address)), "{text}");
    first.stop();
}

#[test]
fn the_tape_says_what_it_is() {
    let output = command(&["tape", "info"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("Binance spot, recorded 2025-03-25T23:07:01Z to"), "{text}");
}
