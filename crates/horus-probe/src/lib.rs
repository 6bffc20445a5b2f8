//! The senses: each concurrent, each with its own deadline, so that one black hole delays no other.
//!
//! ```text
//!   plan ──> Senses ──┬─ http ──── one task per source, own connection, own timeout
//!                     ├─ notify ── one socket per service, sender checked, floods merged     bounded channel
//!                     ├─ file ──┐                                                         ──────────────────> engine
//!                     ├─ log  ──┼─ blocking looks, one at a time, beside the runtime           observations
//!                     ├─ exec ──┘
//!                     ├─ tcp
//!                     ├─ counters (a page of Prometheus, any JSON: no sign of life)
//!                     └─ monitors (the same probes, up or down)
//!   HostWatch ── what the machine does to everybody: sleep, set clocks, pressure; can Horus ask at all
//!   activity ── what it prints, uses and moves, counted from outside: weak signs of life
//!   Sampler ── what the kernel says of every process, every second, for next to nothing
//!   EvidenceRoom ── what the kernel says of a process that is silent, before anything is touched
//! ```
//!
//! A probe yields observations and never decides. Its words for a fault ([`horus_core::observation::ProbeFault`]) keep
//! apart what must not be confused: Horus cannot look, there is no path, somebody else answered, nobody answered.
//! Everything a probe takes in has a limit, all of them in [`limits`].
//!
//! Rejected: one loop that polls all sources in turn (one black hole delays all), and a pool of workers (a slow
//! service's polls would queue behind each other's).
#![forbid(unsafe_code)]

pub mod limits;

pub mod activity;
mod beat;
mod beat_json;
mod blocking;
pub mod capture;
mod counted;
mod exec;
mod exposition;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod host;
mod http;
mod https;
mod log;
mod monitor;
mod notify;
mod outlet;
mod pace;
pub mod sampler;
mod senses;
mod sign;
mod target;
mod task;
mod tcp;
mod text;

pub use capture::{CaptureRequest, Change, EvidenceRoom};
pub use host::{ClockWatch, HostWatch};
pub use notify::NotifyError;
pub use outlet::Counts;
pub use pace::Draws;
pub use senses::Senses;
