//! The program's work as five stages with bounded queues between them, all turned by one loop:
//!
//! ```text
//!   feed --seconds--> bars --closed--> signals --candidates--> gates --orders--> venue --> books, journal
//! ```
//!
//! No clock and no tasks in here: one [`Engine::step`] plays one second of the tape, so the same state and
//! tape give the same trades. A stage that is stuck (a fault on purpose) leaves its queue to fill up to
//! [`QUEUE_LIMIT`]; then the oldest entry goes, counted.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tracing::{debug, info, warn};

use crate::bars::{Bar, BarBuilder};
use crate::gates::{self, Gates, Situation, Verdict};
use crate::indicators::{Indicators, Reading};
use crate::ledger::{Ledger, LedgerError, Order, OrderId, Side};
use crate::score::{Bias, Flow, HORIZONS, Inputs, Score};
use crate::store::{Record, Snapshot, Store, StoreError, Tally};
use crate::tape::{Moment, Second, Symbol, Tape};
use crate::units::{Price, Usd};
use crate::venue::{Outcome, PaperVenue};

/// Entries that wait between two stages.
pub(crate) const QUEUE_LIMIT: usize = 64;

/// Seconds of tape before the first score: 300 bars, and room for the seconds before a symbol's first trade.
pub(crate) const WARM_UP_SECONDS: u64 = 360;

/// Paper dollars at the start of a state directory.
const DEPOSIT: (i64, u32) = (100_000, 0);

/// What one entry is meant to cost: twice the venue's smallest order, and so small against the deposit that
/// the fees take months to reach the loss limit.
const ORDER_SIZE: (i64, u32) = (10, 0);

/// A position is sold after so many bars at the latest: the longest horizon that the score looks at.
const MAX_HOLD: u64 = 60;

/// Bars whose traded amounts make the flow.
const FLOW_BARS: usize = 10;

/// Bars that are kept per symbol.
const KEPT_BARS: usize = 300;

#[derive(Debug, Error)]
pub(crate) enum EngineError {
    #[error("the step could not be recorded, so it is not taken")]
    Store(#[from] StoreError),
    #[error("the venue's fill does not fit the books")]
    Books(#[from] LedgerError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Feed,
    Bars,
    Signals,
    Gates,
    Venue,
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "feed" => Ok(Self::Feed),
            "bars" => Ok(Self::Bars),
            "signals" => Ok(Self::Signals),
            "gates" => Ok(Self::Gates),
            "venue" => Ok(Self::Venue),
            _ => Err(format!("no stage is called `{name}`; there are feed, bars, signals, gates, venue")),
        }
    }
}

/// A queue that forgets its oldest entry rather than grow.
#[derive(Debug)]
struct Bounded<T> {
    entries: VecDeque<T>,
    dropped: u64,
}

impl<T> Bounded<T> {
    fn new() -> Self {
        Self { entries: VecDeque::new(), dropped: 0 }
    }

    fn push(&mut self, entry: T) {
        if self.entries.len() == QUEUE_LIMIT {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
    }

    fn take(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.entries)
    }
}

/// The closed bars of one second.
type Closed = (Second, [Option<Bar>; Symbol::ALL.len()]);

/// One symbol at the close of one bar, with what the signals stage made of it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) symbol: Symbol,
    pub(crate) second: Second,
    pub(crate) scored: Option<(Score, Reading)>,
    was_high: bool,
}

#[derive(Debug, Default)]
struct Market {
    builder: BarBuilder,
    bars: VecDeque<Bar>,
    indicators: Indicators,
    was_high: bool,
}

pub(crate) struct Engine {
    tape: Arc<Tape>,
    markets: [Market; Symbol::ALL.len()],
    gates: Gates,
    venue: PaperVenue,
    state: Snapshot,
    seconds: Bounded<Second>,
    closed: Bounded<Closed>,
    candidates: Bounded<Candidate>,
    orders: Bounded<Order>,
    latest: [Option<Candidate>; Symbol::ALL.len()],
    told_dropped: bool,
}

impl Engine {
    /// The state of a new state directory: it begins in the first pass that has a whole warm-up behind it, at
    /// the first second in which that pass is open for trading.
    pub(crate) fn fresh(tape: &Tape) -> Snapshot {
        let first = tape.first_pass_after(Second(WARM_UP_SECONDS)).0 + u64::from(gates::AFTER_SEAM);
        Snapshot::fresh(Second(first), Ledger::new(Usd::new(DEPOSIT.0, DEPOSIT.1)))
    }

