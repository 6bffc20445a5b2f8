//! Its loop dies when told to; a side thread goes on to answer 200 with the tick standing still.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use horus_tests::subject::{Beat, Options, TURN, Triggers, rest};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let mut beat = Beat::at(options.port())?;
    let turns = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&turns);
    std::thread::spawn(move || {
        loop {
            beat.seq = seen.load(Ordering::Relaxed);
            beat.answer();
            rest(TURN);
        }
    });
    loop {
        turns.fetch_add(1, Ordering::Relaxed);
        rest(TURN);
        if triggers.strikes("hang") {
            std::thread::park();
            // A park may end by itself.
            loop {
                std::thread::park();
            }
        }
    }
}
