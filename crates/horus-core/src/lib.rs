//! The judge of Horus: what is done to a supervised program, decided by a pure state machine.
//!
//! ```text
//!   observations --> Engine::step(now, input) --> commands
//! ```
//!
//! Nothing in this crate does I/O, reads a clock or starts a thread; the same inputs give the same commands, so a week
//! replays in milliseconds. Read it in this order:
//!
//! - [`observation`]: what the world tells; [`command`]: what is asked of it; [`event`]: what is written down.
//! - [`transition`]: the table of all phases and triggers. `service` holds what a service is,
//!   `lifecycle` carries out the steps, `look` does what is due.
//! - `judge`: from the age of the last fresh tick to a decision; `beats`: what that age is measured on; `spell`: one
//!   silence; `veto`: what forbids a restart; `sentence`: from the decision to the signal.
//! - `own_word`: a program that says itself that it hangs.
//! - [`ledger`]: exits and kills, backoff and breaker; `deaths`: patterns in them, recovery and proof.
//! - `value`, `usefulness`: alive is not the same as useful. [`metric`]: counters that are read beside the beats.
//! - `memory`: what survives a restart of Horus; `retune`: the plan changes under what runs.
//! - `incidents`, [`notice`]: one fault from first sign to end, and what a person is told of it.
//! - [`engine`]: the one place that holds it all. `report` computes [`status`] from it.
#![forbid(unsafe_code)]

pub mod activity;
pub mod agent;
mod beats;
mod bell;
pub mod calendar;
pub mod command;
mod deaths;
pub mod decision;
pub mod detectors;
pub mod digest;
pub mod engine;
pub mod event;
pub mod exclusive;
pub mod explain;
pub mod foreign;
pub mod guard;
pub mod host;
pub mod ids;
mod incidents;
pub mod jobs;
mod judge;
pub mod ledger;
mod lifecycle;
mod look;
mod maintenance;
mod memory;
pub mod metric;
mod monitors;
pub mod notice;
pub mod observation;
mod operator;
pub mod outbox;
mod own_word;
pub mod plan;
pub mod proof;
mod random;
pub mod reason;
pub mod record;
mod report;
mod retune;
mod sentence;
mod service;
mod silence;
mod spell;
pub mod stalls;
pub mod status;
pub mod steps;
pub mod time;
pub mod transition;
pub mod tree;
mod turn;
mod usefulness;
mod value;
pub mod verdict;
mod veto;
mod view;

pub use engine::{Engine, Remembered};
