//! Which program the next keeper is, and what an upgrade takes: whatever stands at the path by which this Horus was started.
//!
//! A path, taken once at the start and kept as a path. A package upgrade renames a new file over the old one; from then on
//! `current_exe()` says `/usr/bin/horus (deleted)`, and a Horus that asks it when its keeper has died starts no other one
//! ever again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The path of this program, absolute, as it was typed: a link that a package moves on is followed when it is used.
pub(crate) fn own_path() -> io::Result<PathBuf> {
    let current = std::env::current_exe();
    let typed = std::env::args_os().next().and_then(|word| typed_path(&word));
    choose(typed, current)
}

fn choose(typed: Option<PathBuf>, current: io::Result<PathBuf>) -> io::Result<PathBuf> {
    match (typed, current) {
        (Some(typed), Ok(current)) if !current.exists() || is_same_file(&typed, &current) => Ok(typed),
        // The first word says what its writer likes; the kernel knows better.
        (_, Ok(current)) => Ok(current),
        (Some(typed), Err(_)) => Ok(typed),
        (None, Err(error)) => Err(error),
    }
}

/// The program that the first word of the command line names: a path, or a name that is looked up as a shell does.
fn typed_path(word: &OsStr) -> Option<PathBuf> {
    let word = Path::new(word);
    if word.components().count() > 1 || word.is_absolute() {
        return std::path::absolute(word).ok().filter(|path| is_program(path));
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .filter_map(|folder| std::path::absolute(folder.join(word)).ok())
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let number = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((number(one), number(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) {
        std::fs::copy("/bin/true", path).unwrap();
    }

    #[test]
    fn a_link_is_kept_as_a_link_and_a_false_name_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (first, link, other) =
            (folder.path().join("horus-1"), folder.path().join("horus"), folder.path().join("other"));
        program(&first);
        program(&other);
        std::os::unix::fs::symlink(&first, &link).unwrap();
        assert_eq!(choose(Some(link.clone()), Ok(first.clone())).unwrap(), link);
        assert_eq!(choose(Some(other), Ok(first.clone())).unwrap(), first);
        assert_eq!(choose(None, Ok(first.clone())).unwrap(), first);
        // Replaced between its start and this look.
        let deleted = folder.path().join("horus-1 (deleted)");
        assert_eq!(choose(Some(link.clone()), Ok(deleted)).unwrap(), link);
        assert!(choose(None, Err(io::ErrorKind::NotFound.into())).is_err());
    }

    #[test]
    fn a_bare_name_is_looked_up_and_what_is_no_program_is_passed_over() {
        let found = typed_path(OsStr::new("sh")).unwrap();
        assert!(found.is_absolute() && found.ends_with("sh"), "{}", found.display());
        assert_eq!(typed_path(OsStr::new("/etc/passwd")), None);
        assert_eq!(typed_path(OsStr::new("no-such-program-anywhere")), None);
    }
}
