//! What is said to the service manager that runs Horus, and the one thing that is asked of it.
//!
//! ```text
//!   READY=1        the API answers, and the keeper's processes are known
//!   WATCHDOG=1     the judge's loop has turned; said from there and nowhere else
//!   STATUS=        one line for `systemctl status`
//!   RELOADING=1    (then READY=1) a configuration is being read
//!   FDSTORE=1      keep this descriptor while we are dead ([`super::fd_store`])
//!   STOPPING=1     the end has begun; EXTEND_TIMEOUT_USEC= as long as it goes on
//! ```
//!
//! A SIGTERM does not say whether Horus is to be stopped, with all services, or only to be started anew. systemd knows: the
//! job that is running on our unit. It is asked by `systemctl`, once and with a limit; the D-Bus code for it would be
//! larger than the rest of this module.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use horus_sys::clock;
use horus_sys::notify::NotifySocket;
use horus_sys::spawn::{ExecOutcome, run_with_deadline};

/// How often the line for `systemctl status` is made, at most. It is said if it differs from the last.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How often systemd is asked for more time while services end.
const EXTEND_EVERY: Duration = Duration::from_secs(5);

/// How much more time is asked for at once.
const EXTEND_BY: Duration = Duration::from_secs(20);

/// After this time of ending no more time is asked for: systemd may kill us.
const EXTEND_MAX: Duration = Duration::from_secs(15 * 60);

/// A Horus that has found no keeper for so long says that it is ready all the same: it judges, tells and goes on trying,
/// and a manager that gives its start up would take the telling away as well.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How long `systemctl` may take to say what is wanted of us.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Longest answer of `systemctl` that is read, in bytes.
const ANSWER_MAX: usize = 4_096;

/// What `systemctl` needs of our environment to find its manager.
const PASSED: [&str; 4] = ["PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME"];

/// Where `systemctl` is looked for if we have no `PATH`.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<NotifySocket>,
    /// It kills us if it has not heard of the loop for so long.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The manager of this process.
    pub(super) fn of_process() -> &'static Self {
        static MANAGER: OnceLock<Manager> = OnceLock::new();
        MANAGER.get_or_init(|| Self::from_variables(|name| std::env::var_os(name)))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let socket = variable("NOTIFY_SOCKET").and_then(|address| match NotifySocket::open(&address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the service manager's socket cannot be used");
                None
            }
        });
        let text = |name: &str| variable(name)?.into_string().ok();
        let for_us = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = text("WATCHDOG_USEC").filter(|_| for_us && socket.is_some());
        let limit = limit.and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
        Self { socket, watchdog: limit.map(Duration::from_micros) }
    }

    /// False if it could not be said. Nobody waits for a manager.
    fn say(&self, text: &str) -> bool {
        self.socket.as_ref().is_none_or(|socket| socket.send(text).is_ok())
    }

    /// Whether there is one that may keep descriptors.
    pub(super) fn keeps(&self) -> bool {
        self.socket.is_some()
    }

    /// Gives it a descriptor to keep. `FDPOLL=0`: it would drop a pidfd as soon as its process ends, which is when it is needed.
    pub(super) fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send_with(&text, descriptor))
    }

    /// Nobody needs it any more. False if that could not be said.
    pub(super) fn forget(&self, name: &str) -> bool {
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))
    }

    /// A configuration is being read; [`Manager::reloaded`] follows.
    pub(super) fn reloading(&self) {
        let now = clock::monotonic().as_micros();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// It was read, and is in force or refused.
    pub(super) fn reloaded(&self) {
        self.say("READY=1");
    }

    /// The end has begun.
    pub(super) fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }
}

/// What the judge's loop owes the manager. Times are those of [`clock::monotonic`].
#[derive(Debug)]
pub(super) struct Duties {
    manager: &'static Manager,
    started: Duration,
    ready: bool,
    next_beat: Duration,
    next_status: Duration,
    /// The line that was said last.
    said: Option<String>,
    /// The loop has turned since that line was made: it may not be true any more.
    stale: bool,
    ending_since: Option<Duration>,
    next_extension: Duration,
}

