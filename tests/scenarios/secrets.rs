//! G11: secrets appear in nothing that Horus writes, says or sends.

use std::path::Path;

use horus_alert::fake::CANARY;
use horus_core::event::{DeathCause, What};
use horus_core::notice::IncidentKind;
use horus_core::observation::OperatorRequest;
use horus_sys::process::environment;
use horus_tests::Rig;

use crate::{beat, is_kill, is_recovery, rig, service, struck, subject, triggers};

const IN_ENV: &str = "canary-in-env-8f2a61c09d";
const IN_FILE: &str = "canary-in-env-file-77b1e3d4";
const IN_PING: &str = "canary-in-ping-c3d2e1f0a9b8";
const ALL: [&str; 4] = [IN_ENV, IN_FILE, IN_PING, CANARY];

#[tokio::test]
async fn invariant_g11_no_secret_is_in_any_output() {
    let mut rig = rig().await;
    std::fs::File::create(rig.room.path("bot.env")).unwrap();
    let file = format!("EXCHANGE_KEY={IN_FILE}\n");
    horus_sys::files::write_atomic(
        &rig.room.path("bot.env"),
        file.as_bytes(),
        horus_sys::files::Durability::ThisBoot,
    )
    .unwrap();
    let (port, folder) = (rig.room.port(), triggers(&rig, "bot"));
    let port_word = port.to_string();
    let command =
        [subject!("hanger"), "--port", &port_word, "--triggers", &folder, "--say-variable", "API_TOKEN"];
    let keys = format!(
        "{}deadline = \"1s\"\nkills = {{ prove = \"5s\" }}\nenv = {{ API_TOKEN = \"{IN_ENV}\" }}\nenv_file = \"bot.env\"\n",
        beat(port)
    );
    let (ping, page) = (rig.room.path("ping.url"), rig.room.port());
    // Nobody listens there: the error is what might tell.
    let url = format!("http://127.0.0.1:{page}/ping/{IN_PING}");
    horus_sys::files::write_atomic(&ping, url.as_bytes(), horus_sys::files::Durability::ThisBoot).unwrap();
    let more = "[daemon.ping]\nurl_file = \"ping.url\"\n";
    rig.run(&(service("bot", &command, &keys) + more)).await;
    rig.ready("bot").await;
    // A hang (evidence, alerts), an exit (last words), a hold, a reload, a dead sink: everything that writes.
    struck(&rig, "bot", "hang").await;
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    rig.sinks.slack.set_deleted(true);
    let last = rig.journal.last();
    rig.room.trigger("bot/exit");
    let by_itself = |what: &What| matches!(what, What::Exited { cause: DeathCause::Itself, .. });
    let exit = rig.after(last, "bot", "exit", by_itself).await;
    rig.after(exit.seq, "bot", "recovery", is_recovery).await;
    let dead = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::SinkDead, .. });
    rig.first("horus", "dead sink", dead).await;
    let hold = OperatorRequest::Hold {
        service: horus_tests::name("bot"),
        reason: "look".into(),
        expires_in: None,
        stop: false,
    };
    rig.client.ask(&hold).await.unwrap().answer().await.unwrap();
    said_by_everything(&rig).await;

    // What Horus knows of its sinks is not passed on to anybody.
    for (who, process) in [("the child", rig.process("bot").await), ("the keeper", rig.keeper())] {
        let environment = environment(process.pid).unwrap();
        let has = |text: &str| environment.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!has(CANARY), "{who} has inherited a webhook's URL");
        assert!(!has(IN_PING), "{who} has inherited the URL of the dead-man switch");
        assert_eq!(has(IN_FILE), who == "the child", "{who}");
    }

    // The program said it itself, and its own log is its own affair; this shows that the test looks at the right thing.
    assert!(rig.output("bot").contains(IN_ENV));
    let logs = rig.room.path("s/logs");
    let mut looked_at = 0;
    for secret in ALL {
        let found = files_with(&rig.room.path("s"), secret, &logs, &mut looked_at);
        assert_eq!(found, Vec::<String>::new(), "{secret} is in the state directory");
        let found = files_with(&rig.room.path("r"), secret, &logs, &mut looked_at);
        assert_eq!(found, Vec::<String>::new(), "{secret} is in the run directory");
        assert!(!rig.log().contains(secret), "{secret} is in the daemon's log");
        // The journal's reader may have it in memory only; the alerts have gone out.
        assert!(!rig.journal.dump().contains(secret), "{secret} is in the journal");
        assert!(!rig.sinks.everything().contains(secret), "{secret} was sent");
    }
    assert!(looked_at > 6, "only {looked_at} files were looked at");
    rig.end().await;
}

/// Every verb and page that prints data, looked through for secrets.
async fn said_by_everything(rig: &Rig) {
    let mut said: Vec<(String, String)> = Vec::new();
    let incidents = rig.client.incidents(false, 100).await.unwrap().incidents;
    let ids: Vec<String> = incidents.iter().map(|incident| incident.id.to_string()).collect();
    assert!(ids.len() >= 3, "{incidents:#?}");
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["status"],
        vec!["status", "bot"],
        vec!["status", "--json"],
        vec!["events", "-n", "1000"],
        vec!["events", "-n", "1000", "--json"],
        vec!["incidents", "--json"],
        vec!["check"],
        vec!["check", "--json"],
        vec!["reload"],
        vec!["reload", "--json"],
        vec!["doctor"],
        vec!["doctor", "--json"],
        vec!["explain", "bot"],
        vec!["alerts", "test"],
        vec!["alerts", "test", "--json"],
    ];
    for id in &ids {
        commands.push(vec!["incident", id]);
        commands.push(vec!["incident", id, "--json"]);
        commands.push(vec!["incident", id, "--report"]);
    }
    for command in commands {
        let output = rig.cli(&command).await;
        said.push((command.join(" "), format!("{}{}", output.out, output.err)));
    }
    for (command, text) in said {
        assert!(!text.is_empty(), "horus {command} says nothing");
        for secret in ALL {
            assert!(!text.contains(secret), "horus {command} tells {secret}:\n{text}");
        }
    }
}

fn files_with(folder: &Path, secret: &str, except: &Path, looked_at: &mut usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path == except {
            continue;
        }
        if path.is_dir() {
            found.extend(files_with(&path, secret, except, looked_at));
        } else if path.is_file() {
            *looked_at += 1;
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
