//! Upgrade in place: the process becomes another build, and nobody but the journal notices; a build that cannot take over
//! changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use horus_core::event::What;
use horus_core::status::ServiceStatus;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::{ProcessId, is_alive};
use horus_sys::signal::Signal;
use horus_tests::{FAILSAFE, Options, Output, Rig};
use tokio::net::UnixStream;

use crate::{hanger, is_kill, is_recovery, is_start, rig_with, service, struck, subject, triggers};

const KEYS: &str = "deadline = \"2s\"\nkills = { prove = \"5s\" }\n";

/// Lines that the talker writes in each of its hundred beats a second.
const LINES: &str = "20";

/// A rig whose Horus is a file of its own, which can be replaced, with a folder for trouble.
async fn rig() -> (Rig, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let environment = vec![
        ("HORUS_TEST_TROUBLE".to_owned(), folder.path().display().to_string()),
        ("HORUS_TEST_REHEARSAL_MAX_MS".to_owned(), "5000".to_owned()),
    ];
    let mut rig = rig_with(Options { environment, ..Options::default() }).await;
    let program = rig.room.path("horus");
    std::fs::copy(rig.program("horus"), &program).unwrap();
    rig.use_program(program);
    (rig, folder)
}

/// Another build: a copy with another identifier where the linker has written one.
fn other_build(rig: &Rig, path: &Path, number: u8) {
    const HEAD: [u8; 16] = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    let mut bytes = std::fs::read(rig.program("horus")).unwrap();
    let at =
        bytes.windows(HEAD.len()).position(|window| window == HEAD).expect("the linker writes a build id");
    bytes[at + HEAD.len()..][..20].fill(number);
    program(path, &bytes);
}

/// Puts a program in its place as packages do: whole, by a rename.
fn program(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    write_atomic(&new, bytes, Durability::ThisBoot).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A program that beats by datagrams and numbers its lines.
fn talker(rig: &Rig) -> String {
    let (triggers, refused) = (triggers(rig, "talker"), rig.room.path("refused").display().to_string());
    let command = [subject!("notifier"), "--triggers", &triggers, "--lines", LINES, "--refused", &refused];
    service("talker", &command, &format!("heartbeat.notify = true\n{KEYS}"))
}

/// Each line of the process is there, once, in order. Gives how many.
fn whole_lines(rig: &Rig, process: &ProcessId) -> u64 {
    let output = rig.output("talker");
    let prefix = format!("{} line ", process.pid);
    let mut last = 0;
    for number in output.lines().filter_map(|line| line.strip_prefix(&prefix)) {
        let number: u64 = number.parse().unwrap_or_else(|_| panic!("a line was split: {number:?}"));
        assert_eq!(number, last + 1, "lines are lost or doubled");
        last = number;
    }
    last
}

async fn more_lines(rig: &Rig, process: &ProcessId, count: u64) {
    let wanted = whole_lines(rig, process) + count;
    let talking = async {
        while whole_lines(rig, process) < wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, talking).await.is_ok(), "the talker's output does not arrive");
}

/// Connects to the API all the time, and asks now and then.
struct Caller {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Option<String>>,
}

impl Caller {
    fn of(rig: &Rig) -> Self {
        let (stop, connected) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count, socket) =
            (Arc::clone(&stop), Arc::clone(&connected), rig.client.socket().to_owned());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = UnixStream::connect(&socket).await {
                    return Some(error.to_string());
                }
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            None
        });
        Self { stop, connected, task }
    }

    async fn assert_never_refused(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert_eq!(self.task.await.unwrap(), None, "somebody found nobody at home");
        assert!(self.connected.load(Ordering::Relaxed) > 50);
    }
}

fn said(text: &'static str) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Horus { text: said } if said.contains(text))
}

fn done(output: &Output) {
    assert_eq!(output.code, 0, "{}{}", output.out, output.err);
}

