//! The public pages: what the program thinks and why, as JSON. `/v1/signals` has the published shape of the
//! signal API; every shape is versioned by its path and by `schema`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::bars::TIMEFRAME;
use crate::engine::{Candidate, Engine};
use crate::gates::{Block, Gate, GateTally};
use crate::ledger::Position;
use crate::score::{Bias, Factors, HIGH_SPREAD, Score, tenths};
use crate::store::Tally;
use crate::tape::Symbol;
use crate::units::Usd;

const SCHEMA: u32 = 1;

/// A shut gate caps the published conviction just below "high".
const CAPPED_CONVICTION: f64 = HIGH_SPREAD - 0.1;

/// Says that the numbers are a recording.
const EXCHANGE: &str = "binance_spot_recorded_2025-03-25";

/// All pages, as of one turn of the loop.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) health: String,
    pub(crate) signals: String,
    pub(crate) gates: String,
    pub(crate) account: String,
}

#[derive(Serialize)]
struct Health<'a> {
    schema: u32,
    status: &'a str,
    ready: bool,
}

#[derive(Serialize)]
struct Signals {
    schema: u32,
    signals: Vec<Signal>,
}

#[derive(Serialize)]
struct Signal {
    asset: &'static str,
    timestamp: Timestamp,
    bias: Bias,
    #[serde(serialize_with = "tenths")]
    conviction_pct: f64,
    factors: Factors,
    #[serde(serialize_with = "tenths")]
    bull_case: f64,
    #[serde(serialize_with = "tenths")]
    bear_case: f64,
    #[serde(serialize_with = "tenths")]
    spread: f64,
    risk_context: RiskContext,
    meta: Meta,
}

#[derive(Serialize)]
struct RiskContext {
    /// `OPEN`, or why not.
    gate: String,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct Meta {
    engine_version: &'static str,
    exchange: &'static str,
    timeframe: &'static str,
}

#[derive(Serialize)]
struct Gates<'a> {
    schema: u32,
    funnel: Tally,
    chain: Vec<GatePage<'a>>,
    /// Gates that nothing has reached since the start.
    never_ran: Vec<Gate>,
    queue_dropped: u64,
}

#[derive(Serialize)]
struct GatePage<'a> {
    name: Gate,
    #[serde(flatten)]
    tally: &'a GateTally,
}

#[derive(Serialize)]
struct Account<'a> {
    schema: u32,
    /// Nothing here is money.
    paper: bool,
    deposit: Usd,
    cash: Usd,
    equity: Usd,
    realized: Usd,
    fees: Usd,
    fills: u64,
    positions: &'a BTreeMap<Symbol, Position>,
    tape_time: Timestamp,
    tape_pass: u64,
}

impl Pages {
    /// Before the engine exists, and when it must not run.
    pub(crate) fn idle(status: &str) -> Self {
        let health = json(&Health { schema: SCHEMA, status, ready: false });
        let signals = json(&Signals { schema: SCHEMA, signals: Symbol::ALL.map(cold).into() });
        Self { health, signals, gates: "null".to_owned(), account: "null".to_owned() }
    }

    pub(crate) fn of(engine: &Engine) -> Self {
        let mut signals: Vec<Signal> =
            engine.latest().map(|(candidate, block)| signal(engine, candidate, block)).collect();
        let cold_symbols =
            Symbol::ALL.into_iter().filter(|s| signals.iter().all(|have| have.asset != s.name()));
        signals.extend(cold_symbols.map(cold).collect::<Vec<_>>());
        let tallies = || engine.gates().tallies();
        let gates = Gates {
            schema: SCHEMA,
            funnel: engine.tally(),
            chain: tallies().map(|(name, tally)| GatePage { name, tally }).collect(),
            never_ran: tallies().filter(|(_, tally)| tally.evaluated == 0).map(|(name, _)| name).collect(),
            queue_dropped: engine.dropped(),
        };
        let ledger = engine.ledger();
        let account = Account {
            schema: SCHEMA,
            paper: true,
            deposit: ledger.deposit,
            cash: ledger.cash,
            equity: engine.equity(),
            realized: ledger.realized,
            fees: ledger.fees,
            fills: ledger.fills,
            positions: &ledger.positions,
            tape_time: engine.closed_at(engine.last()),
            tape_pass: engine.moment().pass,
        };
        Self {
            health: json(&Health { schema: SCHEMA, status: "ok", ready: true }),
            signals: json(&Signals { schema: SCHEMA, signals }),
            gates: json(&gates),
            account: json(&account),
        }
    }

    pub(crate) fn find(&self, path: &str) -> Option<String> {
        match path {
            "/healthz" => Some(self.health.clone()),
            "/v1/signals" => Some(self.signals.clone()),
            "/v1/gates" => Some(self.gates.clone()),
            "/v1/account" => Some(self.account.clone()),
            _ => None,
        }
    }
}

