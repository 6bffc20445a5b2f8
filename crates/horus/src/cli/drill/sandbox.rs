//! A Horus of its own for a drill, in a folder of its own: nobody's services are near it.
//!
//! It is an ordinary `horus run` with an ordinary configuration, so that what is drilled is what runs. It is ended and its folder
//! removed when the drill is over. If the drill itself is killed, the sample notices and ends well, so nothing is left that beats;
//! the private Horus stays until somebody ends it.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use horus_api::{Client, SOCKET_NAME};
use horus_sys::clock;
use horus_sys::files::{Durability, ensure_private_dir, write_atomic};
use horus_sys::process::{ProcessId, identify, is_alive, own_pid};
use horus_sys::signal::{Signal, send};
use horus_sys::spawn::detached;

use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::daemon::executable;

/// The service's name in it.
pub(super) const SERVICE: &str = "drill";

/// No fresh tick for so long is a fault.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// The private Horus answers within this, or the drill has failed.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// It is gone within this after it was told to end; then it is ended by force.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked whether it answers, or is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Of our environment these would make it somebody else's Horus.
const NOT_PASSED: [&str; 9] = [
    "HORUS_CONFIG",
    "HORUS_SOCKET",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
];

/// The private Horus.
#[derive(Debug)]
pub(super) struct Sandbox {
    folder: PathBuf,
    horus: ProcessId,
    pub(super) client: Client,
}

fn fault(what: &str) -> impl FnOnce(std::io::Error) -> Fault {
    let what = what.to_owned();
    move |error| {
        Fault::new(ExitStatus::Failed, what, "TMPDIR=FOLDER names another place for temporary files")
            .because(&error)
    }
}

impl Sandbox {
    /// Starts it, and waits until it answers.
    pub(super) async fn start() -> Result<Self, Fault> {
        let ours = identify(own_pid()).ok().flatten();
        let ours =
            ours.ok_or_else(|| Fault::new(ExitStatus::Failed, "this process is not known", "horus doctor"))?;
        let program = executable::own_path().map_err(fault("the path of this program is not known"))?;
        let folder = std::env::temp_dir().join(format!("horus-drill-{}", ours.pid));
        ensure_private_dir(&folder).map_err(|error| {
            Fault::new(
                ExitStatus::Failed,
                "there is no private folder for the drill",
                "TMPDIR=FOLDER names another place",
            )
            .because(&error)
        })?;
        let config = folder.join("watchdog.toml");
        write_atomic(&config, text(&program.display().to_string(), ours).as_bytes(), Durability::ThisBoot)
            .map_err(fault("the drill's configuration cannot be written"))?;
        let log = folder.join("horus.log");
        let errors = File::create(&log).map_err(fault("the drill's log cannot be written"))?;
        let inherited = errors.try_clone().map_err(fault("no descriptor is left"))?;
        let words = ["run".into(), "--config".into(), config.into_os_string()];
        let environment: Vec<_> =
            std::env::vars_os().filter(|(name, _)| !NOT_PASSED.iter().any(|not| name == not)).collect();
        let pid = detached(&program, &words, &environment, std::os::fd::AsFd::as_fd(&inherited), errors)
            .map_err(fault("the private horus cannot be started"))?;
        let horus = identify(pid).ok().flatten();
        let horus = horus.ok_or_else(|| {
            Fault::new(ExitStatus::Failed, "the private horus ended at once", "horus doctor")
        })?;
        let client = Client::new(folder.join("r").join(SOCKET_NAME));
        let sandbox = Self { folder, horus, client };
        sandbox.answers().await?;
        Ok(sandbox)
    }

    async fn answers(&self) -> Result<(), Fault> {
        let started = clock::monotonic();
        while self.client.version().await.is_err() {
            if clock::monotonic().saturating_sub(started) > READY_WITHIN || !is_alive(&self.horus) {
                let log = std::fs::read_to_string(self.folder.join("horus.log")).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or("nothing was said").to_owned();
                self.end().await;
                let text = format!("the private horus does not answer: {last}");
                return Err(Fault::new(ExitStatus::Failed, text, "horus doctor"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Ends it in order: its service with it. Its folder is removed once it is gone. `true`: it was seen gone.
    pub(super) async fn end(&self) -> bool {
        let started = clock::monotonic();
        let _ = send(&self.horus, Signal::TERM);
        loop {
            let _ = horus_sys::reap::take_orphans(|_, _| true);
            if !is_alive(&self.horus) {
                // Only now: a Horus makes anew what somebody takes away.
                let _ = std::fs::remove_dir_all(&self.folder);
                return true;
            }
            if clock::monotonic().saturating_sub(started) > GONE_WITHIN {
                let _ = send(&self.horus, Signal::KILL);
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The configuration of a drill. Paths are quoted as TOML's own literal strings would be.
fn text(program: &str, ours: ProcessId) -> String {
    let program = toml::Value::String(program.to_owned());
    let (pid, start) = (ours.pid, ours.start_time);
    format!(
        "version = 1\n[daemon]\nstate_directory = \"s\"\nrun_directory = \"r\"\nhost = \"drill\"\n\
         [service.{SERVICE}]\n\
         command = [{program}, \"sample\", \"--drill-pid\", \"{pid}\", \"--drill-start\", \"{start}\"]\n\
         heartbeat.notify = true\ndeadline = \"{} s\"\nkills = {{ prove = \"{} s\" }}\nrestart = {{ on = \"failure\" }}\n",
        DEADLINE.as_secs(),
        5 * DEADLINE.as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use horus_config::SystemEnvironment;

    use super::*;

    #[test]
    fn the_configuration_of_a_drill_has_no_faults() {
        let ours = ProcessId { pid: 7, start_time: 9 };
        let loaded =
            horus_config::parse(&text("/bin/sh", ours), Path::new("/x/watchdog.toml"), &SystemEnvironment);
        assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
        let quoted = text("/a \"b\"\\c/horus", ours);
        assert!(quoted.parse::<toml::Table>().is_ok(), "{quoted}");
    }
}
