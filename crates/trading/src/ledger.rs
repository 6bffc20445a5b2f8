//! The books: what was paid, what is held, what it cost. Pure; the same [`Ledger::apply`] serves trading and
//! recovery after a crash.
//!
//! Two identities hold after every fill, and are checked again at every start:
//! `cash = deposit - bought + sold - fees` and `cost of what is held = bought - sold + realized`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tape::{Second, Symbol};
use crate::units::{Price, Quantity, Usd};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct OrderId(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Buy,
    Sell,
}

/// What we want: written down before the venue hears of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    pub(crate) symbol: Symbol,
    pub(crate) side: Side,
    pub(crate) quantity: Quantity,
    /// The second at whose close it was decided.
    pub(crate) decided: Second,
    /// Why, in one word.
    pub(crate) reason: String,
}

/// What the venue did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fill {
    pub(crate) order: OrderId,
    pub(crate) symbol: Symbol,
    pub(crate) side: Side,
    pub(crate) price: Price,
    pub(crate) quantity: Quantity,
    pub(crate) fee: Usd,
    pub(crate) second: Second,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) quantity: Quantity,
    /// What was paid for it, without fees.
    pub(crate) cost: Usd,
    pub(crate) opened: Second,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) deposit: Usd,
    pub(crate) cash: Usd,
    pub(crate) bought: Usd,
    pub(crate) sold: Usd,
    pub(crate) fees: Usd,
    /// Proceeds minus cost of what was sold, before fees.
    pub(crate) realized: Usd,
    pub(crate) fills: u64,
    pub(crate) positions: BTreeMap<Symbol, Position>,
}

#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum LedgerError {
    #[error("{quantity} {symbol:?} were sold, but only {held} are held")]
    Oversold { symbol: Symbol, quantity: Quantity, held: Quantity },
    #[error("{cost} were spent, but there are only {cash} in cash")]
    Overspent { cost: Usd, cash: Usd },
    #[error("a fill of nothing")]
    Nothing,
    #[error("the books contradict themselves: {0}")]
    Contradiction(String),
}

impl Ledger {
    pub(crate) fn new(deposit: Usd) -> Self {
        let zero = Usd::ZERO;
        Self {
            deposit,
            cash: deposit,
            bought: zero,
            sold: zero,
            fees: zero,
            realized: zero,
            fills: 0,
            positions: BTreeMap::new(),
        }
    }

    /// Books one fill, or changes nothing.
    pub(crate) fn apply(&mut self, fill: &Fill) -> Result<(), LedgerError> {
        let notional = fill.price * fill.quantity;
        if fill.quantity <= Quantity::ZERO || fill.fee < Usd::ZERO {
            return Err(LedgerError::Nothing);
        }
        match fill.side {
            Side::Buy => self.buy(fill, notional)?,
            Side::Sell => self.sell(fill, notional)?,
        }
        self.fees += fill.fee;
        self.fills += 1;
        Ok(())
    }

    fn buy(&mut self, fill: &Fill, notional: Usd) -> Result<(), LedgerError> {
        let cost = notional + fill.fee;
        if cost > self.cash {
            return Err(LedgerError::Overspent { cost, cash: self.cash });
        }
        self.cash -= cost;
        self.bought += notional;
        let empty = Position { quantity: Quantity::ZERO, cost: Usd::ZERO, opened: fill.second };
        let position = self.positions.entry(fill.symbol).or_insert(empty);
        position.quantity += fill.quantity;
        position.cost += notional;
        Ok(())
    }

    fn sell(&mut self, fill: &Fill, notional: Usd) -> Result<(), LedgerError> {
        let Fill { symbol, quantity, .. } = *fill;
        let held = self.positions.get(&symbol).map_or(Quantity::ZERO, |p| p.quantity);
        let Some(position) = self.positions.get_mut(&symbol).filter(|p| p.quantity >= quantity) else {
            return Err(LedgerError::Oversold { symbol, quantity, held });
        };
        let cost = position.cost.share(quantity, held);
        position.quantity -= quantity;
        position.cost -= cost;
        if position.quantity == Quantity::ZERO {
            self.positions.remove(&symbol);
        }
        self.cash += notional - fill.fee;
        self.sold += notional;
        self.realized += notional - cost;
        Ok(())
    }

