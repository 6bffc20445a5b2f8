//! Every target, run for some seconds with random bytes. A failure prints the input and `BOLERO_RANDOM_SEED=`, with
//! which it fails again; `cargo xtask fuzz` runs the same targets for longer.

use std::time::Duration;

use bolero::check;
use horus_fuzz::{
    capture, config, counters, engine, heartbeat, journal, keeper, notify, proc_text, recording,
};

/// How long each target is tried in an ordinary test run.
const TEST_TIME: Duration = Duration::from_secs(2);

/// How long a failing input is made smaller.
const SHRINK_TIME: Duration = Duration::from_secs(2);

/// Longest input, in bytes: long enough for a life of the engine.
const BYTES_MAX: usize = 2_048;

macro_rules! targets {
    ($($name:ident => $check:path;)+) => {
        $(#[test]
        fn $name() {
            check!()
                .with_test_time(TEST_TIME)
                .with_shrink_time(SHRINK_TIME)
                .with_max_len(BYTES_MAX)
                .for_each(|bytes: &[u8]| $check(bytes));
        })+
    };
}

targets! {
    capture_bytes => capture::check_bytes;
    capture_file => capture::check_file;
    config_bytes => config::check_bytes;
    config_edited => config::check_edited;
    notify_bytes => notify::check_bytes;
    notify_edited => notify::check_edited;
    proc_bytes => proc_text::check_bytes;
    proc_edited => proc_text::check_edited;
    counters_bytes => counters::check_bytes;
    counters_edited => counters::check_edited;
    heartbeat_bytes => heartbeat::check_bytes;
    heartbeat_edited => heartbeat::check_edited;
    journal_rows => journal::check_rows;
    journal_what => journal::check_what;
    journal_edited => journal::check_edited;
    journal_restored => journal::check_restored;
    recording_bytes => recording::check_bytes;
    recording_edited => recording::check_edited;
    recording_dreamed => recording::check_dreamed;
    keeper_lines => keeper::check_line;
    keeper_edited => keeper::check_edited;
    keeper_dreamed => keeper::check_dreamed;
    keeper_records => keeper::check_records;
    keeper_edited_records => keeper::check_edited_records;
    engine_life => engine::check_life;
}

#[test]
fn capture_bent() {
    check!().with_type::<(u8, Vec<(u16, u64)>)>().with_test_time(TEST_TIME).for_each(capture::check_bent);
}

#[test]
fn capture_bent_file() {
    check!()
        .with_type::<(Vec<(u16, u8)>, Vec<u8>)>()
        .with_test_time(TEST_TIME)
        .for_each(capture::check_bent_file);
}

#[test]
fn config_written() {
    check!().with_type::<config::Written>().with_test_time(TEST_TIME).for_each(config::check_written);
}

#[test]
fn notify_lines() {
    check!()
        .with_type::<Vec<notify::Line>>()
        .with_test_time(TEST_TIME)
        .for_each(|lines| notify::check_lines(lines));
}

#[test]
fn proc_mappings() {
    check!()
        .with_type::<Vec<proc_text::Mapping>>()
        .with_test_time(TEST_TIME)
        .for_each(|mappings| proc_text::check_mappings(mappings));
}

#[test]
fn proc_place() {
    check!().with_type::<proc_text::Place>().with_test_time(TEST_TIME).for_each(proc_text::check_place);
}
