//! The one place that writes files: whole or not at all, and on the disk before it says so.
//!
//! ```text
//!   write .NAME.tmp ─▶ fsync file ─▶ rename to NAME ─▶ fsync directory
//! ```
//!
//! The temporary name is fixed by the final one, so what a killed run left behind is overwritten by the next attempt
//! instead of piling up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct DiskError {
    action: &'static str,
    path: String,
    source: io::Error,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.display().to_string(), source }
    }
}

/// Puts `bytes` at `directory/name`. `before_rename` is called when the temporary file is safe and the rename is next.
///
/// `name` must be a plain file name.
pub(crate) fn write_whole(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    before_rename: impl FnOnce(),
) -> Result<(), DiskError> {
    let temporary = temporary(directory, name);
    let target = directory.join(name);
    // A leftover may be a link that somebody placed there; it is removed, not followed.
    remove_if_there(&temporary)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .map_err(|source| DiskError::new("create", &temporary, source))?;
    fill(file, bytes).map_err(|source| {
        // What a full disk refused to take must not keep its blocks.
        let _ = std::fs::remove_file(&temporary);
        DiskError::new("write", &temporary, source)
    })?;
    before_rename();
    std::fs::rename(&temporary, &target).map_err(|source| DiskError::new("rename to", &target, source))?;
    sync_directory(directory)
}

/// Like [`write_whole`], but leaves a file alone that already holds these bytes.
pub(crate) fn write_if_changed(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    if std::fs::read(directory.join(name)).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    write_whole(directory, name, bytes, || ())
}

/// Makes a directory and its parents, and says so to the disk.
pub(crate) fn make_directory(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(|source| DiskError::new("create the folder", path, source))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| DiskError::new("sync the folder", path, source))
}

/// Removes a file; that it is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DiskError::new("remove", path, source)),
    }
}

fn temporary(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!(".{name}.tmp"))
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_is_replaced_and_a_planted_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join(".a.txt.tmp")).unwrap();
        write_whole(directory.path(), "a.txt", b"whole", || ()).unwrap();
        assert_eq!(std::fs::read(directory.path().join("a.txt")).unwrap(), b"whole");
        assert_eq!(std::fs::read(outside.path()).unwrap(), b"");
        assert!(!directory.path().join(".a.txt.tmp").exists());
    }

    #[test]
    fn before_the_rename_the_old_content_stands() {
        let directory = tempfile::tempdir().unwrap();
        write_whole(directory.path(), "a", b"old", || ()).unwrap();
        write_whole(directory.path(), "a", b"new", || {
            assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), b"old");
        })
        .unwrap();
        assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), b"new");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error_and_not_a_short_file() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(fill(full, b"bytes").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write_whole(Path::new("/nonexistent/out"), "a", b"", || ()).unwrap_err();
        assert_eq!(error.to_string(), "cannot create /nonexistent/out/.a.tmp");
    }
}