impl Duties {
    pub(super) fn new(manager: &'static Manager, now: Duration) -> Self {
        let (zero, started) = (Duration::ZERO, now);
        Self {
            manager,
            started,
            ready: false,
            next_beat: zero,
            next_status: zero,
            said: None,
            stale: false,
            ending_since: None,
            next_extension: zero,
        }
    }

    /// Everything that the keeper has is known: ready, once.
    pub(super) fn reconciled(&mut self) {
        if !self.ready {
            self.ready = self.manager.say("READY=1");
        }
    }

    /// Services are being stopped. Said again and again: the end takes as long as their grace.
    pub(super) fn ending(&mut self, now: Duration) {
        if self.ending_since.is_none() {
            self.ending_since = Some(now);
            self.manager.stopping("services are being stopped");
        }
    }

    /// The loop has turned. Says what is due; the beat comes first, before anything that may take long: after a sleep of
    /// the machine systemd may count all of it.
    pub(super) fn turned(&mut self, now: Duration, status: impl FnOnce() -> String) {
        if self.manager.socket.is_none() {
            return;
        }
        if let Some(limit) = self.manager.watchdog
            && now >= self.next_beat
            && self.manager.say("WATCHDOG=1")
        {
            self.next_beat = now + limit / 3;
        }
        if !self.ready && now.saturating_sub(self.started) >= READY_PATIENCE {
            self.reconciled();
        }
        match self.ending_since {
            Some(since) if now >= self.next_extension && now.saturating_sub(since) < EXTEND_MAX => {
                self.next_extension = now + EXTEND_EVERY;
                self.manager.say(&format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()));
            }
            None if now >= self.next_status => {
                self.next_status = now + STATUS_EVERY;
                self.stale = false;
                self.say_status(one_line(&status()));
            }
            _ => self.stale = true,
        }
    }

    fn say_status(&mut self, line: String) {
        if self.said.as_ref() != Some(&line) && self.manager.say(&format!("STATUS={line}")) {
            self.said = Some(line);
        }
    }

    /// The loop may sleep no longer than this.
    pub(super) fn sleep_max(&self, now: Duration) -> Option<Duration> {
        let beat = self.manager.watchdog.map(|limit| self.next_beat.saturating_sub(now).min(limit / 3));
        let telling = self.manager.socket.as_ref().map(|_| ());
        let extension = telling.and(self.ending_since).map(|_| EXTEND_EVERY);
        let ready = telling.filter(|()| !self.ready).map(|()| READY_PATIENCE);
        let corrects = self.stale && self.ending_since.is_none();
        let status = telling.filter(|()| corrects).map(|()| self.next_status.saturating_sub(now));
        beat.into_iter().chain(extension).chain(ready).chain(status).min()
    }
}

/// What a manager prints in its own lines.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// What a SIGTERM means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The end of everything.
    Stop,
    /// Another Horus in our place; services go on.
    Restart,
}

/// Asks systemd what it is about to do with us. Whatever is not an answer is a stop: who says nothing wants what a SIGTERM
/// has always meant. Blocks, for at most [`ASK_MAX`].
pub(super) fn wish() -> Wish {
    let Some(unit) = own_unit(|name| std::env::var_os(name)) else { return Wish::Stop };
    let user = unit.of_user.then(|| OsString::from("--user"));
    let words = ["list-jobs", "--no-legend", "--plain", "--full", "--"].map(OsString::from);
    let program = OsString::from("systemctl");
    let command: Vec<OsString> =
        [program].into_iter().chain(user).chain(words).chain([unit.name.clone().into()]).collect();
    let mut environment: Vec<(OsString, OsString)> =
        PASSED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect();
    if !environment.iter().any(|(name, _)| name == "PATH") {
        environment.push(("PATH".into(), USUAL_PATH.into()));
    }
    match run_with_deadline(&command, &environment, Path::new("/"), ASK_MAX, ANSWER_MAX) {
        ExecOutcome::Finished { status, output, .. } => {
            let text = String::from_utf8_lossy(&output.bytes).into_owned();
            let wish = read_jobs(&text, &unit.name);
            tracing::info!(unit = unit.name, ?wish, ?status, "systemd was asked what it wants");
            wish
        }
        ExecOutcome::TimedOut { .. } => {
            tracing::warn!("systemctl does not answer; SIGTERM is taken for a stop");
            Wish::Stop
        }
        ExecOutcome::NotStarted { error } => {
            tracing::warn!(%error, "systemctl cannot be asked; SIGTERM is taken for a stop");
            Wish::Stop
        }
    }
}