#[tokio::test]
async fn invariant_g6_an_upgrade_keeps_processes_sockets_lines_ages_holds_and_incidents() {
    let (mut rig, _trouble) = rig().await;
    let watched = hanger(&rig, "bot", KEYS);
    let held = hanger(&rig, "held", KEYS);
    let stuck = hanger(&rig, "stuck", &format!("{KEYS}observe = true\n"));
    rig.run(&format!("{watched}{held}{stuck}{}", talker(&rig))).await;
    let (talker, bot) = (rig.ready("talker").await, rig.ready("bot").await);
    rig.ready("held").await;
    let stuck = rig.ready("stuck").await;
    done(&rig.cli(&["hold", "held", "--reason", "a person looks at it"]).await);
    struck(&rig, "stuck", "hang").await;
    let opened = |what: &What| matches!(what, What::IncidentOpened { .. });
    let incident = rig.first("stuck", "incident", opened).await.event.incident;
    let (horus, keeper) = (rig.horus(), rig.keeper());
    let caller = Caller::of(&rig);

    let program = rig.room.path("horus");
    for number in 1..=3_u8 {
        more_lines(&rig, &talker, 500).await;
        let (last, old) = (rig.journal.last(), rig.status("bot").await);
        other_build(&rig, &program, number);
        let upgrade = rig.cli(&["upgrade"]).await;
        done(&upgrade);
        let build = format!(
            "-> 0.1.0 (build {}); 4 services kept; keeper upgraded\n",
            format!("{number:02x}").repeat(6)
        );
        assert!(
            upgrade.out.starts_with("upgraded 0.1.0 (build ") && upgrade.out.ends_with(&build),
            "{}",
            upgrade.out
        );
        rig.after(last, "horus", "the change", said("goes on as 0.1.0")).await;
        for (name, process) in [("talker", talker), ("bot", bot), ("stuck", stuck)] {
            assert_eq!(rig.process(name).await, process);
        }
        assert_eq!((rig.horus(), rig.keeper()), (horus, keeper), "the same processes");
        for process in [horus, keeper] {
            let runs = std::fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
            assert_eq!(runs, program, "the new file");
        }
        let new = rig.status("bot").await;
        assert!(new.up_for_ms >= old.up_for_ms, "{old:?} {new:?}");
        let hold = rig.status("held").await.hold.expect("it is held");
        assert_eq!(hold.reason, "a person looks at it");
    }
    more_lines(&rig, &talker, 500).await;
    caller.assert_never_refused().await;
    assert!(!rig.room.path("refused").exists(), "a beat was refused: {}", rig.log());
    assert_eq!(rig.count("stuck", opened), 1, "it is one incident");
    let open = rig.client.incidents(true, 10).await.unwrap().incidents;
    assert_eq!(open.iter().map(|row| Some(row.id)).collect::<Vec<_>>(), [incident]);
    for name in ["talker", "bot", "held", "stuck"] {
        assert_eq!(rig.count(name, is_start), 1, "{name}");
        rig.assert_never_signalled(name);
    }

    // And everybody is still watched and healed.
    let last = rig.journal.last();
    struck(&rig, "bot", "hang").await;
    rig.after(last, "bot", "kill", is_kill).await;
    rig.after(last, "bot", "recovery", is_recovery).await;
    whole_lines(&rig, &talker);
    rig.end().await;
}

#[tokio::test]
async fn an_upgrade_in_the_middle_of_a_silence_delays_no_verdict_and_no_restart() {
    const DEADLINE: Duration = Duration::from_secs(4);
    // Poll, own lateness, and what the evidence takes on a busy machine.
    const SLACK: Duration = Duration::from_secs(4);
    let (mut rig, _trouble) = rig().await;
    let config = hanger(&rig, "bot", "deadline = \"4s\"\nkills = { prove = \"10s\" }\n");
    rig.run(&config).await;
    rig.ready("bot").await;
    let program = rig.room.path("horus");
    let hung = struck(&rig, "bot", "hang").await;
    // Before the verdict, and once more between the verdict and the restart.
    for (number, before) in [(1, "the verdict"), (2, "the restart")] {
        let silent_for = if number == 1 { 2_000 } else { 5_500 };
        let reached = |bot: &ServiceStatus| bot.beats[0].fresh_ms.is_some_and(|age| age >= silent_for);
        rig.status_until("bot", before, reached).await;
        other_build(&rig, &program, number);
        done(&rig.cli(&["upgrade"]).await);
    }
    let opened = |what: &What| matches!(what, What::IncidentOpened { .. });
    let took = |at: jiff::Timestamp| at.duration_since(hung).unsigned_abs();
    let verdict = took(rig.first("bot", "incident", opened).await.at);
    let restart = took(rig.first("bot", "kill", is_kill).await.at);
    assert!(verdict >= DEADLINE - SLACK / 4 && verdict < DEADLINE + SLACK, "judged after {verdict:?}");
    assert!(
        restart >= DEADLINE * 2 - SLACK / 4 && restart < DEADLINE * 2 + SLACK,
        "restarted after {restart:?}"
    );
    rig.first("bot", "recovery", is_recovery).await;
    rig.end().await;
}

