//! `[daemon]`, and what of `[defaults]` can be judged by itself.

use std::path::{Path, PathBuf};

use horus_core::plan::{CgroupPlan, DaemonPlan, PingPlan};

use super::Check;
use crate::at::{At, Span};
use crate::defaults;
use crate::fault::Code;
use crate::raw::{PathText, RawDaemon, RawDefaults, RawFile, RawPing, RawSecret};

/// The address of a unix socket has 104 bytes on macOS and 108 on Linux, with the end mark.
const SOCKET_PATH_MAX: usize = 100;
/// What comes between the run directory and a socket besides the name of its service: `-notify/NAME.sock`.
const SOCKET_TAIL: usize = "-notify/.sock~".len();
/// The longest socket name that belongs to no service: `/keeper.sock`.
const OWN_SOCKET_TAIL: usize = "/keeper.sock".len();

impl Check<'_> {
    pub(super) fn daemon(&mut self, raw: &RawFile) -> DaemonPlan {
        let nothing = RawDaemon::default();
        let daemon = raw.daemon.as_ref().unwrap_or(&nothing);
        let state_directory = daemon
            .state_directory
            .as_ref()
            .and_then(|at| self.path(at, "state_directory"))
            .unwrap_or_else(|| self.state_directory());
        let run_directory = daemon
            .run_directory
            .as_ref()
            .and_then(|at| self.path(at, "run_directory"))
            .unwrap_or_else(|| self.run_directory(&state_directory));
        let run_span = daemon.run_directory.as_ref().map_or(0..0, |at| at.span.clone());
        self.socket_length(&run_directory, &run_span, raw);
        if let Some(at) = daemon.run_directory.as_ref().filter(|_| run_directory == state_directory) {
            let fault = self.findings.report(
                Code::Contradiction,
                &at.span,
                "`run_directory` and `state_directory` are the same folder",
            );
            fault.label("sockets need a folder of their own").help("write `run_directory = \"run\"`");
            if let Some(state) = &daemon.state_directory {
                fault.also(&state.span, "the other one");
            }
        }
        let host = daemon.host.as_ref().and_then(|at| self.text(at, "host"));
        let ping = daemon.ping.as_ref().and_then(|at| self.ping(at));
        let retention = daemon.retention.as_ref().and_then(|at| self.time(at, "retention"));
        DaemonPlan {
            mode: daemon.mode.as_ref().map(|at| at.value).unwrap_or_default(),
            state_directory,
            run_directory,
            host: host.or_else(|| self.environment.host_name()).unwrap_or_else(|| "localhost".to_owned()),
            retention: retention.unwrap_or(defaults::RETENTION),
            cgroup: daemon.cgroup.as_ref().map_or(CgroupPlan::Auto, |at| self.cgroup(at)),
            ping,
            executable: daemon.executable.as_ref().and_then(|at| self.path(at, "executable")),
        }
    }

    fn cgroup(&mut self, at: &At<PathText>) -> CgroupPlan {
        match at.value.0.as_str() {
            "auto" => CgroupPlan::Auto,
            "none" => CgroupPlan::None,
            _ => self.path(at, "cgroup").map_or(CgroupPlan::Auto, CgroupPlan::At),
        }
    }

    fn ping(&mut self, at: &At<RawPing>) -> Option<PingPlan> {
        let RawPing { url_env, url_file, every, url } = at.value.clone();
        let source = At { value: RawSecret { url_env, url_file, url }, span: at.span.clone() };
        let secret = self.secret(&["daemon", "ping"], &source);
        let time = every.as_ref().map(|at| (self.time(at, "every"), at));
        if let Some((Some(time), at)) = &time {
            let message = "a ping is sent at least once a day and at most once a second";
            self.number((defaults::PING_MIN..=defaults::PING_MAX).contains(time), at, message.to_owned());
        }
        let every = time.map_or(Some(defaults::PING_EVERY), |(time, _)| time)?;
        Some(PingPlan { secret: secret?, every })
    }

    fn is_root(&self) -> bool {
        self.environment.user_id() == 0
    }

    /// A folder named by a variable; the XDG rules ignore relative ones.
    fn variable_folder(&self, name: &str) -> Option<PathBuf> {
        self.environment.variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn state_directory(&self) -> PathBuf {
        if self.is_root() {
            return PathBuf::from("/var/lib/horus");
        }
        let home = || self.variable_folder("HOME").map(|home| home.join(".local/state"));
        match self.variable_folder("XDG_STATE_HOME").or_else(home) {
            Some(base) => base.join("horus"),
            None => self.folder.join("state"),
        }
    }

    fn run_directory(&self, state_directory: &Path) -> PathBuf {
        if self.is_root() {
            return self.environment.run_base().join("horus");
        }
        match self.variable_folder("XDG_RUNTIME_DIR") {
            Some(base) => base.join("horus"),
            None => state_directory.join("run"),
        }
    }

    fn socket_length(&mut self, run_directory: &Path, span: &Span, raw: &RawFile) {
        let longest = raw.service.keys().map(|name| name.value.as_str()).max_by_key(|name| name.len());
        let tail = longest.map_or(OWN_SOCKET_TAIL, |name| OWN_SOCKET_TAIL.max(SOCKET_TAIL + name.len()));
        let length = run_directory.as_os_str().len();
        if length + tail <= SOCKET_PATH_MAX {
            return;
        }
        let allowed = SOCKET_PATH_MAX.saturating_sub(tail);
        let name = longest.unwrap_or_default();
        self.findings
            .report(
                Code::SocketPathTooLong,
                span,
                format!("the run directory `{}` is too long for unix sockets", run_directory.display()),
            )
            .label(format!("{length} bytes; at most {allowed}"))
            .help(format!(
                "the address of a socket has at most {SOCKET_PATH_MAX} bytes, and `-notify/{name}.sock` comes after it: \
                 choose a shorter `run_directory`, such as \"/tmp/horus\""
            ));
    }

    /// Faults of `[defaults]` are told once, even if no service uses them.
    pub(super) fn defaults(&mut self, defaults: &RawDefaults) {
        for (key, at) in [("deadline", &defaults.deadline), ("startup", &defaults.startup)] {
            at.iter().for_each(|at| {
                self.time(at, key);
            });
        }
        if let Some(polling) = &defaults.heartbeat {
            for (key, at) in [("every", &polling.every), ("timeout", &polling.timeout)] {
                at.iter().for_each(|at| {
                    self.time(at, key);
                });
            }
        }
        self.both_modes(defaults.observe.as_ref(), defaults.mode.as_ref());
    }
}