    pub(crate) fn new(tape: Arc<Tape>, state: Snapshot) -> Self {
        Self {
            venue: PaperVenue::new(Arc::clone(&tape)),
            tape,
            markets: Default::default(),
            gates: Gates::default(),
            state,
            seconds: Bounded::new(),
            closed: Bounded::new(),
            candidates: Bounded::new(),
            orders: Bounded::new(),
            latest: Default::default(),
            told_dropped: false,
        }
    }

    /// Refills the indicators from the seconds before the next one, as fast as it goes. Trades nothing and
    /// counts nothing.
    pub(crate) fn warm_up(&mut self) {
        let next = self.state.next.0;
        for second in next.saturating_sub(WARM_UP_SECONDS)..next {
            let closed = self.close(Second(second));
            for candidate in self.score(&closed) {
                let place = candidate.symbol.index();
                self.latest[place] = Some(candidate);
            }
        }
    }

    /// Plays one second through all stages but a `stuck` one.
    pub(crate) fn step(&mut self, store: &mut Store, stuck: Option<Stage>) -> Result<(), EngineError> {
        let runs = |stage| stuck != Some(stage);
        if runs(Stage::Feed) {
            self.seconds.push(self.state.next);
            self.state.next = self.state.next.next();
        }
        if runs(Stage::Bars) {
            for second in self.seconds.take() {
                let closed = self.close(second);
                self.state.tally.bars += closed.1.iter().flatten().count() as u64;
                self.closed.push(closed);
            }
        }
        if runs(Stage::Signals) {
            for closed in self.closed.take() {
                for candidate in self.score(&closed) {
                    self.latest[candidate.symbol.index()] = Some(candidate.clone());
                    self.candidates.push(candidate);
                }
            }
        }
        if runs(Stage::Gates) {
            for candidate in self.candidates.take() {
                if let Some(order) = self.decide(&candidate) {
                    // On disk before the venue hears of it.
                    store.append(&Record::Intent(order.clone()))?;
                    self.state.tally.orders += 1;
                    self.orders.push(order);
                }
            }
        }
        if runs(Stage::Venue) {
            for order in self.orders.take() {
                self.execute(&order, store)?;
            }
        }
        self.tell_dropped();
        Ok(())
    }

    /// Saves the state, whole.
    pub(crate) fn save(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.save(&mut self.state)
    }

    fn close(&mut self, second: Second) -> Closed {
        let tape = Arc::clone(&self.tape);
        for trade in tape.trades(second) {
            self.markets[trade.symbol.index()].builder.push(second, trade);
        }
        (second, Symbol::ALL.map(|symbol| self.markets[symbol.index()].builder.close(second)))
    }

    fn score(&mut self, (second, bars): &Closed) -> Vec<Candidate> {
        let both = Symbol::ALL.into_iter().zip(bars);
        let closed = both.filter_map(|(symbol, bar)| bar.map(|bar| (symbol, bar)));
        closed.map(|(symbol, bar)| self.markets[symbol.index()].candidate(symbol, *second, bar)).collect()
    }

    fn decide(&mut self, candidate: &Candidate) -> Option<Order> {
        let symbol = candidate.symbol;
        if let Some(reason) = self.exit_reason(candidate) {
            let quantity = self.state.ledger.positions.get(&symbol)?.quantity;
            return Some(self.order(candidate, Side::Sell, quantity, reason));
        }
        let size = Usd::new(ORDER_SIZE.0, ORDER_SIZE.1);
        let verdict = {
            let mut gates = std::mem::take(&mut self.gates);
            let verdict = gates.decide(&self.situation(candidate));
            self.gates = gates;
            verdict
        };
        match verdict {
            Verdict::NoSignal(..) => None,
            Verdict::Vetoed(gate, block) => {
                self.state.tally.signals += 1;
                info!(symbol = symbol.name(), ?gate, ?block, "signal vetoed");
                None
            }
            Verdict::Passed => {
                self.state.tally.signals += 1;
                self.state.tally.passed += 1;
                let ask = self.tape.quote(symbol, candidate.second, 0)?.ask;
                let quantity = size.buys(ask, symbol.quantity_places())?;
                Some(self.order(candidate, Side::Buy, quantity, "BULL_HIGH"))
            }
        }
    }

