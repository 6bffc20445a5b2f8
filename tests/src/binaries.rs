//! Where the programs are, and that they are as new as their sources.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Programs of the workspace that scenarios run, besides the subjects.
const PACKAGES: [&str; 3] = ["horus", "trading", "pipeline"];

/// The folder that all programs are in.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Programs beside the subject at `subject`. What is missing or older than its sources is built, once for all tests
    /// of a run. `HORUS_TEST_BINARIES` names a folder of programs that are taken as they are.
    pub fn beside(subject: &str) -> Self {
        if let Some(folder) = std::env::var_os("HORUS_TEST_BINARIES") {
            return Self { folder: folder.into() };
        }
        let folder = Path::new(subject).parent().expect("a program is in a folder").to_path_buf();
        build_if_stale(&folder);
        Self { folder }
    }

    /// Path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `cargo nextest run --workspace` has built everything; `cargo test -p horus-tests` has not. Cargo knows what is stale,
/// but asking it costs a second: a stamp remembers when it was asked.
fn build_if_stale(folder: &Path) {
    let lock = File::create(folder.join(".scenarios-lock")).expect("the target folder takes files");
    lock.lock().expect("the lock of the target folder");
    let stamp = folder.join(".scenarios-stamp");
    let built = std::fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace");
    let there = PACKAGES.iter().all(|package| folder.join(package).exists());
    if there && built.is_some_and(|built| newest(&root.join("crates")) < built) {
        return;
    }
    // The stamp is as old as the beginning of the build: what changes during it is built next time.
    let new_stamp = File::create(folder.join(".scenarios-stamp-new")).expect("the target folder takes files");
    drop(new_stamp);
    build(root, folder);
    std::fs::rename(folder.join(".scenarios-stamp-new"), stamp).expect("the stamp");
}

fn build(root: &Path, folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    #[expect(clippy::disallowed_methods, reason = "the one place where scenarios ask cargo")]
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--quiet"]);
    command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    if folder.file_name().is_some_and(|profile| profile == "release") {
        command.arg("--release");
    }
    command.env("CARGO_TARGET_DIR", folder.parent().expect("a profile's folder is in the target folder"));
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "the programs under test do not build");
}

fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let changed = if path.is_dir() {
            self::newest(&path)
        } else {
            entry.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        newest = newest.max(changed);
    }
    newest
}
