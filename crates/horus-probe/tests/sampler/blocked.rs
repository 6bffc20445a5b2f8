//! Loops that do not turn any more, each in its own way.

use std::net::TcpListener;

use horus_probe::sampler::view::{View, Word};

use crate::bench::{Bench, DEADLINE};
use crate::subject::Subject;

/// Learns the subject while it is well, lets it fall ill, and waits for the word.
fn falls_ill(mut subject: Subject, word: Word) -> View {
    let mut bench = Bench::of(&subject);
    bench.learn();
    let told = bench.words();
    assert!(!told.iter().any(|word| word.is_death()), "{told:?}");
    subject.go();
    let view = bench.wait_for(word);
    let told = bench.words();
    let earlier = told.iter().filter(|told| told.is_death() && **told != word);
    assert_eq!(earlier.count(), 0, "{told:?}");
    if word.is_death() {
        assert!(view.lasted >= DEADLINE && view.is_proof(), "{view:?}");
    }
    view
}

fn is_blocked_in(subject: Subject, names: &[&str]) -> View {
    let view = falls_ill(subject, Word::Blocked);
    let name = view.place.as_ref().unwrap().call.name().unwrap();
    assert!(names.contains(&name), "{view}");
    assert!(view.whose.unwrap().main, "{view}");
    view
}

#[test]
fn a_loop_of_c_is_blocked_in_the_call_where_it_is() {
    for (mode, call) in [
        ("lock", "futex"),
        ("pipe", "read"),
        ("pause", "pause"),
        ("sleep", "clock_nanosleep"),
        ("nested", "epoll_wait"),
    ] {
        let Some(subject) = Subject::c(mode) else { return };
        let view = is_blocked_in(subject, &[call, "ppoll", "epoll_pwait", "nanosleep"]);
        if mode == "pipe" {
            assert!(view.to_string().starts_with("blocked in read from a pipe (descriptor "), "{view}");
        }
    }
}

#[test]
fn a_loop_of_asyncio_in_a_receive_is_told_with_its_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let Some(subject) = Subject::python_with("recv", &address) else { return };
    let view = is_blocked_in(subject, &["recvfrom"]);
    assert!(view.to_string().starts_with(&format!("blocked in recvfrom from {address} for ")), "{view}");
}

#[test]
fn a_helper_thread_that_beats_on_hides_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let Some(subject) = Subject::python_with("liar", &address) else { return };
    let view = is_blocked_in(subject, &["recvfrom"]);
    assert!(view.to_string().contains(&address), "{view}");
}

#[test]
fn a_loop_of_asyncio_is_blocked_in_a_lock_a_sleep_a_child_or_a_full_pipe() {
    for (mode, calls) in [
        ("lock", &["futex"] as &[&str]),
        ("sleep", &["clock_nanosleep", "nanosleep", "select", "pselect6"]),
        ("child", &["wait4", "waitid"]),
        ("pipe", &["write"]),
    ] {
        let Some(subject) = Subject::python(mode) else { return };
        is_blocked_in(subject, calls);
    }
}

#[test]
fn a_loop_of_node_is_blocked_in_a_wait_and_in_a_child() {
    for mode in ["atomics", "exec"] {
        let Some(subject) = Subject::node(mode) else { return };
        falls_ill(subject, Word::Blocked);
    }
}

#[test]
fn a_worker_and_a_single_thread_of_tokio_block_their_runtime() {
    for mode in ["current-recv", "recv"] {
        falls_ill(Subject::tokio(mode), Word::Blocked);
    }
}

#[test]
fn loops_that_compute_for_ever_spin() {
    let subjects = [Subject::c("spin"), Subject::python("busy"), Subject::node("busy")];
    for subject in subjects.into_iter().flatten() {
        let view = falls_ill(subject, Word::Spinning);
        assert!(view.cpu >= DEADLINE, "{view:?}");
    }
}

#[test]
fn a_server_that_does_not_accept_any_more_is_undrained() {
    let Some(mut subject) = Subject::c("undrained") else { return };
    // It said its port before it was ready, and `Subject` has read both lines: ask the kernel for it.
    let port = listening_port(&subject);
    let mut bench = Bench::of(&subject);
    bench.learn();
    subject.go();
    subject.wait_for("ill");
    let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let view = bench.wait_for(Word::Undrained);
    assert!(view.to_string().contains("accepts none of 1 connections"), "{view}");
}

#[test]
fn bytes_that_a_loop_asks_for_and_leaves_are_undrained() {
    let Some(subject) = Subject::c("unread") else { return };
    let mut client = std::net::TcpStream::connect(("127.0.0.1", listening_port(&subject))).unwrap();
    let mut bench = Bench::of(&subject);
    bench.learn();
    std::io::Write::write_all(
        &mut client,
        b"four score bytes and more than one read of eight of them can take",
    )
    .unwrap();
    // It reads eight bytes per turn of its loop: that is drained, and nobody is accused.
    let words = bench.watch_for(DEADLINE * 2);
    assert!(!words.contains(&Word::Undrained), "{words:?}");
}

fn listening_port(subject: &Subject) -> u16 {
    let sockets = horus_sys::facts::sockets(subject.id().pid).known().unwrap();
    let listener = sockets.iter().find(|socket| socket.state == "LISTEN").unwrap();
    listener.local.rsplit_once(':').unwrap().1.parse().unwrap()
}
