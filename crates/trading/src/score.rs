//! The score: an independent case for up (bull) and for down (bear), 0 to 100 each. They are not each other's
//! complement; both may be weak (nothing happens) or strong (a stretched trend). What counts is their
//! **spread**: from 15 on conviction is high, from 3 moderate, below neutral.
//!
//! The shape has five factors worth 30 + 25 + 20 + 15 + 10. Two of them need days of history, which a tape of
//! three minutes does not have. They score 0 *and are flagged*: weak and blind are different things. So at
//! most 60 points can be reached here, per case.
//!
//! Nothing here claims to predict: at this time scale one fee is larger than a typical move, see
//! docs/guides/trading.md.

use serde::{Serialize, Serializer};

use crate::indicators::Reading;

/// From this spread on, conviction is high (points; the published InDecision scale).
pub(crate) const HIGH_SPREAD: f64 = 15.0;

/// From this spread on, conviction is moderate (points; the published InDecision scale).
pub(crate) const MODERATE_SPREAD: f64 = 3.0;

/// How far back the closes are compared for the alignment, in bars; each horizon has the same weight.
pub(crate) const HORIZONS: [usize; 4] = [5, 15, 30, 60];

const PATTERN_MAX: f64 = 30.0;
const VOLUME_MAX: f64 = 25.0;
const ALIGNMENT_MAX: f64 = 20.0;
const CONFLUENCE_MAX: f64 = 15.0;
const TIMING_MAX: f64 = 10.0;

/// The shares of the confluence: momentum (RSI), MACD, direction (DI), stretch (Bollinger). They add up to
/// `CONFLUENCE_MAX`.
const CONFLUENCE_SHARES: [f64; 4] = [4.0, 4.0, 4.0, 3.0];

/// What one symbol's score is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) reading: Reading,
    pub(crate) flow: Flow,
    /// The change of the close over each of [`HORIZONS`], in dollars.
    pub(crate) changes: [f64; HORIZONS.len()],
}

