//! From the recorded events that the crate `barter` ships to the compact tape: `trading tape derive INPUT`.
//!
//! What is done, completely: (1) events are put in the order of `time_received`, as a program would have seen
//! them; (2) only the whole seconds are kept; (3) trades of one symbol, price, side and receive millisecond
//! that stand next to each other become one; (4) a quote is kept when its bid or ask price changed, else only
//! the last one per symbol and 250 ms; (5) prices and sizes become integers of the symbol's tick and step,
//! exactly, or the derivation fails.

use std::fmt::Write as _;
use std::io::BufRead;

use jiff::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde::Deserialize;
use thiserror::Error;

use crate::tape::{HEADER, Symbol};

/// Quotes whose prices did not change are sampled to this many milliseconds.
const QUOTE_SAMPLE_MS: i64 = 250;

const SECOND_MS: i64 = 1000;

#[derive(Debug, Error)]
pub(crate) enum DeriveError {
    #[error("line {line} cannot be read")]
    Read { line: usize, source: std::io::Error },
    #[error("line {line} is not an event of the expected shape")]
    Shape { line: usize, source: serde_json::Error },
    #[error("line {line}: {what}")]
    Value { line: usize, what: String },
    #[error("there is not one whole second of events")]
    TooShort,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Item")]
    item: Item,
}

#[derive(Deserialize)]
struct Item {
    time_received: Timestamp,
    instrument: usize,
    kind: Kind,
}

#[derive(Deserialize)]
enum Kind {
    Trade { price: f64, amount: f64, side: Side },
    OrderBookL1 { best_bid: Option<Level>, best_ask: Option<Level> },
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Side {
    Buy,
    Sell,
}

#[derive(Deserialize)]
struct Level {
    price: Decimal,
    amount: Decimal,
}

#[derive(Clone, Copy)]
struct Event {
    at_ms: i64,
    symbol: Symbol,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Trade { price: i64, quantity: i64, side: Side },
    Quote { bid: i64, bid_size: i64, ask: i64, ask_size: i64 },
}

/// The text of the tape.
pub(crate) fn derive(input: impl BufRead) -> Result<String, DeriveError> {
    let mut events = read(input)?;
    events.sort_by_key(|(received_ns, _)| *received_ns);
    let events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return Err(DeriveError::TooShort);
    };
    let start_ms = (first.at_ms + SECOND_MS - 1).div_euclid(SECOND_MS) * SECOND_MS;
    let end_ms = last.at_ms.div_euclid(SECOND_MS) * SECOND_MS;
    let seconds = (end_ms - start_ms) / SECOND_MS;
    if seconds < 1 {
        return Err(DeriveError::TooShort);
    }
    // The quote in force at the start is older than the start; it is carried to it.
    let mut kept = opening_quotes(&events, start_ms);
    kept.extend(events.iter().copied().filter(|e| (start_ms..end_ms).contains(&e.at_ms)));
    Ok(write(&thin(&kept), start_ms, seconds))
}

fn read(input: impl BufRead) -> Result<Vec<(i128, Event)>, DeriveError> {
    let mut events = Vec::new();
    for (index, text) in input.lines().enumerate() {
        let line = index + 1;
        let text = text.map_err(|source| DeriveError::Read { line, source })?;
        if text.trim().is_empty() {
            continue;
        }
        let Line { item } =
            serde_json::from_str(&text).map_err(|source| DeriveError::Shape { line, source })?;
        let received = item.time_received;
        if let Some(event) = event(item).map_err(|what| DeriveError::Value { line, what })? {
            events.push((received.as_nanosecond(), event));
        }
    }
    Ok(events)
}

