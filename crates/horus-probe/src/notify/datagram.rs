//! One sd_notify datagram, read. Whatever the bytes are, the answer is a [`Datagram`]: unknown keys are other people's,
//! and a line that makes no sense is left out.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use horus_core::observation::Declared;
use horus_core::steps::STEP_NAME_CHARACTERS_MAX;
use jiff::Timestamp;

use crate::beat_json::declared;
use crate::limits::{EXTEND_MAX, PROGRESS_NAMES_MAX, STATUS_CHARACTERS_MAX};
use crate::sign::name_fits;
use crate::text::one_line;

/// What one datagram, or several read together, say. The later wins where only one can hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Datagram {
    /// `READY=1`
    pub(crate) ready: bool,
    /// `WATCHDOG=1`, or a tick.
    pub(crate) beat: bool,
    /// `WATCHDOG=trigger`: the program says itself that it hangs.
    pub(crate) trigger: bool,
    /// Another process of its tree says so.
    pub(crate) trigger_of_other: bool,
    /// `STATUS=`
    pub(crate) status: Option<String>,
    /// `RELOADING=1`
    pub(crate) reloading: bool,
    /// `READY=1` came after `RELOADING=1`.
    pub(crate) reloaded: bool,
    /// `STOPPING=1`
    pub(crate) stopping: bool,
    /// `ERRNO=`: why it fails, as the system's number.
    pub(crate) errno: Option<i32>,
    /// `FDSTORE=1`: asks that the descriptors that came with it be kept. They are closed.
    pub(crate) stores: bool,
    /// `WATCHDOG_USEC=`: asks for another deadline. The plan's stays.
    pub(crate) watchdog: bool,
    /// `EXTEND_TIMEOUT_USEC=`
    pub(crate) extend: Option<Duration>,
    /// `MAINPID=`
    pub(crate) main_pid: Option<i32>,
    /// `X_HORUS_SEQ=`
    pub(crate) seq: Option<u64>,
    /// `X_HORUS_LAG_MS=`
    pub(crate) lag_ms: Option<f64>,
    /// `X_HORUS_STATE=` with `X_HORUS_BUSY_UNTIL_MS=`
    pub(crate) declared: Option<Declared>,
    /// `X_HORUS_STEP=`: the name of a step, or nothing for none.
    pub(crate) step: Option<Option<String>>,
    /// Before that it was in another step, or in none.
    pub(crate) stepped: bool,
    /// `X_HORUS_PROGRESS=name:value`
    pub(crate) progress: BTreeMap<String, u64>,
    /// `X_HORUS_GAUGE=name:value`
    pub(crate) gauges: BTreeMap<String, f64>,
    /// Entries of the two that were left out.
    pub(crate) left_out: u32,
    /// `X_HORUS_AGENT=`: not the program says it, but an agent inside of it.
    pub(crate) agent: bool,
}

