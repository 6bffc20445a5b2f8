//! The pushed beat: sd_notify datagrams, the protocol of systemd, so a program that speaks it works under
//! either.
//!
//! Written here, not taken from the `sd-notify` crate: that one reads the environment on every call and sends
//! on a blocking socket, and a watchdog whose receiver is stuck must never be what hangs the program.

use std::fmt::Write as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::report::{Report, State};

/// How often to push when `WATCHDOG_USEC` is not set.
const DEFAULT_EVERY: Duration = Duration::from_secs(1);

const FASTEST: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    pub(crate) every: Duration,
    dropped: AtomicU64,
}

impl Notifier {
    pub(crate) fn from_env() -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let for_us = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let limit = std::env::var("WATCHDOG_USEC").ok().filter(|_| for_us).and_then(|us| us.parse().ok());
        Self::at(PathBuf::from(path), limit.map_or(DEFAULT_EVERY, |us| Duration::from_micros(us) / 2))
    }

    /// `None` when there is no such address or no socket to be had: a program must start without its watchdog
    /// too.
    pub(crate) fn at(path: PathBuf, every: Duration) -> Option<Self> {
        let address = address(path)?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        let every = every.clamp(FASTEST, SLOWEST);
        Some(Self { socket, address, every, dropped: AtomicU64::new(0) })
    }

    /// Sends or drops; never waits.
    pub(crate) fn send(&self, text: &str) {
        if self.socket.send_to_addr(text.as_bytes(), &self.address).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(target_os = "linux")]
fn address(path: PathBuf) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(path).ok(),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(path: PathBuf) -> Option<SocketAddr> {
    SocketAddr::from_pathname(path).ok()
}

/// The periodic datagram. `vouched` adds the `WATCHDOG=1` that keeps the program alive.
pub(crate) fn beat_datagram(report: &Report, vouched: bool) -> String {
    let mut text = String::with_capacity(128);
    if vouched {
        text.push_str("WATCHDOG=1\n");
    }
    // Writing into a String cannot fail.
    let _ = writeln!(text, "X_HORUS_SEQ={}", report.seq);
    if let Some(lag_ms) = report.loop_lag_ms {
        let _ = writeln!(text, "X_HORUS_LAG_MS={lag_ms:.1}");
    }
    let state = match report.state {
        State::Ok => "ok",
        State::Busy => "busy",
        State::Idle => "idle",
        State::Halted => "halted",
    };
    let _ = writeln!(text, "X_HORUS_STATE={state}");
    if let Some(until_ms) = report.busy_until_ms {
        let _ = writeln!(text, "X_HORUS_BUSY_UNTIL_MS={until_ms}");
    }
    for (name, value) in &report.progress {
        let key = if report.gauges.contains(name) { "X_HORUS_GAUGE" } else { "X_HORUS_PROGRESS" };
        let _ = writeln!(text, "{key}={name}:{value}");
    }
    text
}
