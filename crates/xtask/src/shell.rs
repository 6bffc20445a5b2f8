//! Starting other programs: cargo, above all. The only place here that does.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};

/// Longest line that is read from a program; the rest of it is taken as another line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Lines that wait to be looked at.
const LINES_MAX: usize = 1_024;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A program to be started in the workspace.
#[expect(
    clippy::disallowed_methods,
    reason = "development commands start compilers, not supervised children"
)]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Cargo, as if a person had typed it: the variables that the cargo above us has set for *this* crate are taken away,
/// because build scripts watch some of them and would run again and again.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let foreign = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || matches!(name, "CARGO_CRATE_NAME" | "CARGO_BIN_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
        });
        if foreign {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The root of the workspace that this command was called in.
pub(crate) fn root() -> Result<PathBuf> {
    // Asked at run time: a target directory that two checkouts share would else answer for the other one.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("call this as `cargo xtask`")?;
    let root = Path::new(&here).ancestors().nth(2).context("xtask lies two levels below the root")?;
    Ok(root.to_path_buf())
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> Result<PathBuf> {
    let metadata = read(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}

/// Whether a program is there and answers `--version`-like arguments.
pub(crate) fn is_there(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command line, for people.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a program to its end, output to ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {}", shown(command)))?;
    if status.success() { Ok(()) } else { bail!("{} failed: {status}", shown(command)) }
}

/// Runs a program to its end; its standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end and hands out each line as it comes.
pub(crate) fn stream(command: &mut Command, mut on_line: impl FnMut(Stream, &str)) -> Result<ExitStatus> {
    eprintln!("$ {}", shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let (lines, received) = mpsc::sync_channel::<(Stream, String)>(LINES_MAX);
    std::thread::scope(|scope| {
        let errors = lines.clone();
        if let Some(stderr) = child.stderr.take() {
            scope.spawn(move || forward(stderr, Stream::Stderr, &errors));
        }
        if let Some(stdout) = child.stdout.take() {
            scope.spawn(move || forward(stdout, Stream::Stdout, &lines));
        }
        for (stream, line) in received {
            on_line(stream, &line);
        }
    });
    Ok(child.wait()?)
}

fn forward(from: impl Read, stream: Stream, lines: &mpsc::SyncSender<(Stream, String)>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if lines.send((stream, text.trim_end_matches(['\n', '\r']).to_owned())).is_err() {
            return;
        }
    }
}
