//! Bars of one second, the shortest period that the venue itself publishes. Longer ones would be better
//! statistics, but the tape has 184 s: with bars of a minute, the 300 of the warm-up would be a hundred
//! passes over the same three minutes.
//!
//! A second without a trade gives a flat bar at the previous close with volume zero, as the venue's own
//! one-second bars do. Before the first trade there is no price, hence no bar.

use crate::tape::{Second, Taker, Trade};
use crate::units::{Price, Quantity};

/// The period, as it is published.
pub(crate) const TIMEFRAME: &str = "1s";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) second: Second,
    pub(crate) open: Price,
    pub(crate) high: Price,
    pub(crate) low: Price,
    pub(crate) close: Price,
    pub(crate) volume: Quantity,
    /// The part of `volume` in which the buyer took the offer.
    pub(crate) bought: Quantity,
}

/// Builds the bars of one symbol.
#[derive(Debug, Default)]
pub(crate) struct BarBuilder {
    open: Option<Bar>,
    last_close: Option<Price>,
}

impl BarBuilder {
    pub(crate) fn push(&mut self, second: Second, trade: &Trade) {
        let Trade { price, quantity, taker, .. } = *trade;
        let bar = self.open.get_or_insert(Bar {
            second,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: Quantity::ZERO,
            bought: Quantity::ZERO,
        });
        bar.high = bar.high.max(price);
        bar.low = bar.low.min(price);
        bar.close = price;
        bar.volume += quantity;
        if taker == Taker::Buy {
            bar.bought += quantity;
        }
    }

    /// Ends `second`.
    pub(crate) fn close(&mut self, second: Second) -> Option<Bar> {
        let bar = self.open.take().or_else(|| {
            let price = self.last_close?;
            let (volume, bought) = (Quantity::ZERO, Quantity::ZERO);
            Some(Bar { second, open: price, high: price, low: price, close: price, volume, bought })
        })?;
        self.last_close = Some(bar.close);
        Some(bar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::Symbol;
    use proptest::prelude::*;

    fn trade(ticks: i64, steps: i64, taker: Taker) -> Trade {
        Trade { symbol: Symbol::Btc, price: Price::new(ticks, 2), quantity: Quantity::new(steps, 5), taker }
    }

    #[test]
    fn a_bar_is_its_trades() {
        let mut builder = BarBuilder::default();
        assert_eq!(builder.close(Second(0)), None, "no price is known yet");
        for (ticks, steps, taker) in
            [(100, 1, Taker::Buy), (103, 2, Taker::Sell), (99, 4, Taker::Buy), (101, 8, Taker::Sell)]
        {
            builder.push(Second(1), &trade(ticks, steps, taker));
        }
        let price = |ticks| Price::new(ticks, 2);
        let bar = Bar {
            second: Second(1),
            open: price(100),
            high: price(103),
            low: price(99),
            close: price(101),
            volume: Quantity::new(15, 5),
            bought: Quantity::new(5, 5),
        };
        assert_eq!(builder.close(Second(1)), Some(bar));
        let (open, high, low, close) = (price(101), price(101), price(101), price(101));
        let flat =
            Bar { second: Second(2), open, high, low, close, volume: Quantity::ZERO, bought: Quantity::ZERO };
        assert_eq!(builder.close(Second(2)), Some(flat), "an empty second is a flat bar");
    }

    proptest! {
        #[test]
        fn every_bar_holds_together(trades in prop::collection::vec((1_i64..1000, 1_i64..1000, any::<bool>()), 1..20)) {
            let mut builder = BarBuilder::default();
            for (ticks, steps, buys) in &trades {
                builder.push(Second(0), &trade(*ticks, *steps, if *buys { Taker::Buy } else { Taker::Sell }));
            }
            let bar = builder.close(Second(0)).unwrap();
            prop_assert!(bar.low <= bar.open && bar.open <= bar.high);
            prop_assert!(bar.low <= bar.close && bar.close <= bar.high);
            prop_assert!(bar.bought <= bar.volume);
            prop_assert_eq!(bar.volume, Quantity::new(trades.iter().map(|t| t.1).sum(), 5));
        }
    }
}
