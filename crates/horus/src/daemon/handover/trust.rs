//! Whether a file may be executed in our place.
//!
//! A Horus of root that executes whatever its configuration or a command line names would hand root to anybody who can write
//! that file. So the file, and every folder from which another could be put in its place, has to be root's alone. A folder
//! with the sticky bit (such as `/tmp`) lets nobody remove or rename what belongs to root, and is good enough.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use horus_sys::user;

/// Longest chain of links that is followed.
const LINKS_MAX: usize = 16;

/// Mode bit of a folder in which only owners remove their files.
const STICKY: u32 = 0o1000;

/// A file that may be executed, and how it was when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// As it was named: a link that a package moves on is kept as a link.
    pub(super) path: PathBuf,
    mark: Mark,
}

/// Tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Found {
    /// Whether it still is the file that was looked at and tried out.
    pub(super) fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| Mark::of(&found) == self.mark)
    }
}

/// Looks at the file, or says why it must not be executed.
pub(super) fn examine(path: &Path) -> Result<Found, String> {
    if !path.is_absolute() {
        return Err(format!("{} is no absolute path", path.display()));
    }
    let found = std::fs::metadata(path)
        .map_err(|error| format!("{} cannot be looked at: {error}", path.display()))?;
    if !found.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{} is not executable", path.display()));
    }
    let others = if user::effective_uid() == 0 { others_who_write(path)? } else { None };
    match others {
        Some(why) => Err(format!("root may not execute {}: {why}", path.display())),
        None => Ok(Found { path: path.to_owned(), mark: Mark::of(&found) }),
    }
}

/// Who but root could change what is executed, if anybody.
fn others_who_write(path: &Path) -> Result<Option<String>, String> {
    let unreadable = |error| format!("{} cannot be followed: {error}", path.display());
    let real = std::fs::canonicalize(path).map_err(unreadable)?;
    let mut links = vec![path.to_owned()];
    while let Some(last) = links.last()
        && links.len() <= LINKS_MAX
        && let Ok(next) = std::fs::read_link(last)
    {
        let folder = last.parent().unwrap_or(Path::new("/"));
        links.push(folder.join(next));
    }
    let named = links.iter().chain([&real]).flat_map(|path| path.ancestors());
    for place in named.filter(|place| !place.as_os_str().is_empty()) {
        let found = std::fs::metadata(place).map_err(unreadable)?;
        if let Some(why) = not_roots_alone(place, found.uid(), found.permissions().mode(), found.is_dir()) {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

fn not_roots_alone(place: &Path, owner: u32, mode: u32, is_folder: bool) -> Option<String> {
    let place = place.display();
    if owner != 0 {
        return Some(format!("{place} belongs to user {owner}"));
    }
    let sticky = is_folder && mode & STICKY != 0;
    (mode & 0o022 != 0 && !sticky).then(|| format!("others than root may write to {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_roots_alone_is_executed_by_root() {
        let judged = |owner, mode, folder| not_roots_alone(Path::new("/x"), owner, mode, folder);
        assert_eq!(judged(0, 0o755, false), None);
        assert_eq!(judged(0, 0o1777, true), None, "/tmp");
        assert!(judged(1000, 0o755, true).unwrap().contains("belongs to user 1000"));
        assert!(judged(0, 0o777, true).unwrap().contains("others than root"));
        assert!(judged(0, 0o775, false).unwrap().contains("others than root"));
        assert!(judged(0, 0o1777, false).is_some(), "a sticky file is nothing");
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("horus");
        let why = |path: &Path| examine(path).unwrap_err();
        assert!(why(Path::new("horus")).contains("no absolute path"));
        assert!(why(&path).contains("cannot be looked at"));
        assert!(why(folder.path()).contains("is no file"));
        std::fs::copy("/bin/true", &path).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(why(&path).contains("is not executable"));
        mode(0o755);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("horus", &link).unwrap();
        let found = examine(&link).unwrap();
        assert!(found.is_unchanged());
        assert_eq!(found.path, link);
        if user::effective_uid() == 0 {
            mode(0o757);
            assert!(why(&link).contains("others than root may write"), "through a link, too");
            mode(0o755);
        }
        let next = folder.path().join("next");
        std::fs::copy("/bin/true", &next).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert!(!found.is_unchanged(), "another file of the same content");
    }
}
