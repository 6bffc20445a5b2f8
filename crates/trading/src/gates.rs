//! The gates between a score and an order, in a fixed order. Each counts what it saw, what it let through and
//! what it blocked for which reason, so "no trades" always has an address. A gate that never ran is listed as
//! that: an earlier one always answers first.
//!
//! ```text
//!   closed bar -> warm_up -> session -> conviction -> position -> SIGNAL -> data -> regime -> risk -> PASSED -> order
//! ```
//!
//! Before SIGNAL the gates ask whether there is anything to decide; after it, whether it may be done. Only
//! the second group makes the funnel `signals -> passed -> orders`. A signal is an **event**, the bar on
//! which conviction *becomes* high; no gate asks to see it again later, since a persistence test on something
//! that decays can never pass. Selling what is held is never gated.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::indicators::Reading;
use crate::score::{Bias, Score};
use crate::tape::{Moment, Quote};
use crate::units::Usd;
use crate::venue::MAX_QUOTE_AGE_MS;

/// Bars after the seam in which nothing is bought: the jump is then outside of the 20 bars of the Bollinger
/// bands, and Wilder's smoothing has faded it to (13/14)^20, a quarter.
pub(crate) const AFTER_SEAM: u32 = 20;

/// Bars before the seam in which nothing is bought and everything is sold: no position is carried over a jump
/// that no market made.
pub(crate) const BEFORE_SEAM: u32 = 5;

/// A spread wider than this share of the price is no market (5 basis points, half of the fee; the widest on
/// the tape is 3).
const WIDEST_SPREAD: f64 = 0.0005;

/// ADX from which on there is a trend (Wilder's own bound).
const TREND_ADX: f64 = 25.0;

/// Volatility is high when only one bar in ten was wilder.
const HIGH_VOLATILITY_RANK: f64 = 0.9;

/// Below this share of the deposit nothing is bought any more.
const LOSS_FLOOR: (i64, i64) = (80, 100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Gate {
    WarmUp,
    Session,
    Conviction,
    Position,
    Data,
    Regime,
    Risk,
}

/// In the order in which they are asked.
pub(crate) const CHAIN: [Gate; 7] =
    [Gate::WarmUp, Gate::Session, Gate::Conviction, Gate::Position, Gate::Data, Gate::Regime, Gate::Risk];

/// Why a gate is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Block {
    #[serde(rename = "WARMUP")]
    WarmUp,
    #[serde(rename = "SEAM_BEHIND")]
    SeamBehind,
    #[serde(rename = "SEAM_AHEAD")]
    SeamAhead,
    #[serde(rename = "NEUTRAL")]
    Neutral,
    #[serde(rename = "MODERATE")]
    Moderate,
    /// A spot account cannot sell what it does not have.
    #[serde(rename = "NO_SHORT")]
    NoShort,
    /// High, but it already was on the bar before.
    #[serde(rename = "NOT_NEW")]
    NotNew,
    #[serde(rename = "HELD")]
    Held,
    #[serde(rename = "NO_BOOK")]
    NoBook,
    #[serde(rename = "STALE_BOOK")]
    StaleBook,
    #[serde(rename = "WIDE_SPREAD")]
    WideSpread,
    #[serde(rename = "VOLATILE_WITHOUT_TREND")]
    VolatileWithoutTrend,
    #[serde(rename = "IN_FLIGHT")]
    InFlight,
    #[serde(rename = "LOSS_LIMIT")]
    LossLimit,
    #[serde(rename = "NO_CASH")]
    NoCash,
}

/// All that the gates look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) moment: Moment,
    /// `None` until the indicators are warm.
    pub(crate) scored: Option<(&'a Score, &'a Reading)>,
    pub(crate) was_high: bool,
    pub(crate) held: bool,
    pub(crate) in_flight: bool,
    pub(crate) quote: Option<Quote>,
    pub(crate) cash: Usd,
    pub(crate) equity: Usd,
    pub(crate) deposit: Usd,
    /// What one order costs.
    pub(crate) order_size: Usd,
}

impl Gate {
    pub(crate) fn check(self, s: &Situation<'_>) -> Result<(), Block> {
        match self {
            Self::WarmUp => s.scored.map(drop).ok_or(Block::WarmUp),
            Self::Session => session(s.moment),
            Self::Conviction => conviction(s),
            Self::Position => deny(s.held, Block::Held),
            Self::Data => data(s.quote),
            Self::Regime => s.scored.map_or(Err(Block::WarmUp), |(_, reading)| regime(reading)),
            Self::Risk => risk(s),
        }
    }
}

fn deny(shut: bool, block: Block) -> Result<(), Block> {
    if shut { Err(block) } else { Ok(()) }
}

