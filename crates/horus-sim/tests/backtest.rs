//! The two incidents that define Horus, as they were recorded, against other thresholds.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken test rig has to fail loudly"
)]

#[path = "backtest/generate.rs"]
mod generate;
#[path = "backtest/incidents.rs"]
mod incidents;
#[path = "backtest/model.rs"]
mod model;
