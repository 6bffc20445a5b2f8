//! When a probe polls next.
//!
//! A fixed period can lock on to a program's own rhythm: a bot that is away for 0.4 s each 5 s would be met away every
//! time, or never. So each period is drawn anew between half and all of the asked one; it is never longer.
//!
//! Is a half enough, and would a fifth be? The phase at which a program with the period P is met walks around P in steps that differ by up to
//! E/2. A rhythm of at most that is covered by each step; the worst one is about the mean step itself (P = 0.75 E), where the phase
//! moves by the differences alone. A program that is away for half of such a rhythm is met away 26 times in a row once in 20,000 polls;
//! by draws between 80 % and 100 % it was more than a hundred times, and by chance alone it would be fourteen. A rhythm that is longer than E is
//! met several times in each of its turns. `no_rhythm_is_locked_on_to` measures it for all of them.
//!
//! The draws are seeded from names and the number of the run: the same config polls each run at another beat (or a fault at a constant age
//! would be met, or missed, in each of them), and the same recording is made again by the same seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits::{HASTENED_EVERY_MIN, POLL_PAUSE_MIN};

/// How much hurry there is. `nudges` changes with every order, so that even a repeated one causes a poll at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Haste {
    pub(crate) fast: bool,
    pub(crate) nudges: u32,
}

/// A small generator of even draws (splitmix64) that shortens periods; nothing here needs to be unpredictable.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The same draws for the same names.
    pub fn seeded(names: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        names.hash(&mut hasher);
        Self(hasher.finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Between half and all of `period`.
    pub fn shorten(&mut self, period: Duration) -> Duration {
        let thousandths = 500 + u32::try_from(self.next() % 501).unwrap_or_default();
        period.saturating_mul(thousandths) / 1_000
    }

    /// Between three and five quarters of `period`: where a look costs so much that the mean has to stay.
    pub fn around(&mut self, period: Duration) -> Duration {
        let thousandths = 750 + u32::try_from(self.next() % 501).unwrap_or_default();
        period.saturating_mul(thousandths) / 1_000
    }
}

/// The polls of one probe.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    draws: Draws,
    haste: watch::Receiver<Haste>,
    last: Option<Instant>,
    next: Instant,
}

impl Pace {
    /// The first poll is due at once.
    pub(crate) fn new(every: Duration, names: impl Hash, haste: watch::Receiver<Haste>) -> Self {
        Self { every, draws: Draws::seeded(names), haste, last: None, next: Instant::now() }
    }

    /// The asked period, with the present haste.
    pub(crate) fn period(&self) -> Duration {
        let fast = self.haste.borrow().fast;
        if fast { (self.every / 4).max(HASTENED_EVERY_MIN).min(self.every) } else { self.every }
    }

    /// Makes the next poll due at once.
    pub(crate) fn at_once(&mut self) {
        self.next = Instant::now();
    }

