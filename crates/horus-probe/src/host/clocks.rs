//! Was the machine asleep, and did somebody set the clock?
//!
//! Three clocks tell it together. Two go on by themselves, one of them through a sleep; the third is the time of day.
//!
//! | | awake | since boot | time of day |
//! | --- | --- | --- | --- |
//! | a second passes | +1 s | +1 s | +1 s |
//! | a sleep of an hour | | +1 h | +1 h |
//! | the clock is set forward by an hour | | | +1 h |
//! | the clock is slewed (NTP), or its crystal drifts | +1 s | +1 s | +1 s, at most 0.1 % off |
//!
//! So a sleep is what *since boot* gained on *awake*, and a set clock is what the *time of day* gained on *since boot*
//! beyond any drift. The engine counts in *awake* and works out the time of day from the last one it was told: it is
//! told again whenever that would have become wrong.

use std::time::Duration;

use horus_core::observation::{HostObservation, Input};
use horus_sys::clock::{Reading, TOGETHER_MAX};
use jiff::Timestamp;

/// A sleep shorter than this is no news (several short ones add up).
const SLEEP_MIN: Duration = Duration::from_secs(1);

/// A clock that moved by less than this, beyond drift, was not set: it is read and corrected with some error.
const STEP_MIN: Duration = Duration::from_secs(2);

/// One part in so many is what the time of day may gain or lose by itself. NTP slews by up to 500 parts in a million;
/// this is twice as much.
const DRIFT_ONE_IN: u32 = 1_000;

/// The engine's time of day may be wrong by so much before it is told again.
const WALL_ERROR_MAX: Duration = Duration::from_millis(500);

/// And it is told at least so often, with the turn that comes next.
const WALL_EVERY: Duration = Duration::from_secs(3600);

/// Compares each reading with the ones before. Knows no clock itself.
#[derive(Debug, Default)]
pub struct ClockWatch {
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    last: Reading,
    /// The reading from which the engine works out the time of day.
    told: Reading,
    /// Sleep since boot, as far as it was told or began before us, nanoseconds.
    slept_ns: i128,
}

impl ClockWatch {
    /// What the engine has to be told before its next step, in this order: a sleep, a set clock, the time of day. The
    /// first reading yields the time of day alone; usually there is nothing to tell.
    pub fn look(&mut self, now: Reading) -> Vec<Input> {
        let Some(known) = &mut self.known else {
            self.known = Some(Known { last: now, told: now, slept_ns: sleep_ns(&now) });
            return wall(&now).into_iter().collect();
        };
        let mut told = Vec::new();
        let slept_ns = sleep_ns(&now) - known.slept_ns;
        if slept_ns >= nanoseconds(SLEEP_MIN) {
            known.slept_ns += slept_ns;
            told.push(Input::Host(HostObservation::Suspended { slept: duration(rounded_ns(slept_ns)) }));
        }
        let passed = now.since_boot.saturating_sub(known.last.since_boot);
        let by_ns = gain_ns(known.last.wall, now.wall) - nanoseconds(passed);
        if by_ns.abs() > nanoseconds(STEP_MIN + passed / DRIFT_ONE_IN) {
            told.push(Input::Host(HostObservation::ClockStepped { by_ms: milliseconds(rounded_ns(by_ns)) }));
        }
        known.last = now;
        let awake = now.awake.saturating_sub(known.told.awake);
        let error_ns = gain_ns(known.told.wall, now.wall) - nanoseconds(awake);
        if !told.is_empty() || error_ns.abs() > nanoseconds(WALL_ERROR_MAX) || awake >= WALL_EVERY {
            known.told = now;
            told.extend(wall(&now));
        }
        told
    }
}

/// The time of day for the engine. `None`: the clock shows a year that no calendar has.
fn wall(now: &Reading) -> Option<Input> {
    let seconds = i64::try_from(now.wall.as_secs()).ok()?;
    let nanoseconds = i32::try_from(now.wall.subsec_nanos()).ok()?;
    Timestamp::new(seconds, nanoseconds).ok().map(Input::Wall)
}

fn sleep_ns(now: &Reading) -> i128 {
    gain_ns(now.awake, now.since_boot)
}

/// From one instant to the other; negative if the clock went back.
fn gain_ns(from: Duration, to: Duration) -> i128 {
    nanoseconds(to) - nanoseconds(from)
}