    /// Why a held position should be sold now. No gate is asked.
    fn exit_reason(&self, candidate: &Candidate) -> Option<&'static str> {
        let position = self.state.ledger.positions.get(&candidate.symbol)?;
        if self.in_flight(candidate.symbol) {
            return None;
        }
        let bear = candidate.scored.as_ref().is_some_and(|(score, _)| score.bias() == Bias::Bear);
        let held = candidate.second.0.saturating_sub(position.opened.0);
        let moment = self.tape.moment(candidate.second);
        let other_pass = self.tape.moment(position.opened).pass != moment.pass;
        if moment.until_seam < gates::BEFORE_SEAM || other_pass {
            Some("SEAM")
        } else if bear {
            Some("BIAS_BEAR")
        } else if held >= MAX_HOLD {
            Some("MAX_HOLD")
        } else {
            None
        }
    }

    fn order(
        &mut self,
        candidate: &Candidate,
        side: Side,
        quantity: crate::units::Quantity,
        reason: &str,
    ) -> Order {
        let id = self.state.next_order;
        self.state.next_order = OrderId(id.0 + 1);
        Order {
            id,
            symbol: candidate.symbol,
            side,
            quantity,
            decided: candidate.second,
            reason: reason.to_owned(),
        }
    }

    fn execute(&mut self, order: &Order, store: &mut Store) -> Result<(), EngineError> {
        match self.venue.execute(order) {
            Outcome::Filled(fill) => {
                // A fill that the books would refuse must not get into the journal either.
                let mut books = self.state.ledger.clone();
                books.apply(&fill)?;
                store.append(&Record::Fill(fill.clone()))?;
                self.state.ledger = books;
                self.state.tally.orders_filled += 1;
                let (side, symbol) = (fill.side, fill.symbol.name());
                info!(symbol, ?side, quantity = %fill.quantity, price = %fill.price, fee = %fill.fee, reason = order.reason, "filled");
            }
            Outcome::Rejected(why) => {
                store.append(&Record::Rejected { order: order.id, why })?;
                self.state.tally.orders_rejected += 1;
                warn!(symbol = order.symbol.name(), side = ?order.side, ?why, "rejected");
            }
        }
        Ok(())
    }

    fn in_flight(&self, symbol: Symbol) -> bool {
        self.orders.entries.iter().any(|order| order.symbol == symbol)
    }

    fn situation<'a>(&self, candidate: &'a Candidate) -> Situation<'a> {
        let ledger = &self.state.ledger;
        Situation {
            moment: self.tape.moment(candidate.second),
            scored: candidate.scored.as_ref().map(|(score, reading)| (score, reading)),
            was_high: candidate.was_high,
            held: ledger.positions.contains_key(&candidate.symbol),
            in_flight: self.in_flight(candidate.symbol),
            quote: self.tape.quote(candidate.symbol, candidate.second, 0),
            cash: ledger.cash,
            equity: self.equity(),
            deposit: ledger.deposit,
            order_size: Usd::new(ORDER_SIZE.0, ORDER_SIZE.1),
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.dropped();
        if dropped > 0 && !self.told_dropped {
            self.told_dropped = true;
            warn!(
                limit = QUEUE_LIMIT,
                "a stage does not keep up: its queue is full, the oldest entries are dropped"
            );
        }
        debug!(second = self.state.next.0, dropped, "step");
    }

    /// Entries that found no room in a queue.
    pub(crate) fn dropped(&self) -> u64 {
        self.seconds.dropped + self.closed.dropped + self.candidates.dropped + self.orders.dropped
    }

    pub(crate) fn tally(&self) -> Tally {
        self.state.tally
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The second that was played last.
    pub(crate) fn last(&self) -> Second {
        Second(self.state.next.0.saturating_sub(1))
    }

    pub(crate) fn moment(&self) -> Moment {
        self.tape.moment(self.last())
    }

    pub(crate) fn closed_at(&self, second: Second) -> jiff::Timestamp {
        self.tape.closed_at(second)
    }

    pub(crate) fn equity(&self) -> Usd {
        self.state.ledger.equity(|symbol| self.bid(symbol))
    }

    /// The best bid at the close of the last second: what a sale would bring.
    pub(crate) fn bid(&self, symbol: Symbol) -> Option<Price> {
        self.tape.quote(symbol, self.last(), 0).map(|quote| quote.bid)
    }

    /// Per symbol the newest score and the block that stands in the way of a new position.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (&Candidate, Option<gates::Block>)> {
        self.latest
            .iter()
            .flatten()
            .map(|candidate| (candidate, gates::risk_context(&self.situation(candidate))))
    }

    /// Symbols in which a position could be opened, as far as the data goes: indicators warm, book fresh and
    /// narrow.
    pub(crate) fn slots(&self) -> u64 {
        let tradable = |candidate: &&Candidate| {
            let quote = self.tape.quote(candidate.symbol, self.last(), 0);
            candidate.scored.is_some() && gates::data(quote).is_ok()
        };
        self.latest.iter().flatten().filter(tradable).count() as u64
    }
}

