//! The machine does something to everybody, and nobody is blamed for it.
//!
//! The clock of the machine that runs the tests is not touched: a library in front of the daemon's own calls moves the
//! clocks for it alone. (A time namespace could not: the time of day is the one clock that it does not have.)

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Output;
use std::time::Duration;

use horus_core::event::What;
use horus_tests::{FAILSAFE, Options, Rig, skipped};
use tokio::process::Command;

use crate::{hanger, is_kill, is_recovery, rig, rig_with, struck};

const KEYS: &str = "deadline = \"1s\"\nkills = { prove = \"5s\" }\n";

const HOUR_NS: i64 = 3_600_000_000_000;

/// Runs a tool of the system. `None`: it is not here.
async fn tool(name: &str, words: &[&str]) -> Option<Output> {
    #[expect(clippy::disallowed_methods, reason = "a tool that ends at once")]
    let output = Command::new(name).args(words).output().await.ok()?;
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

/// Waits until the daemon's own log holds this text so many times.
async fn logged(rig: &Rig, text: &str, times: usize) {
    let reading = async {
        while rig.log().matches(text).count() < times {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, reading).await.is_ok(), "the log never says {text:?}");
}

/// Waits until the service is so much older, as the judge counts.
async fn lives_on(rig: &Rig, service: &str, time: Duration) {
    let up = rig.status(service).await.up_for_ms.unwrap();
    let time = u64::try_from(time.as_millis()).unwrap();
    rig.status_until(service, "older", |now| now.up_for_ms >= Some(up + time)).await;
}

/// The clocks of a daemon, in the hand of a scenario.
struct Clocks {
    numbers: File,
    set_ns: i64,
    slept_ns: i64,
}

impl Clocks {
    /// A rig whose daemon has movable clocks. `None`: there is no C compiler.
    async fn rig() -> Option<(Rig, Self)> {
        let folder = tempfile::tempdir().unwrap().keep();
        let (library, numbers) = (folder.join("clock.so"), folder.join("clock"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/host_clock.c");
        tool("cc", &["-shared", "-fPIC", "-O1", "-o", library.to_str().unwrap(), source]).await?;
        let file = File::create(&numbers).unwrap();
        file.set_len(16).unwrap();
        let variable = |name: &str, path: &std::path::Path| (name.to_owned(), path.display().to_string());
        let environment = vec![variable("LD_PRELOAD", &library), variable("HORUS_TEST_CLOCK", &numbers)];
        let rig = rig_with(Options { environment, ..Options::default() }).await;
        Some((rig, Self { numbers: file, set_ns: 0, slept_ns: 0 }))
    }

    fn set_by(&mut self, ns: i64) {
        self.set_ns += ns;
        self.numbers.write_all_at(&self.set_ns.to_ne_bytes(), 0).unwrap();
    }

    fn sleep(&mut self, ns: i64) {
        self.slept_ns += ns;
        self.numbers.write_all_at(&self.slept_ns.to_ne_bytes(), 8).unwrap();
    }
}

/// `clock-step` and `laptop-lid`: set forward, set back, asleep for a night, asleep with a wrong clock.
#[tokio::test]
async fn invariant_g1_a_set_clock_and_a_sleep_are_charged_to_nobody() {
    let Some((mut rig, mut clocks)) = Clocks::rig().await else {
        return skipped("clock-step", "no C compiler");
    };
    let config = hanger(&rig, "one", KEYS) + &hanger(&rig, "two", KEYS);
    rig.run(&config).await;
    let before = (rig.ready("one").await, rig.ready("two").await);
    lives_on(&rig, "one", Duration::from_secs(1)).await;
    let log = rig.log();
    assert!(!log.contains("was set") && !log.contains("slept"), "nothing has happened yet: {log}");

    clocks.set_by(HOUR_NS);
    logged(&rig, "was set forward by 1 h", 1).await;
    lives_on(&rig, "one", Duration::from_secs(3)).await;
    clocks.set_by(-3 * HOUR_NS);
    logged(&rig, "was set back by 3 h", 1).await;
    lives_on(&rig, "one", Duration::from_secs(3)).await;
    clocks.sleep(7 * HOUR_NS);
    logged(&rig, "the machine slept for 7 h", 1).await;
    lives_on(&rig, "one", Duration::from_secs(3)).await;
    clocks.sleep(HOUR_NS);
    clocks.set_by(-HOUR_NS);
    logged(&rig, "the machine slept for 1 h", 1).await;
    lives_on(&rig, "one", Duration::from_secs(3)).await;

    assert_eq!((rig.process("one").await, rig.process("two").await), before);
    rig.assert_never_signalled("one");
    rig.assert_never_signalled("two");
    // A real hang is found all the same.
    struck(&rig, "one", "hang").await;
    rig.first("one", "kill", is_kill).await;
    rig.first("one", "recovery", is_recovery).await;
    rig.end().await;
}

/// Horus runs out of descriptors: it says so, blames nobody, and goes on when it has them again.
#[tokio::test]
async fn a_horus_without_descriptors_says_so_and_blames_nobody() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    let pid = rig.horus().pid.to_string();
    // The soft limit alone: what is open stays open, and nothing more can be opened.
    if tool("prlimit", &["--pid", &pid, "--nofile=3:"]).await.is_none() {
        return skipped("no descriptor left", "no prlimit");
    }
    logged(&rig, "Horus cannot ask its own echo port", 1).await;
    tool("prlimit", &["--pid", &pid, "--nofile=1024:"]).await;
    logged(&rig, "Horus can ask its own echo port again", 1).await;
    lives_on(&rig, "bot", Duration::from_secs(2)).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    assert_eq!(rig.count("bot", |what| matches!(what, What::Exited { .. })), 0);
    rig.end().await;
}
