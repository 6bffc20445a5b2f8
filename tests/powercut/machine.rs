//! The machine under emulation (`machine/vm`): made once, booted with a payload, heard on its serial line, cut off.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::dice::Dice;
use crate::disk::{Fate, lose_power};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/machine/vm");

/// Lines that wait to be looked at.
const LINES_MAX: usize = 10_000;

/// A machine under emulation on a busy one takes its time; silence for so long is a fault.
const SILENCE_MAX: Duration = Duration::from_secs(240);

/// The list of writes has no end of its own: behind it are zeros.
const WRITES_BYTES_MAX: u64 = 64 << 30;

/// A disk, and what boots from it.
#[derive(Debug)]
pub(crate) struct Machine {
    made: PathBuf,
    folder: tempfile::TempDir,
}

/// The machine while it is on.
#[derive(Debug)]
pub(crate) struct On {
    emulator: Child,
    lines: Receiver<String>,
    /// What it said, for a test that fails.
    pub(crate) said: Vec<String>,
}

impl Machine {
    /// A new one. `None` where there can be none, which is said.
    pub(crate) fn new(test: &str, target: &Path) -> Option<Self> {
        let made = target.join("vm");
        for words in [&["can"][..], &["make", made.to_str().unwrap()]] {
            let output = script(words).stdin(Stdio::null()).output().unwrap();
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                horus_tests::skipped(test, text.trim().lines().last().unwrap_or("machine/vm says nothing"));
                return None;
            }
        }
        let folder = tempfile::Builder::new().prefix("vm-").tempdir_in(target).unwrap();
        copy(&made.join("base.img"), &folder.path().join("disk"));
        Some(Self { made, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Switches it on. `payload`: files for `/run/machine`.
    pub(crate) fn on(&self, payload: &[(&str, Content<'_>)]) -> On {
        let files = self.path("payload");
        let _ = std::fs::remove_dir_all(&files);
        std::fs::create_dir(&files).unwrap();
        for (name, content) in payload {
            match content {
                Content::Text(text) => write(&files.join(name), text.as_bytes()),
                Content::Program(path) => strip(path, &files.join(name)),
            }
        }
        let archive = self.path("payload.tar");
        run(command("tar").arg("-C").arg(&files).arg("-cf").arg(&archive).arg("."));
        let length = archive.metadata().unwrap().len().next_multiple_of(1 << 16);
        File::options().write(true).open(&archive).unwrap().set_len(length).unwrap();
        // The emulator has a disk of its own to write to: ours stays as it was at boot.
        copy(&self.path("disk"), &self.path("running"));
        let _ = std::fs::remove_file(self.path("writes"));
        File::create(self.path("writes")).unwrap().set_len(WRITES_BYTES_MAX).unwrap();

        let mut boot = script(&["boot"]);
        boot.arg(&self.made);
        boot.args(["running", "writes", "payload.tar", "console"].map(|name| self.path(name)));
        let mut emulator = boot.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = sync_channel(LINES_MAX);
        let reader = BufReader::new(emulator.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        On { emulator, lines, said: Vec::new() }
    }

    /// Cuts it off at this instant; what the disk has lost is lost from here on.
    pub(crate) fn cut(&self, on: &mut On, dice: &mut Dice) -> Fate {
        on.emulator.kill().unwrap();
        on.emulator.wait().unwrap();
        lose_power(&self.path("disk"), &self.path("writes"), dice).unwrap()
    }

    /// The end of what the kernel said.
    pub(crate) fn console(&self) -> String {
        let text = std::fs::read(self.path("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl On {
    /// The next word of ours, without its mark. `None`: nothing within that time.
    pub(crate) fn next(&mut self, within: Option<Duration>) -> Option<String> {
        loop {
            match self.lines.recv_timeout(within.unwrap_or(SILENCE_MAX)) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if let Some(word) = line.strip_prefix("%% ") {
                        return Some(word.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.said.push("(the emulator has ended)".into());
                    return None;
                }
            }
        }
    }

    /// What was said and not looked at before the cut.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Ok(line) = self.lines.recv() {
            self.said.push(line.clone());
            words.extend(line.strip_prefix("%% ").map(str::to_owned));
        }
        words
    }
}

impl Drop for On {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// A file for the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Text(&'a str),
    /// An executable, taken without what a debugger wants.
    Program(&'a Path),
}

fn write(path: &Path, content: &[u8]) {
    File::create(path).unwrap().write_all(content).unwrap();
}

fn strip(from: &Path, to: &Path) {
    let mut strip = command("strip");
    strip.arg("-o").arg(to).arg(from);
    if !strip.status().is_ok_and(|status| status.success()) {
        std::fs::copy(from, to).unwrap();
    }
}

/// Holes stay holes.
fn copy(from: &Path, to: &Path) {
    run(command("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to));
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn script(words: &[&str]) -> Command {
    let mut script = command(SCRIPT);
    script.args(words);
    script
}

#[expect(clippy::disallowed_methods, reason = "a test starts an emulator and the tools for its disk")]
fn command(program: &str) -> Command {
    Command::new(program)
}
