//! RSI, ADX, DI, ATR, MACD and Bollinger bands of one symbol, bar by bar, by the `ta-lib` crate (bit-equal to
//! the C library, golden values in testdata/). Wilder's smoothing never forgets its first bars, it only fades
//! them: after 60 bars ADX can still be a third off, after 300 it is right to 5e-8. So nothing is read before
//! [`WARM_UP_BARS`], and a restart refills them first.

use std::collections::VecDeque;

use ta_lib::{
    AdxStream, AtrStream, BbandsStream, Core, MAType, MacdStream, MinusDiStream, PlusDiStream, RetCode,
    RsiStream,
};

use crate::bars::Bar;

/// Closed bars before anything is read from the indicators.
pub(crate) const WARM_UP_BARS: usize = 300;

/// Bars after which the streams are opened: more than the longest lookback (MACD: 33). All bars after that go
/// through `update`, so a fresh start and a refill run the same code.
const OPEN_BARS: usize = 60;

/// Wilder's own period, used for RSI, ADX, DI and ATR.
const WILDER: i32 = 14;

/// What the indicators say at the close of one bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) close: f64,
    /// 0 to 100.
    pub(crate) rsi: f64,
    /// 0 to 100: how much trend, whatever its direction.
    pub(crate) adx: f64,
    pub(crate) plus_di: f64,
    pub(crate) minus_di: f64,
    /// In dollars.
    pub(crate) atr: f64,
    /// MACD minus its signal line, in dollars.
    pub(crate) macd_histogram: f64,
    pub(crate) band_upper: f64,
    pub(crate) band_lower: f64,
    /// The share of the recent bars whose ATR in relation to the price was lower than now, 0 to 1.
    pub(crate) volatility_rank: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Indicators {
    /// The bars before the streams are open; empty after that.
    opening: Vec<Bar>,
    streams: Option<Streams>,
    /// ATR / close of the last bars, newest last.
    relative_atr: VecDeque<f64>,
    bars: usize,
}

#[derive(Debug)]
struct Streams {
    rsi: RsiStream,
    adx: AdxStream,
    plus_di: PlusDiStream,
    minus_di: MinusDiStream,
    atr: AtrStream,
    macd: MacdStream,
    bands: BbandsStream,
}

impl Indicators {
    /// Takes one closed bar. `None` until warm. A bar that the library refuses (a price that is not a number)
    /// is an error, and changes nothing.
    pub(crate) fn push(&mut self, bar: &Bar) -> Result<Option<Reading>, RetCode> {
        let reading = match &mut self.streams {
            Some(streams) => Some(streams.update(bar)?),
            None => {
                self.opening.push(*bar);
                if self.opening.len() == OPEN_BARS {
                    self.streams = Some(Streams::open(&self.opening)?);
                    self.opening = Vec::new();
                }
                None
            }
        };
        self.bars += 1;
        Ok(reading.map(|reading| self.rank(reading)).filter(|_| self.is_warm()))
    }

    pub(crate) fn is_warm(&self) -> bool {
        self.bars >= WARM_UP_BARS
    }

    fn rank(&mut self, reading: Reading) -> Reading {
        let relative = reading.atr / reading.close;
        let lower = self.relative_atr.iter().filter(|past| **past < relative).count();
        #[expect(clippy::cast_precision_loss, reason = "at most 300")]
        let volatility_rank = lower as f64 / self.relative_atr.len().max(1) as f64;
        if self.relative_atr.len() == RANK_BARS {
            self.relative_atr.pop_front();
        }
        self.relative_atr.push_back(relative);
        Reading { volatility_rank, ..reading }
    }
}

/// Bars that the volatility is ranked against: as many as have gone through the streams when the first
/// reading is given.
const RANK_BARS: usize = WARM_UP_BARS - OPEN_BARS;

impl Streams {
    fn open(bars: &[Bar]) -> Result<Self, RetCode> {
        let series = |pick: fn(&Bar) -> f64| bars.iter().map(pick).collect::<Vec<_>>();
        let (high, low, close) =
            (series(|b| b.high.to_f64()), series(|b| b.low.to_f64()), series(|b| b.close.to_f64()));
        let core = Core::new();
        Ok(Self {
            rsi: core.rsi_open(&close, WILDER)?.0,
            adx: core.adx_open(&high, &low, &close, WILDER)?.0,
            plus_di: core.plus_di_open(&high, &low, &close, WILDER)?.0,
            minus_di: core.minus_di_open(&high, &low, &close, WILDER)?.0,
            atr: core.atr_open(&high, &low, &close, WILDER)?.0,
            macd: core.macd_open(&close, 12, 26, 9)?.0,
            bands: core.bbands_open(&close, 20, 2.0, 2.0, MAType::SMA)?.0,
        })
    }

