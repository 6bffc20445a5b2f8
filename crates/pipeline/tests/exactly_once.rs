//! Killed at any boundary and started again, the pipeline publishes exactly once.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use pipeline::stop_at::{Boundary, VARIABLE};
use support::{LONG_SLOT, Place, Running, names_in};

/// Starts the pipeline and kills it where it stands at `boundary`. False when it never gets there and ends by itself.
fn kill_at(place: &Place, verb: &str, boundary: Boundary) -> bool {
    let mut command = place.command(verb, LONG_SLOT);
    if verb == "run" {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.env(VARIABLE, boundary.name()).env("RUST_LOG", "off");
    let mut running = Running::start(command);
    if verb == "once" {
        let Some(line) = running.next_event() else { return false };
        assert!(line.starts_with("stopped at") || line.contains("was published before"), "{line}");
        if !line.starts_with("stopped at") {
            return false;
        }
    } else {
        running.wait_for(&format!("stopped at {}", boundary.name()));
    }
    running.kill();
    true
}

#[track_caller]
fn assert_published_once(place: &Place, story: &str) {
    let articles = place.files("content");
    assert_eq!(articles.len(), 1, "{story}: {articles:?}");
    assert!(articles[0].ends_with(".md") && !articles[0].starts_with('.'), "{story}: {articles:?}");
    let page = articles[0].replace(".md", ".html");
    assert_eq!(place.files("site"), [page.as_str(), "feed.xml", "index.html"], "{story}");
    let feed = std::fs::read_to_string(place.path("out/site/feed.xml")).unwrap();
    assert_eq!(feed.matches("<entry>").count(), 1, "{story}");
    let index = std::fs::read_to_string(place.path("out/site/index.html")).unwrap();
    assert_eq!(index.matches("<li>").count(), 1, "{story}");
    assert_eq!(names_in(&place.path("out")), [".pipeline.lock", "content", "site"], "{story}");
}

#[test]
fn killed_at_each_boundary_and_started_again() {
    for boundary in Boundary::ALL {
        let place = Place::new();
        assert!(kill_at(&place, "run", boundary), "{boundary:?} is reached");
        for _ in 0..2 {
            let output = place.once();
            assert!(output.status.success(), "{boundary:?}: {}", String::from_utf8_lossy(&output.stderr));
            assert_published_once(&place, boundary.name());
        }
    }
}

#[test]
fn killed_at_two_boundaries_one_after_the_other() {
    let publishing = &Boundary::ALL[4..];
    for first in publishing {
        for second in publishing {
            let place = Place::new();
            assert!(kill_at(&place, "once", *first));
            let again = kill_at(&place, "once", *second);
            assert!(place.once().status.success());
            assert_published_once(&place, &format!("{first:?} then {second:?} (reached: {again})"));
        }
    }
}

#[test]
fn killed_and_the_journal_lost_as_well() {
    for boundary in [Boundary::ArticleRenamed, Boundary::Listed, Boundary::Marked] {
        let place = Place::new();
        assert!(kill_at(&place, "run", boundary));
        std::fs::remove_dir_all(place.path("state")).unwrap();
        let output = place.once();
        assert!(output.status.success(), "{boundary:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("was published before"), "{boundary:?}");
        assert_published_once(&place, boundary.name());
    }
}

#[test]
fn an_unknown_boundary_is_refused() {
    let place = Place::new();
    let output = place.command("once", LONG_SLOT).env(VARIABLE, "somewhere").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("names no boundary"));
}