/// Traded amounts, in coins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Taken from the offer in the last bars.
    pub(crate) bought: f64,
    /// All that was traded in the last bars.
    pub(crate) volume: f64,
    /// What is usual in as many bars.
    pub(crate) usual: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bias {
    Bull,
    Bear,
    Neutral,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FactorSignal {
    Bull,
    Bear,
    Neutral,
    /// There is nothing to see with: not weak, but blind.
    NoData,
}

/// One factor: what it gives to either case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Factor {
    /// The larger of the two.
    #[serde(serialize_with = "tenths")]
    pub(crate) score: f64,
    pub(crate) max: f64,
    pub(crate) signal: FactorSignal,
    #[serde(serialize_with = "tenths")]
    pub(crate) bull: f64,
    #[serde(serialize_with = "tenths")]
    pub(crate) bear: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Factors {
    pub(crate) daily_pattern: Factor,
    pub(crate) volume: Factor,
    pub(crate) timeframe_alignment: Factor,
    pub(crate) technical_confluence: Factor,
    pub(crate) market_timing: Factor,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Score {
    pub(crate) factors: Factors,
    /// 0 to 100.
    pub(crate) bull_case: f64,
    /// 0 to 100.
    pub(crate) bear_case: f64,
    /// Which factors are blind.
    pub(crate) flags: Vec<&'static str>,
}

impl Score {
    pub(crate) fn of(inputs: &Inputs) -> Self {
        let factors = Factors {
            daily_pattern: Factor::blind(PATTERN_MAX),
            volume: volume(&inputs.flow),
            timeframe_alignment: alignment(&inputs.changes),
            technical_confluence: confluence(&inputs.reading),
            market_timing: Factor::blind(TIMING_MAX),
        };
        Self::sum(factors)
    }

    /// The score of one who sees nothing.
    pub(crate) fn blind() -> Self {
        Self::sum(Factors {
            daily_pattern: Factor::blind(PATTERN_MAX),
            volume: Factor::blind(VOLUME_MAX),
            timeframe_alignment: Factor::blind(ALIGNMENT_MAX),
            technical_confluence: Factor::blind(CONFLUENCE_MAX),
            market_timing: Factor::blind(TIMING_MAX),
        })
    }

    fn sum(factors: Factors) -> Self {
        let named = factors.named();
        let flags =
            named.iter().filter(|(_, f)| f.signal == FactorSignal::NoData).map(|(flag, _)| *flag).collect();
        let bull_case = named.iter().map(|(_, f)| f.bull).sum();
        let bear_case = named.iter().map(|(_, f)| f.bear).sum();
        Self { factors, bull_case, bear_case, flags }
    }

    /// How far the cases are apart, in points.
    pub(crate) fn spread(&self) -> f64 {
        (self.bull_case - self.bear_case).abs()
    }

    pub(crate) fn bias(&self) -> Bias {
        if self.spread() < MODERATE_SPREAD {
            Bias::Neutral
        } else if self.bull_case > self.bear_case {
            Bias::Bull
        } else {
            Bias::Bear
        }
    }

    pub(crate) fn is_high(&self) -> bool {
        self.spread() >= HIGH_SPREAD
    }
}

impl Factors {
    fn named(&self) -> [(&'static str, Factor); 5] {
        [
            ("NO_DAILY_HISTORY", self.daily_pattern),
            ("NO_VOLUME", self.volume),
            ("NO_HORIZONS", self.timeframe_alignment),
            ("NO_INDICATORS", self.technical_confluence),
            ("NO_CALENDAR", self.market_timing),
        ]
    }
}

impl Factor {
    fn blind(max: f64) -> Self {
        Self { score: 0.0, max, signal: FactorSignal::NoData, bull: 0.0, bear: 0.0 }
    }

    fn new(max: f64, bull: f64, bear: f64) -> Self {
        if !(bull.is_finite() && bear.is_finite()) {
            return Self::blind(max);
        }
        // Adding zero turns the -0.0 of an empty sum into the 0.0 that people expect to read.
        let (bull, bear) = (bull.clamp(0.0, max) + 0.0, bear.clamp(0.0, max) + 0.0);
        let signal = match bull.total_cmp(&bear) {
            std::cmp::Ordering::Greater => FactorSignal::Bull,
            std::cmp::Ordering::Less => FactorSignal::Bear,
            std::cmp::Ordering::Equal => FactorSignal::Neutral,
        };
        Self { score: bull.max(bear), max, signal, bull, bear }
    }
}

/// Who takes: the side that crosses the spread more, weighted by how much is traded compared with what is
/// usual (at most 1).
fn volume(flow: &Flow) -> Factor {
    if flow.volume <= 0.0 || flow.usual <= 0.0 {
        return Factor::blind(VOLUME_MAX);
    }
    // -1: all sold into the bid; 1: all bought from the offer.
    let side = 2.0 * flow.bought / flow.volume - 1.0;
    let weight = (flow.volume / flow.usual).min(1.0);
    Factor::new(VOLUME_MAX, VOLUME_MAX * weight * side.max(0.0), VOLUME_MAX * weight * (-side).max(0.0))
}

/// On how many horizons the close is higher, on how many lower.
fn alignment(changes: &[f64; HORIZONS.len()]) -> Factor {
    if changes.iter().any(|change| !change.is_finite()) {
        return Factor::blind(ALIGNMENT_MAX);
    }
    #[expect(clippy::cast_precision_loss, reason = "there are four")]
    let each = ALIGNMENT_MAX / HORIZONS.len() as f64;
    let sum = |hit: fn(f64) -> bool| changes.iter().filter(|change| hit(**change)).map(|_| each).sum();
    Factor::new(ALIGNMENT_MAX, sum(|change| change > 0.0), sum(|change| change < 0.0))
}

/// Four indicators. The bands argue against the move: beyond them it is stretched, which is a case for the
/// other side.
fn confluence(r: &Reading) -> Factor {
    // RSI 80 and 20 are full marks; the histogram's unit is a tenth of the ATR.
    let momentum = (r.rsi - 50.0) / 30.0;
    let macd = if r.atr > 0.0 { r.macd_histogram / (0.1 * r.atr) } else { 0.0 };
    let total_di = r.plus_di + r.minus_di;
    let direction = if total_di > 0.0 { (r.plus_di - r.minus_di) / total_di } else { 0.0 };
    let width = r.band_upper - r.band_lower;
    let middle = f64::midpoint(r.band_upper, r.band_lower);
    // 1 at the upper band, 2 a half width above it: full marks for the bear.
    let stretch = if width > 0.0 { 2.0 * (r.close - middle) / width } else { 0.0 };
    let against = if stretch.abs() > 1.0 { -(stretch - stretch.signum()) } else { 0.0 };
    let views = [momentum, macd, direction, against];
    let sum = |sign: f64| CONFLUENCE_SHARES.iter().zip(views).map(|(share, v)| share * unit(sign * v)).sum();
    Factor::new(CONFLUENCE_MAX, sum(1.0), sum(-1.0))
}

/// Into 0..=1, keeping "not a number" as it is.
fn unit(value: f64) -> f64 {
    value.clamp(0.0, 1.0)
}

/// One decimal is all that such a number can mean.
pub(crate) fn tenths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_reading()(
            close in 1.0..100_000.0, rsi in 0.0..=100.0, adx in 0.0..=100.0, plus_di in 0.0..=100.0, minus_di in 0.0..=100.0,
            atr in 0.0..50.0, macd_histogram in -50.0..50.0, half_width in 0.0..100.0, off in -200.0..200.0, volatility_rank in 0.0..=1.0,
        ) -> Reading {
            let middle = close + off;
            Reading { close, rsi, adx, plus_di, minus_di, atr, macd_histogram, band_upper: middle + half_width,
                band_lower: middle - half_width, volatility_rank }
        }
    }

    prop_compose! {
        fn any_inputs()(
            reading in any_reading(), volume in 0.0..100.0, share in 0.0..=1.0, usual in 0.0..100.0,
            changes in prop::array::uniform4(-100.0..100.0),
        ) -> Inputs {
            Inputs { reading, flow: Flow { bought: volume * share, volume, usual }, changes }
        }
    }

    /// The same market seen upside down.
    fn mirrored(inputs: &Inputs) -> Inputs {
        let r = inputs.reading;
        let reading = Reading {
            rsi: 100.0 - r.rsi,
            plus_di: r.minus_di,
            minus_di: r.plus_di,
            macd_histogram: -r.macd_histogram,
            band_upper: 2.0 * r.close - r.band_lower,
            band_lower: 2.0 * r.close - r.band_upper,
            ..r
        };
        let flow = Flow { bought: inputs.flow.volume - inputs.flow.bought, ..inputs.flow };
        Inputs { reading, flow, changes: inputs.changes.map(|change| -change) }
    }

    proptest! {
        #[test]
        fn every_factor_stays_in_its_bounds(inputs in any_inputs()) {
            let score = Score::of(&inputs);
            for (name, factor) in score.factors.named() {
                prop_assert!((0.0..=factor.max).contains(&factor.bull) && (0.0..=factor.max).contains(&factor.bear), "{name}");
                prop_assert_eq!(factor.score, factor.bull.max(factor.bear));
            }
            prop_assert!((0.0..=100.0).contains(&score.bull_case) && (0.0..=100.0).contains(&score.bear_case));
        }

        #[test]
        fn a_mirrored_market_swaps_the_cases(inputs in any_inputs()) {
            let (score, mirror) = (Score::of(&inputs), Score::of(&mirrored(&inputs)));
            prop_assert!((score.bull_case - mirror.bear_case).abs() < 1e-6, "{} {}", score.bull_case, mirror.bear_case);
            prop_assert!((score.bear_case - mirror.bull_case).abs() < 1e-6);
        }

        #[test]
        fn more_buying_never_weakens_the_bull(inputs in any_inputs(), more in 0.0..=1.0) {
            let room = inputs.flow.volume - inputs.flow.bought;
            let mut bought = inputs;
            bought.flow.bought += room * more;
            prop_assert!(Score::of(&bought).bull_case >= Score::of(&inputs).bull_case - 1e-9);
            prop_assert!(Score::of(&bought).bear_case <= Score::of(&inputs).bear_case + 1e-9);
        }

        #[test]
        fn bias_and_conviction_follow_from_the_spread(inputs in any_inputs()) {
            let score = Score::of(&inputs);
            prop_assert_eq!(score.bias() == Bias::Neutral, score.spread() < MODERATE_SPREAD);
            prop_assert_eq!(score.is_high(), score.spread() >= HIGH_SPREAD);
        }

        #[test]
        fn a_number_that_is_none_makes_blind_not_wrong(inputs in any_inputs()) {
            let mut broken = inputs;
            broken.reading.rsi = f64::NAN;
            broken.changes[2] = f64::INFINITY;
            let score = Score::of(&broken);
            prop_assert_eq!(score.factors.technical_confluence, Factor::blind(CONFLUENCE_MAX));
            prop_assert!(score.flags.contains(&"NO_INDICATORS") && score.flags.contains(&"NO_HORIZONS"));
            prop_assert!(score.bull_case.is_finite());
        }
    }

    const QUIET: Reading = Reading {
        close: 100.0,
        rsi: 50.0,
        adx: 10.0,
        plus_di: 20.0,
        minus_di: 20.0,
        atr: 1.0,
        macd_histogram: 0.0,
        band_upper: 101.0,
        band_lower: 99.0,
        volatility_rank: 0.0,
    };

    #[test]
    fn each_indicator_speaks_for_its_side_and_the_bands_against_the_move() {
        let cases = |reading: Reading| {
            let factor = confluence(&reading);
            (factor.bull, factor.bear)
        };
        assert_eq!(cases(QUIET), (0.0, 0.0));
        assert_eq!(cases(Reading { rsi: 80.0, ..QUIET }), (4.0, 0.0));
        assert_eq!(cases(Reading { rsi: 35.0, ..QUIET }), (0.0, 2.0));
        assert_eq!(cases(Reading { macd_histogram: 0.05, ..QUIET }), (2.0, 0.0));
        assert_eq!(cases(Reading { plus_di: 30.0, minus_di: 10.0, ..QUIET }), (2.0, 0.0));
        assert_eq!(cases(Reading { close: 101.0, ..QUIET }), (0.0, 0.0), "at the band, not beyond it");
        assert_eq!(cases(Reading { close: 102.0, ..QUIET }), (0.0, 3.0), "stretched upwards");
        assert_eq!(cases(Reading { close: 98.5, ..QUIET }), (1.5, 0.0), "stretched downwards");
    }

    #[test]
    fn flow_counts_by_side_and_by_how_much_is_traded() {
        let cases = |bought, traded, usual| {
            let factor = volume(&Flow { bought, volume: traded, usual });
            (factor.bull, factor.bear)
        };
        assert_eq!(cases(10.0, 10.0, 10.0), (25.0, 0.0));
        assert_eq!(cases(0.0, 10.0, 5.0), (0.0, 25.0), "more than usual is not more than all");
        assert_eq!(cases(10.0, 10.0, 20.0), (12.5, 0.0));
        assert_eq!(cases(5.0, 10.0, 10.0), (0.0, 0.0));
        assert_eq!(alignment(&[1.0, 1.0, -1.0, 0.0]), Factor::new(20.0, 10.0, 5.0));
    }

    #[test]
    fn the_maxima_add_up_to_a_hundred() {
        assert_eq!(PATTERN_MAX + VOLUME_MAX + ALIGNMENT_MAX + CONFLUENCE_MAX + TIMING_MAX, 100.0);
        assert_eq!(CONFLUENCE_SHARES.iter().sum::<f64>(), CONFLUENCE_MAX);
    }

    #[test]
    fn a_factor_without_data_is_zero_and_flagged() {
        let reading = Reading { atr: 0.0, band_upper: 100.0, band_lower: 100.0, ..QUIET };
        let flow = Flow { bought: 0.0, volume: 0.0, usual: 5.0 };
        let score = Score::of(&Inputs { reading, flow, changes: [0.0; 4] });
        assert_eq!(score.flags, ["NO_DAILY_HISTORY", "NO_VOLUME", "NO_CALENDAR"]);
        assert_eq!((score.bull_case, score.bear_case), (0.0, 0.0));
        assert_eq!(
            score.factors.timeframe_alignment.signal,
            FactorSignal::Neutral,
            "it sees, and sees nothing"
        );
    }
}
