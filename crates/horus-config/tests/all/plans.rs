//! What a good file comes to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_config::{
    Amount, Checked, Code, Environment as _, Origin, SystemEnvironment, TimingRow, diff, load,
    parse as parse_on, resolve_secrets,
};
use horus_core::ids::{ServiceName, SinkName};
use horus_core::plan::{BeatPlan, Mode, MonitorCheck, Plan, Ready, RestartOn, SecretSource, ServicePlan};

use crate::machine::{Machine, configs, parse, parse_fixture};

fn fixture(name: &str) -> Checked {
    let (_, text) = configs("valid").into_iter().find(|(found, _)| found == name).unwrap();
    parse_fixture(name, &text).into_result().unwrap()
}

fn service<'a>(plan: &'a Plan, name: &str) -> &'a ServicePlan {
    &plan.services[&ServiceName::parse(name).unwrap()]
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn environment(plan: &ServicePlan) -> BTreeMap<&str, &str> {
    plan.launch.environment.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
}

#[test]
fn every_key_reaches_the_plan() {
    let plan = fixture("everything").plan;
    assert_eq!(plan.daemon.state_directory, PathBuf::from("/srv/horus/state"));
    assert_eq!((plan.daemon.host.as_str(), plan.daemon.retention), ("mini", seconds(14 * 86_400)));
    let bot = service(&plan, "bot");
    assert_eq!(bot.launch.command, ["bot", "run"]);
    assert_eq!(bot.after, [ServiceName::parse("feed").unwrap()]);
    assert_eq!((bot.deadline, bot.startup), (seconds(10), seconds(60)));
    assert_eq!((bot.stop.signal.as_str(), bot.stop.grace), ("SIGINT", seconds(20)));
    assert_eq!((bot.restart.on, bot.restart.crash_loop), (RestartOn::Failure, 6));
    assert_eq!((bot.kills.retry, bot.kills.daily), (None, 12));
    assert_eq!((bot.launch.limits.memory_bytes, bot.launch.limits.core_bytes), (Some(1 << 30), Some(0)));
    assert_eq!((bot.observe, bot.autostart), (true, false));
    let BeatPlan::Http(http) = &bot.beats[0] else { panic!("{:?}", bot.beats) };
    assert_eq!((http.every, http.timeout), (Duration::from_millis(500), seconds(2)));
    assert_eq!(http.lag.as_deref(), Some("/loop_lag_ms"));
    assert_eq!(bot.values["orders"].dead, Some(seconds(72 * 3600)));
    assert_eq!((bot.funnels["entry"].stages.len(), bot.funnels["entry"].blocked_after), (3, 7));
    let monitors: Vec<_> = plan.monitors.values().map(|monitor| monitor.down_after).collect();
    assert_eq!(monitors, [seconds(2400), seconds(120), seconds(240), seconds(120)]);
    assert!(matches!(plan.monitors.values().last().unwrap().check, MonitorCheck::Http { status: 204, .. }));
    let secrets: Vec<_> = plan.sinks.values().map(|sink| sink.secret.clone()).collect();
    assert_eq!(secrets[1], SecretSource::Env("HORUS_DISCORD_URL".into()));
    assert_eq!(secrets[2], SecretSource::File("/srv/horus/slack.url".into()));
}

#[test]
fn defaults_are_merged_key_by_key() {
    let plan = fixture("everything").plan;
    let (bot, feed) = (service(&plan, "bot"), service(&plan, "feed"));
    assert_eq!((feed.deadline, feed.startup), (seconds(20), seconds(120)));
    // `grace` from [defaults], `signal` from nowhere.
    assert_eq!((feed.stop.signal.as_str(), feed.stop.grace), ("SIGTERM", seconds(15)));
    // `keep` from the service, `max_size` from [defaults].
    assert_eq!((bot.launch.log.keep, bot.launch.log.max_bytes), (9, 8 << 20));
    assert_eq!(feed.beats[1].every(), seconds(1));
}

#[test]
fn the_environment_of_a_child_is_short_and_layered() {
    let plan = fixture("everything").plan;
    let expected = [
        ("HOME", "/home/horus"),
        ("LOG", "info"),
        ("PATH", "/usr/bin"),
        ("REGION", "eu"),
        ("TOKEN", "secret-env-file"),
    ];
    assert_eq!(environment(service(&plan, "feed")), expected.into());
    assert_eq!(environment(service(&plan, "bot"))["LOG"], "debug");
    // Another user has its own home, and a bare daemon still gives a PATH.
    let plan = fixture("user-as-root").plan;
    let bot = environment(service(&plan, "bot"));
    assert_eq!((bot["HOME"], bot["USER"], bot["LOGNAME"]), ("/home/bot", "bot", "bot"));
    let mut machine = Machine::new(1000);
    machine.variables.clear();
    let text = "version = 1\n[service.bot]\ncommand = ['bot']\nheartbeat.notify = true";
    let plan = parse_on(text, Path::new("watchdog.toml"), &machine).into_result().unwrap().plan;
    assert_eq!(environment(service(&plan, "bot")), [("PATH", "/usr/local/bin:/usr/bin:/bin")].into());
}

