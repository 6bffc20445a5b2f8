//! A note in the state directory while the process changes its program: if the new one dies before it is ready, nobody is
//! left in the process who could say so, and the next start does.

use std::path::{Path, PathBuf};

use horus_sys::files::{Durability, read_limited, write_atomic};
use serde::{Deserialize, Serialize};

const FILE: &str = "upgrade.pending";

/// Longest note that is read, in bytes.
const NOTE_MAX: usize = 16 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    from: String,
    to: String,
    path: PathBuf,
}

fn file(state_directory: &Path) -> PathBuf {
    state_directory.join(FILE)
}

/// The change begins.
pub(super) fn begin(state_directory: &Path, from: String, to: String, path: &Path) {
    let note = Note { version: 1, from, to, path: path.to_owned() };
    let written = serde_json::to_vec(&note)
        .map_err(std::io::Error::from)
        .and_then(|bytes| write_atomic(&file(state_directory), &bytes, Durability::ThisBoot));
    if let Err(error) = written {
        // Only a death in the next second would need it.
        tracing::warn!(%error, "the note about the upgrade cannot be written");
    }
}

/// It is over, well or not.
pub(super) fn end(state_directory: &Path) {
    let _ = std::fs::remove_file(file(state_directory));
}

/// Whether an earlier process died while it changed its program; told once.
pub(in crate::daemon) fn tell_of_a_death(state_directory: &Path) -> Option<String> {
    let bytes = read_limited(&file(state_directory), NOTE_MAX).ok()?;
    end(state_directory);
    let own = super::Program::of_process();
    Some(match serde_json::from_slice::<Note>(&bytes) {
        Ok(Note { from, to, path, .. }) => format!(
            "the upgrade from {from} to {to} ({}) died before it was ready; this is {own}, and the services went on",
            path.display()
        ),
        Err(_) => format!("an upgrade died before it was ready; this is {own}, and the services went on"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_told_once_and_a_good_end_never() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(tell_of_a_death(folder.path()), None);
        begin(folder.path(), "0.1.0".into(), "0.2.0".into(), Path::new("/usr/bin/horus"));
        end(folder.path());
        assert_eq!(tell_of_a_death(folder.path()), None);
        begin(folder.path(), "0.1.0".into(), "0.2.0".into(), Path::new("/usr/bin/horus"));
        let told = tell_of_a_death(folder.path()).unwrap();
        assert!(told.starts_with("the upgrade from 0.1.0 to 0.2.0 (/usr/bin/horus) died"), "{told}");
        assert_eq!(tell_of_a_death(folder.path()), None);
        write_atomic(&file(folder.path()), b"torn", Durability::ThisBoot).unwrap();
        assert!(tell_of_a_death(folder.path()).unwrap().starts_with("an upgrade died"));
    }
}