impl Datagram {
    /// Reads a datagram. `now` is the wall clock, which `X_HORUS_BUSY_UNTIL_MS` refers to.
    pub(crate) fn parse(bytes: &[u8], now: Timestamp) -> Self {
        let mut said = Self::default();
        let mut state = None;
        let mut busy_until_ms = None;
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
            let value = String::from_utf8_lossy(&line[equals + 1..]);
            let value = value.trim_end_matches(['\r', '\0']);
            match &line[..equals] {
                b"READY" => said.ready |= value == "1",
                b"WATCHDOG" if value == "1" => said.beat = true,
                b"WATCHDOG" => said.trigger |= value == "trigger",
                b"STATUS" => said.status = Some(one_line(value, STATUS_CHARACTERS_MAX)),
                b"RELOADING" => said.reloading |= value == "1",
                b"STOPPING" => said.stopping |= value == "1",
                b"EXTEND_TIMEOUT_USEC" => {
                    // Recordings hold whole milliseconds: what is heard has to be what is written down.
                    let milliseconds = value.parse().ok().map(|microseconds: u64| microseconds / 1_000);
                    let asked = milliseconds.map(Duration::from_millis);
                    said.extend = asked.map(|asked| asked.min(EXTEND_MAX)).or(said.extend);
                }
                b"ERRNO" => said.errno = value.parse().ok().filter(|number| *number > 0).or(said.errno),
                b"FDSTORE" => said.stores |= value == "1",
                b"WATCHDOG_USEC" => said.watchdog = true,
                b"MAINPID" => said.main_pid = value.parse().ok().filter(|pid| *pid > 0).or(said.main_pid),
                b"X_HORUS_SEQ" => said.seq = value.parse().ok().or(said.seq),
                b"X_HORUS_LAG_MS" => {
                    let lag = value.parse().ok().filter(|lag: &f64| lag.is_finite() && *lag >= 0.0);
                    said.lag_ms = lag.or(said.lag_ms);
                }
                b"X_HORUS_AGENT" => said.agent = !value.is_empty(),
                b"X_HORUS_STEP" => {
                    let name = one_line(value, STEP_NAME_CHARACTERS_MAX);
                    said.step = Some(Some(name).filter(|name| !name.trim().is_empty()));
                }
                b"X_HORUS_STATE" => state = Some(value.to_owned()),
                b"X_HORUS_BUSY_UNTIL_MS" => busy_until_ms = value.parse().ok(),
                b"X_HORUS_PROGRESS" => {
                    value
                        .split(',')
                        .for_each(|entry| said.left_out += keep(&mut said.progress, named(entry)));
                }
                b"X_HORUS_GAUGE" => {
                    let finite =
                        |entry| named(entry).filter(|(_, number): &(String, f64)| number.is_finite());
                    value.split(',').for_each(|entry| said.left_out += keep(&mut said.gauges, finite(entry)));
                }
                // Also what is meant for systemd alone: MONOTONIC_USEC, BARRIER, FDSTOREREMOVE, FDNAME, EXIT_STATUS and others.
                _ => {}
            }
        }
        // One that says both has done with it.
        said.reloading &= !said.ready;
        said.declared = state.and_then(|state| declared(&state, busy_until_ms, now));
        said.beat |= said.seq.is_some();
        said
    }

    /// Adds what a later datagram says.
    pub(crate) fn merge(&mut self, later: Self) {
        let before = self.reloading;
        self.reloading = later.reloading || (self.reloading && !later.ready);
        self.reloaded |= later.reloaded || (before && later.ready);
        self.ready |= later.ready;
        self.beat |= later.beat;
        self.trigger |= later.trigger;
        self.trigger_of_other |= later.trigger_of_other;
        self.stores |= later.stores;
        self.watchdog |= later.watchdog;
        self.errno = later.errno.or(self.errno);
        self.stopping |= later.stopping;
        self.status = later.status.or(self.status.take());
        self.extend = later.extend.or(self.extend);
        self.main_pid = later.main_pid.or(self.main_pid);
        self.seq = later.seq.or(self.seq);
        self.lag_ms = later.lag_ms.or(self.lag_ms);
        self.declared = later.declared.or(self.declared);
        self.stepped |= later.step.is_some() && self.step.is_some() && later.step != self.step;
        self.step = later.step.or_else(|| self.step.take());
        self.left_out = self.left_out.saturating_add(later.left_out);
        for entry in later.progress {
            self.left_out += keep(&mut self.progress, Some(entry));
        }
        for entry in later.gauges {
            self.left_out += keep(&mut self.gauges, Some(entry));
        }
    }
}

/// The lines of a datagram that was cut off, without the one that was cut; a status is as good without its end.
pub(crate) fn whole_lines(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    match bytes.get(last..) {
        Some(line) if line.starts_with(b"STATUS=") => bytes,
        _ => bytes.get(..last).unwrap_or_default(),
    }
}

/// `name:value`
fn named<T: FromStr>(entry: &str) -> Option<(String, T)> {
    let (name, value) = entry.rsplit_once(':')?;
    let name = name.trim();
    name_fits(name).then_some((name.to_owned(), value.trim().parse().ok()?))
}

