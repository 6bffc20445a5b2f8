//! Programs that are well: at work, at rest, slow, or without a loop. None is ever accused.

use std::time::Duration;

use horus_probe::sampler::view::Word;

use crate::bench::{Bench, DEADLINE};
use crate::subject::Subject;

fn is_well(subject: &Subject) {
    Bench::of(subject).stays_well(DEADLINE * 3);
}

fn is_no_loop(subject: &Subject) {
    let mut bench = Bench::of(subject);
    let told = bench.watch_for(DEADLINE * 3);
    assert!(told.iter().all(|word| matches!(word, Word::Learning | Word::NoLoop)), "{told:?}");
    bench.wait_for(Word::NoLoop);
}

#[test]
fn healthy_idle_and_busy_loops_of_c_are_alive() {
    for mode in ["healthy", "idle", "busy", "accepting"] {
        let Some(subject) = Subject::c(mode) else { return };
        is_well(&subject);
    }
}

#[test]
fn healthy_and_idle_loops_of_asyncio_are_alive() {
    for mode in ["healthy", "idle"] {
        let Some(subject) = Subject::python(mode) else { return };
        is_well(&subject);
    }
}

#[test]
fn a_slow_loop_is_at_most_suspected() {
    let Some(subject) = Subject::python("slow") else { return };
    let told = Bench::of(&subject).watch_for(DEADLINE * 4);
    assert!(!told.iter().any(|word| word.is_death()), "{told:?}");
}

#[test]
fn loops_of_node_and_tokio_are_alive() {
    let subjects = [Subject::node("healthy"), Some(Subject::tokio("healthy"))];
    for subject in subjects.into_iter().flatten() {
        is_well(&subject);
    }
}

#[test]
fn threads_of_go_that_rest_beside_a_goroutine_that_computes_are_well() {
    let Some(mut subject) = Subject::go_program() else { return };
    let mut bench = Bench::of(&subject);
    bench.learn();
    subject.go();
    subject.wait_for("spins");
    assert_eq!(bench.watch_for(DEADLINE * 6), [Word::Alive]);
}

#[test]
fn of_programs_without_a_loop_there_is_no_opinion() {
    for mode in ["batch-sleep", "batch-compute"] {
        let Some(subject) = Subject::c(mode) else { return };
        is_no_loop(&subject);
    }
    let Some(subject) = Subject::python("batch") else { return };
    is_no_loop(&subject);
}

#[test]
fn a_process_that_ended_is_gone_and_stays_gone() {
    let Some(mut subject) = Subject::c("healthy") else { return };
    let mut bench = Bench::of(&subject);
    bench.learn();
    subject.child.kill().unwrap();
    bench.wait_for(Word::Gone);
    subject.child.wait().unwrap();
    assert_eq!(bench.watch_for(Duration::from_millis(500)), [Word::Gone]);
}

#[test]
fn a_sampler_that_was_away_itself_accuses_nobody() {
    let Some(mut subject) = Subject::c("pipe") else { return };
    let mut bench = Bench::of(&subject);
    bench.learn();
    subject.go();
    subject.wait_for("ill");
    #[expect(clippy::disallowed_methods, reason = "this is the absence")]
    std::thread::sleep(DEADLINE * 2);
    let view = bench.tick();
    assert!(!view.word.is_death(), "{view:?}");
    assert!(bench.wait_for(Word::Blocked).lasted < DEADLINE * 2);
}
