//! The recorded market: trades and best quotes of three symbols over 184 whole seconds of one evening, 25
//! March 2025.
//!
//! It is short, so it is played in a loop, each pass shifted in time by its length. Nothing else is changed:
//! prices are as they were recorded, so from the last second of a pass to the first of the next there is a
//! jump that no market made (the **seam**). Whoever uses the tape has to know it, see `Moment::since_seam`.
//! Rejected: playing every second pass backwards (trades in an order that never happened) and scaling each
//! pass to start where the last ended (prices that never were, drifting away for ever).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::{Price, Quantity};

/// The first words of a tape; the number is the version of the format.
pub(crate) const HEADER: &str = "# horus-tape 1";

/// The tape that is built in. Origin and licence: data/README.md.
const RECORDED: &str = include_str!("../data/binance_spot_2025-03-25.tape");

/// No tape that this program reads is longer, in lines.
const MAX_LINES: usize = 1_000_000;

const SECOND_MS: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Symbol {
    #[serde(rename = "BTCUSDT")]
    Btc,
    #[serde(rename = "ETHUSDT")]
    Eth,
    #[serde(rename = "SOLUSDT")]
    Sol,
}

impl Symbol {
    /// In the order of the recording's instrument numbers.
    pub(crate) const ALL: [Self; 3] = [Self::Btc, Self::Eth, Self::Sol];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Btc => 0,
            Self::Eth => 1,
            Self::Sol => 2,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Btc => "BTCUSDT",
            Self::Eth => "ETHUSDT",
            Self::Sol => "SOLUSDT",
        }
    }

    /// Decimals of the price tick on Binance spot at the time of the recording.
    pub(crate) fn price_places(self) -> u32 {
        2
    }

    /// Decimals of the quantity step on Binance spot at the time of the recording.
    pub(crate) fn quantity_places(self) -> u32 {
        match self {
            Self::Btc => 5,
            Self::Eth => 4,
            Self::Sol => 3,
        }
    }

    fn price(self, ticks: i64) -> Price {
        Price::new(ticks, self.price_places())
    }

    fn quantity(self, steps: i64) -> Quantity {
        Quantity::new(steps, self.quantity_places())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trade {
    pub(crate) symbol: Symbol,
    pub(crate) price: Price,
    pub(crate) quantity: Quantity,
    pub(crate) taker: Taker,
}

/// The best bid and ask at one moment, with what was offered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    /// Its place on the tape, so that what was taken from it is not taken twice.
    pub(crate) id: QuoteId,
    /// How old it was when asked for, in milliseconds.
    pub(crate) age_ms: u32,
    pub(crate) bid: Price,
    pub(crate) bid_size: Quantity,
    pub(crate) ask: Price,
    pub(crate) ask_size: Quantity,
}

/// Pass and place of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuoteId {
    pass: u64,
    place: usize,
}

/// One second of tape time. Second 0 is the first of the first pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Second(pub(crate) u64);

impl Second {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where a second lies in its pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) pass: u64,
    /// Whole seconds since the pass began.
    pub(crate) since_seam: u32,
    /// Whole seconds of the pass that still come after this one.
    pub(crate) until_seam: u32,
}

#[derive(Debug)]
struct Timed<T> {
    at_ms: u32,
    what: T,
}

#[derive(Clone, Copy, Debug)]
struct RawQuote {
    bid: i64,
    bid_size: i64,
    ask: i64,
    ask_size: i64,
}

#[derive(Debug)]
pub(crate) struct Tape {
    start_ms: i64,
    seconds: u32,
    trades: Vec<Timed<Trade>>,
    quotes: [Vec<Timed<RawQuote>>; Symbol::ALL.len()],
}

#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum TapeError {
    #[error("this is not a tape of version 1: its first line must be `{HEADER} start_ms=N seconds=N`")]
    Header,
    #[error("line {line} of the tape is not understood: `{text}`")]
    Line { line: usize, text: String },
    #[error("line {line} of the tape lies after its end")]
    AfterEnd { line: usize },
    #[error("the tape has more than {MAX_LINES} lines")]
    TooLong,
}

