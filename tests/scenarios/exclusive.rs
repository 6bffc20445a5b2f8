//! One owner: what is exclusive is never used by two services at a time, of one Horus or of two, whoever dies.

use horus_core::event::What;
use horus_core::status::ServiceStatus;
use horus_core::verdict::Verdict;
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;
use horus_tests::Rig;

use crate::{is_start, rig, service};

fn sleeper(name: &str, key: &str, keys: &str) -> String {
    service(name, &["sleep", "1000"], &format!("exclusive = [{key:?}]\n{keys}"))
}

/// Waits until the service says that it waits, and for whom.
async fn waits(rig: &Rig, name: &str, words: &[&str]) -> ServiceStatus {
    let told = rig.status_until(name, "waits", |status| {
        status.phase == "waiting" && words.iter().all(|word| status.because.contains(word))
    });
    told.await
}

fn is_delay(what: &What) -> bool {
    matches!(what, What::Delayed { .. })
}

fn is_spawn(what: &What) -> bool {
    matches!(what, What::Started { .. })
}

/// A repository with a second work tree.
fn repository(rig: &Rig) -> (String, String) {
    let (first, second) = (rig.room.path("app"), rig.room.path("second"));
    std::fs::create_dir_all(first.join(".git/worktrees/second")).unwrap();
    std::fs::create_dir_all(&second).unwrap();
    let write = |path: std::path::PathBuf, text: String| {
        horus_sys::files::write_atomic(&path, text.as_bytes(), horus_sys::files::Durability::ThisBoot)
            .unwrap();
    };
    write(first.join(".git/worktrees/second/commondir"), "../..\n".into());
    write(second.join(".git"), format!("gitdir: {}\n", first.join(".git/worktrees/second").display()));
    (format!("repo:{}", first.display()), format!("repo:{}", second.display()))
}

#[tokio::test]
async fn the_second_of_one_horus_waits_and_is_started_as_soon_as_the_first_has_ended() {
    let mut rig = rig().await;
    let (first, second) = repository(&rig);
    rig.run(&(sleeper("one", &first, "") + &sleeper("two", &second, "autostart = false"))).await;
    let one = rig.ready("one").await;
    let asked = rig.cli(&["start", "two"]).await;
    assert_eq!(asked.code, 1, "{}{}", asked.out, asked.err);
    assert!(asked.err.contains("held by service one of horus pid"), "{}", asked.err);
    let pid = rig.horus().pid.to_string();
    let status = waits(&rig, "two", &[&second, "held by service one of horus pid", &pid]).await;
    assert_eq!((status.verdict, status.pid, status.exits_recent), (Verdict::Down, None, 0));
    let shown = rig.cli(&["status", "two"]).await;
    assert!(shown.out.contains("held by service one"), "{}", shown.out);

    let stopped = rig.cli(&["stop", "one"]).await;
    assert_eq!(stopped.code, 0, "{}{}", stopped.out, stopped.err);
    let two = rig.ready("two").await;
    assert!(is_alive(&two) && !is_alive(&one));
    // Now it is the turn of the first to wait.
    assert_eq!(rig.cli(&["start", "one"]).await.code, 1);
    waits(&rig, "one", &[&first, "held by service two"]).await;
    assert_eq!((rig.count("two", is_start), rig.count("two", is_delay)), (1, 1), "told once");
    rig.end().await;
}

#[tokio::test]
async fn invariant_g6_what_is_exclusive_stays_so_whoever_dies() {
    let (mut first, mut second) = (rig().await, rig().await);
    let device = first.room.path("device");
    let key = format!("path:{}", device.display());
    first.run(&sleeper("one", &key, "")).await;
    let one = first.ready("one").await;
    second.run(&sleeper("two", &key, "")).await;
    let pid = first.horus().pid.to_string();
    waits(&second, "two", &[&key, "held by service one of horus pid", &pid]).await;

    // Horus is gone: its keeper holds on.
    let keeper = first.keeper();
    first.kill_horus().await;
    // Both are gone: nobody is left but the program.
    first.signal(&keeper, Signal::KILL);
    first.gone(&keeper).await;
    let survivor = format!("its process {} is not", one.pid);
    waits(&second, "two", &["which is gone", &survivor]).await;
    assert!(is_alive(&one));

    // The next Horus of the first takes over, and so does its name.
    first.start().await;
    let pid = first.horus().pid.to_string();
    waits(&second, "two", &["held by service one of horus pid", &pid]).await;
    assert_eq!(second.count("two", is_spawn), 0);
    let stopped = first.cli(&["stop", "one"]).await;
    assert_eq!(stopped.code, 0, "{}{}", stopped.out, stopped.err);
    second.ready("two").await;
    assert!(!is_alive(&one));
    first.end().await;
    second.end().await;
}
