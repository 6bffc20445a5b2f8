//! Money and amounts as types. On one venue quantity 1 once came to mean 1 BTC where it had meant 1 contract,
//! and compiler and tests were green. Here the only product of two units is `Price * Quantity = Usd`, and
//! nothing is made from a binary fraction.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

use rust_decimal::prelude::ToPrimitive as _;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// Money is kept to this many decimal places; the venue's own books have as many.
const USD_PLACES: u32 = 8;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(Decimal);

        impl $name {
            /// `mantissa` / 10^`scale`, exactly.
            pub(crate) fn new(mantissa: i64, scale: u32) -> Self {
                Self(Decimal::new(mantissa, scale))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.normalize().fmt(f)
            }
        }
    };
}

macro_rules! sums {
    ($name:ident) => {
        impl $name {
            pub(crate) const ZERO: Self = Self(Decimal::ZERO);
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::ZERO, Add::add)
            }
        }
    };
}

unit! {
    /// US dollars (USDT on the recorded venue, taken at par).
    Usd
}
unit! {
    /// US dollars for one whole coin.
    Price
}
unit! {
    /// Whole coins.
    Quantity
}
unit! {
    /// A fee as a share of the notional: 0.001 is ten basis points.
    FeeRate
}
sums!(Usd);
sums!(Quantity);

impl Mul<Quantity> for Price {
    type Output = Usd;
    fn mul(self, quantity: Quantity) -> Usd {
        Usd(self.0 * quantity.0)
    }
}

impl Usd {
    /// The fee on this notional, rounded up: an estimate of a cost must not flatter.
    pub(crate) fn fee(self, rate: FeeRate) -> Self {
        Self((self.0 * rate.0).round_dp_with_strategy(USD_PLACES, RoundingStrategy::AwayFromZero))
    }

    /// The part of this cost that belongs to `part` of `whole`; the full cost when all of it goes.
    pub(crate) fn share(self, part: Quantity, whole: Quantity) -> Self {
        if part >= whole {
            return self;
        }
        Self((self.0 * part.0 / whole.0).round_dp(USD_PLACES))
    }

    /// `numerator` / `denominator` of this; nothing of it for a denominator of zero.
    pub(crate) fn part(self, numerator: i64, denominator: i64) -> Self {
        Self((self.0 * Decimal::from(numerator)).checked_div(Decimal::from(denominator)).unwrap_or_default())
    }

    /// How many coins this buys at `price`, rounded down to `places` decimals. `None` for a price of zero.
    pub(crate) fn buys(self, price: Price, places: u32) -> Option<Quantity> {
        let coins = self.0.checked_div(price.0)?;
        Some(Quantity(coins.round_dp_with_strategy(places, RoundingStrategy::ToZero)))
    }
}

impl Price {
    /// For indicators, which are statistics and not money.
    pub(crate) fn to_f64(self) -> f64 {
        self.0.to_f64().unwrap_or(f64::NAN)
    }
}

impl Quantity {
    /// For indicators, which are statistics and not money.
    pub(crate) fn to_f64(self) -> f64 {
        self.0.to_f64().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn price_times_quantity_is_exact() {
        assert_eq!(Price::new(8_723_201, 2) * Quantity::new(114, 5), Usd::new(994_444_914, 7));
    }

    #[test]
    fn a_fee_rounds_against_us() {
        let ten_basis_points = FeeRate::new(1, 3);
        assert_eq!(Usd::new(100, 0).fee(ten_basis_points), Usd::new(1, 1));
        assert_eq!(Usd::new(1, 8).fee(ten_basis_points), Usd::new(1, 8));
    }

    #[test]
    fn an_amount_buys_whole_steps_only() {
        assert_eq!(Usd::new(100, 0).buys(Price::new(8_723_201, 2), 5), Some(Quantity::new(114, 5)));
        assert_eq!(Usd::new(100, 0).buys(Price::new(0, 2), 5), None);
    }

    #[test]
    fn numbers_travel_as_strings() {
        assert_eq!(serde_json::to_string(&Usd::new(10_050, 2)).unwrap(), "\"100.50\"");
        assert_eq!(serde_json::from_str::<Usd>("\"0.1\"").unwrap(), Usd::new(1, 1));
        assert!(serde_json::from_str::<Usd>("0.1").is_err(), "a JSON number is a binary fraction");
    }

    proptest! {
        #[test]
        fn buying_never_spends_more_than_asked(cents in 1_i64..100_000_000, ticks in 1_i64..10_000_000, places in 0_u32..6) {
            let (amount, price) = (Usd::new(cents, 2), Price::new(ticks, 2));
            let quantity = amount.buys(price, places).unwrap();
            prop_assert!(price * quantity <= amount);
        }

        #[test]
        fn a_split_cost_loses_nothing(cost in 0_i64..10_000_000_000, part in 1_i64..1000, rest in 1_i64..1000) {
            let cost = Usd::new(cost, 8);
            let (part, whole) = (Quantity::new(part, 5), Quantity::new(part + rest, 5));
            let gone = cost.share(part, whole);
            prop_assert!(Usd::ZERO <= gone && gone <= cost);
            prop_assert_eq!(cost.share(whole, whole), cost);
        }
    }
}
