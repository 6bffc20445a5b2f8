//! The judge of Horus. (Overview follows with the engine.)
#![forbid(unsafe_code)]

pub mod command;
pub mod event;
pub mod ids;
pub mod notice;
pub mod observation;
pub mod outbox;
pub mod plan;
pub mod reason;
pub mod record;
pub mod status;
pub mod time;
pub mod verdict;
