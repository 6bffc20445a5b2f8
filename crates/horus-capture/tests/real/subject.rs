//! Processes to look at, and the interpreters that this machine has.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use horus_capture::Document;

/// Within so long a program comes to its place, on the slowest of machines.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const BOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/bot.py");

/// A process that is killed in the end.
pub(crate) struct Subject {
    pub(crate) child: Child,
    pub(crate) output: BufReader<ChildStdout>,
}

impl Subject {
    pub(crate) fn start(program: impl AsRef<OsStr>, words: &[&str]) -> Self {
        Self::run(Command::new(program).args(words))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits until it has said so.
    pub(crate) fn ready(mut self) -> Self {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line.lines().last() == Some("ready") {
                return self;
            }
        }
        panic!("it ended before it was ready: {line}");
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Looks until the phrase is as it should be: a thread that goes to its place takes a moment.
    pub(crate) fn until(&self, phrase: &str) -> Document {
        self.until_all(&[phrase])
    }

    /// The same, with several parts in it.
    pub(crate) fn until_all(&self, parts: &[&str]) -> Document {
        let end = horus_sys::clock::monotonic() + PATIENCE;
        loop {
            let document = horus_capture::capture(self.pid());
            if parts.iter().all(|part| document.phrase.contains(part)) {
                return document;
            }
            let text = document.render(true);
            assert!(horus_sys::clock::monotonic() < end, "no {parts:?} in\n{text}");
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of the bot that is marked so.
pub(crate) fn line(mark: &str) -> usize {
    let text = std::fs::read_to_string(BOT).unwrap();
    1 + text.lines().position(|line| line.ends_with(&format!("# HERE {mark}"))).unwrap()
}

/// Interpreters of this minor version: the one in PATH, and those of pyenv.
pub(crate) fn python(minor: u32) -> Option<PathBuf> {
    let name = format!("python3.{minor}");
    let mut candidates = vec![PathBuf::from(&name)];
    let home = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    for version in
        home.iter().filter_map(|home| std::fs::read_dir(home.join("versions")).ok()).flatten().flatten()
    {
        candidates.push(version.path().join("bin").join(&name));
    }
    candidates.into_iter().find_map(|candidate| {
        let asked =
            Command::new(candidate).args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        let path = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
        (asked.status.success() && path.is_absolute()).then_some(path)
    })
}

/// All that can be had of those whose tasks are read, with their names. Which cannot, is said.
pub(crate) fn pythons(test: &str) -> Vec<PathBuf> {
    let all = [11, 12, 13].map(|minor| (minor, python(minor)));
    let found = all
        .into_iter()
        .filter_map(|(minor, path)| path.or_else(|| skipped(test, &format!("no Python 3.{minor}"))));
    found.collect()
}

/// Says so by name, in the form that the counters of tests know.
pub(crate) fn skipped<T>(test: &str, why: &str) -> Option<T> {
    eprintln!("SKIPPED: {test}: {why}");
    None
}

/// Compiles the C subject into this folder, under this name.
pub(crate) fn compiled(folder: &Path, name: &str) -> Option<PathBuf> {
    compiled_from("native.c", folder, name)
}

/// The same with another one of the sources here.
pub(crate) fn compiled_from(source: &str, folder: &Path, name: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(source);
    let program = folder.join(name);
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-rdynamic", "-pthread", "-o"]).arg(&program).arg(source);
    compiler.stderr(Stdio::null()).status().ok()?.success().then_some(program)
}
