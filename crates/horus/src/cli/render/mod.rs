//! What people see. Pure: data in, text out; nothing here prints, asks the time or knows the terminal.

pub(crate) mod check;
pub(crate) mod drill;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod incident;
pub(crate) mod live;
pub(crate) mod postmortem;
pub(crate) mod preview;
pub(crate) mod selftest;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod text;

#[cfg(test)]
mod tests;
