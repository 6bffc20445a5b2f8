//! The judge in simulated worlds.
//!
//! Everything here drives the *same* engine that the daemon runs, and none of it touches a process:
//!
//! - [`recording`]: inputs with their instants in a file; [`replay`] steps through one, forwards and back.
//! - `world`, `invariants`, `swarm`: a seed makes programs, a host and people that misbehave; the guarantees are checked after every step.
//! - [`scenario`]: a timeline in TOML goes in, one line for each transition comes out.
//! - [`backtest`]: recorded observations against another plan; [`tune`]: thresholds out of recorded distributions.
//! - [`selftest`]: fires every rule once and names those that did not fire.
#![forbid(unsafe_code)]

pub mod backtest;
mod host;
pub mod invariants;
mod people;
mod programs;
pub mod recording;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod selftest;
pub mod swarm;
pub mod tune;
pub mod world;
