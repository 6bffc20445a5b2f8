//! Real examples: what the repository already has, and what lies in the corpus of a target.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Longest example that is used, in bytes.
const SEED_BYTES_MAX: u64 = 16 << 10;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this crate lies two levels below the root")
}

/// The folder of the examples of a target.
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__").join(target).join("corpus")
}

/// All files of these folders, and these files, in the order of their names. Fails if there is none: a target without
/// examples tests little.
pub fn load(places: &[PathBuf]) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for place in places {
        match fs::read_dir(place) {
            Ok(entries) => {
                paths.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()))
            }
            Err(_) => paths.push(place.clone()),
        }
    }
    paths.sort();
    let small = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() <= SEED_BYTES_MAX);
    let seeds: Vec<_> =
        paths.iter().filter(|path| small(path)).filter_map(|path| fs::read(path).ok()).collect();
    assert!(!seeds.is_empty(), "there is no example in {places:?}");
    seeds
}

/// The examples of `target`, read once.
pub fn of(store: &'static OnceLock<Vec<Vec<u8>>>, target: &str) -> &'static [Vec<u8>] {
    store.get_or_init(|| load(&[corpus(target)]))
}

/// Configurations: the shipped one, and every example, good and bad.
pub fn configurations() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let here = |path: &str| root().join(path);
        load(&[
            here("watchdog.toml"),
            here("tests/configs/valid"),
            here("tests/configs/invalid"),
            corpus("config_bytes"),
        ])
    })
}
