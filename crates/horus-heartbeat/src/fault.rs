//! Faults on purpose, so that a person can watch Horus heal: one small language for all services of the
//! house.
//!
//! ```text
//!   hang@20s,once
//!   ^    ^   ^
//!   |    |   not again after the restart (a marker file in the state directory remembers it)
//!   |    how long after the start; at once when left out
//!   what: hang | stall-stage=NAME | lie | crash | crash=panic | crash=abort | slow-start=60s | deaf | stop-beat
//! ```
//!
//! This module only reads the wish and remembers `once`. The service decides where each fault strikes,
//! because only it knows its loop and its stages.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// The longest delay that a plan may ask for.
pub const MAX_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The main loop blocks in a synchronous call: the whole (current-thread) runtime falls silent.
    Hang,
    /// One named stage stops for ever; the loop and the beat go on.
    StallStage(String),
    /// The beat answers 200 while the tick stands still.
    Lie,
    /// The process ends.
    Crash(Crash),
    /// The first tick comes only after this time.
    SlowStart(Duration),
    /// SIGTERM is ignored.
    Deaf,
    /// The program is well, but its beat falls silent.
    StopBeat,
}

/// How a process crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Exit code 42.
    Exit,
    /// A panic in the main loop.
    Panic,
    /// SIGABRT.
    Abort,
}

/// The exit code of [`Crash::Exit`].
pub const CRASH_EXIT_CODE: u8 = 42;

/// One fault, when it strikes and whether it strikes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How long after the start of the process.
    pub after: Duration,
    /// Only in the first process that gets so far.
    pub once: bool,
}

/// Why a fault plan was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FaultError {
    /// No such fault.
    #[error(
        "no fault is called `{0}`; there are hang, stall-stage=NAME, lie, crash, crash=panic, crash=abort, slow-start=TIME, deaf, stop-beat"
    )]
    UnknownKind(String),
    /// A fault that needs a value has none, or one that takes none has one.
    #[error("`{kind}` {expected}")]
    Value {
        /// The fault.
        kind: &'static str,
        /// What it wants.
        expected: &'static str,
    },
    /// Not a time.
    #[error(
        "`{0}` is not a time; write a whole number and ms, s, m or h, such as 20s, and no more than a week"
    )]
    Time(String),
    /// Something after the comma that is not `once`.
    #[error("`{0}` is not known here; only `once` may follow the comma")]
    Suffix(String),
}

impl FaultPlan {
    /// Whether it is time to strike, `elapsed` after the start.
    #[must_use]
    pub fn is_due(&self, elapsed: Duration) -> bool {
        elapsed >= self.after
    }

    /// Asks, right before it strikes, whether it may: always, or with `once` only for the first to ask in
    /// `state_dir`.
    ///
    /// # Errors
    /// The marker could not be written. The fault should then not strike, or it might strike for ever.
    pub fn claim(&self, state_dir: &Path) -> io::Result<bool> {
        if !self.once {
            return Ok(true);
        }
        match OpenOptions::new().write(true).create_new(true).open(state_dir.join(self.marker())) {
            Ok(marker) => marker.sync_all().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The name of the `once` marker file; the same plan has the same name.
    #[must_use]
    pub fn marker(&self) -> String {
        let plan: String =
            self.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("fault-{plan}.fired")
    }
}

impl FromStr for FaultPlan {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (plan, once) = match text.trim().split_once(',') {
            None => (text.trim(), false),
            Some((plan, "once")) => (plan, true),
            Some((_, suffix)) => return Err(FaultError::Suffix(suffix.to_owned())),
        };
        let (what, after) = match plan.split_once('@') {
            None => (plan, Duration::ZERO),
            Some((what, after)) => (what, parse_time(after)?),
        };
        let (name, value) = match what.split_once('=') {
            None => (what, None),
            Some((name, value)) => (name, Some(value)),
        };
        Ok(Self { kind: parse_kind(name, value)?, after, once })
    }
}

fn parse_kind(name: &str, value: Option<&str>) -> Result<FaultKind, FaultError> {
    let plain = |kind: &'static str, fault: FaultKind| match value {
        None => Ok(fault),
        Some(_) => Err(FaultError::Value { kind, expected: "takes no value" }),
    };
    match name {
        "hang" => plain("hang", FaultKind::Hang),
        "lie" => plain("lie", FaultKind::Lie),
        "deaf" => plain("deaf", FaultKind::Deaf),
        "stop-beat" => plain("stop-beat", FaultKind::StopBeat),
        "crash" => match value {
            None | Some("exit") => Ok(FaultKind::Crash(Crash::Exit)),
            Some("panic") => Ok(FaultKind::Crash(Crash::Panic)),
            Some("abort") => Ok(FaultKind::Crash(Crash::Abort)),
            Some(_) => Err(FaultError::Value {
                kind: "crash",
                expected: "is crash, crash=exit, crash=panic or crash=abort",
            }),
        },
        "stall-stage" => match value {
            Some(stage) if !stage.is_empty() => Ok(FaultKind::StallStage(stage.to_owned())),
            _ => Err(FaultError::Value {
                kind: "stall-stage",
                expected: "needs the name of a stage: stall-stage=NAME",
            }),
        },
        "slow-start" => match value {
            Some(time) => parse_time(time).map(FaultKind::SlowStart),
            None => Err(FaultError::Value { kind: "slow-start", expected: "needs a time: slow-start=60s" }),
        },
        unknown => Err(FaultError::UnknownKind(unknown.to_owned())),
    }
}

