//! The file that `horus init` writes.

/// A commented `watchdog.toml` that works as it stands and has no faults.
pub fn starter() -> &'static str {
    include_str!("starter.toml")
}
