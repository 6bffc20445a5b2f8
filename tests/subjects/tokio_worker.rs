//! A program on tokio with three workers, by `horus-heartbeat`: its main task ticks and each worker is looked at.
//!
//!     tokio-worker --triggers FOLDER --kept FILE
//!
//! `block`: one task sits in a synchronous wait for ever, and the worker under it; the others go on. When it is asked to stop it takes a second to
//! put its things in order, and leaves what it kept in the file.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use horus_heartbeat::Beat;
use horus_tests::subject::{Options, Triggers, leave};

const TURN: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build()?;
    runtime.block_on(work())?;
    // A worker that is stuck is not waited for.
    runtime.shutdown_background();
    Ok(())
}

async fn work() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let kept = options.text("--kept").map(PathBuf::from).unwrap_or_default();
    let beat = Beat::from_env();
    let _beating = beat.attach().map_err(io::Error::other)?;
    let _workers = beat.watch_workers().map_err(io::Error::other)?;
    let mut drain = beat.drain_within(Duration::from_secs(8))?;
    let turns = beat.counter("turns");
    beat.ready();
    let turning = async {
        loop {
            tokio::time::sleep(TURN).await;
            turns.increment();
            beat.tick();
            if triggers.strikes("block") {
                tokio::spawn(async {
                    let (_never, blocked) = std::sync::mpsc::channel::<()>();
                    let _ = blocked.recv_timeout(Duration::from_secs(3600));
                });
            }
        }
    };
    tokio::select! {
        () = turning => {}
        draining = drain.asked() => {
            let put_in_order = tokio::time::sleep(Duration::from_secs(1));
            let in_time = draining.run(put_in_order).await.is_some();
            leave(&kept, &format!("kept {} turns, in time: {in_time}", turns.get()))?;
        }
    }
    Ok(())
}