fn event(item: Item) -> Result<Option<Event>, String> {
    let symbol = *Symbol::ALL
        .get(item.instrument)
        .ok_or_else(|| format!("instrument {} is not known", item.instrument))?;
    let ticks = |price: Decimal| integer(price, symbol.price_places());
    let steps = |amount: Decimal| integer(amount, symbol.quantity_places());
    let what = match item.kind {
        // The shortest text of the number is the text that the venue sent; its binary value is not used.
        Kind::Trade { price, amount, side } => {
            let decimal = |number: f64| {
                number.to_string().parse::<Decimal>().map_err(|error| format!("{number}: {error}"))
            };
            What::Trade { price: ticks(decimal(price)?)?, quantity: steps(decimal(amount)?)?, side }
        }
        Kind::OrderBookL1 { best_bid: Some(bid), best_ask: Some(ask) } => What::Quote {
            bid: ticks(bid.price)?,
            bid_size: steps(bid.amount)?,
            ask: ticks(ask.price)?,
            ask_size: steps(ask.amount)?,
        },
        // Half a book is no book to trade on.
        Kind::OrderBookL1 { .. } => return Ok(None),
    };
    Ok(Some(Event { at_ms: item.time_received.as_millisecond(), symbol, what }))
}

/// `value` in units of 10^-`places`, exactly.
fn integer(value: Decimal, places: u32) -> Result<i64, String> {
    let scaled = value * Decimal::from(10_i64.pow(places));
    scaled
        .to_i64()
        .filter(|n| Decimal::from(*n) == scaled)
        .ok_or_else(|| format!("{value} has more than {places} decimals"))
}

fn opening_quotes(events: &[Event], start_ms: i64) -> Vec<Event> {
    let before = |symbol| {
        let quotes = events.iter().take_while(|e| e.at_ms < start_ms);
        quotes.filter(|e| e.symbol == symbol && matches!(e.what, What::Quote { .. })).last()
    };
    Symbol::ALL
        .iter()
        .filter_map(|symbol| before(*symbol))
        .map(|quote| Event { at_ms: start_ms, ..*quote })
        .collect()
}

fn thin(events: &[Event]) -> Vec<Event> {
    let mut kept: Vec<Event> = Vec::with_capacity(events.len() / 3);
    // Per symbol: where its last quote stands in `kept`, and whether that one only holds the place of its
    // sample.
    let mut last_quote: [Option<(usize, bool)>; Symbol::ALL.len()] = Default::default();
    for event in events {
        match event.what {
            What::Trade { price, quantity, side } => {
                if let Some(previous) = kept.last_mut()
                    && previous.at_ms == event.at_ms
                    && previous.symbol == event.symbol
                    && let What::Trade { price: same_price, quantity: sum, side: same_side } =
                        &mut previous.what
                    && (*same_price, *same_side) == (price, side)
                {
                    *sum += quantity;
                    continue;
                }
                kept.push(*event);
            }
            What::Quote { bid, ask, .. } => {
                let slot = &mut last_quote[event.symbol.index()];
                let last = slot.and_then(|(at, sampled)| kept.get(at).map(|kept| (*kept, at, sampled)));
                let moved = match last {
                    Some((Event { what: What::Quote { bid: b, ask: a, .. }, .. }, ..)) => {
                        (b, a) != (bid, ask)
                    }
                    _ => true,
                };
                match last {
                    // The same prices in the same sample: the later sizes stand for it.
                    Some((quote, at, true)) if !moved && same_sample(quote.at_ms, event.at_ms) => {
                        kept.remove(at);
                        shift_after(&mut last_quote, at);
                        last_quote[event.symbol.index()] = Some((kept.len(), true));
                    }
                    _ => *slot = Some((kept.len(), !moved)),
                }
                kept.push(*event);
            }
        }
    }
    kept
}

fn same_sample(a_ms: i64, b_ms: i64) -> bool {
    a_ms.div_euclid(QUOTE_SAMPLE_MS) == b_ms.div_euclid(QUOTE_SAMPLE_MS)
}

fn shift_after(slots: &mut [Option<(usize, bool)>], removed: usize) {
    for (at, _) in slots.iter_mut().flatten() {
        if *at > removed {
            *at -= 1;
        }
    }
}

