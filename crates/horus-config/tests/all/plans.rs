//! What a good file comes to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_config::{
    Amount, Checked, Code, Environment as _, Origin, PauseHistory, StartHistory, SystemEnvironment,
    TimingRow, diff, lint_with_history, lint_with_pauses, load, parse as parse_on, resolve_secrets,
};
use horus_core::ids::{ServiceName, SinkName};
use horus_core::plan::{
    BeatPlan, ExpectPlan, Mode, MonitorCheck, Plan, ProgressPlan, Ready, RestartOn, SecretSource,
    ServicePlan, When,
};
use horus_core::tree::TreeLimits;

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
    let bot_name = ServiceName::parse("bot").unwrap();
    let bot = service(&plan, "bot");
    assert_eq!(bot.launch.command, ["bot", "run"]);
    assert_eq!(bot.after, [ServiceName::parse("feed").unwrap()]);
    assert_eq!((bot.deadline, bot.startup), (seconds(10), seconds(60)));
    assert_eq!((bot.stop.signal.as_str(), bot.stop.grace), ("SIGINT", seconds(20)));
    assert_eq!((bot.restart.on, bot.restart.crash_loop), (RestartOn::Failure, 6));
    assert_eq!((bot.kills.retry, bot.kills.daily), (None, 12));
    assert_eq!((bot.launch.limits.memory_bytes, bot.launch.limits.core_bytes), (Some(1 << 30), Some(0)));
    let tree =
        |share| TreeLimits { memory_bytes: Some(512 << 20), tasks: Some(200), cpu_percent: Some(share) };
    assert_eq!((bot.tree, service(&plan, "worker").tree), (tree(150), TreeLimits::default()));
    let shared = fixture("warns-of-tree-limits-without-groups").plan;
    assert_eq!(service(&shared, "feed").tree, tree(50), "its own, and those of all");
    assert_eq!((service(&plan, "worker").observe, bot.autostart), (true, false));
    let BeatPlan::Http(http) = &bot.beats[0] else { panic!("{:?}", bot.beats) };
    assert_eq!((http.every, http.timeout), (Duration::from_millis(500), seconds(2)));
    assert_eq!(http.lag.as_deref(), Some("/loop_lag_ms"));
    assert_eq!(bot.values["orders"].dead, Some(seconds(72 * 3600)));
    assert_eq!((bot.funnels["entry"].stages.len(), bot.funnels["entry"].blocked_after), (3, 7));
    let cycles = ProgressPlan { counter: "cycles".into(), stalled: seconds(300) };
    assert_eq!(bot.progress, BTreeMap::from([("cycles".to_owned(), cycles)]));
    let slots = ExpectPlan { gauge: "slots".into(), min: 2.0, within: seconds(180) };
    assert_eq!(bot.expects, BTreeMap::from([("slots".to_owned(), slots)]));
    assert_eq!((bot.schedule.as_ref(), http.gauges.as_deref()), (None, Some("/gauges")));
    let report = service(&plan, "alpha").schedule.clone().unwrap();
    assert!(matches!(&report.when, When::Cron(at) if at.to_string() == "0 6 * * * (Europe/Berlin)"));
    assert_eq!((report.finish, report.catch_up), (seconds(1200), true));
    let hourly = service(&plan, "beta").schedule.clone().unwrap();
    assert_eq!((hourly.when, hourly.catch_up), (When::Every(seconds(3600)), false));
    let sunday = &plan.maintenance["sunday"];
    assert_eq!((sunday.services.as_slice(), sunday.lasts), ([bot_name].as_slice(), seconds(3600)));
    assert_eq!(sunday.when.to_string(), "0 3 * * SUN (Europe/Berlin)");
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
fn a_job_waits_for_its_next_time_unless_its_own_table_says_otherwise() {
    let plan = fixture("jobs-and-maintenance").plan;
    let on = |name: &str| service(&plan, name).restart.on;
    assert_eq!(
        (on("bot"), on("worker"), on("feed")),
        (RestartOn::Always, RestartOn::Never, RestartOn::Failure)
    );
    assert!(plan.maintenance["sunday"].services.is_empty(), "for all of them");
    assert_eq!(service(&plan, "feed").beats, [], "and nobody asks for a heartbeat of a job");
}

