//! An old keeper meets a new Horus, or the other way round; and whoever only looks disturbs nobody.

use crate::support::{Place, exe, until};
use horus_keeper::protocol::{Event, PROTOCOLS, SlotState};
use horus_keeper::{AttachError, attach, observe};
use horus_sys::lock::FileLock;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};

/// Somebody who holds the lock and says this to whoever connects.
fn stand_in(place: &Place, line: &'static str) -> (FileLock, std::thread::JoinHandle<()>) {
    let directory = place.directory();
    let lock = FileLock::try_acquire(&directory.lock(), "horus keep").unwrap();
    let listener = UnixListener::bind(directory.socket()).unwrap();
    let speaking = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
    });
    (lock, speaking)
}

fn greeted_by(line: &'static str) -> Result<horus_keeper::Attached, AttachError> {
    let place = Place::new();
    let (_lock, speaking) = stand_in(&place, line);
    let result = attach(&place.run, exe(), None);
    speaking.join().unwrap();
    result
}

#[test]
fn a_keeper_of_a_language_of_tomorrow_is_refused_by_name_and_lives_on() {
    // Its slots and states mean nothing to us; the head of the line still does.
    let error = greeted_by(
        r#"{"event":"hello","protocol":7,"protocols":{"oldest":7,"newest":9},"keeper_version":"9.1.0",
        "process":{"pid":4711,"start_time":1},"slots":{"bot":{"floating":true}}}"#
            .replace('\n', " ")
            .leak(),
    )
    .unwrap_err();
    let AttachError::Protocol { theirs, version, process } = &error else { panic!("{error}") };
    assert_eq!((theirs.to_string().as_str(), version.as_str(), process.pid), ("7 to 9", "9.1.0", 4711));
    assert!(error.to_string().contains("the services go on unwatched"), "{error}");
}

#[test]
fn a_keeper_that_also_speaks_ours_is_understood_and_so_is_an_old_one() {
    let newest = greeted_by(
        r#"{"event":"hello","protocol":1,"protocols":{"oldest":1,"newest":9},"keeper_version":"9.1.0","novelty":[1],"process":{"pid":4711,"start_time":1},"cgroup":false,"slots":[]}"#,
    )
    .unwrap();
    assert_eq!(newest.hello.protocols.and_then(|theirs| theirs.common(PROTOCOLS)), Some(1));
    // As the first keepers spoke: without any range.
    let oldest = greeted_by(
        r#"{"event":"hello","protocol":1,"keeper_version":"0.1.0","process":{"pid":4711,"start_time":1},"cgroup":false,"slots":[{"slot":"bot","generation":3,"state":"empty","adopted":false}]}"#,
    )
    .unwrap();
    assert_eq!(oldest.hello.slots[0].state, SlotState::Empty);
    assert_eq!((oldest.hello.formats.len(), oldest.hello.unreadable.len()), (0, 0));
}

#[test]
fn whoever_talks_but_is_no_keeper_is_not_taken_for_a_hung_one() {
    for line in [r#"{"hello":"world"}"#, "HTTP/1.1 400 Bad Request", r#"{"event":"pong","token":1}"#] {
        let error = greeted_by(line).unwrap_err();
        assert!(matches!(error, AttachError::Strange(_)), "{error}");
    }
}

#[test]
fn whoever_looks_gets_a_hello_and_disturbs_nobody() {
    let place = Place::new();
    assert!(observe(&place.run).is_err(), "there is nobody to look at, and nobody is started");
    let mut client = place.attach();
    let process = client.run(place.shell("bot", 4, "exec sleep 1000"));
    // Some connect and never read: the keeper keeps no more than a few of them, and those not for long.
    let idlers: Vec<UnixStream> =
        (0..50).map(|_| UnixStream::connect(place.directory().view_socket()).unwrap()).collect();
    let hello = until("a look", || observe(&place.run).ok());
    assert_eq!(hello.process, client.hello.process);
    assert_eq!(hello.slots[0].state, SlotState::Running(process));
    assert_eq!(hello.protocols, Some(PROTOCOLS));
    assert_eq!(hello.formats, horus_keeper::slots::formats());
    assert_eq!(hello.executable.as_deref(), exe().to_str());
    assert_eq!(client.so_far(), [], "the client was not replaced");
    drop(idlers);
    assert_eq!(client.kill_tree("bot", 4), 1);
    assert!(matches!(client.exited("bot"), Event::Exited { .. }));
}