/// `308 horus.service restart running`
fn read_jobs(text: &str, unit: &str) -> Wish {
    let jobs = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = jobs.filter(|words| words.get(1) == Some(&unit)).find_map(|words| words.get(2).copied());
    match ours {
        Some("restart" | "try-restart" | "reload-or-restart" | "start") => Wish::Restart,
        _ => Wish::Stop,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Unit {
    name: String,
    of_user: bool,
}

/// Our unit: `HORUS_UNIT` if the unit file says it (`Environment=HORUS_UNIT=%n`), else where our control group is.
fn own_unit(variable: impl Fn(&str) -> Option<OsString>) -> Option<Unit> {
    // Both are set by systemd for what it started; a person in a terminal may have the second from elsewhere.
    variable("INVOCATION_ID")?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    unit_of(&groups, variable("HORUS_UNIT").as_deref())
}

fn unit_of(groups: &str, said: Option<&OsStr>) -> Option<Unit> {
    let ours = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let of_user = ours.split('/').any(|part| part.starts_with("user@"));
    let said = said.and_then(OsStr::to_str).map(str::to_owned);
    let seen = || ours.split('/').rev().find(|part| part.ends_with(".service")).map(str::to_owned);
    let name = said.or_else(seen).filter(|name| name.ends_with(".service"))?;
    // A session's own manager is no unit that could be stopped.
    (!name.starts_with("user@")).then_some(Unit { name, of_user })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn manager(variables: &[(&str, &str)]) -> &'static Manager {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Box::leak(Box::new(Manager::from_variables(|name| variables.get(name).map(OsString::from))))
    }

    struct Systemd {
        _folder: tempfile::TempDir,
        listener: UnixDatagram,
        address: String,
    }

    impl Systemd {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let listener = UnixDatagram::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            Self { _folder: folder, listener, address: path.display().to_string() }
        }

        /// What was said since the last look.
        fn heard(&self) -> Vec<String> {
            let mut bytes = [0; 512];
            std::iter::from_fn(|| self.listener.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()))
                .map(|said| String::from_utf8(said).unwrap())
                .collect()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_loop_beats_three_times_within_the_limit_and_ready_is_said_once() {
        let systemd = Systemd::new();
        let manager = manager(&[("NOTIFY_SOCKET", &systemd.address), ("WATCHDOG_USEC", "30000000")]);
        let start = 100 * SECOND;
        let mut duties = Duties::new(manager, start);
        duties.turned(start, || "two\nservices".into());
        assert_eq!(systemd.heard(), ["WATCHDOG=1", "STATUS=two services"]);
        assert_eq!(duties.sleep_max(start), Some(10 * SECOND));
        duties.reconciled();
        duties.reconciled();
        assert_eq!(systemd.heard(), ["READY=1"]);
        duties.turned(start + 9 * SECOND, || "two services".into());
        assert_eq!(systemd.heard(), Vec::<String>::new());
        assert_eq!(duties.sleep_max(start + 9 * SECOND), Some(SECOND));
        duties.turned(start + 10 * SECOND, || "x".into());
        assert_eq!(systemd.heard(), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_status_that_is_true_no_more_is_corrected_soon_and_a_true_one_is_not_repeated() {
        let systemd = Systemd::new();
        let mut duties = Duties::new(manager(&[("NOTIFY_SOCKET", &systemd.address)]), Duration::ZERO);
        duties.reconciled();
        duties.turned(SECOND, || "0 of 2 services run".into());
        assert_eq!(duties.sleep_max(SECOND), None, "nothing is owed");
        // They started right after.
        duties.turned(2 * SECOND, || panic!("not so often"));
        assert_eq!(duties.sleep_max(2 * SECOND), Some(SECOND));
        for second in [3, 5, 7] {
            duties.turned(second * SECOND, || "2 of 2 services run".into());
        }
        assert_eq!(systemd.heard(), ["READY=1", "STATUS=0 of 2 services run", "STATUS=2 of 2 services run"]);
        assert_eq!(duties.sleep_max(7 * SECOND), None);
    }

    #[test]
    fn a_horus_without_a_keeper_is_ready_after_a_while() {
        let systemd = Systemd::new();
        let mut duties = Duties::new(manager(&[("NOTIFY_SOCKET", &systemd.address)]), Duration::ZERO);
        assert_eq!(duties.sleep_max(Duration::ZERO), Some(READY_PATIENCE));
        duties.turned(READY_PATIENCE, String::new);
        assert_eq!(systemd.heard(), ["READY=1", "STATUS="]);
    }

    #[test]
    fn while_it_ends_more_time_is_asked_for_but_not_for_ever() {
        let systemd = Systemd::new();
        let mut duties = Duties::new(manager(&[("NOTIFY_SOCKET", &systemd.address)]), Duration::ZERO);
        duties.reconciled();
        duties.ending(SECOND);
        duties.ending(2 * SECOND);
        duties.turned(2 * SECOND, String::new);
        duties.turned(3 * SECOND, String::new);
        let heard = systemd.heard();
        assert_eq!(
            heard[1..],
            ["STOPPING=1\nSTATUS=services are being stopped", "EXTEND_TIMEOUT_USEC=20000000"]
        );
        assert_eq!(duties.sleep_max(3 * SECOND), Some(EXTEND_EVERY));
        duties.turned(SECOND + EXTEND_MAX, String::new);
        assert_eq!(systemd.heard(), Vec::<String>::new());
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nobody_wakes() {
        let mut duties = Duties::new(manager(&[("WATCHDOG_USEC", "30000000")]), Duration::ZERO);
        duties.turned(SECOND, || panic!("nobody reads it"));
        assert_eq!(duties.sleep_max(SECOND), None);
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let systemd = Systemd::new();
        let variables = [
            ("NOTIFY_SOCKET", systemd.address.as_str()),
            ("WATCHDOG_USEC", "3000000"),
            ("WATCHDOG_PID", "1"),
        ];
        assert_eq!(manager(&variables).watchdog, None);
    }

    #[test]
    fn only_a_restart_of_our_own_unit_is_a_restart() {
        let restart = " 308 horus.service restart running\n";
        assert_eq!(read_jobs(restart, "horus.service"), Wish::Restart);
        assert_eq!(read_jobs(restart, "other.service"), Wish::Stop);
        assert_eq!(read_jobs("308 horus.service stop running\n", "horus.service"), Wish::Stop);
        for nonsense in ["", "horus.service", "No jobs running.\n", "\u{0}\n\n308 horus.service"] {
            assert_eq!(read_jobs(nonsense, "horus.service"), Wish::Stop, "{nonsense:?}");
        }
    }

    #[test]
    fn our_unit_is_the_innermost_service_that_we_are_in() {
        let unit = |name: &str, of_user| Some(Unit { name: name.into(), of_user });
        let hybrid = "9:memory:/\n0::/system.slice/horus.service/supervisor\n";
        assert_eq!(unit_of(hybrid, None), unit("horus.service", false));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/horus.service\n";
        assert_eq!(unit_of(user, None), unit("horus.service", true));
        let terminal = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n";
        assert_eq!(unit_of(terminal, None), None);
        assert_eq!(unit_of(terminal, Some(OsStr::new("mine.service"))), unit("mine.service", true));
        assert_eq!(unit_of("", Some(OsStr::new("-x"))), None);
    }
}