#[test]
fn a_startup_cap_below_recorded_starts_is_told_with_its_place() {
    let checked = parse(
        "version = 1\n[service.bot]\ncommand = ['bot']\nheartbeat.notify = true\nstartup = '1m'\n\
                         [service.feed]\ncommand = ['feed']\nheartbeat.notify = true\n",
    )
    .into_result()
    .unwrap();
    let told = |bot: StartHistory| {
        let feed = StartHistory { count: 9, longest: seconds(119), p99: seconds(110) };
        let name = |text: &str| ServiceName::parse(text).unwrap();
        lint_with_history(
            &checked,
            &BTreeMap::from([(name("bot"), bot), (name("feed"), feed), (name("gone"), bot)]),
        )
    };
    let history = |count, longest, p99| StartHistory { count, longest: seconds(longest), p99: seconds(p99) };
    assert_eq!(told(history(0, 0, 0)).len(), 0);
    assert_eq!(told(history(42, 60, 60)).len(), 0, "as long as the cap is in time");
    let faults = told(history(42, 75, 50));
    assert_eq!(
        faults.iter().map(|fault| (fault.code, fault.line)).collect::<Vec<_>>(),
        [(Code::StartupBelowRecord, 5)]
    );
    insta::assert_snapshot!(faults[0], @"`bot` has 1m for its first tick, but the longest of 42 recorded starts took 1m 15s: now and then a start would be told as one that is not done");
    assert_eq!(faults[0].help.as_deref(), Some("write `startup = \"1m 53s\"`, half as long again"));
    let often = told(history(1, 75, 75))[0].to_string();
    assert!(
        often.contains("the one recorded start") && often.contains("more than one start in a hundred"),
        "{often}"
    );
}

#[test]
fn a_deadline_below_pauses_that_ended_by_themselves_is_told() {
    let text = "version = 1\n[service.bot]\ncommand = ['bot']\nheartbeat.notify = true\ndeadline = '30s'\n";
    let checked = parse(text).into_result().unwrap();
    let told = |longest: u64| {
        let history = PauseHistory { count: 7, longest: seconds(longest) };
        lint_with_pauses(&checked, &BTreeMap::from([(ServiceName::parse("bot").unwrap(), history)]))
    };
    assert_eq!(told(15).len(), 0);
    assert_eq!(told(16).len(), 1, "half a deadline is late");
    insta::assert_snapshot!(told(16)[0], @"`bot` has paused for 16s and gone on by itself: more than half of its deadline of 30s");
    insta::assert_snapshot!(told(64)[0], @"this would call a healthy `bot` silent: it has paused for 1m 4s and gone on by itself, and its deadline is 30s");
    assert_eq!((told(64)[0].code, told(64)[0].line), (Code::DeadlineBelowRecord, 5));
    assert_eq!(
        told(64)[0].help.as_deref(),
        Some("write `deadline = \"2m 8s\"`: its longest honest pause, times two")
    );
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
    let mac = Machine { run_base: "/var/run".into(), ..Machine::new(0) };
    assert_eq!(places(&mac), pair("/var/lib/horus", "/var/run/horus"));
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
fn the_timing_table_knows_jobs_and_stages() {
    let checked = fixture("everything");
    let rows = |name: &str| {
        let of = checked.timing.iter().filter(|row| row.service.as_str() == name);
        let parts = of.filter(|row| row.what.starts_with("schedule") || row.what.starts_with("progress"));
        table(&parts.cloned().collect::<Vec<_>>())
    };
    // 23 h: the night in which the clocks go forward.
    insta::assert_snapshot!(rows("alpha"), @r"
    alpha    schedule.cron          23h      the shortest gap of 0 6 * * * (Europe/Berlin)
    alpha    schedule.finish        20m      watchdog.toml:55
    ");
    insta::assert_snapshot!(rows("beta"), @r"
    beta     schedule.every         1h       counted from the start before
    beta     schedule.finish        10m      watchdog.toml:59
    ");
    insta::assert_snapshot!(rows("bot"), @"bot      progress.cycles.stalled 5m       watchdog.toml:43");
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
    ! bot: takes effect by a restart (command, env, notify socket, heartbeat, deadline)
    ~ monitor web: takes effect at once
    ~ sink ops: takes effect at once
    ~ daemon: takes effect at once (mode)
    ! daemon: takes effect when Horus is started again (run_directory)
    ");
    let judged_anew = diff(&old, &plan(&base.replacen("true", "true\ndeadline = '40s'", 1)));
    assert_eq!(judged_anew.to_string(), "~ bot: takes effect at once (deadline, kills)");
    assert!(judged_anew.restart_needed.is_empty());
    let limited = |limits: &str| plan(&base.replacen("true", &format!("true\n{limits}"), 1));
    let tree = limited("limits.tree = { memory = '1GiB', tasks = 9 }");
    assert_eq!(diff(&old, &tree).to_string(), "~ bot: takes effect at once (limits.tree)");
    assert_eq!(diff(&tree, &old).to_string(), "~ bot: takes effect at once (limits.tree)");
    let both = limited("limits = { address_space = '1GiB', tree.memory = '2GiB' }");
    assert_eq!(diff(&tree, &both).to_string(), "! bot: takes effect by a restart (limits, limits.tree)");
    let work = "true\nprogress.x = { counter = 'c', stalled = '5m' }\nexpect.x.gauge = 'g'\n\
                schedule = { every = '1h', finish = '5m' }\n[maintenance.night]\ncron = '0 3 * * *'\nlasts = '1h'";
    insta::assert_snapshot!(diff(&old, &plan(&base.replacen("true", work, 1))), @r"
    ~ bot: takes effect at once (restart, schedule, progress, expect)
    ~ maintenance night: takes effect at once
    ");
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