#[test]
fn directories_depend_on_who_runs() {
    let text = "version = 1\n[service.bot]\ncommand = ['bot']\nheartbeat.notify = true";
    let places = |machine: &Machine| {
        let daemon = parse_on(text, Path::new("watchdog.toml"), machine).into_result().unwrap().plan.daemon;
        (daemon.state_directory.display().to_string(), daemon.run_directory.display().to_string())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(places(&Machine::new(0)), pair("/var/lib/horus", "/run/horus"));
    let mut machine = Machine::new(1000);
    let home = "/home/horus/.local/state/horus";
    assert_eq!(places(&machine), pair(home, &format!("{home}/run")));
    machine.variables.insert("XDG_RUNTIME_DIR".into(), "/run/user/1000".into());
    machine.variables.insert("XDG_STATE_HOME".into(), "relative/is/ignored".into());
    assert_eq!(places(&machine), pair(home, "/run/user/1000/horus"));
    machine.variables.remove("HOME");
    assert_eq!(places(&machine).0, "/srv/horus/state");
}

#[test]
fn silence_means_the_documented_numbers() {
    let checked = fixture("shortest");
    let bot = service(&checked.plan, "bot");
    assert_eq!(bot.launch.command, ["bot", "run", "--feed", "two words"]);
    assert_eq!((bot.ready, bot.observe, bot.autostart), (Ready::Tick, false, true));
    assert_eq!((bot.deadline, bot.kills.prove), (seconds(30), seconds(300)));
    assert_eq!(checked.plan.daemon.mode, Mode::Enforce);
}

fn table(rows: &[TimingRow]) -> String {
    rows.iter()
        .map(|row| format!("{:<8} {:<22} {:<8} {}\n", row.service, row.what, row.amount, row.origin))
        .collect()
}

#[test]
fn the_timing_table_says_where_each_number_comes_from() {
    let checked = parse(
        "version = 1\n[defaults]\nstartup = '5m'\nkills = { retry = 'never' }\n\n[service.bot]\ncommand = ['bot']\n\
         deadline = '1m'\nheartbeat.http = { url = 'http://127.0.0.1:1/', seq = '/seq' }\n",
    );
    insta::assert_snapshot!(table(&checked.into_result().unwrap().timing), @r"
    bot      deadline               1m       watchdog.toml:8
    bot      heartbeat.http.every   5s       deadline / 10, at most 5s
    bot      heartbeat.http.timeout 2s       2 x every, at most 2s
    bot      startup                5m       [defaults] watchdog.toml:3
    bot      detection (proof)      1m 6s    deadline + poll + 1s
    bot      detection (absence)    2m 6s    2 x deadline + poll + 1s
    bot      stop.grace             10s      built in
    bot      restart.first          0s       built in
    bot      restart.next           1s       built in
    bot      restart.max            5m       built in
    bot      restart.crash_loop     5        built in
    bot      restart.within         10m      built in
    bot      kills.limit            3        built in
    bot      kills.prove            10m      10 x deadline
    bot      kills.retry            never    [defaults] watchdog.toml:4
    bot      kills.daily            24       built in
    ");
}

#[test]
fn the_timing_table_is_data() {
    let checked = fixture("everything");
    let row =
        checked.timing.iter().find(|row| row.service.as_str() == "bot" && row.what == "deadline").unwrap();
    assert_eq!(row.amount, Amount::Time(seconds(10)));
    assert!(matches!(&row.origin, Origin::Service { file, .. } if file == "watchdog.toml"));
    let json = serde_json::to_value(row).unwrap();
    assert_eq!(json["amount"], serde_json::json!({ "text": "10s", "milliseconds": 10_000 }));
}

#[test]
fn secrets_are_fetched_or_told_with_their_place() {
    let checked = fixture("everything");
    let mut machine = Machine::new(1000);
    let faults = resolve_secrets(&checked, &machine).unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| (fault.code, fault.line)).collect();
    let line = |text: &str| {
        let (_, file) = configs("valid").into_iter().find(|(name, _)| name == "everything").unwrap();
        file.lines().position(|line| line.starts_with(text)).unwrap() + 1
    };
    assert_eq!(told, [(Code::SecretMissing, line("discord =")), (Code::SecretMissing, line("webhook ="))]);
    assert_eq!(faults[0].clone().into_warning().weight, horus_config::Weight::Warning);

    machine.variables.insert("HORUS_DISCORD_URL".into(), " https://discord.com/api/webhooks/1/x\n".into());
    machine.add("/srv/horus/later.url", 1000, 0o600, false, "http://127.0.0.1:9/hook");
    let secrets = resolve_secrets(&checked, &machine).unwrap();
    assert_eq!(secrets[&SinkName::parse("ops").unwrap()].expose(), "https://discord.com/api/webhooks/1/x");
    assert_eq!(secrets.len(), 3);

    // The file was opened to others after the check; the variable holds nonsense.
    machine.add("/srv/horus/later.url", 1000, 0o640, false, "http://127.0.0.1:9/hook");
    for nonsense in ["hidden-nonsense", "http://discord.com/hidden-in-the-clear", "ftp://hidden-scheme/"] {
        machine.variables.insert("HORUS_DISCORD_URL".into(), nonsense.into());
        let faults = resolve_secrets(&checked, &machine).unwrap_err();
        let codes: Vec<_> = faults.iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [Code::BadSecret, Code::SecretFileOpen]);
        assert!(!format!("{faults:?} {}", serde_json::to_string(&faults).unwrap()).contains("hidden-"));
    }
}