fn session(moment: Moment) -> Result<(), Block> {
    deny(moment.until_seam < BEFORE_SEAM, Block::SeamAhead)?;
    deny(moment.since_seam < AFTER_SEAM, Block::SeamBehind)
}

fn conviction(s: &Situation<'_>) -> Result<(), Block> {
    let Some((score, _)) = s.scored else { return Err(Block::WarmUp) };
    match (score.bias(), score.is_high()) {
        (Bias::Neutral, _) => Err(Block::Neutral),
        (_, false) => Err(Block::Moderate),
        (Bias::Bear, true) => Err(Block::NoShort),
        (Bias::Bull, true) => deny(s.was_high, Block::NotNew),
    }
}

/// Whether there is a book that can be traded on.
pub(crate) fn data(quote: Option<Quote>) -> Result<(), Block> {
    let quote = quote.ok_or(Block::NoBook)?;
    deny(quote.age_ms > MAX_QUOTE_AGE_MS, Block::StaleBook)?;
    let (bid, ask) = (quote.bid.to_f64(), quote.ask.to_f64());
    deny(ask - bid > WIDEST_SPREAD * bid, Block::WideSpread)
}

/// Volatility and trend are two axes. A strong trend (ADX 43) with high volatility is not a crisis; only high
/// volatility without a trend blocks.
fn regime(reading: &Reading) -> Result<(), Block> {
    let wild = reading.volatility_rank >= HIGH_VOLATILITY_RANK;
    let trending = reading.adx >= TREND_ADX;
    deny(wild && !trending, Block::VolatileWithoutTrend)
}

fn risk(s: &Situation<'_>) -> Result<(), Block> {
    deny(s.in_flight, Block::InFlight)?;
    let floor = s.deposit.part(LOSS_FLOOR.0, LOSS_FLOOR.1);
    deny(s.equity < floor, Block::LossLimit)?;
    deny(s.cash < s.order_size, Block::NoCash)
}

/// What one gate has done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct GateTally {
    pub(crate) evaluated: u64,
    pub(crate) passed: u64,
    pub(crate) blocked: BTreeMap<Block, u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Gates {
    tallies: [GateTally; CHAIN.len()],
}

/// How far a bar got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was nothing to decide.
    NoSignal(Gate, Block),
    /// A signal, and what vetoed it.
    Vetoed(Gate, Block),
    Passed,
}

impl Gates {
    /// Asks one gate after the other, and counts.
    pub(crate) fn decide(&mut self, situation: &Situation<'_>) -> Verdict {
        for (gate, tally) in CHAIN.into_iter().zip(&mut self.tallies) {
            tally.evaluated += 1;
            if let Err(block) = gate.check(situation) {
                *tally.blocked.entry(block).or_default() += 1;
                let veto = gate > Gate::Position;
                return if veto { Verdict::Vetoed(gate, block) } else { Verdict::NoSignal(gate, block) };
            }
            tally.passed += 1;
        }
        Verdict::Passed
    }

    pub(crate) fn tallies(&self) -> impl Iterator<Item = (Gate, &GateTally)> {
        CHAIN.into_iter().zip(&self.tallies)
    }
}