    /// What all would be worth if each position could be sold at `mark`; positions without a mark count at
    /// cost.
    pub(crate) fn equity(&self, mark: impl Fn(Symbol) -> Option<Price>) -> Usd {
        let value =
            |(symbol, p): (&Symbol, &Position)| mark(*symbol).map_or(p.cost, |price| price * p.quantity);
        self.cash + self.positions.iter().map(value).sum()
    }

    /// Whether the books agree with themselves.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        let cash = self.deposit - self.bought + self.sold - self.fees;
        let held: Usd = self.positions.values().map(|p| p.cost).sum();
        let cost = self.bought - self.sold + self.realized;
        let contradiction = |text| Err(LedgerError::Contradiction(text));
        if cash != self.cash {
            return contradiction(format!(
                "cash is {}, but deposit - bought + sold - fees is {cash}",
                self.cash
            ));
        }
        if cost != held {
            return contradiction(format!(
                "the positions cost {held}, but bought - sold + realized is {cost}"
            ));
        }
        if self.cash < Usd::ZERO || self.positions.values().any(|p| p.quantity <= Quantity::ZERO) {
            return contradiction("negative cash or an empty position".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(side: Side, ticks: i64, steps: i64, fee: i64) -> Fill {
        Fill {
            order: OrderId(1),
            symbol: Symbol::Btc,
            side,
            price: Price::new(ticks, 2),
            quantity: Quantity::new(steps, 5),
            fee: Usd::new(fee, 8),
            second: Second(1),
        }
    }

    #[test]
    fn a_round_trip_books_profit_and_fees_apart() {
        let mut ledger = Ledger::new(Usd::new(1000, 0));
        ledger.apply(&fill(Side::Buy, 10_000, 200_000, 20_000_000)).unwrap();
        assert_eq!(ledger.cash, Usd::new(7998, 1));
        ledger.apply(&fill(Side::Sell, 10_100, 100_000, 10_100_000)).unwrap();
        assert_eq!(ledger.realized, Usd::new(1, 0));
        assert_eq!(ledger.positions[&Symbol::Btc].cost, Usd::new(100, 0));
        ledger.apply(&fill(Side::Sell, 9_900, 100_000, 9_900_000)).unwrap();
        assert_eq!(ledger.realized, Usd::ZERO);
        assert_eq!(ledger.positions, BTreeMap::new());
        assert_eq!(ledger.cash, Usd::new(9996, 1));
        ledger.check().unwrap();
    }

    #[test]
    fn what_is_not_there_is_neither_sold_nor_spent() {
        let mut ledger = Ledger::new(Usd::new(1000, 0));
        let before = ledger.clone();
        assert!(matches!(ledger.apply(&fill(Side::Sell, 100, 1, 0)), Err(LedgerError::Oversold { .. })));
        assert!(matches!(
            ledger.apply(&fill(Side::Buy, 100_000, 100_001, 0)),
            Err(LedgerError::Overspent { .. })
        ));
        assert_eq!(ledger.apply(&fill(Side::Buy, 100_000, 0, 0)), Err(LedgerError::Nothing));
        assert_eq!(ledger, before);
    }

    #[test]
    fn a_forged_number_is_found() {
        let mut ledger = Ledger::new(Usd::new(1000, 0));
        ledger.apply(&fill(Side::Buy, 10_000, 100, 10)).unwrap();
        let mut richer = ledger.clone();
        richer.cash += Usd::new(1, 8);
        assert!(
            richer.check().unwrap_err().to_string().starts_with("the books contradict themselves: cash is")
        );
        let mut lost = ledger;
        lost.positions.clear();
        assert!(lost.check().is_err());
    }

    proptest! {
        /// Cash and the cost of what is held are what was put in, plus what was earned, minus the fees: after
        /// any fills, accepted or refused.
        #[test]
        fn money_is_conserved(fills in prop::collection::vec((any::<bool>(), 1_i64..100_000, 0_i64..100_000, 0_i64..100_000), 0..60)) {
            let mut ledger = Ledger::new(Usd::new(10_000, 0));
            for (buy, ticks, steps, fee) in fills {
                let before = ledger.clone();
                if ledger.apply(&fill(if buy { Side::Buy } else { Side::Sell }, ticks, steps, fee)).is_err() {
                    prop_assert_eq!(&ledger, &before);
                }
                let held: Usd = ledger.positions.values().map(|p| p.cost).sum();
                prop_assert_eq!(ledger.cash + held, ledger.deposit + ledger.realized - ledger.fees);
                prop_assert_eq!(ledger.check(), Ok(()));
            }
        }
    }
}