fn write(events: &[Event], start_ms: i64, seconds: i64) -> String {
    let mut text = format!("{HEADER} start_ms={start_ms} seconds={seconds}\n");
    let mut before_ms = start_ms;
    for event in events {
        let (delta_ms, symbol) = (event.at_ms - before_ms, event.symbol.index());
        before_ms = event.at_ms;
        // Writing into a String cannot fail.
        let _ = match event.what {
            What::Trade { price, quantity, side } => {
                let side = if side == Side::Buy { 'B' } else { 'S' };
                writeln!(text, "{delta_ms} {symbol} {side} {price} {quantity}")
            }
            What::Quote { bid, bid_size, ask, ask_size } => {
                writeln!(text, "{delta_ms} {symbol} Q {bid} {bid_size} {ask} {ask_size}")
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(time: &str, instrument: usize, price: &str, amount: &str, side: &str) -> String {
        format!(
            r#"{{"Item":{{"time_exchange":"{time}","time_received":"{time}","exchange":"binance_spot","instrument":{instrument},"kind":{{"Trade":{{"id":"1","price":{price},"amount":{amount},"side":"{side}"}}}}}}}}"#
        )
    }

    fn quote(time: &str, bid: &str, bid_size: &str, ask: &str) -> String {
        format!(
            r#"{{"Item":{{"time_exchange":"{time}","time_received":"{time}","exchange":"binance_spot","instrument":0,"kind":{{"OrderBookL1":{{"last_update_time":"{time}","best_bid":{{"price":"{bid}","amount":"{bid_size}"}},"best_ask":{{"price":"{ask}","amount":"1.00000000"}}}}}}}}}}"#
        )
    }

    #[test]
    fn the_derivation_is_what_the_module_says() {
        let lines = [
            quote("1970-01-01T00:00:00.900Z", "99.98000000", "5.00000000", "99.99000000"),
            trade("1970-01-01T00:00:01.010Z", 0, "100.01", "0.00012", "Buy"),
            trade("1970-01-01T00:00:01.010Z", 0, "100.01", "0.00003", "Buy"),
            trade("1970-01-01T00:00:01.010Z", 0, "100.0", "0.00003", "Sell"),
            quote("1970-01-01T00:00:01.100Z", "99.98000000", "6.00000000", "99.99000000"),
            quote("1970-01-01T00:00:01.200Z", "99.98000000", "7.00000000", "99.99000000"),
            quote("1970-01-01T00:00:01.210Z", "99.97000000", "8.00000000", "99.99000000"),
            trade("1970-01-01T00:00:01.005Z", 2, "143.5", "0.123", "Sell"),
            trade("1970-01-01T00:00:02.300Z", 0, "100.02", "1.0", "Buy"),
        ];
        let expected = "# horus-tape 1 start_ms=1000 seconds=1\n\
            0 0 Q 9998 500000 9999 100000\n\
            5 2 S 14350 123\n\
            5 0 B 10001 15\n\
            0 0 S 10000 3\n\
            190 0 Q 9998 700000 9999 100000\n\
            10 0 Q 9997 800000 9999 100000\n";
        assert_eq!(derive(lines.join("\n").as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_line() {
        let fine = trade("1970-01-01T00:00:01.010Z", 0, "100.01", "0.00012", "Buy");
        let too_fine = trade("1970-01-01T00:00:01.010Z", 0, "100.001", "0.00012", "Buy");
        let error = derive(format!("{fine}\n{too_fine}").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2: 100.001 has more than 2 decimals");
        let unknown = trade("1970-01-01T00:00:01.010Z", 3, "100.0", "1.0", "Buy");
        assert_eq!(derive(unknown.as_bytes()).unwrap_err().to_string(), "line 1: instrument 3 is not known");
        assert!(matches!(derive("{}".as_bytes()), Err(DeriveError::Shape { line: 1, .. })));
        assert!(matches!(derive("".as_bytes()), Err(DeriveError::TooShort)));
        assert!(matches!(derive(fine.as_bytes()), Err(DeriveError::TooShort)));
    }
}
