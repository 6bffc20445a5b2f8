//! What the subjects are made of: a beat, a command line, triggers, a family.

mod beat;
pub mod family;
mod options;

pub use beat::{Beat, TURN, rest};
pub use options::{Options, Triggers, leave};