    fn update(&mut self, bar: &Bar) -> Result<Reading, RetCode> {
        let (high, low, close) = (bar.high.to_f64(), bar.low.to_f64(), bar.close.to_f64());
        let (_, _, macd_histogram) = self.macd.update(close)?;
        let (band_upper, _, band_lower) = self.bands.update(close)?;
        Ok(Reading {
            close,
            rsi: self.rsi.update(close)?,
            adx: self.adx.update(high, low, close)?,
            plus_di: self.plus_di.update(high, low, close)?,
            minus_di: self.minus_di.update(high, low, close)?,
            atr: self.atr.update(high, low, close)?,
            macd_histogram,
            band_upper,
            band_lower,
            volatility_rank: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bars::BarBuilder;
    use crate::tape::{Second, Symbol, Tape};

    fn bars(symbol: Symbol, seconds: std::ops::Range<u64>) -> Vec<Bar> {
        let tape = Tape::recorded().unwrap();
        let mut builder = BarBuilder::default();
        seconds
            .filter_map(|s| {
                tape.trades(Second(s))
                    .filter(|t| t.symbol == symbol)
                    .for_each(|t| builder.push(Second(s), t));
                builder.close(Second(s))
            })
            .collect()
    }

    /// testdata/golden.csv is made by testdata/golden.py with the C library, from the same tape, by an own
    /// bar builder.
    #[test]
    fn readings_are_those_of_the_c_library() {
        let golden = include_str!("../testdata/golden.csv");
        let mut compared = 0;
        for symbol in Symbol::ALL {
            let mut indicators = Indicators::default();
            for (index, bar) in bars(symbol, 0..900).iter().enumerate() {
                let reading = indicators.push(bar).unwrap();
                let prefix = format!("{},{index},", symbol.name());
                let Some(line) = golden.lines().find_map(|line| line.strip_prefix(&prefix)) else { continue };
                let want: Vec<f64> = line.split(',').map(|n| n.parse().unwrap()).collect();
                let r = reading.expect("golden rows begin after the warm-up");
                let got = [
                    r.close,
                    r.rsi,
                    r.adx,
                    r.plus_di,
                    r.minus_di,
                    r.atr,
                    r.macd_histogram,
                    r.band_upper,
                    r.band_lower,
                ];
                for (got, want) in got.iter().zip(&want) {
                    let error = (got - want).abs();
                    assert!(error <= 1e-9 * want.abs().max(1.0), "{prefix} {got} is not {want}");
                }
                assert_eq!(got.len(), want.len());
                compared += 1;
            }
        }
        assert!(compared >= 30, "only {compared} golden rows were found");
    }

    #[test]
    fn nothing_is_read_before_300_bars() {
        let mut indicators = Indicators::default();
        for (index, bar) in bars(Symbol::Btc, 0..305).iter().enumerate() {
            let reading = indicators.push(bar).unwrap();
            assert_eq!(reading.is_some(), index + 1 >= WARM_UP_BARS, "bar {index}");
        }
    }

    #[test]
    fn a_refill_of_300_bars_reads_as_if_there_had_been_no_restart() {
        for symbol in Symbol::ALL {
            let all = bars(symbol, 0..1200);
            let (mut long, mut refilled) = (Indicators::default(), Indicators::default());
            let end = all.len();
            let mut last = (None, None);
            for (index, bar) in all.iter().enumerate() {
                last.0 = long.push(bar).unwrap();
                if index >= end - WARM_UP_BARS {
                    last.1 = refilled.push(bar).unwrap();
                }
            }
            let (a, b) = (last.0.unwrap(), last.1.unwrap());
            for (a, b) in
                [(a.rsi, b.rsi), (a.adx, b.adx), (a.atr, b.atr), (a.macd_histogram, b.macd_histogram)]
            {
                assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{symbol:?}: {a} {b}");
            }
        }
    }
}
