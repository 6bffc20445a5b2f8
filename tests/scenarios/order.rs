//! Start order by `after` with readiness, parallel start of independents, stop in reverse; and exit codes.

use horus_core::event::{DeathCause, What};
use horus_sys::signal::Signal;
use horus_tests::Rig;

use crate::{beat, hanger, is_exit, is_start, rig, service, subject};

fn slow(rig: &Rig, name: &str, start_ms: &str, keys: &str) -> String {
    let port = rig.room.port();
    let port_word = port.to_string();
    let command = [subject!("slow-starter"), "--start", start_ms, "--port", &port_word];
    service(name, &command, &format!("{}deadline = \"2s\"\n{keys}", beat(port)))
}

#[tokio::test]
async fn services_start_after_what_they_need_side_by_side_and_stop_in_reverse() {
    let mut rig = rig().await;
    let config = slow(&rig, "base", "800", "")
        + &slow(&rig, "other", "800", "")
        + &hanger(&rig, "middle", "deadline = \"2s\"\nafter = [\"base\"]\n")
        + &hanger(&rig, "top", "deadline = \"2s\"\nafter = [\"middle\", \"other\"]\n");
    rig.run(&config).await;
    rig.ready("top").await;
    let at = |service: &'static str, is_it: fn(&What) -> bool| {
        let events = rig.journal.all();
        let found = events.iter().find(|event| event.event.subject == service && is_it(&event.event.what));
        found.unwrap_or_else(|| panic!("no such event of {service}")).seq
    };
    let is_ready: fn(&What) -> bool = |what| matches!(what, What::BecameReady { .. });
    assert!(at("base", is_start) < at("other", is_ready), "independents start side by side");
    assert!(at("other", is_start) < at("base", is_ready), "independents start side by side");
    assert!(at("base", is_ready) < at("middle", is_start));
    assert!(at("middle", is_ready) < at("top", is_start));
    assert!(at("other", is_ready) < at("top", is_start));

    let last = rig.journal.last();
    let horus = rig.horus();
    rig.signal(&horus, Signal::TERM);
    rig.gone(&horus).await;
    assert!(rig.room.is_empty(std::time::Duration::from_secs(10)).await.is_ok(), "somebody survives the end");
    // The story of the end is read by the next Horus.
    rig.start().await;
    rig.after(last, "base", "exit", is_exit).await;
    let events = rig.journal.all();
    let ends: Vec<&str> = events
        .iter()
        .filter(|event| event.seq > last && is_exit(&event.event.what))
        .map(|event| event.event.subject.as_str())
        .collect();
    let place =
        |name: &str| ends.iter().position(|end| *end == name).unwrap_or_else(|| panic!("{name}: {ends:?}"));
    assert!(place("top") < place("middle") && place("middle") < place("base"), "{ends:?}");
    assert!(place("top") < place("other"), "{ends:?}");
    rig.end().await;
}

/// Before the keeper has answered, nobody knows what lives: an order to end waits for that.
#[tokio::test]
async fn an_end_right_after_the_start_leaves_nobody_behind() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", "deadline = \"2s\"\n");
    rig.run(&config).await;
    rig.ready("bot").await;
    rig.kill_horus().await;
    let last = rig.journal.last();
    rig.start().await;
    let horus = rig.horus();
    rig.signal(&horus, Signal::TERM);
    rig.gone(&horus).await;
    let left = rig.room.is_empty(std::time::Duration::from_secs(10)).await;
    assert_eq!(left, Ok(()), "Horus said that nothing is left running");
    rig.start().await;
    let planned = |what: &What| matches!(what, What::Exited { cause: DeathCause::Planned, .. });
    rig.after(last, "bot", "planned exit", planned).await;
    rig.ready_after(last, "bot").await;
    rig.end().await;
}

#[tokio::test]
async fn exit_codes_are_those_of_sysexits() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", "deadline = \"2s\"\n");
    rig.write(&config);
    let status = rig.cli(&["status"]).await;
    assert_eq!(status.code, 69, "{}", status.err);
    assert!(status.err.contains("no horus is running") && status.err.contains("hint:"), "{}", status.err);
    assert_eq!(status.out, "", "data goes to stdout, the rest does not");
    assert_eq!(rig.cli(&["stop"]).await.code, 64);
    assert_eq!(rig.cli(&["no-such-verb"]).await.code, 64);
    assert_eq!(rig.cli(&["check"]).await.code, 0);
    rig.write("[service.bot]\ncommand = []\nnonsense = 1\n");
    let check = rig.cli(&["check"]).await;
    assert_eq!(check.code, 78, "{}", check.err);
    let run = rig.cli(&["run"]).await;
    assert_eq!(run.code, 78, "{}", run.err);
    assert!(run.err.contains("nonsense") && run.err.contains("watchdog.toml"), "{}", run.err);

    rig.write(&config);
    rig.start().await;
    rig.ready("bot").await;
    assert_eq!(rig.cli(&["status"]).await.code, 0);
    let unknown = rig.cli(&["stop", "nobody"]).await;
    assert_eq!(unknown.code, 1, "{}{}", unknown.out, unknown.err);
    assert!(unknown.err.contains("bot"), "names the services that there are: {}", unknown.err);
    let second = rig.cli(&["run"]).await;
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(
        second.err.contains(&rig.horus().pid.to_string()),
        "names the holder of the lock: {}",
        second.err
    );
    rig.end().await;
}