impl Market {
    fn candidate(&mut self, symbol: Symbol, second: Second, bar: Bar) -> Candidate {
        if self.bars.len() == KEPT_BARS {
            self.bars.pop_front();
        }
        self.bars.push_back(bar);
        let reading = self.indicators.push(&bar).unwrap_or_else(|error| {
            warn!(symbol = symbol.name(), ?error, "the indicators refuse this bar");
            None
        });
        let scored = reading.map(|reading| {
            let inputs = Inputs { reading, flow: self.flow(), changes: self.changes(bar.close) };
            (Score::of(&inputs), reading)
        });
        let high = scored.as_ref().is_some_and(|(score, _)| score.is_high() && score.bias() == Bias::Bull);
        let was_high = std::mem::replace(&mut self.was_high, high);
        Candidate { symbol, second, scored, was_high }
    }

    fn flow(&self) -> Flow {
        let recent = || self.bars.iter().rev().take(FLOW_BARS);
        let all: f64 = self.bars.iter().map(|bar| bar.volume.to_f64()).sum();
        #[expect(clippy::cast_precision_loss, reason = "at most 300")]
        let share = FLOW_BARS as f64 / self.bars.len().max(1) as f64;
        Flow {
            bought: recent().map(|bar| bar.bought.to_f64()).sum(),
            volume: recent().map(|bar| bar.volume.to_f64()).sum(),
            usual: all * share,
        }
    }