#[test]
fn the_difference_of_two_plans_is_what_has_to_be_done() {
    let base = "version = 1\n[service.bot]\ncommand = ['bot']\nheartbeat.notify = true\n\
                [service.feed]\ncommand = ['feed']\nheartbeat.notify = true\n";
    let plan = |text: &str| parse(text).into_result().unwrap().plan;
    let old = plan(base);
    assert!(diff(&old, &old).is_empty());
    assert_eq!(diff(&old, &old).to_string(), "nothing changed");
    let new = plan(
        "version = 1\n[daemon]\nrun_directory = '/tmp/h'\nmode = 'observe'\n\
         [service.bot]\ncommand = ['bot', '-v']\nheartbeat.log.pattern = 'x'\ndeadline = '10s'\nenv.A = 'secret-a'\n\
         [service.worker]\ncommand = ['worker']\nheartbeat.notify = true\n\
         [monitor.web]\ncheck.http.url = 'https://example.com'\n[sink.ops]\nslack.url_env = 'U'\n",
    );
    insta::assert_snapshot!(diff(&old, &new), @r"
    + worker: new, will be started
    - feed: no longer asked for, will be stopped
    ! bot: takes effect by a restart (command, env, heartbeat.notify, heartbeat, deadline)
    ~ monitor web: takes effect at once
    ~ sink ops: takes effect at once
    ~ daemon: takes effect at once (mode)
    ! daemon: takes effect when Horus is started again (run_directory)
    ");
    let judged_anew = diff(&old, &plan(&base.replacen("true", "true\ndeadline = '40s'", 1)));
    assert_eq!(judged_anew.to_string(), "~ bot: takes effect at once (deadline, kills)");
    assert!(judged_anew.restart_needed.is_empty());
}

#[test]
fn the_real_machine_is_asked_the_same_way() {
    use std::os::unix::fs::PermissionsExt as _;
    #[expect(clippy::disallowed_methods, reason = "a fixture in a folder of its own")]
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (folder.path().join("watchdog.toml"), folder.path().join("hook.url"));
    let machine = SystemEnvironment;
    let us = machine.user_id();
    write(
        &file,
        &format!(
            "version = 1\ndaemon.run_directory = '/tmp/horus'\n[service.bot]\ncommand = ['sh']\nuser = '{us}'\n\
             heartbeat.notify = true\n[sink.ops]\nwebhook.url_file = 'hook.url'\n"
        ),
    );
    write(&secret, "https://example.com/hook\n");
    let mode = |mode| std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let faults = load(&file, &machine).faults;
    assert_eq!(faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [Code::SecretFileOpen]);
    mode(0o600);
    let loaded = load(&file, &machine);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let checked = loaded.into_result().unwrap();
    assert_eq!(service(&checked.plan, "bot").launch.directory, folder.path());
    let secrets = resolve_secrets(&checked, &machine).unwrap();
    assert_eq!(secrets[&SinkName::parse("ops").unwrap()].expose(), "https://example.com/hook");
    assert_eq!(machine.user("no-such-user-anywhere"), None);
    assert_eq!(machine.user("root").map(|user| user.id), Some(0));
    assert!(machine.host_name().is_some());
}
