//! The paper venue: it fills against the recorded best bid and offer, and only as much as was offered there.
//!
//! Honest where it can be: an order meets the quote that stood [`LATENCY_MS`] *after* the decision; it buys
//! at the ask and sells at the bid; what was taken from a quote is gone until the next quote; the rest of an
//! order is cancelled; the taker fee is charged on every fill. Not modelled: our own effect on later quotes,
//! anything behind the best level, outages. No order goes anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::{Fill, Order, Side};
use crate::tape::{Quote, QuoteId, Symbol, Tape};
use crate::units::{FeeRate, Quantity, Usd};

/// From decision to match, in milliseconds; a plain guess for a program near the venue.
pub(crate) const LATENCY_MS: u32 = 100;

/// A quote older than this is no offer, in milliseconds.
pub(crate) const MAX_QUOTE_AGE_MS: u32 = 5000;

/// The largest notional that the venue side takes in one order, whatever the strategy computed: a second,
/// independent look at the final numbers. Ten dollars are meant; a thousand times as many were once sent
/// elsewhere.
const ORDER_CAP: (i64, u32) = (20, 0);

/// Binance spot's base taker fee, 0.1 %.
const TAKER_FEE: (i64, u32) = (1, 3);

/// What became of an order. A fill may be partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Filled(Fill),
    Rejected(Rejection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Rejection {
    NoBook,
    StaleBook,
    NothingOffered,
    OverCap,
}

#[derive(Debug)]
pub(crate) struct PaperVenue {
    tape: Arc<Tape>,
    /// What we took from the quote that we last met, per symbol and side.
    taken: BTreeMap<(Symbol, bool), (QuoteId, Quantity)>,
}

impl PaperVenue {
    pub(crate) fn new(tape: Arc<Tape>) -> Self {
        Self { tape, taken: BTreeMap::new() }
    }

    pub(crate) fn execute(&mut self, order: &Order) -> Outcome {
        match self.tape.quote(order.symbol, order.decided, LATENCY_MS) {
            None => Outcome::Rejected(Rejection::NoBook),
            Some(quote) if quote.age_ms > MAX_QUOTE_AGE_MS => Outcome::Rejected(Rejection::StaleBook),
            Some(quote) => self.meet(order, &quote),
        }
    }

    fn meet(&mut self, order: &Order, quote: &Quote) -> Outcome {
        let buys = order.side == Side::Buy;
        let (price, offered) = if buys { (quote.ask, quote.ask_size) } else { (quote.bid, quote.bid_size) };
        if price * order.quantity > Usd::new(ORDER_CAP.0, ORDER_CAP.1) {
            return Outcome::Rejected(Rejection::OverCap);
        }
        let slot = self.taken.entry((order.symbol, buys)).or_insert((quote.id, Quantity::ZERO));
        if slot.0 != quote.id {
            *slot = (quote.id, Quantity::ZERO);
        }
        let quantity = order.quantity.min(offered - slot.1);
        if quantity <= Quantity::ZERO {
            return Outcome::Rejected(Rejection::NothingOffered);
        }
        slot.1 += quantity;
        let fee = (price * quantity).fee(FeeRate::new(TAKER_FEE.0, TAKER_FEE.1));
        let Order { id, symbol, side, decided, .. } = *order;
        Outcome::Filled(Fill { order: id, symbol, side, price, quantity, fee, second: decided })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, OrderId};
    use crate::tape::Second;
    use crate::units::Price;
    use proptest::prelude::*;

    fn venue() -> PaperVenue {
        let tape = "# horus-tape 1 start_ms=0 seconds=20\n\
            500 0 Q 10000 100 10002 50\n\
            550 0 Q 10001 100 10003 50\n\
            6000 0 Q 10001 100 10003 50\n";
        PaperVenue::new(Arc::new(Tape::parse(tape).unwrap()))
    }

    fn order(side: Side, steps: i64, second: u64) -> Order {
        let (quantity, decided) = (Quantity::new(steps, 5), Second(second));
        Order { id: OrderId(1), symbol: Symbol::Btc, side, quantity, decided, reason: "TEST".into() }
    }

    fn filled(outcome: &Outcome) -> (Price, Quantity) {
        match outcome {
            Outcome::Filled(fill) => (fill.price, fill.quantity),
            Outcome::Rejected(why) => panic!("rejected: {why:?}"),
        }
    }

    #[test]
    fn a_buy_pays_the_ask_that_stood_after_the_latency() {
        let outcome = venue().execute(&order(Side::Buy, 10, 0));
        assert_eq!(
            filled(&outcome),
            (Price::new(10003, 2), Quantity::new(10, 5)),
            "the quote of 1050 ms, not of 500 ms"
        );
        let Outcome::Filled(fill) = outcome else { unreachable!() };
        assert_eq!(fill.fee, Usd::new(1001, 8), "0.1 % of 0.010003, rounded up");
        assert_eq!(filled(&venue().execute(&order(Side::Sell, 10, 0))).0, Price::new(10001, 2));
    }

    #[test]
    fn no_more_is_filled_than_was_offered_and_nothing_twice() {
        let mut venue = venue();
        assert_eq!(filled(&venue.execute(&order(Side::Buy, 30, 0))).1, Quantity::new(30, 5));
        assert_eq!(filled(&venue.execute(&order(Side::Buy, 30, 0))).1, Quantity::new(20, 5), "what is left");
        assert_eq!(venue.execute(&order(Side::Buy, 1, 0)), Outcome::Rejected(Rejection::NothingOffered));
        assert_eq!(
            filled(&venue.execute(&order(Side::Sell, 1, 0))).1,
            Quantity::new(1, 5),
            "the other side is untouched"
        );
        assert_eq!(
            filled(&venue.execute(&order(Side::Buy, 60, 7))).1,
            Quantity::new(50, 5),
            "a later quote is a new offer"
        );
    }

    #[test]
    fn what_cannot_be_filled_honestly_is_rejected() {
        let mut venue = venue();
        assert_eq!(venue.execute(&order(Side::Buy, 1, 14)), Outcome::Rejected(Rejection::StaleBook));
        let sol = Order { symbol: Symbol::Sol, ..order(Side::Buy, 1, 0) };
        assert_eq!(venue.execute(&sol), Outcome::Rejected(Rejection::NoBook));
        // One bitcoin where 0.001 was meant: the unit mistake.
        let mistake = order(Side::Buy, 300_000, 0);
        assert_eq!(venue.execute(&mistake), Outcome::Rejected(Rejection::OverCap));
    }

    proptest! {
        /// Whatever is ordered on the recorded tape: no fill is larger than its order or better than the
        /// quote, and the books stay right.
        #[test]
        fn fills_are_honest_and_conserve_money(orders in prop::collection::vec((0_usize..3, any::<bool>(), 1_i64..300, 0_u64..400), 1..40)) {
            let tape = Arc::new(Tape::recorded().unwrap());
            let mut venue = PaperVenue::new(Arc::clone(&tape));
            let mut ledger = Ledger::new(Usd::new(100_000, 0));
            for (symbol, buy, steps, second) in orders {
                let symbol = Symbol::ALL[symbol];
                let quantity = Quantity::new(steps, symbol.quantity_places());
                let side = if buy { Side::Buy } else { Side::Sell };
                let order = Order { symbol, quantity, ..order(side, 1, second) };
                let Outcome::Filled(fill) = venue.execute(&order) else { continue };
                let quote = tape.quote(symbol, Second(second), LATENCY_MS).unwrap();
                prop_assert!(fill.quantity <= quantity);
                prop_assert_eq!(fill.price, if buy { quote.ask } else { quote.bid });
                prop_assert!(fill.fee > Usd::ZERO);
                let _ = ledger.apply(&fill);
                prop_assert_eq!(ledger.check(), Ok(()));
                let at_cost = ledger.equity(|_| None);
                prop_assert_eq!(at_cost, ledger.deposit + ledger.realized - ledger.fees);
            }
        }
    }
}