#[tokio::test]
async fn a_signal_does_the_same_and_a_dry_run_does_nothing() {
    let (mut rig, _trouble) = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let (bot, horus) = (rig.ready("bot").await, rig.horus());
    let other = rig.room.path("other");
    other_build(&rig, &other, 7);

    let dry = rig.cli(&["upgrade", "--dry-run", "--binary", &other.display().to_string()]).await;
    done(&dry);
    assert!(dry.out.contains("would become 0.1.0 (build 070707070707)"), "{}", dry.out);
    assert_eq!(rig.client.upgrade_report().await.unwrap().tries, 0);

    // A program that a person names is run, and the next one is the usual one again.
    let json = rig.cli(&["upgrade", "--json", "--binary", &other.display().to_string()]).await;
    done(&json);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["program"], "0.1.0 (build 070707070707)");
    assert_eq!((&report["last"]["upgraded"], &report["tries"]), (&true.into(), &1.into()));
    assert_eq!(std::fs::read_link(format!("/proc/{}/exe", horus.pid)).unwrap(), other);

    let outcome = "1 service kept; keeper upgraded";
    let first = rig.first("horus", "the outcome", said(outcome)).await;
    rig.signal(&horus, Signal::USR2);
    rig.after(first.seq, "horus", "the second outcome", said(outcome)).await;
    let home = rig.room.path("horus");
    assert_eq!(std::fs::read_link(format!("/proc/{}/exe", horus.pid)).unwrap(), home);
    assert_eq!((rig.horus(), rig.process("bot").await), (horus, bot));
    assert_eq!(rig.client.upgrade_report().await.unwrap().tries, 2);
    rig.end().await;
}

/// A shell script that answers a rehearsal as the real program does, and does something else as a daemon.
fn pretender(rig: &Rig, path: &Path, as_daemon: &str) {
    let real = rig.program("horus");
    let script =
        format!("#!/bin/sh\nif [ \"$1\" = rehearse ]; then exec \"{real}\" \"$@\"; fi\n{as_daemon}\n");
    program(path, script.as_bytes());
}

#[tokio::test]
async fn invariant_g6_a_program_that_cannot_take_over_changes_nothing() {
    let (mut rig, _trouble) = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let (bot, horus, keeper) = (rig.ready("bot").await, rig.horus(), rig.keeper());
    let new = rig.room.path("new");
    let path = new.display().to_string();
    let tomorrow = "{\"rehearsal\":1,\"program\":{\"version\":\"9.0.0\",\"build\":null},\
        \"protocols\":{\"oldest\":8,\"newest\":9},\"formats\":[],\"memories\":{\"oldest\":1,\"newest\":9},\
        \"databases\":{\"oldest\":0,\"newest\":99},\"handovers\":{\"oldest\":1,\"newest\":9},\"faults\":[]}";
    let talks = format!("#!/bin/sh\necho '{tomorrow}'\n");
    let broken: [(&[u8], &str); 6] = [
        (b"just a text\n", "it cannot be run: Exec format error"),
        (b"#!/bin/sh\necho 'no such library' >&2\nexit 127\n", "it ended with code 127: no such library"),
        (b"#!/bin/sh\nkill -SEGV $$\n", "it was ended by signal 11"),
        (b"#!/bin/sh\nsleep 1000\n", "it had not ended after 5 s"),
        (b"#!/bin/sh\necho hello\n", "it did not answer as Horus does: hello"),
        (talks.as_bytes(), "version 9.0.0 speaks protocol 8 to 9 to the keeper, not 1"),
    ];
    let mut tries = 0;
    let mut refused = async |rig: &Rig, words: &[&str], wanted: &'static str| {
        let last = rig.journal.last();
        let output = rig.cli(words).await;
        assert_eq!(output.code, 1, "{wanted}: {}{}", output.out, output.err);
        assert!(output.err.contains(wanted), "{wanted}: {}", output.err);
        let told = rig.after(last, "horus", wanted, said(wanted)).await;
        assert!(matches!(&told.event.what, What::Horus { text } if text.starts_with("not upgraded to")));
        tries += 1;
        rig.status_until("bot", "as before", |status| status.pid == Some(bot.pid)).await;
        assert_eq!((rig.horus(), rig.keeper()), (horus, keeper), "{wanted}");
        let report = rig.client.upgrade_report().await.unwrap();
        assert_eq!((report.tries, report.under_way), (tries, false), "{wanted}");
    };
    let words = ["upgrade", "--binary", &path];
    refused(&rig, &words, "cannot be looked at: No such file").await;
    for (bytes, wanted) in broken {
        program(&new, bytes);
        refused(&rig, &words, wanted).await;
    }
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&rig, &words, "is not executable").await;

    // The program is good, and what it would find is not.
    let good = std::fs::read_to_string(rig.config()).unwrap();
    let bad = format!("{good}\nnonsense = 1\n");
    write_atomic(&rig.config(), bad.as_bytes(), Durability::ThisBoot).unwrap();
    refused(&rig, &["upgrade"], "the configuration does not load").await;
    let moved = good.replace("run_directory = \"r\"", "run_directory = \"elsewhere\"");
    write_atomic(&rig.config(), moved.as_bytes(), Durability::ThisBoot).unwrap();
    let socket = rig.client.socket().display().to_string();
    let words = ["upgrade", "--socket", &socket];
    refused(&rig, &words, "the configuration wants the run_directory").await;
    write_atomic(&rig.config(), good.as_bytes(), Durability::ThisBoot).unwrap();
    rig.with_database("version = rows.execute('PRAGMA user_version').fetchone()[0]\nopen('version', 'w').write(str(version))\nrows.execute('PRAGMA user_version = 99')").await;
    refused(&rig, &["upgrade"], "the database was written by a newer Horus (schema 99").await;
    rig.with_database("rows.execute('PRAGMA user_version = ' + open('version').read())").await;

    assert_eq!(rig.count("bot", is_start), 1);
    rig.assert_never_signalled("bot");
    // Nothing has worn out on the way.
    done(&rig.cli(&["upgrade"]).await);
    assert_eq!(rig.process("bot").await, bot);
    rig.end().await;
}