impl Tape {
    /// The tape that is built in.
    pub(crate) fn recorded() -> Result<Self, TapeError> {
        Self::parse(RECORDED)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, TapeError> {
        let mut lines = text.lines();
        let (start_ms, seconds) = lines.next().and_then(header).ok_or(TapeError::Header)?;
        let mut tape = Self { start_ms, seconds, trades: Vec::new(), quotes: Default::default() };
        let mut at_ms: u32 = 0;
        for (index, text) in lines.enumerate() {
            let line = index + 2;
            if line > MAX_LINES {
                return Err(TapeError::TooLong);
            }
            let error = || TapeError::Line { line, text: text.chars().take(80).collect() };
            let (delta_ms, symbol, event) = fields(text).ok_or_else(error)?;
            at_ms = at_ms.checked_add(delta_ms).ok_or_else(error)?;
            if at_ms >= seconds.saturating_mul(SECOND_MS) {
                return Err(TapeError::AfterEnd { line });
            }
            match event {
                Event::Trade(what) => tape.trades.push(Timed { at_ms, what }),
                Event::Quote(what) => tape.quotes[symbol.index()].push(Timed { at_ms, what }),
            }
        }
        Ok(tape)
    }

    pub(crate) fn moment(&self, second: Second) -> Moment {
        let length = u64::from(self.seconds);
        let since_seam = u32::try_from(second.0 % length).unwrap_or(0);
        Moment { pass: second.0 / length, since_seam, until_seam: self.seconds - 1 - since_seam }
    }

    /// The first second of the first pass that begins at or after `second`.
    pub(crate) fn first_pass_after(&self, second: Second) -> Second {
        let length = u64::from(self.seconds);
        Second(second.0.div_ceil(length) * length)
    }

    /// The end of `second`, on the tape's own clock, shifted by the passes before it.
    pub(crate) fn closed_at(&self, second: Second) -> Timestamp {
        let ms = i64::try_from(second.0)
            .ok()
            .and_then(|s| s.checked_add(1)?.checked_mul(1000)?.checked_add(self.start_ms));
        ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
    }

    /// The trades of one second, in the order in which they were received.
    pub(crate) fn trades(&self, second: Second) -> impl Iterator<Item = &Trade> {
        let from_ms = self.moment(second).since_seam * SECOND_MS;
        let from = self.trades.partition_point(|t| t.at_ms < from_ms);
        let to = self.trades.partition_point(|t| t.at_ms < from_ms + SECOND_MS);
        self.trades.get(from..to).unwrap_or(&[]).iter().map(|t| &t.what)
    }

    /// The quote that stood `after_ms` milliseconds after the end of `second`. Beyond the end of a pass its
    /// last quote stands on.
    pub(crate) fn quote(&self, symbol: Symbol, second: Second, after_ms: u32) -> Option<Quote> {
        let Moment { pass, since_seam, .. } = self.moment(second);
        let asked_ms = (since_seam + 1) * SECOND_MS + after_ms;
        let quotes = &self.quotes[symbol.index()];
        let place = quotes.partition_point(|q| q.at_ms <= asked_ms).checked_sub(1)?;
        let Timed { at_ms, what } = quotes.get(place)?;
        Some(Quote {
            id: QuoteId { pass, place },
            age_ms: asked_ms - at_ms,
            bid: symbol.price(what.bid),
            bid_size: symbol.quantity(what.bid_size),
            ask: symbol.price(what.ask),
            ask_size: symbol.quantity(what.ask_size),
        })
    }

    /// What is on it, for people.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "Binance spot, recorded {} to {}: {} whole seconds\n",
            Timestamp::from_millisecond(self.start_ms).unwrap_or_default(),
            self.closed_at(Second(u64::from(self.seconds) - 1)),
            self.seconds,
        );
        for symbol in Symbol::ALL {
            let trades = || self.trades.iter().filter(|t| t.what.symbol == symbol).map(|t| t.what);
            let (first, last) = (trades().next(), trades().next_back());
            let span =
                first.zip(last).map_or_else(String::new, |(a, b)| format!(", {} to {}", a.price, b.price));
            let low = trades().map(|t| t.price).min().unwrap_or_default();
            let high = trades().map(|t| t.price).max().unwrap_or_default();
            text += &format!(
                "{}: {} trades, {} quotes{span}, low {low}, high {high}\n",
                symbol.name(),
                trades().count(),
                self.quotes[symbol.index()].len(),
            );
        }
        text
    }
}

enum Event {
    Trade(Trade),
    Quote(RawQuote),
}

fn header(line: &str) -> Option<(i64, u32)> {
    let mut words = line.strip_prefix(HEADER)?.split_whitespace();
    let start_ms = words.next()?.strip_prefix("start_ms=")?.parse().ok()?;
    let seconds: u32 = words.next()?.strip_prefix("seconds=")?.parse().ok()?;
    // An hour in milliseconds, and its sums, fit any integer used here with room.
    (words.next().is_none() && (1..=3600).contains(&seconds)).then_some((start_ms, seconds))
}