/// What the published risk context says: the first shut gate among those that are about the market and the
/// account, not about this signal.
pub(crate) fn risk_context(situation: &Situation<'_>) -> Option<Block> {
    let about_risk = [Gate::WarmUp, Gate::Session, Gate::Data, Gate::Regime, Gate::Risk];
    about_risk.into_iter().find_map(|gate| gate.check(situation).err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{Flow, Inputs};
    use crate::tape::{Second, Symbol, Tape};
    use proptest::prelude::*;

    const CALM: Reading = Reading {
        close: 100.0,
        rsi: 60.0,
        adx: 20.0,
        plus_di: 30.0,
        minus_di: 10.0,
        atr: 1.0,
        macd_histogram: 0.1,
        band_upper: 101.0,
        band_lower: 99.0,
        volatility_rank: 0.5,
    };

    fn bullish(reading: Reading) -> Score {
        Score::of(&Inputs {
            reading,
            flow: Flow { bought: 9.0, volume: 10.0, usual: 10.0 },
            changes: [1.0; 4],
        })
    }

    fn quote() -> Quote {
        let tape = Tape::parse("# horus-tape 1 start_ms=0 seconds=9\n0 0 Q 10000 100 10002 50").unwrap();
        tape.quote(Symbol::Btc, Second(0), 0).unwrap()
    }

    fn situation<'a>(score: &'a Score, reading: &'a Reading) -> Situation<'a> {
        Situation {
            moment: Moment { pass: 0, since_seam: 90, until_seam: 90 },
            scored: Some((score, reading)),
            was_high: false,
            held: false,
            in_flight: false,
            quote: Some(quote()),
            cash: Usd::new(1000, 0),
            equity: Usd::new(1000, 0),
            deposit: Usd::new(1000, 0),
            order_size: Usd::new(100, 0),
        }
    }

    #[test]
    fn each_gate_has_something_that_it_blocks_and_says_why() {
        let score = bullish(CALM);
        let open = situation(&score, &CALM);
        let verdict = |s: Situation<'_>| Gates::default().decide(&s);
        assert_eq!(verdict(open), Verdict::Passed);
        assert_eq!(
            verdict(Situation { scored: None, ..open }),
            Verdict::NoSignal(Gate::WarmUp, Block::WarmUp)
        );
        let at = |since_seam, until_seam| Moment { pass: 1, since_seam, until_seam };
        assert_eq!(
            verdict(Situation { moment: at(19, 90), ..open }),
            Verdict::NoSignal(Gate::Session, Block::SeamBehind)
        );
        assert_eq!(
            verdict(Situation { moment: at(90, 4), ..open }),
            Verdict::NoSignal(Gate::Session, Block::SeamAhead)
        );
        assert_eq!(
            verdict(Situation { was_high: true, ..open }),
            Verdict::NoSignal(Gate::Conviction, Block::NotNew)
        );
        assert_eq!(verdict(Situation { held: true, ..open }), Verdict::NoSignal(Gate::Position, Block::Held));
        assert_eq!(verdict(Situation { quote: None, ..open }), Verdict::Vetoed(Gate::Data, Block::NoBook));
        let old = Quote { age_ms: 5001, ..quote() };
        assert_eq!(
            verdict(Situation { quote: Some(old), ..open }),
            Verdict::Vetoed(Gate::Data, Block::StaleBook)
        );
        let wide = Quote { ask: crate::units::Price::new(10006, 2), ..quote() };
        assert_eq!(
            verdict(Situation { quote: Some(wide), ..open }),
            Verdict::Vetoed(Gate::Data, Block::WideSpread)
        );
        assert_eq!(
            verdict(Situation { in_flight: true, ..open }),
            Verdict::Vetoed(Gate::Risk, Block::InFlight)
        );
        let poor = Usd::new(799, 0);
        assert_eq!(
            verdict(Situation { equity: poor, ..open }),
            Verdict::Vetoed(Gate::Risk, Block::LossLimit)
        );
        let broke = Usd::new(99, 0);
        assert_eq!(verdict(Situation { cash: broke, ..open }), Verdict::Vetoed(Gate::Risk, Block::NoCash));
    }

    #[test]
    fn a_bear_cannot_be_sold_short_on_a_spot_account() {
        let reading = Reading { rsi: 30.0, plus_di: 10.0, minus_di: 30.0, macd_histogram: -0.1, ..CALM };
        let flow = Flow { bought: 1.0, volume: 10.0, usual: 10.0 };
        let bear = Score::of(&Inputs { reading, flow, changes: [-1.0; 4] });
        let verdict = Gates::default().decide(&situation(&bear, &reading));
        assert_eq!(verdict, Verdict::NoSignal(Gate::Conviction, Block::NoShort));
    }

    #[test]
    fn adx_43_with_high_volatility_is_a_trend_and_not_a_crisis() {
        assert_eq!(regime(&Reading { adx: 43.0, volatility_rank: 0.92, ..CALM }), Ok(()));
        assert_eq!(
            regime(&Reading { adx: 18.0, volatility_rank: 0.92, ..CALM }),
            Err(Block::VolatileWithoutTrend)
        );
    }

    #[test]
    fn the_tallies_say_how_far_it_got() {
        let score = bullish(CALM);
        let mut gates = Gates::default();
        gates.decide(&situation(&score, &CALM));
        for _ in 0..3 {
            gates.decide(&Situation { held: true, ..situation(&score, &CALM) });
        }
        let tally: BTreeMap<Gate, &GateTally> = gates.tallies().collect();
        assert_eq!((tally[&Gate::Position].evaluated, tally[&Gate::Position].passed), (4, 1));
        assert_eq!(tally[&Gate::Position].blocked, BTreeMap::from([(Block::Held, 3)]));
        assert_eq!(tally[&Gate::Data].evaluated, 1);
    }

    proptest! {
        #[test]
        fn the_two_axes_of_the_regime_are_independent(adx in 0.0..100.0, rank in 0.0..=1.0) {
            let blocked = regime(&Reading { adx, volatility_rank: rank, ..CALM }).is_err();
            prop_assert_eq!(blocked, rank >= HIGH_VOLATILITY_RANK && adx < TREND_ADX);
        }
    }
}