fn signal(engine: &Engine, candidate: &Candidate, block: Option<Block>) -> Signal {
    let Some((score, reading)) = &candidate.scored else { return cold(candidate.symbol) };
    let mut flags = score.flags.clone();
    // Said on every signal as long as it is true: the usual move is smaller than what a round trip costs.
    if reading.atr < ROUND_TRIP_FEE * reading.close {
        flags.push("FEE_EXCEEDS_ATR");
    }
    let spread = score.spread();
    Signal {
        asset: candidate.symbol.name(),
        timestamp: engine.closed_at(candidate.second),
        bias: score.bias(),
        conviction_pct: if block.is_some() { spread.min(CAPPED_CONVICTION) } else { spread },
        factors: score.factors,
        bull_case: score.bull_case,
        bear_case: score.bear_case,
        spread,
        risk_context: RiskContext { gate: gate_name(block), flags },
        meta: META,
    }
}

/// A symbol that is not warm: nothing is known, and that is what it says.
fn cold(symbol: Symbol) -> Signal {
    let score = Score::blind();
    Signal {
        asset: symbol.name(),
        timestamp: Timestamp::UNIX_EPOCH,
        bias: Bias::Neutral,
        conviction_pct: 0.0,
        factors: score.factors,
        bull_case: 0.0,
        bear_case: 0.0,
        spread: 0.0,
        risk_context: RiskContext { gate: gate_name(Some(Block::WarmUp)), flags: score.flags },
        meta: META,
    }
}

const META: Meta =
    Meta { engine_version: env!("CARGO_PKG_VERSION"), exchange: EXCHANGE, timeframe: TIMEFRAME };

/// Two taker fees, as a share of the price.
const ROUND_TRIP_FEE: f64 = 0.002;

fn gate_name(block: Option<Block>) -> String {
    block.map_or_else(|| "OPEN".to_owned(), |block| json(&block).trim_matches('"').to_owned())
}

fn json(value: &impl Serialize) -> String {
    // These shapes have string keys and finite numbers only; should one ever fail, `null` is not mistaken for
    // data.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::Tape;
    use serde_json::Value;
    use std::sync::Arc;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn a_signal_has_the_published_shape() {
        let tape = Arc::new(Tape::recorded().unwrap());
        let state = Engine::fresh(&tape);
        let mut engine = Engine::new(tape, state);
        engine.warm_up();
        let page = parse(&Pages::of(&engine).signals);
        let signals = page["signals"].as_array().unwrap();
        assert_eq!(signals.len(), 3);
        for signal in signals {
            let expected = [
                "asset",
                "bear_case",
                "bias",
                "bull_case",
                "conviction_pct",
                "factors",
                "meta",
                "risk_context",
                "spread",
                "timestamp",
            ];
            assert_eq!(keys(signal), expected);
            let factors = &signal["factors"];
            let names =
                ["daily_pattern", "market_timing", "technical_confluence", "timeframe_alignment", "volume"];
            assert_eq!(keys(factors), names);
            assert_eq!(factors["daily_pattern"]["signal"], "no_data");
            assert_eq!(factors["daily_pattern"]["max"], 30.0);
            assert_eq!(keys(&signal["meta"]), ["engine_version", "exchange", "timeframe"]);
            let flags = signal["risk_context"]["flags"].as_array().unwrap();
            assert!(
                flags.contains(&"NO_DAILY_HISTORY".into()) && flags.contains(&"NO_CALENDAR".into()),
                "{flags:?}"
            );
            let (bull, bear) = (signal["bull_case"].as_f64().unwrap(), signal["bear_case"].as_f64().unwrap());
            assert!((signal["spread"].as_f64().unwrap() - (bull - bear).abs()).abs() < 0.11, "{signal}");
        }
        let gates = parse(&Pages::of(&engine).gates);
        assert_eq!(gates["chain"].as_array().unwrap().len(), 7);
        assert_eq!(gates["never_ran"].as_array().unwrap().len(), 7, "nothing was decided yet");
    }

    #[test]
    fn before_the_warm_up_it_says_warmup_and_claims_nothing() {
        let pages = Pages::idle("starting");
        assert_eq!(
            parse(&pages.health),
            serde_json::json!({"schema": 1, "status": "starting", "ready": false})
        );
        for signal in parse(&pages.signals)["signals"].as_array().unwrap() {
            assert_eq!(signal["risk_context"]["gate"], "WARMUP");
            assert_eq!(signal["conviction_pct"], 0.0);
        }
        assert_eq!(pages.find("/nothing"), None);
    }
}