fn fields(text: &str) -> Option<(u32, Symbol, Event)> {
    let mut words = text.split(' ');
    let delta_ms = words.next()?.parse().ok()?;
    let symbol = *Symbol::ALL.get(words.next()?.parse::<usize>().ok()?)?;
    let kind = words.next()?;
    let mut number = || words.next()?.parse::<i64>().ok().filter(|n| *n >= 0);
    let event = match kind {
        "Q" => {
            let quote = RawQuote { bid: number()?, bid_size: number()?, ask: number()?, ask_size: number()? };
            // A crossed or empty book is not something to fill against.
            (0 < quote.bid && quote.bid < quote.ask).then_some(Event::Quote(quote))?
        }
        "B" | "S" => {
            let taker = if kind == "B" { Taker::Buy } else { Taker::Sell };
            let (ticks, steps) = (number()?, number()?);
            Event::Trade(Trade {
                symbol,
                price: symbol.price(ticks),
                quantity: symbol.quantity(steps),
                taker,
            })
        }
        _ => return None,
    };
    words.next().is_none().then_some((delta_ms, symbol, event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: &str = "# horus-tape 1 start_ms=1000 seconds=2\n\
        0 0 Q 9998 500000 9999 100000\n\
        500 0 B 10001 15\n\
        500 0 S 10000 3\n\
        200 0 Q 9997 800000 9999 100000\n";

    #[test]
    fn seconds_hold_their_own_trades_in_every_pass() {
        let tape = Tape::parse(SMALL).unwrap();
        for pass in [0_u64, 1, 7] {
            let prices = |s| tape.trades(Second(2 * pass + s)).map(|t| t.price).collect::<Vec<_>>();
            assert_eq!(prices(0), [Price::new(10001, 2)]);
            assert_eq!(prices(1), [Price::new(10000, 2)]);
        }
    }

    #[test]
    fn time_goes_on_over_the_seam_and_the_seam_is_told() {
        let tape = Tape::parse(SMALL).unwrap();
        assert_eq!(tape.closed_at(Second(0)).as_millisecond(), 2000);
        assert_eq!(tape.closed_at(Second(5)).as_millisecond(), 7000);
        assert_eq!(tape.moment(Second(3)), Moment { pass: 1, since_seam: 1, until_seam: 0 });
        assert_eq!(tape.moment(Second(4)), Moment { pass: 2, since_seam: 0, until_seam: 1 });
    }

    #[test]
    fn a_quote_is_the_one_in_force_at_that_moment() {
        let tape = Tape::parse(SMALL).unwrap();
        let bid = |second, after| tape.quote(Symbol::Btc, Second(second), after).map(|q| (q.bid, q.age_ms));
        assert_eq!(bid(0, 100), Some((Price::new(9998, 2), 1100)));
        assert_eq!(bid(0, 200), Some((Price::new(9997, 2), 0)));
        assert_eq!(bid(1, 100), Some((Price::new(9997, 2), 900)));
        assert_eq!(tape.quote(Symbol::Sol, Second(1), 0), None);
        let (first, second) = (tape.quote(Symbol::Btc, Second(0), 0), tape.quote(Symbol::Btc, Second(2), 0));
        assert_ne!(first.unwrap().id, second.unwrap().id, "another pass is another quote");
    }

    #[test]
    fn a_bad_tape_is_refused_with_its_line() {
        let error = |body: &str| Tape::parse(&format!("{HEADER} start_ms=0 seconds=1\n{body}")).unwrap_err();
        assert_eq!(Tape::parse("").unwrap_err(), TapeError::Header);
        assert_eq!(Tape::parse("# horus-tape 2 start_ms=0 seconds=1").unwrap_err(), TapeError::Header);
        assert_eq!(Tape::parse("# horus-tape 1 start_ms=0 seconds=0").unwrap_err(), TapeError::Header);
        assert_eq!(error("0 0 B 1"), TapeError::Line { line: 2, text: "0 0 B 1".into() });
        assert_eq!(error("0 3 B 1 1"), TapeError::Line { line: 2, text: "0 3 B 1 1".into() });
        assert_eq!(error("0 0 B -1 1"), TapeError::Line { line: 2, text: "0 0 B -1 1".into() });
        assert_eq!(error("0 0 Q 5 1 5 1"), TapeError::Line { line: 2, text: "0 0 Q 5 1 5 1".into() });
        assert_eq!(error("0 0 B 1 1 1"), TapeError::Line { line: 2, text: "0 0 B 1 1 1".into() });
        assert_eq!(error("999 0 B 1 1\n1 0 B 1 1"), TapeError::AfterEnd { line: 3 });
    }

    #[test]
    fn the_built_in_tape_is_the_one_that_its_readme_describes() {
        let tape = Tape::recorded().unwrap();
        assert_eq!(tape.seconds, 184);
        let readme = include_str!("../data/README.md");
        for line in tape.describe().lines() {
            assert!(readme.contains(line), "data/README.md lacks: {line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(body in "([0-9]{0,5} [0-4] [QBS] [0-9]{0,4} [0-9]{0,4}( [0-9]{1,3} [0-9]{1,3})?\n){0,5}") {
            if let Ok(tape) = Tape::parse(&format!("{HEADER} start_ms=5 seconds=3\n{body}")) {
                for second in 0..7 {
                    prop_assert!(tape.trades(Second(second)).count() <= 5);
                    let _ = tape.quote(Symbol::Btc, Second(second), 100);
                }
            }
        }
    }
}
