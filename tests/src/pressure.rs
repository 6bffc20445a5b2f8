//! How much everybody on the machine has to wait, as the scenario's Horus is told it.
//!
//! Horus stretches its limits while programs wait for a processor. That is right, and it makes every bound of a scenario
//! depend on what else the machine does: on a busy one nothing is late and no bound can fail. So each scenario has a
//! pressure of its own, none at first: a small library in front of the daemon's calls gives it files of the room instead
//! of `/proc/pressure`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use horus_sys::files::{Durability, write_atomic};

const SOURCE: &str = include_str!("pressure.c");

/// Variables for a Horus that reads its pressure in `folder`. Empty where there is no C compiler: then it is the machine's.
pub(crate) fn variables(folder: &Path) -> Vec<(String, String)> {
    let Some(library) = library() else { return Vec::new() };
    std::fs::create_dir_all(folder).unwrap();
    set(folder, 0);
    vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("HORUS_TEST_PRESSURE".to_owned(), folder.display().to_string()),
    ]
}

/// From now on programs wait so much of the time for a processor, in per cent, and for nothing else.
pub(crate) fn set(folder: &Path, percent: u32) {
    for (resource, percent) in [("cpu", percent), ("memory", 0), ("io", 0)] {
        let line = |kind: &str| format!("{kind} avg10={percent}.00 avg60=0.00 avg300=0.00 total=0\n");
        let text = line("some") + &line("full");
        write_atomic(&folder.join(resource), text.as_bytes(), Durability::ThisBoot).unwrap();
    }
}

/// The library, built once for all scenarios of this source.
fn library() -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let folder = std::env::temp_dir().join(format!("horus-scenario-pressure-{}", nix::unistd::getuid()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let library = folder.join(format!("{:016x}.so", hasher.finish()));
    if !library.exists() {
        let half = folder.join(format!("{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pressure.c");
        #[expect(clippy::disallowed_methods, reason = "a compiler that ends at once")]
        let status =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&half).arg(source).status();
        if !status.is_ok_and(|status| status.success()) {
            crate::skipped(
                "the machine's pressure",
                "no C compiler, so that bounds depend on what else it does",
            );
            return None;
        }
        std::fs::rename(half, &library).unwrap();
    }
    Some(library)
}
