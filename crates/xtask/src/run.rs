//! `cargo xtask run`: build, then become Horus.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::shell;

/// The shipped configuration.
const CONFIG: &str = "watchdog.toml";

/// Where it keeps its sockets: `run_directory` in the shipped configuration.
const RUN_DIRECTORY: &str = "target/horus-run/run";

/// Where the two services of the shipped configuration listen.
const PORTS: [u16; 2] = [7801, 7802];

/// Builds everything that the shipped configuration needs and runs it.
///
/// The debug profile: it is built in a third of the time of the release one, and what is supervised here is light.
pub(crate) fn run() -> Result<ExitCode> {
    let root = shell::root()?;
    let socket = root.join(RUN_DIRECTORY).join("horus.sock");
    let programs = shell::target_directory(&root)?.join("debug");
    let horus = programs.join("horus");
    if UnixStream::connect(&socket).is_ok() {
        eprintln!("A Horus already runs here; it answers at {}", socket.display());
        eprintln!("hint: {} status", shorter(&horus, &root));
        return Ok(ExitCode::FAILURE);
    }
    let packages = ["-p", "horus", "-p", "trading", "-p", "pipeline"];
    shell::run(shell::cargo(&root).args(["build", "--quiet"]).args(packages))?;
    for taken in PORTS.iter().filter(|port| TcpListener::bind(("127.0.0.1", **port)).is_err()) {
        eprintln!("warning: another program listens on port {taken}; what needs it here will not start");
    }
    print!("{}", banner(&horus, &root, &socket));
    let mut daemon = shell::command(&horus);
    daemon.current_dir(&root).arg("run").env("PATH", path_with(&programs)?);
    daemon.env("HORUS_CONFIG", root.join(CONFIG)).env_remove("HORUS_SOCKET");
    // Horus takes the place of this process: Ctrl-C and every other signal reach it, and nothing stands between.
    Err(daemon.exec()).with_context(|| format!("cannot start {}", horus.display()))
}

/// `trading` and `pipeline` are named in the configuration without a path, as on a machine where they are installed.
fn path_with(programs: &Path) -> Result<OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(programs.to_path_buf()).chain(std::env::split_paths(&old));
    Ok(std::env::join_paths(all)?)
}

/// As short as it may be typed from the root.
fn shorter<'a>(path: &'a Path, root: &Path) -> std::path::Display<'a> {
    path.strip_prefix(root).unwrap_or(path).display()
}

fn banner(horus: &Path, root: &Path, socket: &Path) -> String {
    let short = shorter(horus, root);
    format!(
        "\n\
         Horus supervises `trading` and `pipeline` as {CONFIG} says. Ctrl-C ends all three, in order.\n\
         In a second terminal, from this folder:\n\
         \n    \
             {short} status              how everything is, and why\n    \
             {short} events -f           what happens, as it happens\n    \
             {short} logs -f trading     what it writes\n    \
             {short} incidents           what went wrong; `incident ID` tells the story\n\
         \n\
         From anywhere else: export HORUS_SOCKET={socket}\n\
         Beats: http://127.0.0.1:7801/heartbeat and http://127.0.0.1:7802/heartbeat\n\
         Articles: target/horus-run/articles. Try: kill -9 the pid that status shows, then status again.\n\n",
        socket = socket.display(),
    )
}