fn parse_time(text: &str) -> Result<Duration, FaultError> {
    let error = || FaultError::Time(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| error())?;
    let time = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    };
    time.filter(|time| *time <= MAX_AFTER).ok_or_else(error)
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::Hang => f.write_str("hang")?,
            FaultKind::StallStage(stage) => write!(f, "stall-stage={stage}")?,
            FaultKind::Lie => f.write_str("lie")?,
            FaultKind::Crash(Crash::Exit) => f.write_str("crash")?,
            FaultKind::Crash(Crash::Panic) => f.write_str("crash=panic")?,
            FaultKind::Crash(Crash::Abort) => f.write_str("crash=abort")?,
            FaultKind::SlowStart(time) => write!(f, "slow-start={}ms", time.as_millis())?,
            FaultKind::Deaf => f.write_str("deaf")?,
            FaultKind::StopBeat => f.write_str("stop-beat")?,
        }
        if !self.after.is_zero() {
            write!(f, "@{}ms", self.after.as_millis())?;
        }
        if self.once { f.write_str(",once") } else { Ok(()) }
    }
}

/// Blocks this thread for ever in a `read` on a socket whose other end never answers: the seven-hour hang, an
/// exchange call awaited without a timeout, as the kernel sees it. Never returns.
pub fn hang() -> ! {
    loop {
        // Both ends stay open in this scope, so the read sees neither data nor an end.
        if let Ok((_venue, mut call)) = silent_connection() {
            let _ = call.read(&mut [0]);
        }
        std::thread::park();
    }
}

fn silent_connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let call = TcpStream::connect(listener.local_addr()?)?;
    let (venue, _) = listener.accept()?;
    Ok((venue, call))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(text: &str) -> FaultPlan {
        text.parse().unwrap()
    }

    #[test]
    fn every_kind_is_understood() {
        let seconds = Duration::from_secs;
        let at20 = |kind| FaultPlan { kind, after: seconds(20), once: false };
        assert_eq!(plan("hang@20s"), at20(FaultKind::Hang));
        assert_eq!(plan("hang@20s,once"), FaultPlan { once: true, ..at20(FaultKind::Hang) });
        assert_eq!(plan("stall-stage=venue@20s"), at20(FaultKind::StallStage("venue".into())));
        assert_eq!(plan("lie@20s"), at20(FaultKind::Lie));
        assert_eq!(plan("crash@20s"), at20(FaultKind::Crash(Crash::Exit)));
        assert_eq!(plan("crash=panic@20000ms"), at20(FaultKind::Crash(Crash::Panic)));
        assert_eq!(plan("crash=abort@20s"), at20(FaultKind::Crash(Crash::Abort)));
        assert_eq!(plan("slow-start=1m").kind, FaultKind::SlowStart(seconds(60)));
        assert_eq!(plan("deaf"), FaultPlan { kind: FaultKind::Deaf, after: Duration::ZERO, once: false });
        assert_eq!(plan("stop-beat@129s").after, seconds(129));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<FaultPlan>().unwrap_err().to_string();
        assert!(error("hnag@20s").starts_with("no fault is called `hnag`; there are hang,"));
        assert!(error("").starts_with("no fault is called ``"));
        assert_eq!(error("stall-stage@20s"), "`stall-stage` needs the name of a stage: stall-stage=NAME");
        assert_eq!(error("slow-start"), "`slow-start` needs a time: slow-start=60s");
        assert_eq!(error("lie=yes"), "`lie` takes no value");
        assert!(error("crash=softly").contains("crash=abort"));
        assert!(error("hang@20").starts_with("`20` is not a time"));
        assert!(error("hang@20d").starts_with("`20d` is not a time"));
        assert!(error("hang@169h").starts_with("`169h` is not a time"));
        assert!(error("hang@99999999999999999999s").contains("not a time"));
        assert_eq!(error("hang@20s,twice"), "`twice` is not known here; only `once` may follow the comma");
    }

    #[test]
    fn once_is_claimed_by_the_first_only() {
        let dir = tempfile::tempdir().unwrap();
        let once = plan("hang@20s,once");
        assert!(once.claim(dir.path()).unwrap());
        assert!(!once.claim(dir.path()).unwrap());
        assert!(plan("lie@20s,once").claim(dir.path()).unwrap(), "another fault has another marker");
        let always = plan("hang@20s");
        assert!(always.claim(dir.path()).unwrap() && always.claim(dir.path()).unwrap());
        assert!(once.claim(&dir.path().join("missing")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_understood_reads_back(text in "(hang|lie|crash|deaf|slow-start|stall-stage|.{0,5})(=[a-z0-9]{0,6})?(@[0-9]{0,6}[a-z]{0,2})?(,once|,.)?") {
            if let Ok(plan) = text.parse::<FaultPlan>() {
                prop_assert_eq!(plan.to_string().parse::<FaultPlan>(), Ok(plan));
            }
        }
    }
}