/// A `Duration` holds less than 2^94 nanoseconds.
fn nanoseconds(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// To what the clocks of one reading are exact to: an hour is not told as 59 minutes.
fn rounded_ns(ns: i128) -> i128 {
    let unit = nanoseconds(TOGETHER_MAX);
    (ns + ns.signum() * unit / 2) / unit * unit
}

fn duration(ns: i128) -> Duration {
    u64::try_from(ns).map_or(Duration::MAX, Duration::from_nanos)
}

fn milliseconds(ns: i128) -> i64 {
    let bound = if ns < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(ns / 1_000_000).unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    /// A machine whose clocks are moved by hand.
    struct Machine {
        clocks: Reading,
        watch: ClockWatch,
        turn: Duration,
    }

    impl Machine {
        /// Up for a day, three hours of which it slept; looked at once.
        fn new() -> Self {
            let clocks =
                Reading { awake: 21 * HOUR, since_boot: 24 * HOUR, wall: Duration::from_secs(1_800_000_000) };
            let mut machine = Self { clocks, watch: ClockWatch::default(), turn: SECOND };
            assert_eq!(machine.look(), ["wall"], "an engine that starts knows no time of day");
            machine
        }

        fn look(&mut self) -> Vec<String> {
            self.watch.look(self.clocks).iter().map(word).collect()
        }

        fn passes(&mut self, time: Duration) {
            self.clocks.awake += time;
            self.clocks.since_boot += time;
            self.clocks.wall += time;
        }

        fn sleeps(&mut self, time: Duration) {
            self.clocks.since_boot += time;
            self.clocks.wall += time;
        }

        fn is_set(&mut self, by_ms: i64) {
            let wall = i64::try_from(self.clocks.wall.as_millis()).unwrap() + by_ms;
            self.clocks.wall = Duration::from_millis(u64::try_from(wall).unwrap());
        }

        /// Everything told over `time`, with a look at each turn, while the time of day gains or loses.
        fn told_over(&mut self, time: Duration, gain_per_turn: Duration, fast: bool) -> Vec<String> {
            let turns = time.as_nanos() / self.turn.as_nanos();
            let mut told = Vec::new();
            for _ in 0..turns {
                self.passes(self.turn);
                let wall = self.clocks.wall;
                self.clocks.wall = if fast { wall + gain_per_turn } else { wall - gain_per_turn };
                told.extend(self.look());
            }
            told
        }
    }

    fn word(input: &Input) -> String {
        match input {
            Input::Wall(_) => "wall".into(),
            Input::Host(HostObservation::Suspended { slept }) => format!("slept {} ms", slept.as_millis()),
            Input::Host(HostObservation::ClockStepped { by_ms }) => format!("set by {by_ms} ms"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_time_of_day_that_is_told_is_the_one_that_was_read() {
        let now = Reading { awake: SECOND, since_boot: SECOND, wall: Duration::new(1_800_000_000, 5) };
        let expected = Timestamp::new(1_800_000_000, 5).unwrap();
        assert_eq!(ClockWatch::default().look(now), [Input::Wall(expected)]);
    }

    #[test]
    fn nothing_is_told_while_time_passes_but_the_time_of_day_once_an_hour() {
        let mut machine = Machine::new();
        assert_eq!(machine.told_over(HOUR - SECOND, Duration::ZERO, true), [] as [&str; 0]);
        assert_eq!(machine.told_over(SECOND, Duration::ZERO, true), ["wall"]);
        assert_eq!(machine.told_over(24 * HOUR, Duration::ZERO, true), ["wall"; 24]);
    }

    /// However long the turns are, a clock that NTP corrects at full speed is not one that somebody set.
    #[test]
    fn a_slewed_clock_is_followed_and_not_called_set() {
        for (turn, fast) in [(SECOND, true), (SECOND, false), (HOUR, true), (HOUR, false)] {
            let mut machine = Machine::new();
            machine.turn = turn;
            let told = machine.told_over(24 * HOUR, turn / 2_000, fast);
            // 43.2 s in a day: told each time that half a second has come together, or each turn if they are longer.
            let expected = if turn == SECOND { 85..=87 } else { 24..=24 };
            assert!(expected.contains(&told.len()), "{} times", told.len());
            assert!(told.iter().all(|word| word == "wall"), "{told:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_told_with_its_sign_and_the_new_time() {
        for by_ms in [3_600_000, -3_600_000, 2_100, -2_100] {
            let mut machine = Machine::new();
            machine.passes(5 * SECOND);
            machine.is_set(by_ms);
            assert_eq!(machine.look(), [format!("set by {by_ms} ms"), "wall".into()]);
            assert_eq!(machine.told_over(60 * SECOND, Duration::ZERO, true), [] as [&str; 0], "once");
        }
    }

    /// The clocks of one reading are a moment apart.
    #[test]
    fn an_hour_is_told_as_an_hour() {
        let mut machine = Machine::new();
        machine.is_set(-3_600_000);
        machine.clocks.wall += Duration::from_micros(400);
        assert_eq!(machine.look(), ["set by -3600000 ms", "wall"]);
        machine.sleeps(7 * HOUR);
        machine.clocks.since_boot -= Duration::from_micros(400);
        assert_eq!(machine.look(), ["slept 25200000 ms", "wall"]);
    }

    #[test]
    fn a_small_correction_is_followed_without_a_word() {
        let mut machine = Machine::new();
        machine.is_set(1_900);
        assert_eq!(machine.look(), ["wall"]);
        machine.is_set(-400);
        assert_eq!(machine.look(), [] as [&str; 0]);
        machine.is_set(-400);
        assert_eq!(machine.look(), ["wall"], "small errors add up");
    }

    #[test]
    fn a_sleep_is_told_before_the_time_of_day_and_is_no_set_clock() {
        let mut machine = Machine::new();
        machine.passes(SECOND);
        machine.sleeps(7 * HOUR);
        assert_eq!(machine.look(), ["slept 25200000 ms", "wall"]);
        assert_eq!(machine.told_over(60 * SECOND, Duration::ZERO, true), [] as [&str; 0], "once");
    }

    #[test]
    fn short_sleeps_add_up() {
        let mut machine = Machine::new();
        machine.sleeps(Duration::from_millis(400));
        assert_eq!(machine.look(), [] as [&str; 0]);
        machine.sleeps(Duration::from_millis(400));
        assert_eq!(machine.look(), ["wall"], "the engine's time of day is 0.8 s behind");
        machine.sleeps(Duration::from_millis(400));
        assert_eq!(machine.look(), ["slept 1200 ms", "wall"]);
    }

    /// A laptop in another place, or a battery clock that is wrong: both at once.
    #[test]
    fn a_sleep_and_a_set_clock_are_told_apart_when_they_come_together() {
        let mut machine = Machine::new();
        machine.sleeps(2 * HOUR);
        machine.is_set(-1_800_000);
        assert_eq!(machine.look(), ["slept 7200000 ms", "set by -1800000 ms", "wall"]);
        // And when they cancel each other out, so that the time of day alone would show nothing.
        machine.sleeps(HOUR);
        machine.is_set(-3_600_000);
        assert_eq!(machine.look(), ["slept 3600000 ms", "set by -3600000 ms", "wall"]);
    }

    /// The longest turn of an idle loop, at the worst drift: a set clock still shows.
    #[test]
    fn a_set_clock_shows_through_the_drift_of_an_hour() {
        let mut machine = Machine::new();
        machine.passes(HOUR);
        machine.is_set(5_500);
        assert_eq!(machine.look(), ["wall"], "3.6 s of drift and 2 s of doubt");
        machine.passes(HOUR);
        machine.is_set(5_700);
        assert_eq!(machine.look(), ["set by 5700 ms", "wall"]);
    }

    /// A machine that is restored from a picture of itself, or moved between hosts.
    #[test]
    fn clocks_that_go_back_or_show_nonsense_break_nothing() {
        let mut machine = Machine::new();
        machine.clocks.since_boot -= HOUR;
        machine.clocks.awake -= 2 * HOUR;
        assert_eq!(machine.look(), ["slept 3600000 ms", "wall"]);
        machine.clocks.wall = Duration::ZERO;
        assert_eq!(machine.look().len(), 2);
        machine.clocks = Reading { awake: Duration::MAX, since_boot: Duration::MAX, wall: Duration::MAX };
        // No calendar has that year.
        assert!(machine.look().iter().all(|word| word != "wall"));
        machine.clocks = Reading { awake: Duration::ZERO, since_boot: Duration::ZERO, wall: SECOND };
        assert_eq!(machine.look().last().map(String::as_str), Some("wall"));
    }
}
