//! `horus sample`: a program to be drilled on. It beats, hangs when it is told to, and ends when it is told to.
//!
//! SIGUSR1: it hangs, for good, in a call that nobody answers. SIGUSR2: it ends with code 1. It says of itself what it is, so
//! that nobody sends these signals to a program that would die of them.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use horus_sys::notify::NotifySocket;
use horus_sys::process::{ProcessId, is_alive};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::args::SampleArgs;
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;

/// What it says of itself.
pub(super) const SAID: &str = "a sample for horus drill";

/// It beats this often.
const BEAT_EVERY: Duration = Duration::from_millis(100);

/// It looks this often whether the drill that it is for goes on.
const LOOKS_EVERY: u32 = 10;

/// The body of `horus sample`.
///
/// # Errors
/// Nothing listens for its beats, or signals cannot be had.
pub(crate) async fn sample(args: &SampleArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let unusable = |what: &'static str| {
        move |error: std::io::Error| {
            Fault::new(ExitStatus::Failed, what, "it is started by horus, with `heartbeat.notify = true`")
                .because(&error)
        }
    };
    let address = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let socket = NotifySocket::open(&address).map_err(unusable("the sample has nobody to beat to"))?;
    let mut hang = signal(SignalKind::user_defined1()).map_err(unusable("no signals"))?;
    let mut end = signal(SignalKind::user_defined2()).map_err(unusable("no signals"))?;
    let _ = socket.send(&format!("READY=1\nSTATUS={SAID}"));
    output.data("the sample runs\n")?;
    let mut beats = interval(BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut beat = 0_u32;
    loop {
        tokio::select! {
            _ = beats.tick() => {
                // A full queue: the next one is on its way.
                let _ = socket.send("WATCHDOG=1");
                beat = beat.wrapping_add(1);
                if beat.is_multiple_of(LOOKS_EVERY) && !is_wanted(args) {
                    return Ok(ExitStatus::Done);
                }
            }
            _ = hang.recv() => {
                output.data("the sample hangs now\n")?;
                for_ever().map_err(unusable("the sample cannot hang"))?;
            }
            _ = end.recv() => {
                output.data("the sample ends now\n")?;
                return Ok(ExitStatus::Failed);
            }
        }
    }
}

/// Does whoever drills still live? Without one it is somebody's service.
fn is_wanted(args: &SampleArgs) -> bool {
    let (Some(pid), Some(start_time)) = (args.drill_pid, args.drill_start) else { return true };
    is_alive(&ProcessId { pid, start_time })
}

/// Blocks the only thread, on a socket whose other end is our own and says nothing.
fn for_ever() -> std::io::Result<()> {
    let (ours, _silent) = UnixDatagram::pair()?;
    let mut nothing = [0; 1];
    loop {
        ours.recv(&mut nothing)?;
    }
}