    /// Waits until a poll is due, or until somebody is in a hurry.
    pub(crate) async fn wait(&mut self) {
        loop {
            let pause_over = self.last.map_or(self.next, |last| last + POLL_PAUSE_MIN);
            let due = self.next.max(pause_over);
            let mut haste = self.haste.clone();
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                changed = haste.changed() => {
                    self.haste = haste;
                    match changed {
                        Ok(()) if self.haste.borrow().fast => self.at_once(),
                        Ok(()) => {}
                        // Nobody can hasten any more: go on as usual.
                        Err(_) => {
                            tokio::time::sleep_until(due).await;
                            break;
                        }
                    }
                }
            }
        }
        let now = Instant::now();
        self.last = Some(now);
        let period = self.period();
        self.next = now + self.draws.shorten(period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_period_is_never_longer_than_asked_and_not_always_the_same() {
        let (_keep, haste) = watch::channel(Haste::default());
        let mut pace = Pace::new(EVERY, ("bot", "http"), haste);
        pace.wait().await;
        let mut gaps = Vec::new();
        for _ in 0..200 {
            let before = Instant::now();
            pace.wait().await;
            gaps.push(before.elapsed());
        }
        // The paused clock of tokio is exact to a millisecond.
        let slack = Duration::from_millis(2);
        assert!(gaps.iter().all(|gap| *gap <= EVERY + slack && *gap >= EVERY / 2 - slack), "{gaps:?}");
        let shortest = gaps.iter().min().unwrap();
        let longest = gaps.iter().max().unwrap();
        assert!(*longest - *shortest > EVERY / 4, "the phase must wander: {shortest:?} to {longest:?}");
    }

    /// Of every rhythm, and every share of it for which a program is away: how often it is met away, and how often in a row.
    #[test]
    fn no_rhythm_is_locked_on_to() {
        const POLLS: u32 = 20_000;
        let every = EVERY.as_secs_f64();
        for nth in 1..=60_u32 {
            // From a twentieth of the period to three periods; the mean steps (0.75 and 1) and their multiples are among them.
            let rhythm = every * f64::from(nth) / 20.0;
            let ways: [fn(&mut Draws, Duration) -> Duration; 2] = [Draws::shorten, Draws::around];
            for (share, next) in [0.1, 0.5].into_iter().flat_map(|share| ways.map(|way| (share, way))) {
                let mut draws = Draws::seeded(("bot", nth));
                let (mut at, mut away, mut row, mut longest) = (0.0_f64, 0_u32, 0_u32, 0_u32);
                for _ in 0..POLLS {
                    at += next(&mut draws, EVERY).as_secs_f64();
                    if at.rem_euclid(rhythm) < share * rhythm {
                        (away, row) = (away + 1, row + 1);
                        longest = longest.max(row);
                    } else {
                        row = 0;
                    }
                }
                let met = f64::from(away) / f64::from(POLLS);
                let shown = format!(
                    "away for {share} of {rhythm} s, polled every {every} s: met away {met}, {longest} in a row"
                );
                assert!((met - share).abs() < 0.05, "{shown}");
                // A deadline is ten polls. Chance alone (0.5 to the 20th, 20,000 polls) has runs of about fourteen; a lock has thousands.
                assert!(longest <= 50, "{shown}");
            }
        }
    }

    #[test]
    fn a_fixed_period_would_lock() {
        let every = EVERY.as_secs_f64();
        let met = (1..1_000)
            .filter(|poll| (f64::from(*poll) * every).rem_euclid(every / 2.0) < every / 4.0)
            .count();
        assert_eq!(met, 999, "this is what the draws are for");
    }

    #[test]
    fn each_run_is_polled_at_another_beat_and_the_same_run_at_the_same() {
        let polls = |run: u64| {
            let mut draws = Draws::seeded(("bot", "http", run));
            (0..50).map(|_| draws.shorten(EVERY)).collect::<Vec<_>>()
        };
        assert_eq!(polls(1), polls(1));
        assert_ne!(polls(1), polls(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hurry_polls_at_once_and_then_four_times_as_fast() {
        let (order, haste) = watch::channel(Haste::default());
        let mut pace = Pace::new(EVERY, "bot", haste);
        pace.wait().await;
        let start = Instant::now();
        order.send_replace(Haste { fast: true, nudges: 1 });
        pace.wait().await;
        assert!(start.elapsed() <= Duration::from_millis(20), "at once, not after {:?}", start.elapsed());
        let start = Instant::now();
        pace.wait().await;
        assert!(start.elapsed() <= EVERY / 4 + Duration::from_millis(2));
        order.send_replace(Haste { fast: true, nudges: 2 });
        let start = Instant::now();
        pace.wait().await;
        assert!(start.elapsed() <= Duration::from_millis(20), "a repeated order counts too");
    }

    #[tokio::test(start_paused = true)]
    async fn haste_has_a_lower_bound_and_slows_nobody() {
        let (_order, haste) = watch::channel(Haste { fast: true, nudges: 0 });
        let quick = Pace::new(Duration::from_millis(100), "bot", haste.clone());
        assert_eq!(quick.period(), Duration::from_millis(100));
        assert_eq!(Pace::new(Duration::from_millis(600), "bot", haste).period(), HASTENED_EVERY_MIN);
    }
}
