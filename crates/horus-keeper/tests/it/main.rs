//! The keeper with real processes. Each test has its own run directory and leaves no process behind.

mod adoption;
mod crash_windows;
mod measures;
mod output;
mod protocol;
mod starting;
mod support;
mod torture;
mod trees;