    fn changes(&self, close: Price) -> [f64; HORIZONS.len()] {
        let now = close.to_f64();
        HORIZONS.map(|back| self.bars.iter().rev().nth(back).map_or(f64::NAN, |bar| now - bar.close.to_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cold() -> Engine {
        let tape = Arc::new(Tape::recorded().unwrap());
        let state = Engine::fresh(&tape);
        Engine::new(tape, state)
    }

    struct Run {
        engine: Engine,
        store: Store,
        _dir: tempfile::TempDir,
    }

    impl Run {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let tape = Arc::new(Tape::recorded().unwrap());
            let (store, recovered) = Store::open(dir.path(), Engine::fresh(&tape)).unwrap();
            let mut engine = Engine::new(tape, recovered.snapshot);
            engine.warm_up();
            Self { engine, store, _dir: dir }
        }

        fn play(&mut self, seconds: u64, stuck: Option<Stage>) {
            for _ in 0..seconds {
                self.engine.step(&mut self.store, stuck).unwrap();
                self.engine.ledger().check().unwrap();
            }
        }
    }

    #[test]
    fn before_the_warm_up_nothing_is_scored_and_after_it_every_symbol_is() {
        let mut engine = cold();
        assert_eq!((engine.slots(), engine.latest().count()), (0, 0));
        engine.warm_up();
        assert_eq!(engine.slots(), 3);
        assert!(engine.latest().all(|(candidate, _)| candidate.scored.is_some()));
        assert_eq!(engine.tally(), Tally::default(), "history is not work");
    }

    #[test]
    fn a_cold_market_is_blocked_by_warmup_only() {
        let mut run = Run::new();
        run.engine = cold();
        run.play(50, None);
        let (gate, tally) = run.engine.gates().tallies().next().unwrap();
        let bars = run.engine.tally().bars;
        assert!(bars > 100);
        assert_eq!((gate, tally.passed, tally.evaluated), (gates::Gate::WarmUp, 0, bars));
        assert_eq!(tally.blocked[&gates::Block::WarmUp], bars);
    }

    /// Two passes over the real tape, at the default settings: trades happen, each pass ends flat, and only
    /// fees and spread are paid.
    #[test]
    fn the_recorded_market_is_traded() {
        let mut run = Run::new();
        let mut flat_at_seam = 0;
        for _ in 0..2 * 184 {
            run.play(1, None);
            if run.engine.moment().until_seam == 0 {
                assert!(run.engine.ledger().positions.is_empty(), "nothing is carried over the seam");
                flat_at_seam += 1;
            }
        }
        let tally = run.engine.tally();
        assert_eq!((flat_at_seam, tally.bars), (2, 2 * 184 * 3));
        assert!(tally.orders_filled >= 6, "{tally:?}");
        assert!(
            tally.signals >= tally.passed && tally.orders == tally.orders_filled + tally.orders_rejected,
            "{tally:?}"
        );
        let conviction: std::collections::BTreeMap<_, _> = run.engine.gates().tallies().collect();
        let blocked = &conviction[&gates::Gate::Conviction].blocked;
        assert!(blocked[&gates::Block::NotNew] > 0, "a signal is an event, not a state: {blocked:?}");
    }

    #[test]
    fn what_is_held_is_sold_for_the_first_reason_there_is() {
        let mut engine = cold();
        let second = Second(2 * 184 + 100);
        let exit = |engine: &mut Engine, opened: u64, at: Second| {
            let (quantity, cost) = (crate::units::Quantity::new(1, 5), Usd::new(1, 0));
            let position = crate::ledger::Position { quantity, cost, opened: Second(opened) };
            engine.state.ledger.positions.insert(Symbol::Btc, position);
            engine.exit_reason(&Candidate { symbol: Symbol::Btc, second: at, scored: None, was_high: false })
        };
        assert_eq!(exit(&mut engine, second.0 - 59, second), None);
        assert_eq!(exit(&mut engine, second.0 - 60, second), Some("MAX_HOLD"));
        assert_eq!(exit(&mut engine, second.0 - 60, Second(3 * 184 - 5)), Some("SEAM"));
        assert_eq!(
            exit(&mut engine, 2 * 184 - 10, Second(2 * 184 + 30)),
            Some("SEAM"),
            "bought in another pass"
        );
        let other = Candidate { symbol: Symbol::Eth, second, scored: None, was_high: false };
        assert_eq!(engine.exit_reason(&other), None);
    }

    #[test]
    fn the_same_tape_gives_the_same_trades() {
        let (mut a, mut b) = (Run::new(), Run::new());
        a.play(200, None);
        b.play(200, None);
        assert_eq!(a.engine.ledger(), b.engine.ledger());
        assert!(a.engine.ledger().fills > 0);
    }

    #[test]
    fn a_restart_goes_on_with_the_same_trades() {
        let (mut straight, mut broken) = (Run::new(), Run::new());
        straight.play(250, None);
        for _ in 0..5 {
            broken.play(50, None);
            // Nothing but the saved state survives.
            let state = broken.engine.state.clone();
            broken.engine = Engine::new(Arc::new(Tape::recorded().unwrap()), state);
            broken.engine.warm_up();
        }
        assert_eq!(straight.engine.ledger(), broken.engine.ledger());
        assert_eq!(straight.engine.tally(), broken.engine.tally());
    }

    #[test]
    fn a_stuck_stage_stops_what_is_behind_it_and_nothing_before_it() {
        let order = [Stage::Feed, Stage::Bars, Stage::Signals, Stage::Gates, Stage::Venue];
        for (at, stuck) in order.into_iter().enumerate() {
            let mut run = Run::new();
            run.play(184, Some(stuck));
            let tally = run.engine.tally();
            assert_eq!(tally.bars > 0, at > 1, "{stuck:?}");
            assert_eq!(tally.orders > 0, at > 3, "{stuck:?}");
            assert_eq!(tally.orders_filled, 0, "{stuck:?}");
            assert!(run.engine.seconds.entries.len() <= QUEUE_LIMIT);
            assert_eq!(run.engine.dropped() > 0, (1..4).contains(&at), "{stuck:?}");
        }
    }

    #[test]
    fn a_stage_has_a_name() {
        assert_eq!("venue".parse(), Ok(Stage::Venue));
        let error = "vennue".parse::<Stage>().unwrap_err();
        assert_eq!(error, "no stage is called `vennue`; there are feed, bars, signals, gates, venue");
    }
}