/// Keeps an entry if there is one and room for it; the answer is how many were left out.
fn keep<T>(kept: &mut BTreeMap<String, T>, entry: Option<(String, T)>) -> u32 {
    match entry {
        Some((name, value)) if kept.len() < PROGRESS_NAMES_MAX || kept.contains_key(&name) => {
            kept.insert(name, value);
            0
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Datagram {
        Datagram::parse(text.as_bytes(), Timestamp::from_second(1_000).unwrap())
    }

    #[test]
    fn the_words_of_systemd_are_understood() {
        let said =
            parse("READY=1\nSTATUS=up\x1b[2J\nMAINPID=42\nEXTEND_TIMEOUT_USEC=5000000\nFDNAME=x\nfree text");
        assert!(said.ready && !said.beat && !said.stopping);
        assert_eq!(said.status.as_deref(), Some("up [2J"));
        assert_eq!(said.main_pid, Some(42));
        assert_eq!(said.extend, Some(Duration::from_secs(5)));
        assert!(parse("WATCHDOG=1").beat);
        let trigger = parse("WATCHDOG=trigger");
        assert!(trigger.trigger && !trigger.beat);
        assert!(parse("STOPPING=1").stopping);
        assert!(parse("RELOADING=1\nMONOTONIC_USEC=1").reloading);
        assert_eq!(parse("READY=0\nWATCHDOG=0\nMAINPID=-1\nEXTEND_TIMEOUT_USEC=x"), Datagram::default());
    }

    #[test]
    fn a_tick_with_its_numbers_is_read() {
        let said = parse(
            "WATCHDOG=1\nX_HORUS_SEQ=7\nX_HORUS_LAG_MS=1.5\nX_HORUS_STATE=idle\nX_HORUS_PROGRESS=a:1\nX_HORUS_PROGRESS=b:2,c:3",
        );
        assert_eq!((said.seq, said.lag_ms, said.declared), (Some(7), Some(1.5), Some(Declared::Idle)));
        assert_eq!(
            said.progress.into_iter().collect::<Vec<_>>(),
            [("a".into(), 1), ("b".into(), 2), ("c".into(), 3)]
        );
        assert!(parse("X_HORUS_SEQ=7").beat, "a tick is judged by whether it moves");
        assert_eq!(parse("X_HORUS_STATE=busy").declared, None);
        assert_eq!(
            parse("X_HORUS_STATE=busy\nX_HORUS_BUSY_UNTIL_MS=1003000").declared,
            Some(Declared::Busy(Duration::from_secs(3)))
        );
        assert_eq!(parse("X_HORUS_LAG_MS=NaN\nX_HORUS_PROGRESS=a:-1").left_out, 1);
    }

    #[test]
    fn a_step_begins_and_ends_by_its_name() {
        assert_eq!(parse("X_HORUS_STEP=load").step, Some(Some("load".into())));
        assert_eq!(parse("X_HORUS_STEP=").step, Some(None));
        assert_eq!(parse("X_HORUS_STEP=  \u{200b}").step, Some(None), "a name of nothing is none");
        assert_eq!(parse("READY=1").step, None);
        let mut all = parse("X_HORUS_STEP=load");
        all.merge(parse("WATCHDOG=1"));
        assert_eq!(all.step, Some(Some("load".into())), "who says nothing of it changes nothing");
        all.merge(parse("X_HORUS_STEP=load"));
        assert!(!all.stepped, "the same word again does not begin it anew");
        all.merge(parse("X_HORUS_STEP="));
        assert_eq!(all.step, Some(None));
        all.merge(parse("X_HORUS_STEP=load"));
        assert!(all.stepped, "it is another run of the same step");
    }

    #[test]
    fn gauges_may_be_fractions_and_fall_below_zero() {
        let said = parse("X_HORUS_GAUGE=slots:3,load:0.5\nX_HORUS_GAUGE=balance:-7");
        assert_eq!(
            said.gauges.into_iter().collect::<Vec<_>>(),
            [("balance".into(), -7.0), ("load".into(), 0.5), ("slots".into(), 3.0)]
        );
        assert!(!said.beat, "a number is no sign of life");
        assert_eq!(parse("X_HORUS_GAUGE=a:inf,b:NaN,:1,c,d:x").left_out, 5);
        let mut all = Datagram::default();
        for n in 0..100 {
            all.merge(parse(&format!("X_HORUS_GAUGE=g{n}:1,last:{n}")));
        }
        assert_eq!((all.gauges.len(), all.gauges["last"]), (PROGRESS_NAMES_MAX, 99.0));
    }

    #[test]
    fn a_reload_ends_with_the_next_ready() {
        let mut all = parse("RELOADING=1\nMONOTONIC_USEC=7");
        all.merge(parse("STATUS=reads its files"));
        assert!(all.reloading && !all.reloaded);
        all.merge(parse("READY=1\nMAINPID=4"));
        assert!(!all.reloading && all.reloaded);
        all.merge(parse("RELOADING=1"));
        assert!(all.reloading, "and there may be another");
        assert!(!parse("RELOADING=1\nREADY=1").reloading);
    }

    #[test]
    fn a_failure_has_a_number_and_what_is_not_for_horus_changes_nothing() {
        assert_eq!(parse("ERRNO=28").errno, Some(28));
        assert_eq!(parse("ERRNO=-1\nERRNO=x\nERRNO=0").errno, None);
        assert!(parse("FDSTORE=1\nFDNAME=a").stores && parse("WATCHDOG_USEC=1").watchdog);
        let foreign = "BARRIER=1\nFDSTOREREMOVE=1\nFDNAME=a\nFDPOLL=0\nEXIT_STATUS=1\nBUSERROR=x\nVARLINKERROR=x\nMONOTONIC_USEC=1\nNOTIFYACCESS=all\nX=1\n=\n\0\n=1";
        assert_eq!(parse(foreign), Datagram::default());
    }

    #[test]
    fn a_zero_byte_ends_nothing_and_starts_nothing() {
        let said = parse("STATUS=a\0b\nREADY=1\0\nWATCHDOG=1\0\0\n\0STOPPING=1\nREA\0DY=1");
        assert!(said.ready && said.beat && !said.stopping);
        assert_eq!(said.status.as_deref(), Some("a b"));
    }

    /// The number at the end of a datagram that was cut off would be another number.
    #[test]
    fn of_a_datagram_that_was_cut_off_the_last_line_is_not_believed() {
        let whole = b"READY=1\nX_HORUS_SEQ=12345";
        let heard = |length: usize| Datagram::parse(whole_lines(&whole[..length]), Timestamp::UNIX_EPOCH);
        assert_eq!((heard(24).ready, heard(24).seq), (true, None));
        assert_eq!(
            whole_lines(b"STATUS=a long text"),
            b"STATUS=a long text",
            "of a text the beginning is enough"
        );
        assert_eq!(whole_lines(b"WATCHDOG=1"), b"");
    }

    #[test]
    fn promises_and_texts_have_limits() {
        assert_eq!(parse("EXTEND_TIMEOUT_USEC=18446744073709551615").extend, Some(EXTEND_MAX));
        assert_eq!(
            parse("EXTEND_TIMEOUT_USEC=1999").extend,
            Some(Duration::from_millis(1)),
            "as it is recorded"
        );
        let long = parse(&format!("STATUS={}", "x".repeat(3_000)));
        assert_eq!(long.status.unwrap().chars().count(), STATUS_CHARACTERS_MAX + 1);
        let mut all = Datagram::default();
        for n in 0..100 {
            all.merge(parse(&format!("X_HORUS_PROGRESS=c{n}:1")));
        }
        assert_eq!((all.progress.len(), all.left_out), (PROGRESS_NAMES_MAX, 100 - PROGRESS_NAMES_MAX as u32));
    }

    #[test]
    fn of_several_datagrams_the_later_wins_and_nothing_is_lost() {
        let mut all = parse("READY=1\nSTATUS=a\nX_HORUS_SEQ=1");
        all.merge(parse("X_HORUS_SEQ=2\nX_HORUS_PROGRESS=a:1"));
        all.merge(parse("STATUS=b"));
        assert!(all.ready && all.beat);
        assert_eq!((all.seq, all.status.as_deref()), (Some(2), Some("b")));
        assert_eq!(all.progress.len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            let _ = Datagram::parse(&bytes, Timestamp::UNIX_EPOCH);
        }

        #[test]
        fn arbitrary_values_never_panic(key in "(READY|WATCHDOG|STATUS|EXTEND_TIMEOUT_USEC|MAINPID|X_HORUS_(SEQ|LAG_MS|STATE|PROGRESS|GAUGE|BUSY_UNTIL_MS))", value in "\\PC{0,40}") {
            let said = Datagram::parse(format!("X_HORUS_STATE=busy\n{key}={value}").as_bytes(), Timestamp::MAX);
            prop_assert!(said.extend.is_none_or(|asked| asked <= EXTEND_MAX));
        }
    }
}