/// What a rehearsal cannot find: the program fails when it is Horus already. It gives the process back.
#[tokio::test]
async fn invariant_g6_a_program_that_fails_before_it_is_ready_gives_the_process_back() {
    let (mut rig, trouble) = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&format!("{config}{}", talker(&rig))).await;
    let (bot, horus, keeper) = (rig.ready("bot").await, rig.horus(), rig.keeper());
    let talker = rig.ready("talker").await;
    let before = rig.client.upgrade_report().await.unwrap().program;
    let caller = Caller::of(&rig);

    let new = rig.room.path("new");
    let words = ["upgrade", "--binary", &new.display().to_string()];
    let real = rig.program("horus");
    pretender(&rig, &new, &format!("exec \"{real}\" \"$@\" --socket /no/such/folder/horus.sock"));
    let last = rig.journal.last();
    let output = rig.cli(&words).await;
    assert_eq!(output.code, 1, "{}{}", output.out, output.err);
    assert!(output.err.contains("could not go on: the API socket cannot be made"), "{}", output.err);
    rig.after(last, "horus", "the way back", said("with 2 services kept")).await;

    other_build(&rig, &new, 9);
    write_atomic(&trouble.path().join("upgrade.arrived"), b"panic", Durability::ThisBoot).unwrap();
    let last = rig.journal.last();
    let output = rig.cli(&words).await;
    assert_eq!(output.code, 1, "{}{}", output.out, output.err);
    assert!(output.err.contains("a test asked for a panic at upgrade.arrived"), "{}", output.err);
    rig.after(last, "horus", "the evidence", said("an earlier Horus (version 0.1.0")).await;

    assert_eq!((rig.horus(), rig.keeper()), (horus, keeper));
    assert_eq!((rig.process("bot").await, rig.process("talker").await), (bot, talker));
    assert_eq!(rig.client.upgrade_report().await.unwrap().program, before);
    more_lines(&rig, &talker, 500).await;
    caller.assert_never_refused().await;
    assert!(!rig.room.path("refused").exists(), "a beat was refused");
    // It was not the fault of the one that came back.
    let words = ["upgrade", "--binary", &new.display().to_string()];
    done(&rig.cli(&words).await);
    assert_eq!(rig.count("bot", is_start), 1);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// SIGKILL between any two steps: an upgrade is no worse a moment for it than any other.
#[tokio::test]
async fn invariant_g6_a_death_in_the_middle_of_an_upgrade_loses_nothing() {
    let (mut rig, trouble) = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&format!("{config}{}", talker(&rig))).await;
    let (bot, talker) = (rig.ready("bot").await, rig.ready("talker").await);
    done(&rig.cli(&["hold", "bot", "--reason", "a person looks at it"]).await);
    let program = rig.room.path("horus");
    for (number, place) in
        ["upgrade.after-flush", "upgrade.before-exec", "upgrade.arrived"].iter().enumerate()
    {
        more_lines(&rig, &talker, 200).await;
        other_build(&rig, &program, u8::try_from(number).unwrap() + 1);
        write_atomic(&trouble.path().join(place), b"die", Durability::ThisBoot).unwrap();
        let last = rig.journal.last();
        rig.signal(&rig.horus(), Signal::USR2);
        let status = rig.ended().await;
        assert!(!status.success(), "{place}: {status}");
        assert!(is_alive(&bot) && is_alive(&talker), "{place}");
        rig.start().await;
        rig.after(last, "bot", "adoption", |what| matches!(what, What::Adopted { .. })).await;
        let died = rig.count("horus", said("died before it was ready"));
        assert_eq!(died, number, "{place}: told if the change had begun, once");
        assert_eq!((rig.process("bot").await, rig.process("talker").await), (bot, talker), "{place}");
        assert_eq!(rig.status("bot").await.hold.expect("it is held").reason, "a person looks at it");
    }
    // The program itself was good.
    done(&rig.cli(&["upgrade"]).await);
    more_lines(&rig, &talker, 200).await;
    assert_eq!(rig.count("bot", is_start), 1);
    rig.end().await;
}
